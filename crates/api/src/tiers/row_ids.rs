//! How many transactions the chain has before a block: what numbers its transactions (`rowId`). A block's id decides it,
//! since the id covers all blocks before it; so what was known once stays true.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use forebay_ledger::ids::BlockId;

/// Four times what Redis keeps by default.
const BLOCKS_MAX: usize = 4096;

/// The newest known ones.
#[derive(Default)]
pub struct RowIds {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    before: HashMap<BlockId, u64>,
    order: VecDeque<BlockId>,
}

impl RowIds {
    /// What is known of a block.
    pub fn before(&self, block: BlockId) -> Option<u64> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).before.get(&block).copied()
    }

    /// Learns some.
    pub fn learn(&self, blocks: impl IntoIterator<Item = (BlockId, u64)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, before) in blocks {
            if known.before.insert(block, before).is_none() {
                known.order.push_back(block);
            }
        }
        while known.order.len() > BLOCKS_MAX {
            if let Some(oldest) = known.order.pop_front() {
                known.before.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let rows = RowIds::default();
        rows.learn((0..=BLOCKS_MAX as u64).map(|n| (BlockId(n), n)));
        assert_eq!(rows.before(BlockId(0)), None);
        assert_eq!(rows.before(BlockId(1)), Some(1));
        assert_eq!(rows.before(BlockId(BLOCKS_MAX as u64)), Some(BLOCKS_MAX as u64));
    }
}
