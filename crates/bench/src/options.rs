//! What is measured, and with what.

use std::fmt;
use std::path::PathBuf;

use forebay_servers::RedisProfile;
use serde::Serialize;

/// A part of the benchmark. The order is that in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Checked blocks into Redis: rules, state, indexes, body, outbox, acknowledgement.
    Accept,
    /// One block of 25 from hand-over to accepted, and to durable.
    Latency,
    /// Blocks from memory: decode, verify every signature and rule, accept, until durable.
    Full,
    /// The outbox to PostgreSQL.
    Drain,
    /// The newest blocks out of both tiers.
    TakeBack,
    /// Simple reads while blocks are being applied.
    Read,
    /// Bytes an account, a transaction, a block.
    Memory,
    /// A start with much in PostgreSQL, until ready.
    Restore,
    /// Blocks at rising heights and with more and more accounts.
    Growth,
    /// Reads over HTTP, asked by a process of its own.
    Http,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Accept,
        Self::Latency,
        Self::Full,
        Self::Drain,
        Self::TakeBack,
        Self::Read,
        Self::Memory,
        Self::Restore,
        Self::Growth,
        Self::Http,
    ];

    /// Its name on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Latency => "latency",
            Self::Full => "full",
            Self::Drain => "drain",
            Self::TakeBack => "take-back",
            Self::Read => "read",
            Self::Memory => "memory",
            Self::Restore => "restore",
            Self::Growth => "growth",
            Self::Http => "http",
        }
    }
}

/// Which transactions blocks are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadKind {
    /// Transfers between uniformly random accounts.
    Uniform,
    /// The reference node's own benchmark: each sender sends to itself, senders repeat each block.
    SelfSends,
    /// All types and all ways to sign.
    Mixed,
}

impl LoadKind {
    /// Its name on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::SelfSends => "self-sends",
            Self::Mixed => "mixed",
        }
    }
}

/// What a load is made of, and out of how many accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LoadSpec {
    /// Which transactions.
    pub kind: LoadKind,
    /// Accounts with a balance, besides the delegates.
    pub accounts: u32,
}

impl fmt::Display for LoadSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind.name(), self.accounts)
    }
}

/// What Redis keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every step before it is answered.
    Durable,
    /// Nothing.
    Volatile,
}

impl Durability {
    /// Its name on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Volatile => "volatile",
        }
    }

    pub(crate) fn redis(self) -> RedisProfile {
        match self {
            Self::Durable => RedisProfile::Durable,
            Self::Volatile => RedisProfile::Volatile,
        }
    }
}

/// What is measured, and with what. Recorded in the report.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchOptions {
    /// Which parts.
    pub parts: Vec<Part>,
    /// Loads of `accept`; the first one is also that of the other parts.
    pub loads: Vec<LoadSpec>,
    /// Transactions a block.
    pub block_sizes: Vec<u32>,
    /// What Redis keeps on disk.
    pub profiles: Vec<Durability>,
    /// How often each arm is measured; the median counts.
    pub repeats: usize,
    /// Transactions of one measurement of `accept` and `drain`. In blocks of less than 250 a quarter of it, but for `drain` in
    /// bulk: what takes many blocks at a time is measured over many batches.
    pub transactions: u32,
    /// Seconds of one measurement of `full`; a sixth of it in `read`, a tenth in `http`.
    pub seconds: f64,
    /// Transactions a second that `full` is prepared for.
    pub full_rate: u32,
    /// Single blocks of `latency` and of `drain` live.
    pub single_blocks: u32,
    /// How many blocks `take-back` takes back.
    pub take_back: Vec<u32>,
    /// Accounts in PostgreSQL for `restore`.
    pub restore_accounts: u32,
    /// Transactions in PostgreSQL for `restore`.
    pub restore_transactions: u32,
    /// Numbers of accounts of `growth`, one after the other.
    pub growth_accounts: Vec<u32>,
    /// Blocks of `growth`, each number of accounts.
    pub growth_blocks: u32,
    /// Transactions a second that are applied while `http` reads.
    pub http_writes: u32,
    /// Where servers keep their data; removed at the end.
    pub directory: PathBuf,
}

