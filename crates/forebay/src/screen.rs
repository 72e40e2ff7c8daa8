//! What people see while something works: bars on a terminal, plain lines elsewhere, nothing when quiet. All on stderr,
//! with log lines above the bars.

mod bars;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use forebay_store::{Phase, PhaseProgress};
use indicatif::{HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

pub use bars::{BLOCKS, BYTES, COUNTED, REPLAY, REPLAY_OF_A_STREAM, ROWS, rate};

/// How often a plain line tells about a long phase.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Shorter work is done without a word.
const WORDLESS: Duration = Duration::from_secs(2);
/// How often a bar's figures are asked for.
const BAR_INTERVAL: Duration = Duration::from_millis(250);
/// How often a bar is drawn.
const DRAWS_PER_SECOND: u8 = 8;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Bars on a terminal.
    Bars,
    /// A line now and then.
    Lines,
    /// Not at all.
    Nothing,
}

/// Stderr. Cheap to clone.
#[derive(Clone)]
pub struct Screen {
    bars: MultiProgress,
    shown: Shown,
    /// Lines are objects, as those of the log are.
    json: Arc<AtomicBool>,
}

impl Screen {
    /// Bars if stderr is a terminal.
    pub fn new(quiet: bool) -> Self {
        let shown = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bars,
            (false, false) => Shown::Lines,
        };
        let target = match shown {
            Shown::Bars => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            _ => ProgressDrawTarget::hidden(),
        };
        Self { bars: MultiProgress::with_draw_target(target), shown, json: Arc::default() }
    }

    /// From now on each line is a JSON object, as those of the log are.
    pub fn speak_json(&self) {
        self.json.store(true, Ordering::Relaxed);
    }

    /// How progress is shown.
    pub fn shown(&self) -> Shown {
        self.shown
    }

    /// A line for people, unless it is to be quiet.
    pub fn say(&self, line: impl AsRef<str>) {
        if self.shown != Shown::Nothing {
            self.always(line);
        }
    }

    /// A line for people, in any case.
    pub fn always(&self, line: impl AsRef<str>) {
        self.line("INFO", line.as_ref());
    }

    /// A risk that somebody takes, unless it is to be quiet.
    pub fn warn(&self, line: impl AsRef<str>) {
        if self.shown != Shown::Nothing {
            self.warn_always(line);
        }
    }

    /// A risk that somebody takes, in any case.
    pub fn warn_always(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        match self.json.load(Ordering::Relaxed) {
            true => self.line("WARN", line),
            false => self.line("WARN", &format!("warning: {line}")),
        }
    }

    /// Why the program ends.
    pub fn failure(&self, text: &str) {
        self.line("ERROR", text);
    }

    fn line(&self, level: &str, text: &str) {
        let line = match self.json.load(Ordering::Relaxed) {
            false => text.to_owned(),
            true => {
                let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
                json!({ "timestamp": timestamp, "level": level, "message": text, "target": "forebay" })
                    .to_string()
            }
        };
        // Nobody can be told that stderr is gone.
        self.bars.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }

    /// A bar of so many steps, by a template of ours.
    pub fn bar(&self, template: &str, total: Option<u64>) -> ProgressBar {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let bar = self.bars.add(bar.with_style(bars::style(template)));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Shows that something goes on whose steps nobody counts, once it takes longer than people wait without a word.
    pub async fn while_long<T>(&self, doing: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let begun = Instant::now();
        if let Ok(done) = tokio::time::timeout(WORDLESS, &mut work).await {
            return done;
        }
        let bar = (self.shown == Shown::Bars)
            .then(|| self.bar(bars::UNCOUNTED, None).with_message(doing.to_owned()));
        loop {
            match tokio::time::timeout(LINE_INTERVAL, &mut work).await {
                Ok(done) => {
                    if let Some(bar) = bar {
                        bar.finish_and_clear();
                    }
                    return done;
                }
                Err(_) if bar.is_none() => {
                    self.say(format!("{doing}: {} s so far", begun.elapsed().as_secs()))
                }
                Err(_) => {}
            }
        }
    }

    /// Shows how what is left becomes less, once it takes longer than people wait without a word.
    pub async fn while_counting_down<T>(
        &self,
        doing: &str,
        left: impl Fn() -> u64,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let (begun, total) = (Instant::now(), left());
        if let Ok(done) = tokio::time::timeout(WORDLESS, &mut work).await {
            return done;
        }
        let bar = (self.shown == Shown::Bars).then(|| {
            self.bar(COUNTED, Some(total)).with_prefix(doing.to_owned()).with_elapsed(begun.elapsed())
        });
        loop {
            let pause = if bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL };
            if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                return done;
            }
            let done = total.saturating_sub(left());
            match &bar {
                Some(bar) => bar.set_position(done),
                None => self.say(format!("{doing}: {}", how_far(done, Some(total), begun.elapsed()))),
            }
        }
    }

    /// Shows the phases of a start; for [`forebay_store::Node::start`].
    pub fn phases(&self) -> Arc<Phases> {
        Arc::new(Phases { screen: self.clone(), current: Mutex::new(None) })
    }
}

