//! What commands take that are about the servers: memory, configuration, backups.

use std::path::PathBuf;

use clap::Args;

/// The present growth says nothing about longer than that.
const HORIZON_DAYS_MAX: i64 = 36_500;

/// See [`Command::Memory`](super::Command::Memory).
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Look so far ahead, at the present growth (up to a hundred years)
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=HORIZON_DAYS_MAX))]
    pub horizon: u32,
    /// Measure on the Redis in use what entries take, and remember it
    #[arg(long)]
    pub measure: bool,
}

/// See [`Command::RedisConf`](super::Command::RedisConf).
#[derive(Debug, Args)]
pub struct RedisConfArgs {
    /// Compare the Redis in use, and look for keys of ours that expire
    #[arg(long, conflicts_with_all = OF_YOURS)]
    pub check: bool,
    /// What only a server of yours can be told.
    #[command(flatten)]
    pub yours: YoursArgs,
}

/// The flags of [`YoursArgs`].
const OF_YOURS: [&str; 9] = [
    "bind",
    "port",
    "socket",
    "dir",
    "node_password_file",
    "reader_password_file",
    "tls_cert",
    "tls_key",
    "tls_ca",
];

/// What only a server of yours can be told: a private one has its place, its users and no network.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For a server of yours")]
pub struct YoursArgs {
    /// Addresses that it listens on [default: 127.0.0.1 -::1]
    #[arg(long, value_name = "ADDRESSES")]
    pub bind: Option<String>,
    /// Its port; 0: none [default: 6379]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// A Unix socket
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Its directory of data [default: /var/lib/redis]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A file with the node's password
    #[arg(long, value_name = "FILE", requires = "reader_password_file")]
    pub node_password_file: Option<PathBuf>,
    /// A file with the password of other programs, which only read
    #[arg(long, value_name = "FILE", requires = "node_password_file")]
    pub reader_password_file: Option<PathBuf>,
    /// Its certificate; TLS takes the place of TCP in the clear
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Who signs certificates
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,
}

impl YoursArgs {
    /// The first of the flags that was given.
    pub fn given(&self) -> Option<&'static str> {
        [
            ("--bind", self.bind.is_some()),
            ("--port", self.port.is_some()),
            ("--socket", self.socket.is_some()),
            ("--dir", self.dir.is_some()),
            ("--node-password-file", self.node_password_file.is_some()),
            ("--reader-password-file", self.reader_password_file.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-ca", self.tls_ca.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// See [`Command::PostgresConf`](super::Command::PostgresConf).
#[derive(Debug, Args)]
pub struct PostgresConfArgs {
    /// Compare the PostgreSQL in use
    #[arg(long)]
    pub check: bool,
}

/// See [`Command::Backup`](super::Command::Backup).
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to make
    pub file: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    pub force: bool,
}

/// See [`Command::RestoreBackup`](super::Command::RestoreBackup).
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
