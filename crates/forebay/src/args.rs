//! The command line. What a flag leaves open is asked of the environment (`FOREBAY_…`), then of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub use crate::bench_args::{BenchArgs, BenchPart};
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

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Redis
    Fast,
    /// PostgreSQL
    Slow,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the data layer up until SIGTERM or Ctrl-C
    #[command(
        after_help = "Examples:\n  forebay run --network rise-devnet --genesis genesis.json\n  forebay run --feed /run/forebay.sock\n\n\
        A feed takes JSON Lines and answers each with one line:\n  {\"op\":\"block\",\"block\":{…}}   {\"op\":\"pop\",\"count\":1}   {\"op\":\"await\",\"height\":100}"
    )]
    Run(RunArgs),
    /// Serve the HTTP API to read from, beside a node or without one
    #[command(
        after_help = "Examples:\n  forebay api --listen 127.0.0.1:7001\n  forebay api --listen 0.0.0.0:7001 --listen unix:/run/forebay-api.sock\n\n\
        It writes nothing, and any number may run beside a node. Blocks are given to `forebay run --listen`.\n\
        Section [api] of the configuration has limits, TLS and the write token; docs/http.md has the routes."
    )]
    Api(ApiArgs),
    /// Apply blocks from files, and wait until PostgreSQL has all
    #[command(
        after_help = "Examples:\n  forebay replay blocks.jsonl --network rise-devnet --genesis genesis.json\n  zcat blocks.jsonl.gz | forebay replay - --json\n\n\
        One block a line, or a feed's operations, or a rollback file. Known blocks are skipped.\n\
        Stops at the first refused line; what was accepted before it stays."
    )]
    Replay(ReplayArgs),
    /// Take blocks back
    #[command(
        after_help = "Examples:\n  forebay pop\n  forebay pop --count 10\n  forebay pop --to-height 101"
    )]
    Pop(PopArgs),
    /// Where chain, node and servers stand
    Status,
    /// Watch a running node: tips, lag, speed, memory, trouble
    #[command(
        after_help = "q quits. Needs a terminal; `forebay status --json` and /metrics (run --metrics-listen) are for programs."
    )]
    Top,
    /// Compare both tiers, account by account
    #[command(
        after_help = "Examples:\n  forebay verify\n  forebay verify --deep --json\n\nExit code 5: something differs; each finding is named."
    )]
    Verify(VerifyArgs),
    /// Show a block
    #[command(after_help = "Examples:\n  forebay block 100\n  forebay block 3112593284921253471 --json")]
    Block(BlockArgs),
    /// Show an account
    #[command(after_help = "Example:\n  forebay account 12324540900396688540R")]
    Account(AccountArgs),
    /// Show a transaction
    Transaction(TransactionArgs),
    /// Delegates by rank
    Delegates(DelegatesArgs),
    /// The forger list of a round
    Forgers(ForgersArgs),
    /// Write all of something, one JSON object a line
    #[command(after_help = "Example:\n  forebay dump accounts --tier slow > accounts.jsonl")]
    Dump(DumpArgs),
    /// Show what was done to PostgreSQL, and when
    #[command(
        after_help = "Examples:\n  forebay log\n  forebay log --height 100 --json\n  forebay log --since 15min --operation take-back\n  \
        forebay log --file --outcome retry\n\n\
        The newest that fit are shown, the newest last. PostgreSQL's own log has what was committed;\n\
        --file shows the file of write_log_file, which has every attempt."
    )]
    Log(LogArgs),
    /// What Redis needs for this chain: now, later, and at the limits
    #[command(
        after_help = "Examples:\n  forebay memory\n  forebay memory --horizon 365 --json\n  forebay memory --measure\n\n\
        Every start asks the same before it loads anything. Exit code 9: there is too little."
    )]
    Memory(MemoryArgs),
    /// Write a redis.conf for this machine and chain, or compare a server with it
    #[command(
        after_help = "Examples:\n  forebay redis-conf > redis.conf\n  forebay redis-conf --check --redis-url redis://host:6379 --postgres-url …\n\n\
        --check: exit code 3 if something breaks a promise; each difference is told with its risk."
    )]
    RedisConf(RedisConfArgs),
    /// Write settings of PostgreSQL for this machine, or compare a server with them
    #[command(
        after_help = "Examples:\n  forebay postgres-conf > forebay.conf\n  forebay postgres-conf --check\n\n\
        --check: exit code 3 if something breaks a promise (fsync, full_page_writes)."
    )]
    PostgresConf(PostgresConfArgs),
    /// Save PostgreSQL to a file (pg_dump's custom format)
    #[command(after_help = "Example:\n  forebay backup /backups/rise.dump")]
    Backup(BackupArgs),
    /// Put PostgreSQL back from a backup, and verify it against the chain
    #[command(after_help = "Example:\n  forebay restore-backup /backups/rise.dump --data-dir new\n\n\
        Into an empty place, or with --replace over what is there. No node may run.")]
    RestoreBackup(RestoreBackupArgs),
    /// Make a network of its own and a signed chain, for demos and benchmarks
    #[command(
        after_help = "Example:\n  forebay generate --out net --accounts 1000 --blocks 500 --mix all\n  forebay replay net/blocks.jsonl --network net/profile.toml --genesis net/genesis.json"
    )]
    Generate(GenerateArgs),
    /// Measure speed and memory on private servers, each figure beside a control arm of the same run
    #[command(
        after_help = "Examples:\n  forebay bench --quick\n  forebay bench accept drain --load uniform:200000 --block-size 250 --report bench.html\n\n\
        Without parts, all are measured. docs/performance.md says what each means."
    )]
    Bench(BenchArgs),
    /// Show or check the settings, or print their JSON schema
    #[command(
        after_help = "Examples:\n  forebay config show\n  forebay config check --config /etc/forebay/forebay.toml\n\n\
        Passwords are never shown. check: exit code 3 if something is wrong; every problem is named."
    )]
    Config(ConfigArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  forebay completions bash > /usr/share/bash-completion/completions/forebay"
    )]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  forebay man > forebay.1\n  forebay man --out /usr/local/share/man/man1"
    )]
    Man(ManArgs),
}

