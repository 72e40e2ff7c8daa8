//! `forebay bench`: how fast and how large, each figure beside a control arm of the same run.

use anyhow::Context as _;
use forebay_bench::{BenchError, BenchOptions, Durability, LoadKind, LoadSpec, Part, run as measure};

use super::Context;
use crate::args::{BenchArgs, BenchPart};
use crate::exit::{Exit, Told};
use crate::output::print;
use crate::session::interrupted;

/// Runs the command.
pub async fn run(context: &Context, args: BenchArgs) -> anyhow::Result<i32> {
    let options = options(&args)?;
    let (screen, directory) = (context.screen.clone(), options.directory.clone());
    if directory.exists() {
        let message = format!("{} is there already", directory.display());
        return Err(
            Told::refused("exists", message, "Choose another directory with --dir, or remove it.").into()
        );
    }
    if let Some(path) = &args.report {
        // A report that cannot be written is noticed before anything is measured; one that is there stays until the end.
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.with_context(|| format!("writing {}", path.display()))?;
    }
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
    let report =
        measure(options, tell, async move { signals.asked().await }).await.map_err(|error| match error {
            BenchError::Interrupted => interrupted("while measuring"),
            other => Told::refused("bench", &other, other.remedy()).into(),
        })?;
    if let Some(path) = &args.report {
        std::fs::write(path, report.html()).with_context(|| format!("writing {}", path.display()))?;
        context.screen.say(format!("the report is in {}", path.display()));
    }
    if as_json {
        print(&serde_json::to_string(&report)?)?;
    }
    Ok(Exit::Success as i32)
}

/// The most accounts of a load: a signed genesis block holds a transaction for each.
const ACCOUNTS_MAX: u32 = 10_000_000;

fn options(args: &BenchArgs) -> anyhow::Result<BenchOptions> {
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
        options.loads = args.load.iter().map(|text| load_of(text)).collect::<anyhow::Result<_>>()?;
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
    if let Some(rows) = &args.restore {
        let wrong = || {
            Told::refused(
                "restore",
                format!("{rows} is not ACCOUNTS:TRANSACTIONS, each at least 1"),
                "Such as 1000000:5000000.",
            )
        };
        let (accounts, transactions) = rows.split_once(':').ok_or_else(wrong)?;
        options.restore_accounts = accounts.parse().map_err(|_| wrong())?;
        options.restore_transactions = transactions.parse().map_err(|_| wrong())?;
        if options.restore_accounts == 0 || options.restore_transactions == 0 {
            return Err(wrong().into());
        }
    }
    Ok(options)
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

/// `KIND:ACCOUNTS`.
fn load_of(text: &str) -> anyhow::Result<LoadSpec> {
    let wrong = || {
        let message = format!("{text} is no load");
        Told::refused("load", message, "Give uniform:ACCOUNTS, self-sends:ACCOUNTS or mixed:ACCOUNTS.")
    };
    let (kind, accounts) = text.split_once(':').ok_or_else(wrong)?;
    let kind = [LoadKind::Uniform, LoadKind::SelfSends, LoadKind::Mixed]
        .into_iter()
        .find(|known| known.name() == kind);
    let accounts: u32 = accounts.parse().map_err(|_| wrong())?;
    if !(2..=ACCOUNTS_MAX).contains(&accounts) {
        let message = format!("a load of {accounts} accounts");
        let remedy = format!("Give 2 to {ACCOUNTS_MAX} accounts.");
        return Err(Told::refused("load", message, remedy).into());
    }
    Ok(LoadSpec { kind: kind.ok_or_else(wrong)?, accounts })
}
