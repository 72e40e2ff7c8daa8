//! What goes in: blocks with what the triggers cannot compute, and the order to take blocks back.

use std::sync::Arc;

use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::keys::{Hash, PublicKey};

/// A block as the slow tier stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    /// The block.
    pub block: Arc<Block>,
    /// Transactions in the chain before it.
    pub transactions_before: u64,
    /// The round's forger list by slot, on the first block of a round (the genesis block carries round 1's); else `None`.
    pub forgers: Option<Vec<PublicKey>>,
    /// The ledger's digest of all delegates after it, on the last block of a round and the genesis block; else `None`.
    pub delegates_digest: Option<Hash>,
}

/// One step of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlowOperation {
    /// The block follows the tip.
    Append(BlockRow),
    /// Every block above the height is taken back.
    TakeBack {
        /// The height that becomes the tip, at least 1.
        to_height: Height,
    },
}

/// How far the slow tier is, and who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The writer that owns the chain.
    pub epoch: u64,
    /// The last operation that is committed.
    pub seq: u64,
    /// The newest block's height; 0 before the genesis block.
    pub height: Height,
    /// The newest block's id; `None` before the genesis block.
    pub block_id: Option<BlockId>,
}
