//! What Redis still has to keep, and what may go. Pure: decides, does not do.
//!
//! A block's body is stored once and referred to twice: by the outbox entry that brought it, and by its height while it
//! is among the newest. It may go when neither is left.

use std::collections::{HashMap, HashSet, VecDeque};

use forebay_fast::{Durable as DurableNote, Position, Trim};
use forebay_ledger::ids::{BlockId, Height};

use crate::options::Limits;
use crate::progress::KeptInRedis;

/// Rounds whose forger lists stay in Redis, the running one included: the round before is asked for when it is taken
/// back, one more for readers.
const ROUNDS_KEPT: u32 = 3;

#[derive(Debug)]
pub(crate) struct Retention {
    outbox: VecDeque<(Position, Option<BlockId>)>,
    kept: VecDeque<(Height, BlockId)>,
    bodies: HashMap<BlockId, u32>,
    undo_from: Height,
    rounds_from: u32,
    blocks_kept: usize,
    undo_kept: u32,
    outbox_kept: usize,
    /// What may go and is not worth a call of its own yet.
    pending: Trim,
    pending_count: usize,
}

impl Retention {
    /// After a restore: the newest blocks are there, and the newest entries of the outbox; no undo records.
    pub(crate) fn after_restore(
        limits: &Limits,
        kept: Vec<(Height, BlockId)>,
        outbox: Vec<(Position, Option<BlockId>)>,
        tip: Height,
        round: u32,
    ) -> Self {
        let mut bodies: HashMap<BlockId, u32> = HashMap::new();
        for id in kept.iter().map(|(_, id)| *id).chain(outbox.iter().filter_map(|(_, id)| *id)) {
            *bodies.entry(id).or_default() += 1;
        }
        Self {
            outbox: outbox.into(),
            kept: kept.into(),
            bodies,
            undo_from: tip.saturating_add(1),
            rounds_from: round,
            blocks_kept: usize::try_from(limits.blocks_kept).unwrap_or(usize::MAX),
            undo_kept: limits.undo_kept,
            outbox_kept: limits.outbox_kept,
            pending: Trim::default(),
            pending_count: 0,
        }
    }

    pub(crate) fn applied(&mut self, position: Position, height: Height, id: BlockId) {
        // The same block again: its body is there again, too.
        self.pending.bodies.retain(|waiting| *waiting != id);
        self.outbox.push_back((position, Some(id)));
        self.kept.push_back((height, id));
        *self.bodies.entry(id).or_default() += 2;
    }

