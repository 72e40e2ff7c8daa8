//! What a node shows of itself while it works.

use std::time::Instant;

use forebay_fast::Position;
use forebay_ledger::state::Tip;

use crate::latency::Quantiles;
use crate::memory::MemoryUse;
use crate::receipt::{Durable, Profile};

/// What the node is doing, in the order of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Roles, schema and code of PostgreSQL are made or brought up to date.
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
}
