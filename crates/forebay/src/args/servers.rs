//! What commands take that are about the servers: memory, configuration, backups.

use std::path::PathBuf;

use clap::Args;

/// See [`Command::Memory`](super::Command::Memory).
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Look so far ahead, at the present growth
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub horizon: u32,
    /// Measure on the Redis in use what entries take, and remember it
    #[arg(long)]
    pub measure: bool,
}

/// See [`Command::RedisConf`](super::Command::RedisConf).
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
