//! What a node shows of itself while it works.

use std::time::{Duration, Instant};

use forebay_fast::Position;
use forebay_ledger::state::Tip;

use crate::latency::Quantiles;
use crate::memory::MemoryUse;
use crate::receipt::{Durable, Profile};

/// What the node is doing, in the order of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Servers are started or waited for, memory is planned; roles, schema and code of PostgreSQL are made or brought up to date.
    Setup,
    /// The chain is claimed in both tiers.
    Claim,
    /// What an earlier node accepted and PostgreSQL lacks is brought there.
    Drain,
    /// Redis' keys of this chain are removed.
    Clean,
    /// Redis is loaded from PostgreSQL.
    Restore,
    /// What was loaded is compared with what was read.
    Check,
    /// Reads and writes.
    Ready,
    /// Nothing more is accepted; the outbox is drained.
    Stopping,
    /// Ended.
    Stopped,
}

impl Phase {
    /// Its name in logs and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Claim => "claim",
            Self::Drain => "drain",
            Self::Clean => "clean",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// A step of a long phase: for a progress bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseProgress {
    /// Which phase.
    pub phase: Phase,
    /// Rows, keys or operations done.
    pub done: u64,
    /// Of how many; `None`: not known.
    pub total: Option<u64>,
    /// Attempts at a server that failed since the start began.
    pub retries: u64,
    /// The last failure, while the start waits because of it.
    pub last_error: Option<String>,
}

impl PhaseProgress {
    /// Without trouble.
    #[must_use]
    pub fn new(phase: Phase, done: u64, total: Option<u64>) -> Self {
        Self { phase, done, total, retries: 0, last_error: None }
    }
}

/// What a node did since it was ready. Each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations accepted: blocks, and blocks taken back.
    pub operations_accepted: u64,
    /// Blocks accepted.
    pub blocks_accepted: u64,
    /// Transactions in them.
    pub transactions_accepted: u64,
    /// Blocks taken back, accepted so.
    pub blocks_taken_back: u64,
    /// Requests that were refused: a block that breaks a rule or follows another tip, a height that is not there. Blocks count
    /// that [`Node::check`](crate::Node::check) refused, too; what cannot be read, or was refused before, never came so far.
    pub requests_refused: u64,
    /// Operations that became durable.
    pub operations_durable: u64,
    /// Blocks that became durable.
    pub blocks_durable: u64,
    /// Transactions in them.
    pub transactions_durable: u64,
    /// Batches that became durable: transactions of PostgreSQL.
    pub batches_durable: u64,
    /// Attempts at PostgreSQL that failed.
    pub postgres_failures: u64,
    /// Attempts at Redis that failed.
    pub redis_failures: u64,
    /// Times that Redis lost the chain's state, or was rewound, and was restored from PostgreSQL.
    pub redis_restores: u64,
}

/// How fast blocks are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// As they come.
    #[default]
    Free,
    /// Above a soft limit: with this pause before each.
    Slowed(Duration),
    /// At a hard limit: not before there is room.
    Waiting,
}

impl Pace {
    /// Its name in status and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Slowed(_) => "slowed",
            Self::Waiting => "waiting",
        }
    }
}

/// What is with the Syncer: at most one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Its operations.
    pub operations: usize,
    /// Bytes of their blocks.
    pub bytes: usize,
}

/// What Redis keeps beyond what is not durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptInRedis {
    /// Newest blocks with their bodies.
    pub blocks: usize,
    /// Outbox entries that are durable.
    pub outbox_entries: usize,
    /// Blocks below the durable height that can be taken back out of Redis alone.
    pub undo_depth: u32,
}

/// Where a running node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The newest accepted block.
    pub tip: Option<Tip>,
    /// The last accepted operation.
    pub position: Position,
    /// What PostgreSQL has.
    pub durable: Durable,
    /// Operations accepted and not durable.
    pub lag_operations: usize,
    /// Bytes of their blocks.
    pub lag_bytes: usize,
    /// When the oldest of them was accepted, by the monotonic clock: its age is the lag in seconds.
    pub lag_since: Option<Instant>,
    /// How long the newest operations took from accepted to durable; `None` before the first.
    pub durable_after: Option<Quantiles>,
    /// Attempts of the Syncer that failed since the start.
    pub retries: u64,
    /// The last failure, for people.
    pub last_error: Option<String>,
    /// What an acceptance is worth.
    pub profile: Profile,
    /// What Redis uses, against the plan and against what it may.
    pub memory: MemoryUse,
    /// What was done since the node was ready.
    pub counts: Counts,
    /// How fast blocks are taken.
    pub pace: Pace,
    /// The batch that is on its way.
    pub in_flight: InFlight,
    /// What Redis keeps.
    pub kept: KeptInRedis,
    /// Memory of the accounts that the Writer has at hand, bytes, by what a plain one takes.
    pub accounts_cached_bytes: u64,
    /// What is wrong with Redis, while it lasts.
    pub redis_error: Option<String>,
    /// What is wrong with PostgreSQL, while it lasts.
    pub postgres_error: Option<String>,
    /// Since when a caller waits for Redis.
    pub redis_away_since: Option<Instant>,
    /// Since when operations wait without any progress of PostgreSQL.
    pub no_progress_since: Option<Instant>,
    /// Since when the lag is at its limit of operations.
    pub at_limit_since: Option<Instant>,
    /// When the loop last looked at its limits: every half second, unless it heals or rewinds.
    pub looked_at: Instant,
}

impl Progress {
    /// Of a node that has just been restored: all of it is durable.
    pub(crate) fn of_restored(
        tip: Option<Tip>,
        position: Position,
        durable: Durable,
        profile: Profile,
    ) -> Self {
        Self {
            phase: Phase::Ready,
            tip,
            position,
            durable,
            lag_operations: 0,
            lag_bytes: 0,
            lag_since: None,
            durable_after: None,
            retries: 0,
            last_error: None,
            profile,
            memory: MemoryUse::default(),
            counts: Counts::default(),
            pace: Pace::default(),
            in_flight: InFlight::default(),
            kept: KeptInRedis::default(),
            accounts_cached_bytes: 0,
            redis_error: None,
            postgres_error: None,
            redis_away_since: None,
            no_progress_since: None,
            at_limit_since: None,
            looked_at: Instant::now(),
        }
    }
}
