//! What PostgreSQL lost and the outbox does not have any more, as far as Redis still has the bodies: it keeps those of the
//! newest blocks for longer than the entries that brought them.
//!
//! The entries are gone, so what the operations were is concluded. Each of them raises the tip by one block at most, and
//! only one that brings a block does. If the tip is as many blocks higher after the gap as there are operations in it, all
//! of them brought one, each on top of the one before. Otherwise blocks were taken back in between, nobody knows which,
//! and the gap stays one.

use forebay_fast::{FastErrorKind, FastTier, Operation, OutboxEntry};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_slow::{Position as SlowPosition, SlowOperation};

use crate::error::StoreError;

/// Where the chain stood after the last operation that the outbox does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GapEnd {
    pub(crate) seq: u64,
    pub(crate) height: Height,
    pub(crate) id: BlockId,
}

impl GapEnd {
    /// Right before an entry, which is given with what it does. `None`: that cannot be told.
    pub(crate) fn before(entry: &OutboxEntry, operation: &SlowOperation) -> Option<Self> {
        let seq = entry.position.seq.checked_sub(1)?;
        match (&entry.operation, operation) {
            (Operation::Block { height, .. }, SlowOperation::Append(row)) => {
                Some(Self { seq, height: height.checked_sub(1)?, id: row.block.previous_block? })
            }
            (Operation::Pop { height, id, .. }, _) => Some(Self { seq, height: *height, id: *id }),
            _ => None,
        }
    }

    /// Whether every operation since brought a block.
    fn is_straight_from(&self, found: &SlowPosition) -> bool {
        let operations = self.seq.saturating_sub(found.seq);
        operations > 0 && u64::from(self.height) == u64::from(found.height) + operations
    }
}

/// The blocks that the operations of a gap brought, oldest first, each with its operation's number. They reach from the
/// gap's end down to where a body is missing, or to what PostgreSQL has; each follows the one before it.
///
/// # Errors
/// Redis cannot be asked now.
pub(crate) async fn blocks_in_gap(
    fast: &FastTier,
    found: &SlowPosition,
    end: GapEnd,
) -> Result<Vec<(u64, Block)>, StoreError> {
    if !end.is_straight_from(found) {
        return Ok(Vec::new());
    }
    let mut blocks = Vec::new();
    let (mut seq, mut height, mut id) = (end.seq, end.height, Some(end.id));
    while seq > found.seq {
        let body = match id {
            Some(id) => body(fast, id).await?,
            None => None,
        };
        let Some(block) = body.filter(|block| block.height == height) else { break };
        id = block.previous_block;
        blocks.push((seq, block));
        (seq, height) = (seq - 1, height.saturating_sub(1));
    }
    if seq == found.seq && id != found.block_id {
        tracing::error!(
            height = found.height,
            "the blocks that Redis keeps do not lead to PostgreSQL's last one: they are left out of the record"
        );
        return Ok(Vec::new());
    }
    blocks.reverse();
    Ok(blocks)
}

/// A damaged body is as good as none.
async fn body(fast: &FastTier, id: BlockId) -> Result<Option<Block>, StoreError> {
    match fast.blocks(&[id]).await {
        Ok(bodies) => Ok(bodies.into_iter().next().flatten()),
        Err(error) if error.kind() == FastErrorKind::Corrupt => {
            tracing::error!(%error, "a block cannot be recorded");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_which_blocks_were_taken_back_is_told_from_a_straight_one() {
        let found = SlowPosition { epoch: 1, seq: 20, height: 20, block_id: Some(BlockId(20)) };
        let end = |seq, height| GapEnd { seq, height, id: BlockId(1) };
        assert!(end(25, 25).is_straight_from(&found), "five blocks");
        assert!(!end(25, 23).is_straight_from(&found), "four blocks, one taken back");
        assert!(!end(25, 14).is_straight_from(&found), "a rewind");
        assert!(!end(20, 20).is_straight_from(&found), "no gap");
    }
}