    /// `round`: the running round since. Its list is written again when a closing block was taken back.
    pub(crate) fn taken_back(&mut self, position: Position, round: u32) {
        self.outbox.push_back((position, None));
        self.rounds_from = self.rounds_from.min(round);
        self.pending.rounds.retain(|waiting| *waiting < round);
        if let Some((height, id)) = self.kept.pop_back() {
            // The step itself removed height and undo record; the body goes with the outbox entry at the earliest.
            self.undo_from = self.undo_from.min(height);
            // It may be written again at the same height: what waits to go must not take that with it.
            self.pending.undo_heights.retain(|waiting| *waiting < height);
            self.pending.heights.retain(|waiting| *waiting < height);
            if let Some(count) = self.bodies.get_mut(&id) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// What Redis keeps, seen from the durable position.
    pub(crate) fn kept(&self, durable_seq: u64, durable_height: Height) -> KeptInRedis {
        KeptInRedis {
            blocks: self.kept.len(),
            outbox_entries: self.outbox.partition_point(|(position, _)| position.seq <= durable_seq),
            undo_depth: (durable_height + 1).saturating_sub(self.undo_from),
        }
    }

    /// Where a kept block of the chain stands.
    pub(crate) fn height_of(&self, id: BlockId) -> Option<Height> {
        // The newest are asked for most.
        self.kept.iter().rev().find(|(_, kept)| *kept == id).map(|(height, _)| *height)
    }

    /// The kept block at a height.
    pub(crate) fn id_at(&self, height: Height) -> Option<BlockId> {
        let (first, _) = self.kept.front()?;
        let index = usize::try_from(height.checked_sub(*first)?).ok()?;
        self.kept.get(index).map(|(_, id)| *id)
    }

    /// The lowest kept height: of the chain's blocks from there on, all are kept. `None`: none is.
    pub(crate) fn kept_from(&self) -> Option<Height> {
        self.kept.front().map(|(height, _)| *height)
    }

    /// What may go since the last trim, once it is at least so much; it counts as gone from then on. `underway`: blocks of
    /// steps that may have been done and are not accepted yet. One that was taken back long ago may be among them once
    /// more: its body was written again, and stays.
    pub(crate) fn trim(
        &mut self,
        durable: DurableNote,
        round: u32,
        least: usize,
        underway: &HashSet<BlockId>,
    ) -> Option<Trim> {
        self.collect(durable, round);
        if self.pending_count < least {
            return None;
        }
        self.pending_count = 0;
        let mut trim = Trim { durable: Some(durable), ..std::mem::take(&mut self.pending) };
        self.pending.bodies = trim.bodies.extract_if(.., |id| underway.contains(id)).collect();
        Some(trim)
    }

    /// What was not trimmed after all waits again.
    pub(crate) fn put_back(&mut self, trim: Trim) {
        let Trim { entries_through, bodies, heights, undo_heights, rounds, durable: _ } = trim;
        self.pending_count += bodies.len() + 1;
        self.pending.entries_through = self.pending.entries_through.max(entries_through);
        self.pending.bodies.extend(bodies);
        self.pending.heights.extend(heights);
        self.pending.undo_heights.extend(undo_heights);
        self.pending.rounds.extend(rounds);
    }

    fn collect(&mut self, durable: DurableNote, round: u32) {
        let trim = &mut self.pending;
        let durable_entries =
            self.outbox.partition_point(|(position, _)| position.seq <= durable.position.seq);
        let mut unreferenced = Vec::new();
        for (position, body) in self.outbox.drain(..durable_entries.saturating_sub(self.outbox_kept)) {
            trim.entries_through = Some(position);
            unreferenced.extend(body);
            self.pending_count += 1;
        }
        while self.kept.len() > self.blocks_kept
            && let Some((height, id)) = self.kept.front().copied()
            && height <= durable.height
        {
            self.kept.pop_front();
            trim.heights.push(height);
            unreferenced.push(id);
        }
        for id in unreferenced {
            let count = self.bodies.entry(id).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.bodies.remove(&id);
                trim.bodies.push(id);
                self.pending_count += 1;
            }
        }
        let undo_until = durable.height.saturating_sub(self.undo_kept);
        trim.undo_heights.extend(self.undo_from..=undo_until);
        self.undo_from = self.undo_from.max(undo_until.saturating_add(1));
        let rounds_until = (round + 1).saturating_sub(ROUNDS_KEPT);
        trim.rounds.extend(self.rounds_from..rounds_until);
        self.rounds_from = self.rounds_from.max(rounds_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    fn durable(seq: u64, height: Height) -> DurableNote {
        DurableNote { position: position(seq), height }
    }

    fn none() -> HashSet<BlockId> {
        HashSet::new()
    }

    fn limits() -> Limits {
        Limits { blocks_kept: 3, undo_kept: 2, outbox_kept: 2, ..Limits::default() }
    }

    #[test]
    fn a_body_goes_when_neither_outbox_nor_window_refers_to_it() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        for height in 1..=6u32 {
            retention.applied(position(height.into()), height, BlockId(height.into()));
        }
        let trim = retention.trim(durable(6, 6), 1, 0, &none()).unwrap();
        assert_eq!(trim.entries_through, Some(position(4)));
        assert_eq!(trim.heights, [1, 2, 3]);
        assert_eq!(trim.bodies, [BlockId(1), BlockId(2), BlockId(3)]);
        assert_eq!(trim.undo_heights, [1, 2, 3, 4]);
    }

    #[test]
    fn restored_entries_go_like_any_other_and_take_bodies_only_they_refer_to() {
        // Block 9 was taken back: only the outbox refers to it.
        let outbox = vec![
            (position(1), Some(BlockId(1))),
            (position(2), Some(BlockId(9))),
            (position(3), None),
            (position(4), Some(BlockId(2))),
        ];
        let kept = vec![(1, BlockId(1)), (2, BlockId(2))];
        let mut retention = Retention::after_restore(&limits(), kept, outbox, 2, 1);
        let trim = retention.trim(durable(4, 2), 1, 0, &none()).unwrap();
        assert_eq!(trim.entries_through, Some(position(2)));
        assert_eq!(trim.bodies, [BlockId(9)], "block 1 is among the newest");
    }

    #[test]
    fn what_is_not_worth_a_call_yet_is_not_forgotten() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        for height in 1..=6u32 {
            let position = position(height.into());
            retention.applied(position, height, BlockId(height.into()));
            assert_eq!(retention.trim(DurableNote { position, height }, 1, 100, &none()), None);
        }
        let trim = retention.trim(durable(6, 6), 1, 7, &none()).unwrap();
        assert_eq!(trim.entries_through, Some(position(4)));
        assert_eq!((trim.bodies.len(), trim.undo_heights.len(), trim.heights.len()), (3, 4, 3));
    }

    #[test]
    fn what_was_not_trimmed_waits_again_unless_it_is_written_again() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        for height in 1..=6u32 {
            retention.applied(position(height.into()), height, BlockId(height.into()));
        }
        let trim = retention.trim(durable(6, 6), 1, 0, &none()).unwrap();
        retention.put_back(trim.clone());
        assert_eq!(retention.trim(durable(6, 6), 1, 0, &none()), Some(trim.clone()));
        retention.put_back(trim);
        retention.applied(position(7), 7, BlockId(2));
        assert_eq!(
            retention.trim(durable(6, 6), 1, 0, &none()).unwrap().bodies,
            [BlockId(1), BlockId(3), BlockId(4)],
            "block 2 is needed again; 4 left the newest ones meanwhile"
        );
    }

