//! One form for states that differ in names only: which node is which, and how high the epochs are.

use crate::world::World;

/// Epochs below this are told apart; canonical states have far lower ones.
const EPOCHS_MAX: usize = 64;
/// Of a gap in the epochs only this much is kept: the next epoch may fall into it, and one more after it.
const GAP_MAX: u8 = 2;

impl World {
    /// The same world, with nodes and epochs renamed. Epochs are compared, and raised by one above the highest that is
    /// seen: order and small gaps are all that matters.
    #[must_use]
    pub(crate) fn canonical(mut self) -> Self {
        let mut used = 1u64;
        self.for_each_epoch(|epoch| used |= 1u64.checked_shl(u32::from(*epoch)).unwrap_or_default());
        let mut renamed = [0u8; EPOCHS_MAX];
        let (mut last_old, mut last_new) = (0u8, 0u8);
        for (old, new) in (0u8..).zip(renamed.iter_mut()).filter(|(old, _)| used >> old & 1 == 1) {
            last_new += (old - last_old).min(GAP_MAX);
            last_old = old;
            *new = last_new;
        }
        self.for_each_epoch(|epoch| *epoch = renamed.get(usize::from(*epoch)).copied().unwrap_or(*epoch));
        self.nodes.sort_unstable();
        self.late_steps.sort_unstable();
        self.late_commits.sort_unstable();
        self
    }

    fn for_each_epoch(&mut self, mut take: impl FnMut(&mut u8)) {
        for node in &mut self.nodes {
            take(&mut node.seen);
            take(&mut node.seen_slow);
            take(&mut node.next);
            take(&mut node.epoch);
            node.order.iter_mut().for_each(|order| take(&mut order.epoch));
        }
        for redis in [Some(&mut self.redis), self.replica.as_mut()].into_iter().flatten() {
            take(&mut redis.owner);
            take(&mut redis.epoch);
        }
        take(&mut self.postgres.epoch);
        take(&mut self.postgres.epoch_before);
        self.late_steps.iter_mut().flatten().for_each(|step| take(&mut step.epoch));
        self.late_commits.iter_mut().flatten().for_each(|commit| take(&mut commit.epoch));
    }
}
