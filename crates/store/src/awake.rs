//! Time in which this process ran. A process that was paused, or a machine that slept, did not try anything meanwhile: the
//! guard's limits must not count that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How often the clock moves on.
const TICK: Duration = Duration::from_millis(250);
/// What one tick may count at most: more passes only when the process did not run, or the machine is far too busy.
const TICK_COUNTS_MAX: Duration = Duration::from_secs(2);

/// A monotonic clock that stands still while the process is paused.
#[derive(Debug)]
pub(crate) struct AwakeClock {
    began: Instant,
    awake_ms: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl AwakeClock {
    pub(crate) fn start() -> Self {
        let awake_ms = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&awake_ms);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = Instant::now();
            loop {
                ticks.tick().await;
                let now = Instant::now();
                counted.fetch_add(counts(now.duration_since(last)), Ordering::Relaxed);
                last = now;
            }
        });
        Self { began: Instant::now(), awake_ms, task }
    }

    /// As an instant, so that it can stand in for the usual clock.
    pub(crate) fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.awake_ms.load(Ordering::Relaxed))
    }
}

impl Drop for AwakeClock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Milliseconds of a tick that count.
fn counts(passed: Duration) -> u64 {
    u64::try_from(passed.min(TICK_COUNTS_MAX).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_as_one_tick_at_most() {
        assert_eq!(counts(Duration::from_millis(300)), 300);
        assert_eq!(counts(Duration::from_secs(3600)), 2000);
    }
}
