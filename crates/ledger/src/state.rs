//! What rules read and what they change: the state view, the change set, and the record that takes a block back.

use crate::account::Account;
use crate::ids::{Address, BlockId, Height, TransactionId};
use crate::keys::{Hash, PublicKey};

/// The newest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
    /// Seconds since the network's epoch.
    pub timestamp: u32,
    /// Transactions in the chain up to and with it: the reference node's `rowId` of the last one.
    pub transactions_total: u64,
}

/// A block of the running round: what the round's end needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundBlock {
    /// Who forged it.
    pub generator: PublicKey,
    /// Its total fee, units of 10^-8.
    pub fees: i64,
    /// Its reward, units of 10^-8.
    pub reward: i64,
}

/// A block that closed a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundCloser {
    /// Its height, a multiple of the number of delegates.
    pub height: Height,
    /// Who forged it.
    pub generator: PublicKey,
}

/// The round that the next block belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundState {
    /// Its number, starting at 1.
    pub round: u32,
    /// The forger list: the owner of slot `s` is entry `s mod length`.
    pub forgers: Vec<PublicKey>,
    /// Its blocks so far, in height order; round 1 starts with the genesis block.
    pub blocks: Vec<RoundBlock>,
    /// The blocks that closed earlier rounds, oldest first, as many as the second generation's list looks at.
    pub closers: Vec<RoundCloser>,
}

/// How a block changes the running round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundChange {
    /// The block was added to the running round.
    Appended(RoundBlock),
    /// The block closed its round. For the genesis block `previous` is `None`.
    Closed {
        /// The round as it was before the block, the block itself not in it.
        previous: Option<Box<RoundState>>,
        /// The round that the next block belongs to.
        next: Box<RoundState>,
    },
    /// The running round's last block was taken back.
    Retracted,
    /// A closing block was taken back; the round runs again.
    Reopened(Box<RoundState>),
}

/// An account before and after a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountChange {
    /// Which one.
    pub address: Address,
    /// `None`: the block created it (or, in an undo, never).
    pub before: Option<Account>,
    /// `None`: an undo removed it.
    pub after: Option<Account>,
}

/// Everything that one block (or its undo) changes. Applying it is all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The tip before; `None` before the genesis block.
    pub tip_before: Option<Tip>,
    /// The tip after.
    pub tip_after: Tip,
    /// Ascending by address, each address once, only accounts that differ.
    pub accounts: Vec<AccountChange>,
    /// Ids that the chain has from now on (or, when `undo`, no longer has), in the block's order.
    pub transactions: Vec<TransactionId>,
    /// Names registered by the block (or, when `undo`, free again).
    pub usernames: Vec<(String, Address)>,
    /// What happens to the running round.
    pub round: RoundChange,
    /// True when the block is taken back.
    pub undo: bool,
    /// For a block that closes a round (and the genesis block): see [`delegates_digest`](crate::round::delegates_digest).
    pub delegates_digest: Option<Hash>,
}

/// What takes one block back exactly. Made by `apply`, kept by the fast tier for the newest blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoRecord {
    /// The block it belongs to.
    pub block_id: BlockId,
    /// The tip before the block.
    pub tip_before: Tip,
    /// The touched accounts as they were before; `None`: did not exist.
    pub accounts: Vec<(Address, Option<Account>)>,
    /// Names that the block registered.
    pub usernames: Vec<(String, Address)>,
    /// The round as it was before, when the block closed it.
    pub closed_round: Option<Box<RoundState>>,
}

/// The state that rules read. A view need not hold everything: it holds what [`needs`](crate::verify::needs) named for
/// the block at hand, and all delegates.
pub trait StateView {
    /// The newest block; `None` before the genesis block.
    fn tip(&self) -> Option<&Tip>;
    /// The round that the next block belongs to; `None` before the genesis block.
    fn round(&self) -> Option<&RoundState>;
    /// The account that gave away the supply: it may be below zero and cannot send. `None` before the genesis block.
    fn genesis_account(&self) -> Option<Address>;
    /// The account, if its row exists.
    fn account(&self, address: Address) -> Option<&Account>;
    /// Every registered delegate's account, in any order.
    fn delegates(&self) -> Box<dyn Iterator<Item = &Account> + '_>;
    /// Whether a delegate has this name.
    fn has_username(&self, username: &str) -> bool;
    /// Whether the chain has this transaction.
    fn has_transaction(&self, id: TransactionId) -> bool;
}

/// What a view must hold before a block can be verified and applied, besides all delegates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Ascending, no repetitions.
    pub accounts: Vec<Address>,
    /// Names whose being taken matters.
    pub usernames: Vec<String>,
    /// Ids whose being confirmed matters, in the block's order.
    pub transactions: Vec<TransactionId>,
}
