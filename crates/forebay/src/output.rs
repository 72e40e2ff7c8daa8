//! Stdout, and how a failure is told.

use std::io::{self, Write as _};

use forebay_ledger::profile::NetworkProfile;
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::json;

use crate::exit::{Exit, Verdict};
use crate::screen::Screen;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object instead of text for people.
    pub json: bool,
}

impl Output {
    /// Writes a result: as JSON, or as the text that `text` makes.
    ///
    /// # Errors
    /// Stdout is gone.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { print(&serde_json::to_string(value)?) } else { print(&text()) }
    }
}

/// One line on stdout, there when it returns.
///
/// # Errors
/// Stdout is gone.
pub fn print(line: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| StdoutFailed(error).into())
}

/// Stdout does not take what we write.
#[derive(Debug, thiserror::Error)]
#[error("writing to stdout")]
pub struct StdoutFailed(#[source] pub io::Error);

/// `1 block`, `2,000 blocks`.
pub fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(count))
}

/// Lines of name and value, the values below each other.
pub fn table(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// A timestamp of the chain as a date and time in UTC.
pub fn utc_time(profile: &NetworkProfile, timestamp: u32) -> String {
    let Some(epoch) = profile.epoch_unix_seconds() else { return timestamp.to_string() };
    let unix = epoch + i64::from(timestamp);
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // The civil calendar's arithmetic; years begin in March, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC ({timestamp})")
}

/// Tells a failure; the exit code that belongs to it. With `--json`, stdout gets an object too.
pub fn fail(error: &anyhow::Error, output: Output, screen: &Screen) -> i32 {
    if is_closed_stdout(error) {
        // Whoever read our output has had enough, as `head` does: no failure.
        return Exit::Success as i32;
    }
    let verdict = Verdict::of(error);
    let causes = causes(error);
    let mut text = String::new();
    for (depth, cause) in causes.iter().enumerate() {
        let lead = if depth == 0 { "error: " } else { "  because: " };
        text.push_str(&format!("{lead}{cause}\n"));
    }
    if !verdict.remedy.is_empty() && !causes.iter().any(|cause| cause.contains(&verdict.remedy)) {
        text.push_str(&format!("  what to do: {}\n", verdict.remedy));
    }
    screen.failure(text.trim_end());
    if output.json {
        // Stdout may be what failed; stderr has it all.
        drop(print(&error_value(error).to_string()));
    }
    verdict.exit as i32
}

/// `{"error":{"kind":…,"message":…,"remedy":…}}`.
pub fn error_value(error: &anyhow::Error) -> serde_json::Value {
    let verdict = Verdict::of(error);
    json!({ "error": { "kind": verdict.kind, "message": causes(error).join(": "), "remedy": verdict.remedy } })
}

/// The chain of causes; one that only repeats the one above it is left out.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !causes.last().is_some_and(|above| above.contains(&text)) {
            causes.push(text);
        }
    }
    causes
}

fn is_closed_stdout(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StdoutFailed>().is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        assert_eq!(utc_time(&profile, 0), "2016-05-24 17:00:00 UTC (0)");
        assert_eq!(utc_time(&profile, 60 * 60 * 24 * 300), "2017-03-20 17:00:00 UTC (25920000)");
    }

    #[test]
    fn causes_that_repeat_are_told_once() {
        let error =
            Err::<(), _>(io::Error::other("disk full")).context("writing: disk full").context("dumping");
        assert_eq!(causes(&error.unwrap_err()), ["dumping", "writing: disk full"]);
    }
}