impl BenchOptions {
    /// The whole benchmark, below a directory that must not exist yet.
    #[must_use]
    pub fn whole(directory: PathBuf) -> Self {
        Self {
            parts: Part::ALL.to_vec(),
            loads: vec![
                LoadSpec { kind: LoadKind::Uniform, accounts: 200_000 },
                LoadSpec { kind: LoadKind::Uniform, accounts: 10_000 },
                LoadSpec { kind: LoadKind::SelfSends, accounts: 10_000 },
                LoadSpec { kind: LoadKind::Mixed, accounts: 10_000 },
            ],
            block_sizes: vec![25, 250, 2500],
            profiles: vec![Durability::Durable, Durability::Volatile],
            repeats: 3,
            transactions: 50_000,
            seconds: 30.0,
            full_rate: 20_000,
            single_blocks: 300,
            take_back: vec![1, 10, 100, 1000],
            restore_accounts: 1_000_000,
            restore_transactions: 5_000_000,
            growth_accounts: vec![10_000, 200_000, 2_000_000],
            growth_blocks: 3_030,
            http_writes: 10_000,
            directory,
        }
    }

    /// Every part, small and durable: below two minutes.
    #[must_use]
    pub fn quick(directory: PathBuf) -> Self {
        Self {
            profiles: vec![Durability::Durable],
            loads: vec![
                LoadSpec { kind: LoadKind::Uniform, accounts: 10_000 },
                LoadSpec { kind: LoadKind::SelfSends, accounts: 10_000 },
                LoadSpec { kind: LoadKind::Mixed, accounts: 2_000 },
            ],
            block_sizes: vec![25, 250],
            transactions: 3_000,
            seconds: 0.9,
            full_rate: 8_000,
            single_blocks: 50,
            take_back: vec![1, 10, 100],
            restore_accounts: 20_000,
            restore_transactions: 50_000,
            growth_accounts: vec![2_000, 10_000],
            growth_blocks: 210,
            http_writes: 2_500,
            ..Self::whole(directory)
        }
    }

    /// The smallest that yields every row: for tests.
    #[must_use]
    pub fn smallest(directory: PathBuf) -> Self {
        Self {
            loads: vec![
                LoadSpec { kind: LoadKind::Uniform, accounts: 300 },
                LoadSpec { kind: LoadKind::SelfSends, accounts: 300 },
                LoadSpec { kind: LoadKind::Mixed, accounts: 300 },
            ],
            block_sizes: vec![25],
            profiles: vec![Durability::Durable],
            repeats: 1,
            transactions: 1_500,
            seconds: 0.2,
            full_rate: 1_500,
            single_blocks: 4,
            take_back: vec![1, 3],
            restore_accounts: 500,
            restore_transactions: 1_000,
            growth_accounts: vec![300],
            growth_blocks: 104,
            http_writes: 250,
            ..Self::whole(directory)
        }
    }

    /// Transactions that `full` is prepared with.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of seconds, not below 0"
    )]
    pub(crate) fn full_transactions(&self) -> u32 {
        (self.seconds * f64::from(self.full_rate)) as u32
    }

    /// Blocks of one measurement of `accept`, and of `drain` where they come one by one.
    pub(crate) fn blocks_a_measurement(&self, block_size: u32) -> usize {
        let in_bulk = self.blocks_in_bulk(block_size);
        if block_size < 250 { (in_bulk / 4).max(2) } else { in_bulk }
    }

    /// Blocks of one measurement of `drain` in bulk.
    pub(crate) fn blocks_in_bulk(&self, block_size: u32) -> usize {
        usize::try_from((self.transactions / block_size.max(1)).max(2)).unwrap_or(2)
    }
}
