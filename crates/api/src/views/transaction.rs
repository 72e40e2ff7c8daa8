//! Transactions, in the three forms of the reference node: one alone (and in a block alone), in lists, and as a node has
//! them in memory.

use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::transaction::{Asset as LedgerAsset, Transaction, signed_key_text};
use forebay_slow::lists::ListedTransaction;
use serde::Serialize;
use utoipa::ToSchema;

use crate::tiers::Chain;

/// A transaction alone. `signatures` is a list, `asset` null in a transfer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Single {
    signatures: Vec<String>,
    #[serde(flatten)]
    facts: Facts,
    asset: Option<Asset>,
    confirmations: Height,
    /// With votes, where it is asked for alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    votes: Option<Votes>,
}

/// A transaction in a list. `signatures` is one text with commas, or null; a transfer has no `asset`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    #[serde(flatten)]
    facts: Facts,
    signatures: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<Asset>,
    confirmations: Height,
}

/// What both have.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    id: String,
    /// Its number in the chain, from 1.
    row_id: u64,
    height: Height,
    block_id: String,
    #[serde(rename = "type")]
    type_number: u8,
    timestamp: u32,
    sender_public_key: String,
    sender_id: String,
    recipient_id: Option<String>,
    amount: i64,
    fee: i64,
    signature: String,
    sign_signature: Option<String>,
    requester_public_key: Option<String>,
}

/// A transaction as a node has it in memory: what is not there is left out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    #[serde(rename = "type")]
    type_number: u8,
    amount: i64,
    fee: i64,
    timestamp: u32,
    sender_id: String,
    sender_public_key: String,
    recipient_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<Asset>,
    signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester_public_key: Option<String>,
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<String>,
    block_id: String,
}

/// What a transaction's type adds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Asset {
    /// Type 1.
    Signature {
        /// The second key.
        signature: SecondKey,
    },
    /// Type 2.
    Delegate {
        /// The delegate.
        delegate: Name,
    },
    /// Type 3.
    Votes {
        /// `+` or `-` and a delegate's key.
        votes: Vec<String>,
    },
    /// Type 4.
    Multisignature {
        /// The group.
        multisignature: Group,
    },
}

/// A second key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecondKey {
    public_key: String,
}

/// A delegate's name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Name {
    username: String,
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Group {
    min: u8,
    lifetime: u8,
    keysgroup: Vec<String>,
}

/// A vote's entries, sorted out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Votes {
    added: Vec<String>,
    deleted: Vec<String>,
}

/// Where a transaction stands.
#[derive(Clone, Copy)]
struct Place {
    height: Height,
    block: BlockId,
    row_id: u64,
}

impl Facts {
    fn of(transaction: &Transaction, place: Place, chain: &Chain) -> Self {
        Self {
            id: transaction.id.to_string(),
            row_id: place.row_id,
            height: place.height,
            block_id: place.block.to_string(),
            type_number: transaction.asset.type_number(),
            timestamp: transaction.timestamp,
            sender_public_key: transaction.sender_public_key.to_string(),
            sender_id: chain.address(transaction.sender),
            recipient_id: transaction.recipient.map(|recipient| chain.address(recipient)),
            amount: transaction.amount,
            fee: transaction.fee,
            signature: transaction.signature.to_string(),
            sign_signature: transaction.second_signature.map(|signature| signature.to_string()),
            requester_public_key: transaction.requester_public_key.map(|key| key.to_string()),
        }
    }
}

impl Single {
    /// As `/api/transactions/get` shows it, at a tip of this height.
    pub fn of(listed: &ListedTransaction, tip: Height, chain: &Chain) -> Self {
        let votes = match &listed.transaction.asset {
            LedgerAsset::Vote { votes } => {
                let keys = |added: bool| {
                    votes
                        .iter()
                        .filter(|vote| vote.add == added)
                        .map(|vote| vote.delegate.to_string())
                        .collect()
                };
                Some(Votes { added: keys(true), deleted: keys(false) })
            }
            _ => None,
        };
        Self {
            votes,
            ..Self::in_block(&listed.transaction, listed.height, listed.block, listed.row_id, tip, chain)
        }
    }

    /// As `/api/blocks/get` shows it.
    pub fn in_block(
        transaction: &Transaction,
        height: Height,
        block: BlockId,
        row_id: u64,
        tip: Height,
        chain: &Chain,
    ) -> Self {
        Self {
            signatures: signatures(transaction),
            facts: Facts::of(transaction, Place { height, block, row_id }, chain),
            asset: asset(transaction),
            confirmations: confirmations(height, tip),
            votes: None,
        }
    }
}

impl Listed {
    /// As lists show it.
    pub fn of(listed: &ListedTransaction, tip: Height, chain: &Chain) -> Self {
        let place = Place { height: listed.height, block: listed.block, row_id: listed.row_id };
        let signatures = signatures(&listed.transaction);
        Self {
            facts: Facts::of(&listed.transaction, place, chain),
            signatures: (!signatures.is_empty()).then(|| signatures.join(",")),
            asset: asset(&listed.transaction),
            confirmations: confirmations(listed.height, tip),
        }
    }
}

impl Memory {
    /// As a node has it in memory.
    pub fn of(transaction: &Transaction, block: BlockId, chain: &Chain) -> Self {
        Self {
            type_number: transaction.asset.type_number(),
            amount: transaction.amount,
            fee: transaction.fee,
            timestamp: transaction.timestamp,
            sender_id: chain.address(transaction.sender),
            sender_public_key: transaction.sender_public_key.to_string(),
            recipient_id: transaction.recipient.map(|recipient| chain.address(recipient)),
            asset: asset(transaction),
            signature: transaction.signature.to_string(),
            sign_signature: transaction.second_signature.map(|signature| signature.to_string()),
            requester_public_key: transaction.requester_public_key.map(|key| key.to_string()),
            id: transaction.id.to_string(),
            signatures: signatures(transaction),
            block_id: block.to_string(),
        }
    }
}

/// The block itself is the first confirmation.
pub(super) fn confirmations(height: Height, tip: Height) -> Height {
    (tip + 1).saturating_sub(height)
}

fn signatures(transaction: &Transaction) -> Vec<String> {
    transaction.signatures.iter().map(ToString::to_string).collect()
}

fn asset(transaction: &Transaction) -> Option<Asset> {
    match &transaction.asset {
        LedgerAsset::Transfer => None,
        LedgerAsset::SecondSignature { public_key } => {
            Some(Asset::Signature { signature: SecondKey { public_key: public_key.to_string() } })
        }
        LedgerAsset::Delegate { username } => {
            Some(Asset::Delegate { delegate: Name { username: username.clone() } })
        }
        LedgerAsset::Vote { votes } => Some(Asset::Votes {
            votes: votes.iter().map(|vote| signed_key_text(vote.add, &vote.delegate)).collect(),
        }),
        LedgerAsset::Multisignature { min, lifetime, keys } => Some(Asset::Multisignature {
            multisignature: Group {
                min: *min,
                lifetime: *lifetime,
                keysgroup: keys.iter().map(|key| signed_key_text(true, key)).collect(),
            },
        }),
    }
}
