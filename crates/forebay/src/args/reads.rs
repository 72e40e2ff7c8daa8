//! What commands take that read a chain and compare its tiers.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::since::since;

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Redis
    Fast,
    /// PostgreSQL
    Slow,
}

/// See [`Command::Verify`](super::Command::Verify).
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Derive the state again from block 1, and compare that too
    #[arg(long)]
    pub deep: bool,
}

/// See [`Command::Block`](super::Command::Block).
#[derive(Debug, Args)]
pub struct BlockArgs {
    /// A height (a number up to the tip's) or an id
    #[arg(value_name = "ID|HEIGHT")]
    pub which: String,
    /// It is an id
    #[arg(long, conflicts_with = "height")]
    pub id: bool,
    /// It is a height
    #[arg(long)]
    pub height: bool,
}

/// See [`Command::Account`](super::Command::Account).
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// With the network's suffix
    pub address: String,
}

/// See [`Command::Transaction`](super::Command::Transaction).
#[derive(Debug, Args)]
pub struct TransactionArgs {
    /// Its id
    pub id: String,
}

/// See [`Command::Delegates`](super::Command::Delegates).
#[derive(Debug, Args)]
pub struct DelegatesArgs {
    /// How many [default: as many as forge in a round]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// How many to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u32,
}

/// See [`Command::Forgers`](super::Command::Forgers).
#[derive(Debug, Args)]
pub struct ForgersArgs {
    /// Which round [default: that of the next block]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub round: Option<u32>,
}

/// See [`Command::Dump`](super::Command::Dump).
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Of what
    #[arg(value_enum)]
    pub what: Dumped,
    /// From which tier
    #[arg(long, value_enum)]
    pub tier: Tier,
}

/// What can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dumped {
    /// All accounts, ordered by address as a number
    Accounts,
}

/// See [`Command::Log`](super::Command::Log).
#[derive(Debug, Args)]
pub struct LogArgs {
    /// From this operation on
    #[arg(long, value_name = "SEQ")]
    pub from_seq: Option<u64>,
    /// Up to this operation
    #[arg(long, value_name = "SEQ")]
    pub to_seq: Option<u64>,
    /// What added or took back the block at this height
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..))]
    pub height: Option<u32>,
    /// What began later than so long ago (15min, 2h, 7days) or then (2026-01-31, 2026-01-31T23:59:59Z)
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    pub since: Option<SystemTime>,
    /// What did this
    #[arg(long, value_enum)]
    pub operation: Option<Logged>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Every attempt instead, the failed ones too, from the configured file or this one
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "not given, given, given with a value")]
    pub file: Option<Option<PathBuf>>,
    /// Attempts that ended so
    #[arg(long, value_enum, requires = "file")]
    pub outcome: Option<Attempted>,
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Logged {
    /// A block was added
    Append,
    /// Blocks were taken back
    TakeBack,
}

impl Logged {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::TakeBack => "take-back",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attempted {
    /// Committed
    Ok,
    /// Not, or nobody knew; another one followed
    Retry,
    /// Not, and not tried again
    Failed,
}

impl Attempted {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::Failed => "failed",
        }
    }
}
