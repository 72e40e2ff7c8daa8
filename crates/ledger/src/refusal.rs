//! Why a block is refused: what the reference node refuses, with a reason that a machine and a person can read.

use crate::ids::{BlockId, Height, TransactionId};
use crate::keys::PublicKey;

/// Why a block cannot follow the tip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing can be applied before the genesis block.
    #[error("the chain has no genesis block yet; give it with --genesis FILE")]
    NoGenesis,
    /// The chain has its genesis block already.
    #[error("a block without previousBlock is a genesis block, and the chain has another one ({genesis})")]
    SecondGenesis {
        /// The one it has.
        genesis: BlockId,
    },
    /// A genesis block must stand at height 1 without a block before it.
    #[error("not a genesis block: {0}")]
    NotGenesis(String),
    /// The block follows another one than the tip.
    #[error("the block follows {found}, but the tip is {tip} at height {tip_height}")]
    PreviousBlock {
        /// What the block names.
        found: BlockId,
        /// The tip.
        tip: BlockId,
        /// Its height.
        tip_height: Height,
    },
    /// Only version 0 is known.
    #[error("block version {0} is not 0")]
    Version(i32),
    /// The generator did not sign these bytes.
    #[error("the block signature is not the generator's")]
    BlockSignature,
    /// Not the reward of the height.
    #[error("the reward is {found}, but {expected} is due at height {height}")]
    Reward {
        /// What the block says.
        found: i64,
        /// What the schedule says.
        expected: i64,
        /// The height.
        height: Height,
    },
    /// The payload is longer than allowed.
    #[error("the payload has {found} bytes, more than {max}")]
    PayloadLength {
        /// Header or real length, the larger one.
        found: u64,
        /// The limit.
        max: u32,
    },
    /// The header's count is not the list's.
    #[error("the header says {header} transactions, the list has {real}")]
    TransactionCount {
        /// `numberOfTransactions`.
        header: u32,
        /// Length of the list.
        real: usize,
    },
    /// More transactions than a block may have.
    #[error("{found} transactions are more than the {max} of a block")]
    TooManyTransactions {
        /// Length of the list.
        found: usize,
        /// The limit.
        max: u32,
    },
    /// The header's payload hash is not the transactions'.
    #[error("the payload hash does not belong to the transactions")]
    PayloadHash,
    /// Twice in the block.
    #[error("transaction {0} stands in the block twice")]
    DuplicateTransaction(TransactionId),
    /// The chain has it already.
    #[error("transaction {0} is already confirmed")]
    AlreadyConfirmed(TransactionId),
    /// The header's sum is not the transactions'.
    #[error("totalAmount is {header}, the transactions sum up to {real}")]
    TotalAmount {
        /// The header's.
        header: i64,
        /// The sum.
        real: i128,
    },
    /// The header's sum is not the transactions'.
    #[error("totalFee is {header}, the transactions sum up to {real}")]
    TotalFee {
        /// The header's.
        header: i64,
        /// The sum.
        real: i128,
    },
    /// Not in a later slot than the tip.
    #[error("slot {slot} does not come after the tip's slot {tip_slot}")]
    SlotNotAfterTip {
        /// The block's.
        slot: u32,
        /// The tip's.
        tip_slot: u32,
    },
    /// In the future.
    #[error("slot {slot} is in the future: now is slot {now_slot}")]
    SlotInFuture {
        /// The block's.
        slot: u32,
        /// Now's.
        now_slot: i64,
    },
    /// Another delegate owns the slot.
    #[error("slot {slot} belongs to {}, not to {found}", expected.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string))]
    WrongForger {
        /// The block's slot.
        slot: u32,
        /// Who owns it.
        expected: Option<PublicKey>,
        /// Who forged.
        found: PublicKey,
    },
    /// A transaction is refused.
    #[error("transaction {id} (number {index} of the block, counted from 0): {reason}")]
    Transaction {
        /// Position in the block, counted from 0.
        index: usize,
        /// Its id.
        id: TransactionId,
        /// Why.
        reason: TransactionRefusal,
    },
    /// A sum left the range of 64 bits: cannot happen on a chain whose supply fits.
    #[error("{0} leaves the range of 64 bits")]
    Overflow(&'static str),
    /// The view does not hold what the block needs: a defect of the caller, not of the block.
    #[error("the state view lacks {0}")]
    IncompleteView(String),
}

