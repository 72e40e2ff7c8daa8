//! What a caller is told: *accepted* and *durable* are two words and two types.

use forebay_fast::Position;
use forebay_ledger::ids::{BlockId, Height};

/// The operation is applied in Redis and in the outbox. It is as durable as Redis is set up to be; it is not in
/// PostgreSQL yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The block that was applied, or the tip that a take-back left.
    pub id: BlockId,
    /// Its height.
    pub height: Height,
    /// Its place in the order of operations. For a block that the chain had already: of the last operation.
    pub position: Position,
    /// False when the chain had this block already and nothing was done.
    pub is_new: bool,
    /// What it survives.
    pub profile: Profile,
}

/// What an acceptance survives: how Redis is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Redis flushed it to disk before it answered: it survives the power going.
    Durable,
    /// Redis answered from memory: it survives the node's end, not Redis'.
    Volatile,
}

impl Profile {
    /// Its name in settings, status and receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Volatile => "volatile",
        }
    }
}

/// PostgreSQL has committed and flushed everything up to and with this operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The last operation.
    pub seq: u64,
    /// The tip in PostgreSQL.
    pub height: Height,
    /// Its id; `None` before the genesis block.
    pub id: Option<BlockId>,
}
