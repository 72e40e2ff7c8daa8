//! `forebay log`: what was done to PostgreSQL. Its own table has what was committed; the file of `write_log_file` has every
//! attempt, the failed ones too.

mod committed;
mod file;

use std::time::SystemTime;

use forebay_ledger::ids::Height;

use super::Context;
use crate::args::{Attempted, LogArgs, Logged};

/// Which entries are wanted; the newest so many of them are shown, the newest last.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    from_seq: Option<u64>,
    to_seq: Option<u64>,
    height: Option<Height>,
    since: Option<SystemTime>,
    operation: Option<Logged>,
    outcome: Option<Attempted>,
    limit: u32,
}

/// Runs the command.
pub async fn run(context: &Context, args: LogArgs) -> anyhow::Result<i32> {
    let wanted = Wanted {
        from_seq: args.from_seq,
        to_seq: args.to_seq,
        height: args.height,
        since: args.since,
        operation: args.operation,
        outcome: args.outcome,
        limit: args.limit,
    };
    match args.file {
        Some(path) => file::run(context, path, &wanted),
        None => committed::run(context, &wanted).await,
    }
}

/// `7` or `7–9`.
fn range(from: u64, to: u64) -> String {
    if from == to { from.to_string() } else { format!("{from}–{to}") }
}
