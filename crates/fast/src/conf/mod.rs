//! The configuration of a Redis that holds a chain: its text with reasons, and what a live server does differently.
//!
//! One list of settings ([`settings`](RedisConf::settings)) is both: written out it is a redis.conf, compared with a
//! server it is a check. What would break a promise of the node has the grade [`Grade::Stop`].

mod check;
mod rights;
mod settings;
mod text;
mod users;

use std::path::PathBuf;

pub use check::LiveServer;
pub use forebay_conf::{Expect, Finding, Grade, Section, Setting};
pub use rights::MissingRights;
pub use users::{ADMIN_USER, NODE_USER, READER_USER, Users};

/// What the file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConf {
    /// Where the server listens and writes.
    pub place: Place,
    /// The chain's name, as in its keys.
    pub chain: String,
    /// Whether everything acknowledged is on disk.
    pub is_durable: bool,
    /// Load an append-only file although nothing is to be appended from now on.
    pub loads_append_only: bool,
    /// `maxmemory`, bytes; 0: none.
    pub maxmemory_bytes: u64,
    /// The least that `maxmemory` may be, bytes: what the plan needs.
    pub maxmemory_bytes_min: u64,
    /// Cores of the machine: decides the number of threads that read and write sockets.
    pub cores: usize,
    /// Whether the server was built with active defragmentation; `None`: not known.
    pub defragments: Option<bool>,
    /// Who may log in; `None`: the file says how to add them.
    pub users: Option<Users>,
    /// Certificates.
    pub tls: Option<Tls>,
}

/// Where a server listens and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A private server: a socket that only its owner may use.
    Private {
        /// The socket.
        socket: PathBuf,
        /// Its directory of data.
        directory: PathBuf,
        /// Its process id.
        pid_file: PathBuf,
        /// Its log.
        log_file: PathBuf,
    },
    /// A server of yours.
    Yours {
        /// Addresses that it listens on.
        bind: String,
        /// The port; 0: none.
        port: u16,
        /// A Unix socket beside it.
        socket: Option<PathBuf>,
        /// Its directory of data.
        directory: PathBuf,
    },
}

/// Certificates of a server of yours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs certificates.
    pub authority: PathBuf,
}