    #[test]
    fn the_body_of_a_block_that_is_on_its_way_once_more_stays() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        retention.applied(position(1), 1, BlockId(7));
        retention.taken_back(position(2), 1);
        for seq in 3..=6 {
            retention.applied(position(seq), u32::try_from(seq).unwrap() - 2, BlockId(seq));
        }
        let underway = HashSet::from([BlockId(7)]);
        let trim = retention.trim(durable(6, 4), 1, 0, &underway).unwrap();
        assert!(!trim.bodies.contains(&BlockId(7)), "{:?}", trim.bodies);
        // Its step was refused: the body is nobody's again.
        let trim = retention.trim(durable(6, 4), 1, 0, &none()).unwrap();
        assert_eq!(trim.bodies, [BlockId(7)]);
    }

    #[test]
    fn nothing_that_is_not_durable_goes() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        for height in 1..=9u32 {
            retention.applied(position(height.into()), height, BlockId(height.into()));
        }
        let trim = retention.trim(durable(1, 1), 1, 0, &none()).unwrap();
        assert_eq!((trim.entries_through, trim.heights.as_slice()), (None, [1].as_slice()));
        assert!(trim.bodies.is_empty() && trim.undo_heights.is_empty());
    }

    #[test]
    fn a_block_applied_twice_keeps_its_body_until_both_entries_are_gone() {
        let mut retention = Retention::after_restore(&limits(), Vec::new(), Vec::new(), 0, 1);
        retention.applied(position(1), 1, BlockId(7));
        retention.taken_back(position(2), 1);
        retention.applied(position(3), 1, BlockId(7));
        for seq in 4..=5 {
            retention.applied(position(seq), u32::try_from(seq).unwrap() - 2, BlockId(seq));
        }
        let trim = retention.trim(durable(5, 3), 1, 0, &none()).unwrap();
        assert_eq!(trim.entries_through, Some(position(3)));
        assert!(trim.bodies.is_empty(), "block 7 is still at height 1: {:?}", trim.bodies);
    }
}
