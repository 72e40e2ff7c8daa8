//! Transactions: the five types and their bytes (RULES 1).

use sha2::{Digest, Sha256};

use crate::ids::{Address, TransactionId, short_hash};
use crate::keys::{Hash, PublicKey, Signature};

/// A transaction. Its `id` is always computed from its bytes, except in a genesis block, where it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// What identifies it.
    pub id: TransactionId,
    /// Seconds since the network's epoch.
    pub timestamp: u32,
    /// Who pays.
    pub sender_public_key: PublicKey,
    /// The address that belongs to `sender_public_key`.
    pub sender: Address,
    /// The address written in the message, where it differs from `sender`: such a transaction is refused.
    pub claimed_sender: Option<Address>,
    /// A member of the sender's group who asked for it, and whose key made the first signature.
    pub requester_public_key: Option<PublicKey>,
    /// Who receives `amount`; the sender itself in a vote.
    pub recipient: Option<Address>,
    /// Units of 10^-8.
    pub amount: i64,
    /// Units of 10^-8. Not part of the bytes: it must equal the type's fixed fee.
    pub fee: i64,
    /// The first signature; missing only in a malformed message.
    pub signature: Signature,
    /// Present when the sender has a second key.
    pub second_signature: Option<Signature>,
    /// Signatures of the group's members. Not part of the bytes.
    pub signatures: Vec<Signature>,
    /// What the type adds.
    pub asset: Asset,
}

/// What the five types add to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asset {
    /// Type 0.
    Transfer,
    /// Type 1: registers a second key.
    SecondSignature {
        /// The key whose signature is needed from the next block on.
        public_key: PublicKey,
    },
    /// Type 2: registers a delegate.
    Delegate {
        /// The name.
        username: String,
    },
    /// Type 3: votes.
    Vote {
        /// In the message's order.
        votes: Vec<VoteEntry>,
    },
    /// Type 4: registers or replaces a multisignature group.
    Multisignature {
        /// How many members must sign.
        min: u8,
        /// Hours.
        lifetime: u8,
        /// Members, in the message's order.
        keys: Vec<PublicKey>,
    },
}

/// One entry of a vote: `+` or `-` and a delegate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VoteEntry {
    /// True for `+`.
    pub add: bool,
    /// Whom it is about.
    pub delegate: PublicKey,
}

impl Asset {
    /// The type's number, 0 to 4.
    #[must_use]
    pub fn type_number(&self) -> u8 {
        match self {
            Self::Transfer => 0,
            Self::SecondSignature { .. } => 1,
            Self::Delegate { .. } => 2,
            Self::Vote { .. } => 3,
            Self::Multisignature { .. } => 4,
        }
    }

    /// The asset as it stands in the transaction's bytes (RULES 1: votes and group keys as ASCII text).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Transfer => Vec::new(),
            Self::SecondSignature { public_key } => public_key.0.to_vec(),
            Self::Delegate { username } => username.as_bytes().to_vec(),
            Self::Vote { votes } => {
                votes.iter().flat_map(|v| signed_key_text(v.add, &v.delegate).into_bytes()).collect()
            }
            Self::Multisignature { min, lifetime, keys } => {
                let mut bytes = vec![*min, *lifetime];
                bytes.extend(keys.iter().flat_map(|key| signed_key_text(true, key).into_bytes()));
                bytes
            }
        }
    }

    /// Reads back what [`Asset::to_bytes`] wrote; `None` if the bytes cannot be such an asset.
    #[must_use]
    pub fn from_bytes(type_number: u8, bytes: &[u8]) -> Option<Self> {
        match type_number {
            0 => bytes.is_empty().then_some(Self::Transfer),
            1 => Some(Self::SecondSignature { public_key: PublicKey::from_slice(bytes)? }),
            2 => Some(Self::Delegate { username: String::from_utf8(bytes.to_vec()).ok()? }),
            3 => {
                let votes =
                    bytes.chunks(SIGNED_KEY_LENGTH).map(parse_signed_key).collect::<Option<Vec<_>>>()?;
                Some(Self::Vote { votes })
            }
            4 => {
                let [min, lifetime, keys @ ..] = bytes else { return None };
                let keys = keys
                    .chunks(SIGNED_KEY_LENGTH)
                    .map(|chunk| {
                        parse_signed_key(chunk).filter(|entry| entry.add).map(|entry| entry.delegate)
                    })
                    .collect::<Option<Vec<_>>>()?;
                Some(Self::Multisignature { min: *min, lifetime: *lifetime, keys })
            }
            _ => None,
        }
    }
}

/// A sign and 64 hex digits.
const SIGNED_KEY_LENGTH: usize = 65;

/// `+` or `-` and the key's hex digits.
#[must_use]
pub fn signed_key_text(add: bool, key: &PublicKey) -> String {
    format!("{}{key}", if add { '+' } else { '-' })
}

fn parse_signed_key(bytes: &[u8]) -> Option<VoteEntry> {
    let (sign, key) = bytes.split_first()?;
    let add = match sign {
        b'+' => true,
        b'-' => false,
        _ => return None,
    };
    let delegate = std::str::from_utf8(key).ok()?.parse().ok()?;
    Some(VoteEntry { add, delegate })
}

impl Transaction {
    /// All bytes, both signatures included: what the id, the payload hash and the group's signatures cover.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes_with(true, true)
    }

    /// The id that belongs to the bytes.
    #[must_use]
    pub fn computed_id(&self) -> TransactionId {
        TransactionId(short_hash(&self.to_bytes()))
    }

    /// What the first signature signs: sha256 of the bytes without signatures.
    #[must_use]
    pub fn first_signature_hash(&self) -> Hash {
        Hash(Sha256::digest(self.bytes_with(false, false)).into())
    }

    /// What the second signature signs: sha256 of the bytes with the first signature.
    #[must_use]
    pub fn second_signature_hash(&self) -> Hash {
        Hash(Sha256::digest(self.bytes_with(true, false)).into())
    }

    /// What each member of a group signs: sha256 of all bytes.
    #[must_use]
    pub fn group_signature_hash(&self) -> Hash {
        Hash(Sha256::digest(self.to_bytes()).into())
    }

    fn bytes_with(&self, first: bool, second: bool) -> Vec<u8> {
        let asset = self.asset.to_bytes();
        let mut bytes = Vec::with_capacity(1 + 4 + 32 + 32 + 8 + 8 + asset.len() + 128);
        bytes.push(self.asset.type_number());
        bytes.extend(self.timestamp.to_le_bytes());
        bytes.extend(self.sender_public_key.0);
        if let Some(requester) = &self.requester_public_key {
            bytes.extend(requester.0);
        }
        bytes.extend(self.recipient.map_or(0, |address| address.0).to_be_bytes());
        bytes.extend(self.amount.to_le_bytes());
        bytes.extend(asset);
        if first {
            bytes.extend(self.signature.0);
        }
        if second && let Some(signature) = &self.second_signature {
            bytes.extend(signature.0);
        }
        bytes
    }

    /// `amount + fee`: what the sender pays. `None` on overflow.
    #[must_use]
    pub fn cost(&self) -> Option<i64> {
        self.amount.checked_add(self.fee)
    }
}