/// Why a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRefusal {
    /// `senderId` is not the key's address.
    #[error("senderId does not belong to senderPublicKey")]
    SenderId,
    /// No row for the sender.
    #[error("the sender's account does not exist")]
    UnknownSender,
    /// Another key is stored for the address.
    #[error("another public key is registered for the sender's address")]
    SenderKey,
    /// The genesis account may not send.
    #[error("the genesis account cannot send")]
    GenesisSender,
    /// A requester is for multisignature accounts only.
    #[error("requesterPublicKey is given, but the sender has no multisignature group")]
    RequesterWithoutGroup,
    /// The requester does not belong to the group.
    #[error("the requester is not a member of the sender's group")]
    RequesterNotMember,
    /// The first signature is wrong.
    #[error("the signature is not the {0}'s")]
    Signature(&'static str),
    /// The account has a second key, and the transaction no second signature.
    #[error("signSignature is missing: the sender has a second key")]
    SecondSignatureMissing,
    /// The second signature is wrong.
    #[error("signSignature is not made with the sender's second key")]
    SecondSignature,
    /// A second signature without a second key.
    #[error("signSignature is given, but the sender has no second key")]
    SecondSignatureNotEnabled,
    /// Twice the same.
    #[error("a signature stands in `signatures` twice")]
    DuplicateGroupSignature,
    /// Nobody's signature.
    #[error("a signature in `signatures` belongs to no member's key")]
    GroupSignature,
    /// Too few of the group signed.
    #[error("not ready: {found} signatures, {needed} are needed")]
    NotReady {
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// The fee is fixed by type.
    #[error("the fee is {found}, not {expected}")]
    Fee {
        /// What it says.
        found: i64,
        /// What it costs.
        expected: i64,
    },
    /// The amount does not fit the type.
    #[error("amount {0} is not allowed here")]
    Amount(i64),
    /// The sender cannot pay.
    #[error(
        "the sender has {balance} at the block's start less its earlier payments in the block, and needs {cost}"
    )]
    Balance {
        /// What it has.
        balance: i64,
        /// Amount and fee.
        cost: i64,
    },
    /// Made in the future.
    #[error("the timestamp {0} is in the future")]
    Timestamp(u32),
    /// The recipient is missing, or must be the sender.
    #[error("{0}")]
    Recipient(&'static str),
    /// A second key is registered once.
    #[error("the account has a second key already")]
    SecondKeyExists,
    /// A delegate is registered once.
    #[error("the account is a delegate already")]
    DelegateExists,
    /// The name breaks a rule.
    #[error("the username \"{name}\" {problem}")]
    Username {
        /// The name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The votes break a rule.
    #[error("{0}")]
    Votes(String),
    /// The group breaks a rule.
    #[error("{0}")]
    Group(String),
}

impl Refusal {
    /// A short, stable name for machines, for example `previous-block` or `transaction/balance`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoGenesis => "no-genesis",
            Self::SecondGenesis { .. } => "second-genesis",
            Self::NotGenesis(_) => "not-genesis",
            Self::PreviousBlock { .. } => "previous-block",
            Self::Version(_) => "version",
            Self::BlockSignature => "block-signature",
            Self::Reward { .. } => "reward",
            Self::PayloadLength { .. } => "payload-length",
            Self::TransactionCount { .. } => "transaction-count",
            Self::TooManyTransactions { .. } => "too-many-transactions",
            Self::PayloadHash => "payload-hash",
            Self::DuplicateTransaction(_) => "duplicate-transaction",
            Self::AlreadyConfirmed(_) => "already-confirmed",
            Self::TotalAmount { .. } => "total-amount",
            Self::TotalFee { .. } => "total-fee",
            Self::SlotNotAfterTip { .. } => "slot-not-after-tip",
            Self::SlotInFuture { .. } => "slot-in-future",
            Self::WrongForger { .. } => "wrong-forger",
            Self::Transaction { reason, .. } => reason.code(),
            Self::Overflow(_) => "overflow",
            Self::IncompleteView(_) => "incomplete-view",
        }
    }
}

impl TransactionRefusal {
    /// A short, stable name for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SenderId => "transaction/sender-id",
            Self::UnknownSender => "transaction/unknown-sender",
            Self::SenderKey => "transaction/sender-key",
            Self::GenesisSender => "transaction/genesis-sender",
            Self::RequesterWithoutGroup => "transaction/requester-without-group",
            Self::RequesterNotMember => "transaction/requester-not-member",
            Self::Signature(_) => "transaction/signature",
            Self::SecondSignatureMissing => "transaction/second-signature-missing",
            Self::SecondSignature => "transaction/second-signature",
            Self::SecondSignatureNotEnabled => "transaction/second-signature-not-enabled",
            Self::DuplicateGroupSignature => "transaction/duplicate-group-signature",
            Self::GroupSignature => "transaction/group-signature",
            Self::NotReady { .. } => "transaction/not-ready",
            Self::Fee { .. } => "transaction/fee",
            Self::Amount(_) => "transaction/amount",
            Self::Balance { .. } => "transaction/balance",
            Self::Timestamp(_) => "transaction/timestamp",
            Self::Recipient(_) => "transaction/recipient",
            Self::SecondKeyExists => "transaction/second-key-exists",
            Self::DelegateExists => "transaction/delegate-exists",
            Self::Username { .. } => "transaction/username",
            Self::Votes(_) => "transaction/votes",
            Self::Group(_) => "transaction/group",
        }
    }
}
