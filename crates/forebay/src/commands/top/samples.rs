//! What was seen of a node so far: rates and history come from the differences. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forebay_servers::HeldBy;

use crate::node_report::{CountsReport, NodeReport};

/// Rates are means over so long: short enough to follow, long enough that single blocks do not make them jump.
const RATES_OVER: Duration = Duration::from_secs(5);
/// One bar of the history.
const HISTORY_EVERY: Duration = Duration::from_secs(1);
/// Bars that are kept: wider terminals are rare.
const HISTORY_MAX: usize = 500;

/// One look.
#[derive(Debug, Clone)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// Who holds the data directory.
    pub holder: Option<HeldBy>,
    /// What it says of itself.
    pub report: Option<NodeReport>,
}

/// How fast it goes, by second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Blocks accepted.
    pub blocks_accepted: f64,
    /// Transactions accepted.
    pub transactions_accepted: f64,
    /// Blocks that became durable.
    pub blocks_durable: f64,
    /// Transactions that became durable.
    pub transactions_durable: f64,
}

/// All looks, as far as they matter.
#[derive(Debug, Default)]
pub struct Samples {
    newest: Option<Look>,
    counts: VecDeque<(Instant, CountsReport)>,
    lag: VecDeque<u64>,
    lag_at: Option<Instant>,
    last_error: Option<(Instant, String)>,
}

impl Samples {
    /// Takes a look in.
    pub fn add(&mut self, look: Look) {
        let pid = |look: &Look| look.holder.as_ref().map(|by| by.pid);
        if self.newest.as_ref().is_some_and(|before| pid(before) != pid(&look)) {
            // Another process counts from zero.
            *self = Self { last_error: self.last_error.take(), ..Self::default() };
        }
        if let Some(report) = &look.report {
            if let Some(error) = &report.last_error {
                self.last_error = Some((look.at, error.clone()));
            }
            if report.tips.is_some() {
                self.follow(look.at, report);
            }
        }
        self.newest = Some(look);
    }

    fn follow(&mut self, at: Instant, report: &NodeReport) {
        self.counts.push_back((at, report.counts));
        while self.counts.get(1).is_some_and(|(second, _)| at.duration_since(*second) >= RATES_OVER) {
            self.counts.pop_front();
        }
        match self.lag.back_mut() {
            // The highest within a bar's time is what it shows.
            Some(bar) if self.lag_at.is_some_and(|since| at.duration_since(since) < HISTORY_EVERY) => {
                *bar = (*bar).max(report.lag_operations);
            }
            _ => {
                self.lag.push_back(report.lag_operations);
                self.lag_at = Some(at);
                if self.lag.len() > HISTORY_MAX {
                    self.lag.pop_front();
                }
            }
        }
    }

    /// The last look.
    pub fn newest(&self) -> Option<&Look> {
        self.newest.as_ref()
    }

    /// The newest so many bars of the lag, a second each, the newest last.
    pub fn lag(&self, bars: usize) -> Vec<u64> {
        self.lag.iter().skip(self.lag.len().saturating_sub(bars)).copied().collect()
    }

    /// The last error that was seen, and when.
    pub fn last_error(&self) -> Option<(Instant, &str)> {
        self.last_error.as_ref().map(|(at, error)| (*at, error.as_str()))
    }

    /// Means over the last seconds; `None` before there are two looks at a running node.
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    pub fn rates(&self) -> Option<Rates> {
        let ((from, before), (to, after)) = (self.counts.front()?, self.counts.back()?);
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Some(Rates {
            blocks_accepted: rate(before.blocks_accepted, after.blocks_accepted),
            transactions_accepted: rate(before.transactions_accepted, after.transactions_accepted),
            blocks_durable: rate(before.blocks_durable, after.blocks_durable),
            transactions_durable: rate(before.transactions_durable, after.transactions_durable),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_report::Tips;

    fn look(at: Instant, pid: u32, blocks: u64, lag: u64) -> Look {
        let holder = HeldBy { pid, since_unix_ms: 0, command: "forebay run".to_owned() };
        let counts = CountsReport { blocks_accepted: blocks, ..CountsReport::default() };
        let report = NodeReport {
            pid,
            counts,
            lag_operations: lag,
            tips: Some(Tips::default()),
            ..NodeReport::default()
        };
        Look { at, holder: Some(holder), report: Some(report) }
    }

    #[test]
    fn rates_are_means_over_the_last_seconds_and_begin_anew_with_another_process() {
        let (start, mut samples) = (Instant::now(), Samples::default());
        let at = |millis| start + Duration::from_millis(millis);
        samples.add(look(start, 1, 0, 0));
        assert_eq!(samples.rates(), None);
        for tick in 1..=40 {
            samples.add(look(at(tick * 250), 1, tick * 10, 0));
        }
        assert_eq!(samples.rates().unwrap().blocks_accepted, 40.0);
        // Nothing for as long as rates are made over.
        for tick in 41..=60 {
            samples.add(look(at(tick * 250), 1, 400, 0));
        }
        assert_eq!(samples.rates().unwrap().blocks_accepted, 0.0);
        samples.add(look(at(20_000), 2, 3, 0));
        assert_eq!(samples.rates(), None);
    }

    #[test]
    fn a_bar_shows_the_highest_lag_of_its_second() {
        let (start, mut samples) = (Instant::now(), Samples::default());
        for (millis, lag) in [(0, 1), (250, 9), (500, 2), (1000, 4), (1250, 3), (2000, 0)] {
            samples.add(look(start + Duration::from_millis(millis), 1, 0, lag));
        }
        assert_eq!(samples.lag(10), [9, 4, 0]);
        assert_eq!(samples.lag(2), [4, 0]);
    }
}
