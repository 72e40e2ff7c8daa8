//! How full Redis is while the node works. Writers are slowed before Redis refuses them, so that trims can make room; at
//! the limit itself Redis refuses a block whole. Taking blocks back works always.

use std::time::Duration;

use forebay_fast::FastTier;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::guard::Verdict;

/// From this share of `maxmemory` on, writers are slowed.
const SOFT_PERCENT: u64 = 90;
/// Below this share they are not any more: far enough below that a trim does not make them go to and fro.
const RELEASED_PERCENT: u64 = 85;
/// Longest pause before a block, at `maxmemory`.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Shortest, so that it can be felt and seen.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How often Redis is asked: a fast writer fills some megabytes meanwhile.
const INTERVAL: Duration = Duration::from_millis(500);

/// What Redis uses, against the plan and against what it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What Redis says that it uses, bytes; 0 before it was asked.
    pub used_bytes: u64,
    /// What the plan gives it, right after the load, bytes; 0: nobody planned.
    pub planned_bytes: u64,
    /// Its `maxmemory`, bytes; 0: none.
    pub maxmemory_bytes: u64,
    /// Whether writers are slowed for it.
    pub is_slowed: bool,
}

/// What the writer may do, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Go on.
    None,
    /// Pause so long before the next block.
    Slow(Duration),
}

impl MemoryUse {
    /// The next figure; remembers on which side of the soft limit it was.
    #[must_use]
    pub fn followed_by(self, used_bytes: u64, maxmemory_bytes: u64) -> Self {
        let percent = if self.is_slowed { RELEASED_PERCENT } else { SOFT_PERCENT };
        let is_slowed = maxmemory_bytes > 0 && used_bytes >= share(maxmemory_bytes, percent);
        Self { used_bytes, maxmemory_bytes, is_slowed, ..self }
    }

    /// What follows from it.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        if !self.is_slowed {
            return Pressure::None;
        }
        let soft = share(self.maxmemory_bytes, SOFT_PERCENT);
        let over = self.used_bytes.clamp(soft, self.maxmemory_bytes) - soft;
        let range = (self.maxmemory_bytes - soft).max(1);
        let pause = PAUSE_MAX.as_millis() * u128::from(over) / u128::from(range);
        Pressure::Slow(Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX)).max(PAUSE_MIN))
    }
}

fn share(bytes: u64, percent: u64) -> u64 {
    bytes / 100 * percent
}

/// Asks Redis now and then, until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    latest: watch::Receiver<MemoryUse>,
    task: JoinHandle<()>,
}

impl MemoryWatch {
    pub(crate) fn start(fast: &FastTier, planned_bytes: u64) -> Self {
        let (told, latest) = watch::channel(MemoryUse { planned_bytes, ..MemoryUse::default() });
        let fast = fast.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // A Redis that does not answer is others' business; what was last known holds.
                if let Ok((used, maxmemory)) = fast.memory_use().await {
                    told.send_modify(|memory| follow(memory, used, maxmemory));
                }
            }
        });
        Self { latest, task }
    }

    pub(crate) fn latest(&self) -> MemoryUse {
        *self.latest.borrow()
    }

    /// The guard's verdict, or a longer pause for memory's sake.
    pub(crate) fn slowed(&self, verdict: Verdict) -> Verdict {
        match (verdict, self.latest().pressure()) {
            (Verdict::Fine, Pressure::Slow(pause)) => Verdict::Slow(pause),
            (Verdict::Slow(pause), Pressure::Slow(longer)) => Verdict::Slow(pause.max(longer)),
            (verdict, _) => verdict,
        }
    }
}

fn follow(memory: &mut MemoryUse, used: u64, maxmemory: u64) {
    let before = memory.is_slowed;
    *memory = memory.followed_by(used, maxmemory);
    match (before, memory.is_slowed) {
        (false, true) => tracing::warn!(
            used_bytes = used,
            maxmemory_bytes = maxmemory,
            "Redis is filling up: blocks are taken more slowly; raise maxmemory, or let PostgreSQL catch up"
        ),
        (true, false) => {
            tracing::info!(used_bytes = used, maxmemory_bytes = maxmemory, "Redis has room again")
        }
        _ => {}
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1_000_000;

    #[test]
    fn writers_are_slowed_from_nine_tenths_on_and_the_more_the_fuller() {
        let fine = MemoryUse::default().followed_by(899_999, MAX);
        assert_eq!(fine.pressure(), Pressure::None);
        let Pressure::Slow(first) = fine.followed_by(910_000, MAX).pressure() else { panic!("not slowed") };
        let Pressure::Slow(second) = fine.followed_by(990_000, MAX).pressure() else { panic!("not slowed") };
        assert!(first < second && second < PAUSE_MAX, "{first:?} {second:?}");
        assert_eq!(fine.followed_by(2 * MAX, MAX).pressure(), Pressure::Slow(PAUSE_MAX));
    }

    #[test]
    fn they_stay_slowed_until_there_is_clearly_room_again() {
        let slowed = MemoryUse::default().followed_by(900_000, MAX);
        assert!(slowed.is_slowed);
        let still = slowed.followed_by(860_000, MAX);
        assert_eq!(still.pressure(), Pressure::Slow(PAUSE_MIN));
        let free = still.followed_by(849_999, MAX);
        assert_eq!(free.pressure(), Pressure::None);
        assert_eq!(free.followed_by(860_000, MAX).pressure(), Pressure::None);
    }

    #[test]
    fn without_maxmemory_nobody_is_slowed() {
        assert_eq!(MemoryUse::default().followed_by(u64::MAX, 0).pressure(), Pressure::None);
    }
}
