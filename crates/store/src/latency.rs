//! How long operations take from accepted to durable: the newest so many, and how they are distributed.

use std::collections::VecDeque;
use std::time::Duration;

/// Operations that count. 1,000: some eight hours of a live chain, and a p99 that ten of them decide.
const OPERATIONS_MAX: usize = 1000;

/// A distribution's middle and its slow end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the operations took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Latency {
    newest: VecDeque<Duration>,
}

impl Latency {
    pub(crate) fn add(&mut self, took: Duration) {
        if self.newest.len() == OPERATIONS_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back(took);
    }

    /// `None` before the first operation.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted: Vec<Duration> = self.newest.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        // The smallest value that so many of 100 do not exceed.
        let at =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last));
        Some(Quantiles { p50: *at(50)?, p99: *at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_thousand_count() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantiles(), None);
        latency.add(Duration::from_millis(7));
        let one = latency.quantiles().unwrap();
        assert_eq!((one.p50.as_millis(), one.p99.as_millis()), (7, 7));
        for millis in (1..=1000).rev() {
            latency.add(Duration::from_millis(millis));
        }
        let all = latency.quantiles().unwrap();
        assert_eq!((all.p50.as_millis(), all.p99.as_millis()), (500, 990));
        assert_eq!(latency.newest.len(), OPERATIONS_MAX);
    }
}