/// Phases of a start, one after the other.
pub struct Phases {
    screen: Screen,
    current: Mutex<Option<Current>>,
}

struct Current {
    phase: Phase,
    bar: Option<ProgressBar>,
    begun: Instant,
    told: Instant,
}

impl Phases {
    /// What the node is doing now.
    pub fn observe(&self, progress: PhaseProgress) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|current| current.phase != progress.phase) {
            if let Some(bar) = current.take().and_then(|current| current.bar) {
                bar.finish_and_clear();
            }
            tracing::info!(phase = progress.phase.name(), "start");
            if progress.phase == Phase::Ready {
                return;
            }
            *current = Some(self.enter(&progress));
        }
        if let Some(current) = current.as_mut() {
            self.advance(current, &progress);
        }
    }

    /// Clears what is shown.
    pub fn finish(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = current.take().and_then(|current| current.bar) {
            bar.finish_and_clear();
        }
    }

    fn enter(&self, progress: &PhaseProgress) -> Current {
        let bar = (self.screen.shown == Shown::Bars).then(|| {
            let template = match progress.total {
                Some(_) => COUNTED,
                None => bars::PHASE,
            };
            self.screen.bar(template, progress.total).with_prefix(progress.phase.name())
        });
        Current { phase: progress.phase, bar, begun: Instant::now(), told: Instant::now() }
    }

    fn advance(&self, current: &mut Current, progress: &PhaseProgress) {
        if let Some(bar) = &current.bar {
            if let Some(total) = progress.total
                && bar.length() != Some(total)
            {
                bar.set_length(total);
                bar.set_style(bars::style(COUNTED));
            }
            bar.set_position(progress.done);
        } else if current.told.elapsed() >= LINE_INTERVAL {
            current.told = Instant::now();
            let how_far = how_far(progress.done, progress.total, current.begun.elapsed());
            self.screen.say(format!("{}: {how_far}", progress.phase.name()));
        }
    }
}

/// `3,000 of 9,000, 1,000/s, 6 seconds left`: what a bar says, for a plain line.
#[expect(clippy::cast_precision_loss, reason = "rates for people")]
pub fn how_far(done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let of = total.map(|total| format!(" of {}", HumanCount(total))).unwrap_or_default();
    let rate = rate(done as f64 / elapsed.as_secs_f64().max(0.001));
    let left = total.and_then(|total| time_left(done, total, elapsed));
    let left = left.map(|left| format!(", {left} left")).unwrap_or_default();
    format!("{}{of}, {rate}{left}", HumanCount(done))
}

/// At the rate so far; `None` before anything was done.
#[expect(clippy::cast_precision_loss, reason = "a guess for people")]
pub fn time_left(done: u64, total: u64, elapsed: Duration) -> Option<HumanDuration> {
    let share = total.saturating_sub(done) as f64 / (done > 0).then_some(done)? as f64;
    let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() * share).ok()?;
    Some(HumanDuration(left))
}

/// A log line is written as a whole, above the bars.
#[derive(Clone)]
pub struct LogWriter(pub Screen);

/// One log line.
pub struct LogLine {
    screen: Screen,
    bytes: Vec<u8>,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        // Nobody can be told that stderr is gone.
        self.screen.bars.suspend(|| drop(io::stderr().write_all(&self.bytes)));
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { screen: self.0.clone(), bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rate_and_time_left() {
        let seconds = Duration::from_secs(3);
        assert_eq!(how_far(3_000, Some(9_000), seconds), "3,000 of 9,000, 1,000/s, 6 seconds left");
        assert_eq!(how_far(0, Some(9_000), seconds), "0 of 9,000, 0/s");
        assert_eq!(how_far(3_000, None, seconds), "3,000, 1,000/s");
    }
}
