//! `forebay bench`: how fast and how large, each figure beside a control arm of the same run.

use std::path::Path;

use anyhow::Context as _;
use forebay_bench::{BenchError, BenchOptions, Durability, Part, run as measure};

use super::Context;
use crate::args::{BenchArgs, BenchPart};
use crate::exit::{Exit, Told};
use crate::output::print;
use crate::session::interrupted;

/// Runs the command.
pub async fn run(context: &Context, args: BenchArgs) -> anyhow::Result<i32> {
    let options = options(&args);
    let (screen, directory) = (context.screen.clone(), options.directory.clone());
    if directory.exists() {
        let message = format!("{} is there already", directory.display());
        return Err(
            Told::refused("exists", message, "Choose another directory with --dir, or remove it.").into()
        );
    }
    let report_file = args.report.as_deref().map(ReportFile::open).transpose()?;
    let as_json = context.output.json;
    let tell = move |line: &str| {
        // The table is the result for people; with --json it is progress.
        if as_json {
            screen.say(line);
        } else {
            drop(print(line));
        }
    };
    let signals = context.signals.clone();
    // Its servers have nothing that anybody wants: they end with it, which their stop's own limits bound.
    let held = context.signals.hold();
    let report =
        measure(options, tell, async move { signals.asked().await }).await.map_err(|error| match error {
            BenchError::Interrupted => interrupted("while measuring"),
            BenchError::Servers(error) => anyhow::Error::from(error).context("the benchmark's servers"),
            // Its directory, mostly.
            BenchError::Io { .. } => Told::configuration(&error, error.remedy()).into(),
            other => Told::refused("bench", &other, other.remedy()).into(),
        })?;
    drop(held);
    if let Some(file) = report_file {
        let path = file.path;
        file.write(&report.html())?;
        context.screen.say(format!("the report is in {}", path.display()));
    }
    if as_json {
        print(&serde_json::to_string(&report)?)?;
    }
    Ok(Exit::Success as i32)
}

/// Where the report goes. That it cannot be written is noticed before anything is measured.
struct ReportFile<'a> {
    path: &'a Path,
    /// Made by us, and empty yet.
    is_new: bool,
}

impl<'a> ReportFile<'a> {
    /// A file that is there stays as it is until the report is written.
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let is_new = !path.exists();
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { path, is_new })
    }

    fn write(mut self, report: &str) -> anyhow::Result<()> {
        std::fs::write(self.path, report).with_context(|| format!("writing {}", self.path.display()))?;
        self.is_new = false;
        Ok(())
    }
}

impl Drop for ReportFile<'_> {
    /// Without a report there is no file.
    fn drop(&mut self) {
        if self.is_new {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn options(args: &BenchArgs) -> BenchOptions {
    let directory = args
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("forebay-bench-{}", std::process::id())));
    let mut options =
        if args.quick { BenchOptions::quick(directory) } else { BenchOptions::whole(directory) };
    if !args.parts.is_empty() {
        options.parts = args.parts.iter().map(|part| part_of(*part)).collect();
    }
    if !args.load.is_empty() {
        options.loads.clone_from(&args.load);
    }
    if !args.block_size.is_empty() {
        options.block_sizes.clone_from(&args.block_size);
    }
    if let Some(profile) = args.profile {
        options.profiles = match profile {
            crate::args::Durability::Durable => vec![Durability::Durable],
            crate::args::Durability::Volatile => vec![Durability::Volatile],
        };
    }
    options.repeats = args.repeats.map_or(options.repeats, usize::from);
    options.transactions = args.transactions.unwrap_or(options.transactions);
    options.seconds = args.seconds.unwrap_or(options.seconds);
    if !args.growth.is_empty() {
        options.growth_accounts.clone_from(&args.growth);
    }
    if let Some(rows) = args.restore {
        options.restore_accounts = rows.accounts;
        options.restore_transactions = rows.transactions;
    }
    options
}

fn part_of(part: BenchPart) -> Part {
    match part {
        BenchPart::Accept => Part::Accept,
        BenchPart::Full => Part::Full,
        BenchPart::Drain => Part::Drain,
        BenchPart::Restore => Part::Restore,
        BenchPart::TakeBack => Part::TakeBack,
        BenchPart::Read => Part::Read,
        BenchPart::Memory => Part::Memory,
        BenchPart::Latency => Part::Latency,
        BenchPart::Growth => Part::Growth,
        BenchPart::Http => Part::Http,
    }
}
