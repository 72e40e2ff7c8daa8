//! What can go wrong, each with its kind, its cause and a sentence that tells the operator what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock::HeldBy;

/// Which of the two servers an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The fast tier.
    Redis,
    /// The slow tier.
    Postgres,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// The class of a [`ServersError`]: what a caller may decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Software that must be installed first, or a version that does not fit.
    Installation,
    /// Paths, owners or permissions that the operator has to put right.
    Configuration,
    /// A server did not start, did not answer or did not stop; its own log has more.
    Unavailable,
    /// Somebody else holds what we need; trying again later can succeed.
    Busy,
}

/// Why a private server could not be found, started, used or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// A program is not installed where we look.
    #[error(
        "the program `{program}` was not found (searched: {searched}). Install it with \
         `apt-get install {package}`, run scripts/setup, or configure its path"
    )]
    MissingProgram {
        /// Name of the executable.
        program: String,
        /// Places that were looked at.
        searched: String,
        /// Debian's package that brings it.
        package: String,
    },
    /// The installed version cannot serve this data.
    #[error("{server} {found} is installed, but {needed}. {remedy}")]
    WrongVersion {
        /// Which server.
        server: Server,
        /// What is installed.
        found: String,
        /// What is needed, as a clause.
        needed: String,
        /// What to do.
        remedy: String,
    },
    /// The servers' account cannot reach the data directory.
    #[error(
        "the directory {} cannot be entered by the account `{account}`, which runs the servers because they refuse \
         to run as root. Choose a data directory outside of it (such as /var/lib/forebay), or allow it with \
         `chmod o+x {}`", directory.display(), directory.display()
    )]
    NotTraversable {
        /// The first directory on the way that is closed.
        directory: PathBuf,
        /// The unprivileged account.
        account: String,
    },
    /// No unprivileged account to run the servers as.
    #[error(
        "PostgreSQL refuses to run as root, and neither the account `postgres` nor `nobody` exists. Create one with \
         `useradd --system postgres`, or start Forebay as an ordinary user"
    )]
    NoAccount,
    /// Data that belongs to another user.
    #[error(
        "{} belongs to user id {owner}, but this program runs as user id {user}. Start it as that user or as root, \
         or choose another data directory", path.display()
    )]
    WrongOwner {
        /// The path in question.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The caller.
        user: u32,
    },
    /// A path that cannot be used.
    #[error("{} cannot be used: {reason}. {remedy}", path.display())]
    BadPath {
        /// The path in question.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The system refused a file operation or a command.
    #[error("{doing} failed ({}): {source}. Check the path's permissions and the free space of its volume", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A server ended while it was starting.
    #[error("{server} did not start: {reason}. Its log is {}, which ends with:\n{log_tail}", log_path.display())]
    StartFailed {
        /// Which server.
        server: Server,
        /// What we saw.
        reason: String,
        /// Where the server logs.
        log_path: PathBuf,
        /// The last lines that this start wrote.
        log_tail: String,
    },
    /// A process holds the data but does not answer.
    #[error(
        "{server} (process {pid}) holds {} but did not answer for {waited_s} s: {reason}. Look at its log {}; if it \
         hangs, end it with `kill {pid}` and start again. The log ends with:\n{log_tail}",
        data.display(), log_path.display()
    )]
    Unresponsive {
        /// Which server.
        server: Server,
        /// Its process.
        pid: u32,
        /// The data that it holds.
        data: PathBuf,
        /// Seconds we waited.
        waited_s: u64,
        /// The last answer or silence.
        reason: String,
        /// Where the server logs.
        log_path: PathBuf,
        /// The last lines of that log.
        log_tail: String,
    },
    /// Another server answers on our socket.
    #[error(
        "{server} at {} serves {found}, not this data directory. Stop that server, or choose another data directory",
        socket.display()
    )]
    ForeignServer {
        /// Which server.
        server: Server,
        /// The socket that answered.
        socket: PathBuf,
        /// The directory that it serves.
        found: String,
    },
    /// A server did not end in time.
    #[error(
        "{server} (process {pid}) did not stop within {waited_s} s; {}; its log is {}", still(*halted, *pid), log_path.display()
    )]
    StopTimeout {
        /// Which server.
        server: Server,
        /// Its process.
        pid: u32,
        /// Seconds we waited.
        waited_s: u64,
        /// Somebody has halted the process (SIGSTOP): it cannot stop.
        halted: bool,
        /// Where the server logs.
        log_path: PathBuf,
    },
    /// Another process is starting or stopping servers of the same directory.
    #[error(
        "the private servers are being started or stopped by another program: {0}. Try again when it is done"
    )]
    LockBusy(HeldBy),
    /// The passwords of the private PostgreSQL are missing or wrong.
    #[error(
        "the passwords of the private PostgreSQL in {} cannot be used: {reason}. Put the file back from a backup; it \
         belongs to the data beside it", path.display()
    )]
    Secrets {
        /// The file of passwords.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Redis answered with an error.
    #[error("{doing} on the private Redis failed: {source}. Look at its log for the cause")]
    Redis {
        /// What we were doing.
        doing: &'static str,
        /// The client's error.
        source: redis::RedisError,
    },
    /// PostgreSQL answered with an error.
    #[error(
        "{doing} on the private PostgreSQL failed: {}. Look at its log for the cause",
        postgres_text(source)
    )]
    Postgres {
        /// What we were doing.
        doing: &'static str,
        /// The client's error.
        source: tokio_postgres::Error,
    },
}

impl ServersError {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MissingProgram { .. } | Self::WrongVersion { .. } => ErrorKind::Installation,
            Self::NotTraversable { .. }
            | Self::NoAccount
            | Self::WrongOwner { .. }
            | Self::BadPath { .. }
            | Self::ForeignServer { .. }
            | Self::Secrets { .. }
            | Self::Io { .. } => ErrorKind::Configuration,
            Self::StartFailed { .. }
            | Self::Unresponsive { .. }
            | Self::StopTimeout { .. }
            | Self::Redis { .. }
            | Self::Postgres { .. } => ErrorKind::Unavailable,
            Self::LockBusy(_) => ErrorKind::Busy,
        }
    }

    /// For `map_err`: names the operation and the path of an [`io::Error`].
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

fn still(halted: bool, pid: u32) -> String {
    match halted {
        true => {
            format!("its process was halted by a signal. Let it go on (`kill -CONT {pid}`), then try again")
        }
        false => "it is still working on it. Wait, then try again".to_owned(),
    }
}

/// tokio-postgres prints only "db error"; the server's own words are in its source.
fn postgres_text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.to_string())
}
