//! What a replay shows while it works: height, blocks/s, tx/s, lag.

use std::time::{Duration, Instant};

use forebay_store::Progress;
use indicatif::{HumanCount, ProgressBar};
use tokio::sync::watch;

use crate::output::counted;
use crate::screen::{REPLAY, REPLAY_OF_A_STREAM, Screen, Shown, time_left};

/// How often the numbers change on a terminal.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is written elsewhere.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows how a replay goes on.
pub struct Meter {
    screen: Screen,
    bar: Option<ProgressBar>,
    progress: watch::Receiver<Progress>,
    bytes: u64,
    total_bytes: Option<u64>,
    begun: Instant,
    last: Sample,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    blocks: u64,
    known_blocks: u64,
    transactions: u64,
}

impl Meter {
    /// A bar over the files' bytes, if they have a size.
    pub fn new(screen: &Screen, total_bytes: Option<u64>, progress: watch::Receiver<Progress>) -> Self {
        let bar = (screen.shown() == Shown::Bars).then(|| {
            let template = match total_bytes {
                Some(_) => REPLAY,
                None => REPLAY_OF_A_STREAM,
            };
            screen.bar(template, total_bytes)
        });
        let last = Sample { at: Instant::now(), blocks: 0, known_blocks: 0, transactions: 0 };
        Self { screen: screen.clone(), bar, progress, bytes: 0, total_bytes, begun: last.at, last }
    }

    /// A line was done. Counts are of the whole replay.
    pub fn advance(&mut self, bytes: u64, blocks: u64, known_blocks: u64, transactions: u64) {
        self.bytes += bytes;
        let interval = if self.bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL };
        let elapsed = self.last.at.elapsed();
        if elapsed < interval {
            return;
        }
        let message = if blocks == self.last.blocks && known_blocks > self.last.known_blocks {
            format!("skipped {} that the chain has", counted(known_blocks, "block"))
        } else {
            self.message(elapsed, blocks - self.last.blocks, transactions - self.last.transactions)
        };
        self.last = Sample { at: Instant::now(), blocks, known_blocks, transactions };
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.bytes);
                bar.set_message(message);
            }
            None => {
                let left = self.total_bytes.and_then(|all| time_left(self.bytes, all, self.begun.elapsed()));
                let left = left.map(|left| format!("  {left} left")).unwrap_or_default();
                self.screen.say(format!("replay: {message}{left}"));
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates for people"
    )]
    fn message(&self, elapsed: Duration, blocks: u64, transactions: u64) -> String {
        let per_second = |count: u64| HumanCount((count as f64 / elapsed.as_secs_f64().max(0.001)) as u64);
        let progress = self.progress.borrow();
        format!(
            "height {}  {} blocks/s  {} tx/s  lag {}",
            HumanCount(progress.tip.map_or(0, |tip| tip.height).into()),
            per_second(blocks),
            per_second(transactions),
            HumanCount(progress.lag_operations as u64),
        )
    }

    /// All is accepted; PostgreSQL follows.
    pub fn waiting(&self) {
        let lag = self.progress.borrow().lag_operations;
        match &self.bar {
            // What follows shows itself.
            Some(bar) => bar.finish_and_clear(),
            None if lag > 0 => self.screen.say(format!(
                "replay: all accepted, PostgreSQL follows ({})",
                counted(lag as u64, "operation")
            )),
            None => {}
        }
    }

    /// Done.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}
