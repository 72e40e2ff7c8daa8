//! How full Redis is while the node works. Writers are slowed before Redis would refuse them; taking blocks back goes on
//! always.

use std::time::Duration;

/// From this share of `maxmemory` on, writers are slowed.
const SOFT_PERCENT: u64 = 90;
/// Below this share they are not any more: far enough below that a trim does not make them go to and fro.
const RELEASED_PERCENT: u64 = 85;
/// From this share on, no block is taken: what is left is for the step under way, and for taking back.
const HARD_PERCENT: u64 = 97;
/// Longest pause before a block, just below the hard share.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Shortest, so that it can be felt and seen.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// What Redis uses, against what it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What Redis says that it uses, bytes.
    pub used_bytes: u64,
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
    /// Take no block until there is room.
    Full,
}

/// Remembers on which side of the soft limit Redis was. Pure.
#[derive(Debug, Default)]
pub struct Watch {
    is_slowed: bool,
}

impl Watch {
    /// What follows from a figure.
    pub fn observe(&mut self, used_bytes: u64, maxmemory_bytes: u64) -> Pressure {
        if maxmemory_bytes == 0 {
            self.is_slowed = false;
            return Pressure::None;
        }
        let share = |percent: u64| maxmemory_bytes / 100 * percent;
        self.is_slowed = used_bytes >= share(if self.is_slowed { RELEASED_PERCENT } else { SOFT_PERCENT });
        if used_bytes >= share(HARD_PERCENT) {
            return Pressure::Full;
        }
        if !self.is_slowed {
            return Pressure::None;
        }
        let over = used_bytes.saturating_sub(share(SOFT_PERCENT));
        let range = share(HARD_PERCENT - SOFT_PERCENT).max(1);
        let pause = PAUSE_MAX.as_millis() * u128::from(over) / u128::from(range);
        Pressure::Slow(Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX)).max(PAUSE_MIN))
    }

    /// Whether writers are slowed.
    #[must_use]
    pub fn is_slowed(&self) -> bool {
        self.is_slowed
    }
}
