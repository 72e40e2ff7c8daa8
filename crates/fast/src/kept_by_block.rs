//! What was made of a block's body lately. Whether the chain has the block, and with which body, is not kept: that is asked
//! for each answer. The id alone does not say it: signatures of groups are not covered by it, so that a block may come
//! again with others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_ledger::ids::BlockId;

/// What an entry takes beside the block: its places in both collections, half of them free.
const ENTRY_BYTES: usize = 128;

/// As many as fit. Those that nobody asked for again go first, the oldest of them before the others.
pub struct KeptByBlock<T> {
    bytes_max: usize,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    blocks: HashMap<BlockId, Entry<T>>,
    order: VecDeque<BlockId>,
    bytes: usize,
}

struct Entry<T> {
    value: Arc<T>,
    bytes: usize,
    is_asked_again: bool,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptBlocks {
    /// Blocks.
    pub blocks: usize,
    /// What they take.
    pub bytes: usize,
    /// What they may take.
    pub bytes_max: usize,
}

impl<T> KeptByBlock<T> {
    /// None yet. `bytes_max`: 0 keeps none.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let kept = Kept { blocks: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self { bytes_max, kept: Mutex::new(kept) }
    }

    /// What is kept of a block.
    #[must_use]
    pub fn get(&self, id: BlockId) -> Option<Arc<T>> {
        let mut kept = self.lock();
        let entry = kept.blocks.get_mut(&id)?;
        entry.is_asked_again = true;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps what takes so many bytes instead of what was kept of this block, and as many of the others as still fit.
    pub fn keep(&self, id: BlockId, value: Arc<T>, bytes: usize) {
        let bytes = ENTRY_BYTES + bytes;
        if bytes > self.bytes_max {
            return;
        }
        let mut kept = self.lock();
        if let Some(entry) = kept.blocks.get_mut(&id) {
            // It keeps its place in the order.
            let before = std::mem::replace(&mut entry.bytes, bytes);
            entry.value = value;
            kept.bytes = kept.bytes - before + bytes;
            kept.make_room(self.bytes_max);
            return;
        }
        kept.make_room(self.bytes_max - bytes);
        kept.blocks.insert(id, Entry { value, bytes, is_asked_again: false });
        kept.order.push_back(id);
        kept.bytes += bytes;
    }

    /// How much is kept now.
    #[must_use]
    pub fn figures(&self) -> KeptBlocks {
        let kept = self.lock();
        KeptBlocks { blocks: kept.blocks.len(), bytes: kept.bytes, bytes_max: self.bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Kept<T> {
    /// Ends: who was asked for again is passed over once.
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            match self.blocks.get_mut(&oldest) {
                Some(entry) if entry.is_asked_again => {
                    entry.is_asked_again = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    let gone = self.blocks.remove(&oldest);
                    self.bytes -= gone.map_or(0, |entry| entry.bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 1000;

    fn keep(blocks: &KeptByBlock<()>, id: u64, bytes: usize) {
        blocks.keep(BlockId(id), Arc::new(()), bytes - ENTRY_BYTES);
        let figures = blocks.figures();
        assert!(figures.bytes <= figures.bytes_max, "{figures:?}");
    }

    fn kept(blocks: &KeptByBlock<()>) -> Vec<u64> {
        let mut ids: Vec<u64> = blocks.lock().blocks.keys().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn as_many_are_kept_as_fit_and_who_was_asked_for_again_stays_longest() {
        let blocks = KeptByBlock::new(3 * BLOCK_BYTES);
        (1..=3).for_each(|id| keep(&blocks, id, BLOCK_BYTES));
        assert_eq!(blocks.figures(), KeptBlocks { blocks: 3, bytes: 3000, bytes_max: 3000 });
        assert!(blocks.get(BlockId(1)).is_some());
        keep(&blocks, 4, BLOCK_BYTES);
        assert_eq!(kept(&blocks), [1, 3, 4]);
        // Asked for once is not for ever.
        (5..=7).for_each(|id| keep(&blocks, id, BLOCK_BYTES));
        assert_eq!(kept(&blocks), [5, 6, 7]);
        // Many small ones give way to a large one.
        keep(&blocks, 8, 2500);
        assert_eq!((kept(&blocks), blocks.figures().bytes), (vec![8], 2500));
        // The same again is no second one, whatever it takes now.
        keep(&blocks, 8, 400);
        assert_eq!((blocks.figures().blocks, blocks.figures().bytes), (1, 400));
        keep(&blocks, 9, 2600);
        keep(&blocks, 9, 2900);
        assert_eq!((kept(&blocks), blocks.figures().bytes), (vec![9], 2900));
    }

    #[test]
    fn what_is_larger_than_all_the_room_is_not_kept() {
        for bytes_max in [0, BLOCK_BYTES - 1] {
            let blocks = KeptByBlock::new(bytes_max);
            keep(&blocks, 1, BLOCK_BYTES);
            assert_eq!(blocks.figures(), KeptBlocks { blocks: 0, bytes: 0, bytes_max });
            assert!(blocks.get(BlockId(1)).is_none());
        }
    }

    #[test]
    fn all_of_them_asked_for_again_and_again_still_make_room() {
        let blocks = KeptByBlock::new(3 * BLOCK_BYTES);
        for id in 1..100 {
            keep(&blocks, id, BLOCK_BYTES);
            (1..=id).for_each(|id| drop(blocks.get(BlockId(id))));
            assert!(blocks.get(BlockId(id)).is_some());
        }
        assert_eq!(blocks.figures().blocks, 3);
    }
}