/// See [`Command::Config`].
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with them
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What can be done with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Every setting as it is in force, and where it comes from
    Show,
    /// Whether a node could start with them; starts and changes nothing
    Check,
    /// The JSON schema of the configuration file
    Schema,
}

/// See [`Command::Completions`].
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// See [`Command::Man`].
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory instead
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// See [`Command::Run`].
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Take operations from a Unix socket that is made here, or from stdin (-)
    #[arg(long, value_name = "SOCKET|-")]
    pub feed: Option<String>,
    /// Answer /metrics, /livez and /readyz at this address, such as 127.0.0.1:9464 [default: none]
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Serve the HTTP API here, unix:PATH for a Unix socket; may be given again
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Vec<String>,
}

/// See [`Command::Api`].
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Where to listen, unix:PATH for a Unix socket; may be given again
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub listen: Vec<String>,
}

/// See [`Command::Replay`].
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// JSON Lines files, in order; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// See [`Command::Pop`].
#[derive(Debug, Args)]
pub struct PopArgs {
    /// How many blocks [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "to_height")]
    pub count: Option<u32>,
    /// Take back every block above this height
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..))]
    pub to_height: Option<u32>,
}

/// See [`Command::Verify`].
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Derive the state again from block 1, and compare that too
    #[arg(long)]
    pub deep: bool,
}

/// See [`Command::Block`].
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

/// See [`Command::Account`].
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// With the network's suffix
    pub address: String,
}

/// See [`Command::Transaction`].
#[derive(Debug, Args)]
pub struct TransactionArgs {
    /// Its id
    pub id: String,
}

/// See [`Command::Delegates`].
#[derive(Debug, Args)]
pub struct DelegatesArgs {
    /// How many [default: as many as forge in a round]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// How many to skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u32,
}

/// See [`Command::Forgers`].
#[derive(Debug, Args)]
pub struct ForgersArgs {
    /// Which round [default: that of the next block]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub round: Option<u32>,
}

/// See [`Command::Dump`].
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

/// See [`Command::Log`].
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
    #[arg(long, value_name = "DURATION|TIME")]
    pub since: Option<String>,
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

/// See [`Command::Memory`].
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Look so far ahead, at the present growth
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub horizon: u32,
    /// Measure on the Redis in use what entries take, and remember it
    #[arg(long)]
    pub measure: bool,
}

/// See [`Command::RedisConf`].
#[derive(Debug, Args)]
pub struct RedisConfArgs {
    /// Compare the Redis in use, and look for keys of ours that expire
    #[arg(long)]
    pub check: bool,
    /// For a server of yours: addresses that it listens on
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1 -::1")]
    pub bind: String,
    /// For a server of yours: its port
    #[arg(long, value_name = "PORT", default_value_t = 6379)]
    pub port: u16,
    /// For a server of yours: a Unix socket
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// For a server of yours: its directory of data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/redis")]
    pub dir: PathBuf,
    /// For a server of yours: a file with the node's password
    #[arg(long, value_name = "FILE", requires = "reader_password_file")]
    pub node_password_file: Option<PathBuf>,
    /// For a server of yours: a file with the password of other programs, which only read
    #[arg(long, value_name = "FILE", requires = "node_password_file")]
    pub reader_password_file: Option<PathBuf>,
    /// For a server of yours: its certificate; TLS takes the place of TCP in the clear
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,
    /// For a server of yours: the certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// For a server of yours: who signs certificates
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,
}

/// See [`Command::PostgresConf`].
#[derive(Debug, Args)]
pub struct PostgresConfArgs {
    /// Compare the PostgreSQL in use
    #[arg(long)]
    pub check: bool,
}

/// See [`Command::Backup`].
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to make
    pub file: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    pub force: bool,
}

/// See [`Command::RestoreBackup`].
#[derive(Debug, Args)]
pub struct RestoreBackupArgs {
    /// The file
    pub file: PathBuf,
    /// Give up the chain that is there
    #[arg(long)]
    pub replace: bool,
    /// Compare both tiers and the chain's links only; do not derive the state again from block 1
    #[arg(long)]
    pub quick: bool,
}

/// See [`Command::Generate`].
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Folder for profile.toml, genesis.json, blocks.jsonl and secrets.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What everything follows from: the same seed and options give the same bytes
    #[arg(long, value_name = "TEXT", default_value = "forebay")]
    pub seed: String,
    /// The network's name
    #[arg(long, value_name = "NAME", default_value = "generated")]
    pub name: String,
    /// Blocks after the genesis block
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub blocks: u32,
    /// Transactions in each block
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub transactions_per_block: u32,
    /// Accounts with a balance, besides the delegates
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub accounts: u32,
    /// Forgers of a round
    #[arg(long, value_name = "N", default_value_t = 101)]
    pub delegates: u32,
    /// Which transactions: transfers, all, or weights such as transfers=80,votes=15,delegates=5
    /// (also group_transfers, second_signatures, multisignatures)
    #[arg(long, value_name = "MIX", default_value = "transfers")]
    pub mix: String,
    /// How many of 100 slots their forger misses
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub skipped_slots: u8,
    /// Forger lists of the second generation from this round on
    #[arg(long, value_name = "ROUND")]
    pub second_generation_round: Option<u32>,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
