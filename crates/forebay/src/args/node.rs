//! What commands take that give blocks to a chain or keep it up, and what makes a chain.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// See [`Command::Run`](super::Command::Run).
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

/// See [`Command::Api`](super::Command::Api).
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Where to listen, unix:PATH for a Unix socket; may be given again
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub listen: Vec<String>,
}

/// See [`Command::Replay`](super::Command::Replay).
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// JSON Lines files, in order; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// See [`Command::Pop`](super::Command::Pop).
#[derive(Debug, Args)]
pub struct PopArgs {
    /// How many blocks [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "to_height")]
    pub count: Option<u32>,
    /// Take back every block above this height
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u32).range(1..))]
    pub to_height: Option<u32>,
}

/// See [`Command::Generate`](super::Command::Generate).
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
