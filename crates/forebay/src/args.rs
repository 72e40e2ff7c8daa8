//! The command line. What a flag leaves open is asked of the environment (`FOREBAY_…`), then of the configuration file.
//!
//! Here is what every command takes; [`command`] has the commands, the other modules what each of them takes.

mod bench;
mod command;
mod node;
mod program;
mod reads;
mod servers;
mod since;

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

pub use self::bench::{BenchArgs, BenchPart};
pub use self::command::Command;
pub use self::node::{ApiArgs, GenerateArgs, PopArgs, ReplayArgs, RunArgs};
pub use self::program::{CompletionsArgs, ConfigAction, ConfigArgs, ManArgs};
pub use self::reads::{
    AccountArgs, Attempted, BlockArgs, DelegatesArgs, DumpArgs, Dumped, ForgersArgs, LogArgs, Logged, Tier,
    TransactionArgs, VerifyArgs,
};
pub use self::servers::{
    BackupArgs, MemoryArgs, PostgresConfArgs, RedisConfArgs, RestoreBackupArgs, YoursArgs,
};
use crate::{exit, version};

/// Redis in front of PostgreSQL: the data layer of a DPoS blockchain node.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version = version::SHORT,
    long_version = version::LONG,
    propagate_version = true,
    after_help = exit::HELP,
    after_long_help = exit::long_help()
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Configuration file (TOML); also FOREBAY_CONFIG
    #[arg(long, value_name = "FILE", global = true, help_heading = "Common")]
    pub config: Option<PathBuf>,
    /// What overrides the configuration.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Start although Redis may need more memory than there is
    #[arg(long, global = true, help_heading = "Servers", hide_short_help = true)]
    pub accept_low_memory: bool,
    /// Machine-readable output on stdout
    #[arg(long, global = true, help_heading = "Common")]
    pub json: bool,
    /// More log on stderr: -v information, -vv details (RUST_LOG wins)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Common")]
    pub verbose: u8,
    /// No progress, only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Common")]
    pub quiet: bool,
}

/// Flags that are settings too: the names are those of the configuration file.
#[derive(Debug, Default, Args, Serialize)]
pub struct Overrides {
    /// Directory of the chain, its servers and their logs [default: ./forebay-data]
    #[arg(long, value_name = "DIR", global = true, help_heading = "Common")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// rise-mainnet, rise-testnet, rise-devnet or a profile's TOML file; remembered by the data directory
    #[arg(long, value_name = "NAME|FILE", global = true, help_heading = "Common")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The genesis block (JSON); remembered by the data directory
    #[arg(long, value_name = "FILE", global = true, help_heading = "Common")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// Your Redis (redis://, rediss://, unix://) instead of a private one; needs --postgres-url
    #[arg(long, value_name = "URL", global = true, help_heading = "Servers", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// Your PostgreSQL as the writer role instead of a private one; needs --redis-url
    #[arg(long, value_name = "URL", global = true, help_heading = "Servers", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_url: Option<String>,
    /// An administrator of your PostgreSQL: makes database, roles and schema. Without it they must be there
    #[arg(long, value_name = "URL", global = true, help_heading = "Servers", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_admin_url: Option<String>,
    /// What a private Redis keeps on disk [default: durable]
    #[arg(long, value_name = "PROFILE", global = true, help_heading = "Servers", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_profile: Option<Durability>,
    /// Seconds to wait for a server that is away (run waits as long as it takes) [default: 10]
    #[arg(
        long = "connect-timeout",
        value_name = "SECONDS",
        global = true,
        help_heading = "Servers",
        hide_short_help = true
    )]
    #[serde(rename = "connect_timeout_seconds", skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<u64>,
    /// Seconds that a stop may take to bring everything to PostgreSQL [default: 60]
    #[arg(long, value_name = "SECONDS", global = true, help_heading = "Servers", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
    /// How log lines look [default: auto]
    #[arg(long, value_name = "FORMAT", global = true, help_heading = "Common", hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// What a private Redis keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Everything that was acknowledged
    Durable,
    /// Nothing: for bulk loads
    Volatile,
}

/// What the guard's stop means for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnHardLimit {
    /// Go back to PostgreSQL's last block; what is given up stands in a file.
    Rollback,
    /// Bring what is accepted to PostgreSQL.
    Keep,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// For people
    Text,
    /// One object a line
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
