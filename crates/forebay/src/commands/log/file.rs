//! The file of `write_log_file`: one line an attempt, the older ones in `FILE.1`, `FILE.2` and so on. Read as it stands,
//! with or without a node; no server is asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::{Wanted, range};
use crate::commands::Context;
use crate::exit::{Exit, Told};
use crate::lines::{Line, read_line};

/// A line names runs of operations, not their blocks: far below this.
const LINE_BYTES_MAX: usize = 16 << 20;

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    file: String,
    /// The lines as they stand, the newest last.
    attempts: VecDeque<Value>,
    /// Lines that the disk did not take, as the file counts them.
    lines_lost: u64,
    /// Lines that are no attempt, such as one that a crash left unfinished.
    unreadable_lines: u64,
}

/// Shows the attempts that are wanted. `path`: of another file than the configured one.
pub fn run(context: &Context, path: Option<PathBuf>, wanted: &Wanted) -> anyhow::Result<i32> {
    let path = path.or_else(|| context.home.settings.write_log_file.clone()).ok_or_else(|| {
        Told::configuration(
            "there is no file to show: write_log_file is not set",
            "Set it for the node, or name a file, or leave --file out to see what PostgreSQL's own log has.",
        )
    })?;
    let answer = read(&path, wanted).with_context(|| format!("reading the write log {}", path.display()))?;
    context.output.result(&answer, || text_of(&answer))?;
    Ok(Exit::Success as i32)
}

fn read(path: &Path, wanted: &Wanted) -> io::Result<Answer> {
    let mut answer = Answer { file: path.display().to_string(), ..Answer::default() };
    for file in oldest_first(path)? {
        let mut input = BufReader::new(file);
        while let Some(line) = read_line(&mut input, LINE_BYTES_MAX)? {
            answer.take(&line, wanted);
        }
    }
    Ok(answer)
}

/// The newest is opened first: a node that begins another file meanwhile moves what we have open on, and we see it twice
/// rather than not at all.
fn oldest_first(path: &Path) -> io::Result<Vec<File>> {
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    for number in 0_u32.. {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let file = match File::open(&name) {
            // Between two files there is none under the first name for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            opened => opened?,
        };
        let meta = file.metadata()?;
        let identity = (meta.dev(), meta.ino());
        if !seen.contains(&identity) {
            seen.push(identity);
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such file"));
    }
    files.reverse();
    Ok(files)
}

impl Answer {
    fn take(&mut self, line: &Line, wanted: &Wanted) {
        let value = match line {
            Line::Text(text) => serde_json::from_slice::<Value>(text).ok(),
            Line::TooLong => None,
        };
        let Some(value) = value.filter(Value::is_object) else {
            self.unreadable_lines += 1;
            return;
        };
        if let Some(lost) = number(&value, "linesLost") {
            self.lines_lost += lost;
        } else if value.get("outcome").is_none() {
            self.unreadable_lines += 1;
        } else if wanted.fits(&value) {
            self.attempts.push_back(value);
            while self.attempts.len() > usize::try_from(wanted.limit).unwrap_or(usize::MAX) {
                self.attempts.pop_front();
            }
        }
    }
}

impl Wanted {
    fn fits(&self, attempt: &Value) -> bool {
        let (from, to) = (number(attempt, "fromSeq"), number(attempt, "toSeq"));
        let since = self.since.is_none_or(|since| {
            let started = text(attempt, "startedAt");
            humantime::parse_rfc3339_weak(started).is_ok_and(|started| started >= since)
        });
        since
            && self.from_seq.is_none_or(|least| to.is_some_and(|to| to >= least))
            && self.to_seq.is_none_or(|most| from.is_some_and(|from| from <= most))
            && self.outcome.is_none_or(|outcome| text(attempt, "outcome") == outcome.name())
            && runs(attempt).any(|run| self.fits_run(run))
    }

    /// Runs of operations are told apart: one of them must be all that is asked for.
    fn fits_run(&self, run: &Value) -> bool {
        let shown = |field| number(run, field).unwrap_or_default();
        self.operation.is_none_or(|operation| text(run, "operation") == operation.name())
            && self
                .height
                .is_none_or(|height| (shown("fromHeight")..=shown("toHeight")).contains(&u64::from(height)))
    }
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value.get(field).and_then(Value::as_u64)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn runs(attempt: &Value) -> impl Iterator<Item = &Value> {
    attempt.get("operations").and_then(Value::as_array).into_iter().flatten()
}

fn text_of(answer: &Answer) -> String {
    let mut lines: Vec<String> = Vec::new();
    if answer.attempts.is_empty() {
        lines.push("no attempt fits".to_owned());
    } else {
        lines.push(format!(
            "{:24}  {:>5}  {:>15}  {:7}  {:>3}  {:>9}  what",
            "began", "epoch", "seq", "outcome", "try", "ms"
        ));
    }
    lines.extend(answer.attempts.iter().map(attempt_line));
    if answer.lines_lost > 0 {
        lines.push(format!("{} lines were lost: the disk did not take them", answer.lines_lost));
    }
    if answer.unreadable_lines > 0 {
        lines.push(format!(
            "{} lines are no attempts, such as one that a crash cut off",
            answer.unreadable_lines
        ));
    }
    lines.join("\n")
}

fn attempt_line(attempt: &Value) -> String {
    let shown = |field| number(attempt, field).unwrap_or_default();
    let what: Vec<String> = runs(attempt)
        .map(|run| {
            let height = |field| number(run, field).unwrap_or_default();
            format!("{} {}", text(run, "operation"), range(height("fromHeight"), height("toHeight")))
        })
        .collect();
    let why = match text(attempt, "message") {
        "" => String::new(),
        message => format!(" ({}: {message})", text(attempt, "kind")),
    };
    format!(
        "{:24}  {:>5}  {:>15}  {:7}  {:>3}  {:>9.1}  {}{why}",
        text(attempt, "startedAt"),
        shown("epoch"),
        range(shown("fromSeq"), shown("toSeq")),
        text(attempt, "outcome"),
        shown("attempt"),
        attempt.get("durationMs").and_then(Value::as_f64).unwrap_or_default(),
        what.join(", ")
    )
}
