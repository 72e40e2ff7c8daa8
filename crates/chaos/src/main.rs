//! `forebay-chaos`: see the library.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use forebay_chaos::kind::FaultKind;
use forebay_chaos::plan::Plan;
use forebay_chaos::supervisor::{RunOptions, run};
use forebay_servers::RedisProfile;

/// Cycles that are shown of a plan that has no end.
const SHOWN_CYCLES: u32 = 80;

/// Break a real node and its servers under load, and check that nothing is lost.
#[derive(Debug, Parser)]
#[command(
    name = "forebay-chaos",
    version,
    after_help = "Examples:\n  forebay-chaos --duration 60s --seed 1\n  forebay-chaos --only kill-node,flush-redis --cycles 10\n\n\
    Ends with one JSON line on stdout. Exit code 0: everything held; 1: something did not, the directory is kept."
)]
struct Arguments {
    /// Decides the plan and the load
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// No new cycle after this: 90, 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    duration: Option<Duration>,
    /// So many cycles [default: 60 s of them]
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
    /// Print the plan and do nothing
    #[arg(long)]
    plan: bool,
    /// Only these kinds of faults, separated by commas
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = parse_kind)]
    only: Vec<FaultKind>,
    /// None of these kinds
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = parse_kind)]
    without: Vec<FaultKind>,
    /// List the kinds of faults
    #[arg(long)]
    kinds: bool,
    /// The node's program [default: forebay beside this one]
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Directory of the run, made here; a short path, since sockets are in it [default: /tmp/forebay-chaos-…]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Keep the directory of a good run too
    #[arg(long)]
    keep: bool,
    /// Lose accepted blocks on purpose: the run must fail
    #[arg(long)]
    sabotage: bool,
    /// What Redis keeps on disk: durable, volatile [default: one seed in four is volatile]
    #[arg(long, value_name = "PROFILE", value_parser = parse_profile)]
    redis: Option<RedisProfile>,
    /// Hold each fault for so long, instead of what the plan says
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    hold: Option<Duration>,
    /// Load: blocks a second, about
    #[arg(long, value_name = "N", default_value_t = 200)]
    blocks_per_second: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut kinds = if arguments.only.is_empty() { FaultKind::ALL.to_vec() } else { arguments.only.clone() };
    kinds.retain(|kind| !arguments.without.contains(kind));
    if arguments.kinds {
        for kind in FaultKind::ALL {
            println!("{kind}");
        }
        return Ok(());
    }
    let redis = arguments.redis.unwrap_or_else(|| profile_of(arguments.seed));
    if arguments.plan {
        kinds.retain(|kind| kind.suits(redis));
        let count = arguments.cycles.unwrap_or(SHOWN_CYCLES);
        for cycle in Plan::new(arguments.seed, kinds).take(usize::try_from(count)?) {
            println!("{}", serde_json::to_string(&cycle)?);
        }
        return Ok(());
    }
    let duration = match (arguments.duration, arguments.cycles) {
        (None, None) => Some(Duration::from_secs(60)),
        (duration, _) => duration,
    };
    let directory = arguments.directory.clone().unwrap_or_else(|| {
        PathBuf::from(format!("/tmp/forebay-chaos-{}-{}", arguments.seed, std::process::id()))
    });
    let options = RunOptions {
        seed: arguments.seed,
        duration,
        cycles: arguments.cycles,
        kinds,
        redis,
        hold: arguments.hold,
        node: program(arguments.node)?,
        directory,
        keep: arguments.keep,
        blocks_per_second: arguments.blocks_per_second,
        sabotage: arguments.sabotage,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let interrupted = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&interrupted);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                eprintln!("ending after this cycle");
                seen.store(true, Ordering::Relaxed);
            }
        });
        run(&options, &interrupted).await
    });
    if let Some(directory) = &report.directory {
        eprintln!("seed {} failed; everything about it is in {}", report.seed, directory.display());
    }
    println!("{}", serde_json::to_string(&report)?);
    std::process::exit(i32::from(!report.ok))
}

fn program(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("forebay"),
    };
    if !path.is_file() {
        bail!("the node's program {} is not there: build it first, or name it with --node", path.display());
    }
    path.canonicalize().context("resolving the node's program")
}

fn parse_kind(text: &str) -> Result<FaultKind, String> {
    FaultKind::of_name(text).ok_or_else(|| format!("no kind of fault is called {text}; --kinds lists them"))
}

/// One seed in four runs with a Redis that keeps nothing on disk.
fn profile_of(seed: u64) -> RedisProfile {
    if seed.is_multiple_of(4) { RedisProfile::Volatile } else { RedisProfile::Durable }
}

fn parse_profile(text: &str) -> Result<RedisProfile, String> {
    match text {
        "durable" => Ok(RedisProfile::Durable),
        "volatile" => Ok(RedisProfile::Volatile),
        _ => Err(format!("{text}: the profile is durable or volatile")),
    }
}

/// `90`, `90s`, `15m`, `2h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let number: u64 = digits.parse().map_err(|_| format!("{text}: not a time such as 90s or 15m"))?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{text}: the unit is s, m or h")),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}
