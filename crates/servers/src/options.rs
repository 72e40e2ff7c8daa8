//! What a caller can choose about its private servers.

use std::path::PathBuf;
use std::time::Duration;

use crate::redis_config::RedisProfile;

/// Everything about the private servers of one data directory.
#[derive(Debug, Clone)]
pub struct ServersOptions {
    /// The directory that holds both servers' data, logs and sockets. Created when missing.
    pub data_dir: PathBuf,
    /// The fast tier's server.
    pub redis: RedisOptions,
    /// The slow tier's server.
    pub postgres: PostgresOptions,
    /// Where the executables are.
    pub binaries: Binaries,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

impl ServersOptions {
    /// The defaults for `data_dir`: durable Redis, safe PostgreSQL, executables searched for.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            redis: RedisOptions::default(),
            postgres: PostgresOptions::default(),
            binaries: Binaries::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// How the private Redis is configured.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// What survives a crash of Redis.
    pub profile: RedisProfile,
    /// `maxmemory` in bytes; `None` leaves it unlimited.
    pub maxmemory_bytes: Option<u64>,
    /// The whole redis.conf, instead of the plain one that is made here. It must name the socket, the directory and the
    /// files of [`RedisPlace`].
    pub conf: Option<String>,
    /// More directives of redis.conf, written after ours (the last one wins).
    pub extra: Vec<(String, String)>,
}

/// Where the private Redis listens and writes, and the passwords of its users: for whoever writes its configuration.
#[derive(Clone)]
pub struct RedisPlace {
    /// Its socket.
    pub socket: PathBuf,
    /// Its directory.
    pub directory: PathBuf,
    /// Its process id.
    pub pid_file: PathBuf,
    /// Its log.
    pub log_file: PathBuf,
    /// The users' passwords. Not for logs.
    pub passwords: RedisPasswords,
    /// Whether an append-only file is there that has to be loaded, whatever the profile says.
    pub loads_append_only: bool,
}

/// Passwords of the users of a private Redis, made once for each data directory.
#[derive(Clone)]
pub struct RedisPasswords {
    /// Of the node.
    pub node: String,
    /// Of other programs, which read.
    pub reader: String,
    /// Of whoever starts and stops the server.
    pub admin: String,
}

/// How the private PostgreSQL is configured.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Flush to disk. `false` only for tests: a crash of the machine then destroys the data.
    pub fsync: bool,
    /// `shared_buffers` in bytes; `None` takes an eighth of the memory, from 128 MiB to 2 GiB.
    pub shared_buffers_bytes: Option<u64>,
    /// The database that is created when missing.
    pub database: String,
    /// Owner of that database, set at each start; one of `roles`. `None` leaves it as it is, at first the superuser.
    pub database_owner: Option<String>,
    /// Login roles that are created when missing, each with a generated password and no rights at all. Grants are
    /// the business of whoever creates the schema.
    pub roles: Vec<String>,
    /// Settings instead of the plain ones that are made here; the place (sockets, files, port) is written in any case.
    pub conf: Option<String>,
    /// More settings, written after ours (the last one wins).
    pub extra: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            shared_buffers_bytes: None,
            database: "forebay".to_owned(),
            database_owner: None,
            roles: Vec::new(),
            conf: None,
            extra: Vec::new(),
        }
    }
}

/// Explicit paths of executables; `None` searches.
#[derive(Debug, Clone, Default)]
pub struct Binaries {
    /// The Redis server. Searched as `redis-server`, then `valkey-server`, in `PATH` and the usual directories.
    pub redis_server: Option<PathBuf>,
    /// The directory of `postgres` and `initdb`. Searched by `pg_config --bindir`, in `PATH`, and in
    /// `/usr/lib/postgresql/*/bin` (newest first); data that exist decide the major version.
    pub postgres_bin_dir: Option<PathBuf>,
}

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From the start of a process until it answers, and for an answer of a running one.
    pub start: Duration,
    /// For a server that answers "loading" or "recovering"; `None` waits as long as it takes.
    pub recovery: Option<Duration>,
    /// For a graceful stop.
    pub stop: Duration,
    /// For another program that is starting or stopping servers of the same directory.
    pub lock: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            recovery: None,
            stop: Duration::from_secs(120),
            lock: Duration::from_secs(120),
        }
    }
}
