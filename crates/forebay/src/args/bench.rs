//! The arguments of `forebay bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use forebay_bench::{LoadKind, LoadSpec};

use super::Durability;

/// See [`Command::Bench`](super::Command::Bench).
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which parts [default: all]
    #[arg(value_enum, value_name = "PART")]
    pub parts: Vec<BenchPart>,
    /// Small sizes, Redis durable: below two minutes
    #[arg(long)]
    pub quick: bool,
    /// Transactions: uniform, self-sends or mixed, out of so many accounts; may be repeated
    #[arg(long, value_name = "KIND:ACCOUNTS", value_parser = load)]
    pub load: Vec<LoadSpec>,
    /// Transactions a block; may be repeated [default: 25, 250, 2500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=25_000))]
    pub block_size: Vec<u32>,
    /// Redis' profile only [default: both, durable with --quick]
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub profile: Option<Durability>,
    /// Measurements of each arm; the median counts [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub repeats: Option<u16>,
    /// Transactions of one measurement of accept and drain; with blocks below 250 a quarter, but for drain in bulk [default: 50000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub transactions: Option<u32>,
    /// Seconds of one measurement of full; a sixth of it in read, a tenth in http [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Rows in PostgreSQL for restore [default: 1000000:5000000]
    #[arg(long, value_name = "ACCOUNTS:TRANSACTIONS", value_parser = rows)]
    pub restore: Option<Rows>,
    /// Numbers of accounts of growth, one after the other [default: 10000, 200000, 2000000]
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    pub growth: Vec<u32>,
    /// Write a page with charts
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where the servers keep their data; made, and removed at the end [default: below the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds from 0.1 to 3600 are wanted".to_owned()),
    }
}

/// Rows in PostgreSQL, each at least 1.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Accounts.
    pub accounts: u32,
    /// Transactions.
    pub transactions: u32,
}

fn rows(text: &str) -> Result<Rows, String> {
    let number = |text: &str| text.parse().ok().filter(|number: &u32| *number > 0);
    text.split_once(':')
        .and_then(|(accounts, transactions)| {
            Some(Rows { accounts: number(accounts)?, transactions: number(transactions)? })
        })
        .ok_or_else(|| "ACCOUNTS:TRANSACTIONS is wanted, each at least 1, such as 1000000:5000000".to_owned())
}

/// The most accounts of a load: a signed genesis block holds a transaction for each.
const ACCOUNTS_MAX: u32 = 10_000_000;

fn load(text: &str) -> Result<LoadSpec, String> {
    let kinds = [LoadKind::Uniform, LoadKind::SelfSends, LoadKind::Mixed];
    text.split_once(':')
        .and_then(|(kind, accounts)| {
            let kind = kinds.into_iter().find(|known| known.name() == kind)?;
            let accounts = accounts.parse().ok().filter(|number| (2..=ACCOUNTS_MAX).contains(number))?;
            Some(LoadSpec { kind, accounts })
        })
        .ok_or_else(|| {
            format!("uniform:ACCOUNTS, self-sends:ACCOUNTS or mixed:ACCOUNTS is wanted, of 2 to {ACCOUNTS_MAX} accounts")
        })
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// Checked blocks into Redis
    Accept,
    /// Blocks of a peer until durable
    Full,
    /// The outbox to PostgreSQL
    Drain,
    /// A start with much in PostgreSQL
    Restore,
    /// The newest blocks out of both tiers
    TakeBack,
    /// Simple reads while blocks are applied
    Read,
    /// Bytes of both tiers
    Memory,
    /// One block at a time
    Latency,
    /// Blocks at rising heights, with more and more accounts
    Growth,
    /// Reads over HTTP, asked by wrk
    Http,
}
