//! Stdout, and how a failure is told.

use std::io::{self, Write as _};

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
    screen.always(text.trim_end());
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
    fn causes_that_repeat_are_told_once() {
        let error =
            Err::<(), _>(io::Error::other("disk full")).context("writing: disk full").context("dumping");
        assert_eq!(causes(&error.unwrap_err()), ["dumping", "writing: disk full"]);
    }
}
