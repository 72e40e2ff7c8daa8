//! Exit codes, and which failure ends with which. Documented in `docs/cli.md` and in `--help`; never renumbered.

use std::fmt;
use std::io;

use forebay_fast::{FastError, FastErrorKind};
use forebay_ledger::profile::ProfileError;
use forebay_servers::{ErrorKind as ServersErrorKind, LockError, ServersError};
use forebay_slow::{ErrorKind as SlowErrorKind, SlowError};
use forebay_store::StoreError;

/// How the program ends. 2 (usage) is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Input was refused, or what was asked for does not exist.
    Refused = 1,
    /// Files, settings, rights, versions: an operator has to change something.
    Configuration = 3,
    /// A server cannot be reached, or did not start.
    Unavailable = 4,
    /// The tiers do not agree.
    Verification = 5,
    /// Somebody else holds the data directory or the chain.
    Held = 6,
    /// The node stopped by itself, to lose and damage nothing.
    Stopped = 7,
    /// The guard stopped the node: PostgreSQL is too far behind.
    TooFarBehind = 8,
    /// Redis would need more memory than there is.
    LowMemory = 9,
    /// A defect of this program.
    Internal = 70,
    /// Ctrl-C came before the work was done.
    Interrupted = 130,
}

/// For `--help`.
pub const HELP: &str = "\
Exit codes:
    0  done
    1  refused input, or what was asked for does not exist
    2  usage: wrong arguments
    3  configuration: a setting, a file, a right or a version
    4  a server is unavailable
    5  verification failed: the tiers do not agree
    6  held: another process has the data directory or the chain
    7  the node stopped by itself, to lose and damage nothing
    8  the node stopped because PostgreSQL is too far behind
    9  Redis would need more memory than there is (--accept-low-memory)
   70  a defect of this program: please report it
  130  interrupted by Ctrl-C (143: by SIGTERM, 129: by SIGHUP) before the work was done";

/// A failure that is this program's own to tell: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Told {
    /// How the program ends.
    pub exit: Exit,
    /// A short, stable name for machines.
    pub kind: &'static str,
    /// What is wrong, and where.
    pub message: String,
    /// What to do; may be empty.
    pub remedy: String,
}

impl Told {
    /// A setting, file or right that has to be changed.
    pub fn configuration(message: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, "configuration", message, remedy)
    }

    /// Input that is not taken.
    pub fn refused(kind: &'static str, message: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(Exit::Refused, kind, message, remedy)
    }

    /// Something that the chain does not have.
    pub fn unknown(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, "not-found", message, "")
    }

    /// Any other.
    pub fn new(
        exit: Exit,
        kind: &'static str,
        message: impl fmt::Display,
        remedy: impl Into<String>,
    ) -> Self {
        Self { exit, kind, message: message.to_string(), remedy: remedy.into() }
    }
}

/// For the long `--help`.
pub fn long_help() -> String {
    format!(
        "Examples:\n  \
           forebay generate --out net --blocks 500\n  \
           forebay replay net/blocks.jsonl --network net/profile.toml --genesis net/genesis.json\n  \
           forebay run                      keep the data layer up; --data-dir remembers the network\n  \
           forebay account 12324540900396688540R --json\n\
         \n\
         Settings come from --config FILE, then the environment (--data-dir is FOREBAY_DATA_DIR), then flags.\n\
         forebay.example.toml explains every one.\n\
         \n{HELP}"
    )
}

/// What a failure means to whoever started the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the program ends.
    pub exit: Exit,
    /// A short, stable name for machines.
    pub kind: &'static str,
    /// What to do; may be empty.
    pub remedy: String,
}

impl Verdict {
    fn new(exit: Exit, kind: &'static str, remedy: impl Into<String>) -> Self {
        Self { exit, kind, remedy: remedy.into() }
    }

    /// Of the first cause in the chain that we know.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or_else(|| {
            Self::new(Exit::Internal, "internal", "Please report it with the whole output.")
        })
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(told) = cause.downcast_ref::<Told>() {
            return Some(Self::new(told.exit, told.kind, told.remedy.clone()));
        }
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return Some(Self::new(of_store(error), error.kind(), error.remedy()));
        }
        if let Some(error) = cause.downcast_ref::<FastError>() {
            return Some(Self::new(of_fast(error.kind()), "redis", error.remedy()));
        }
        if let Some(error) = cause.downcast_ref::<SlowError>() {
            return Some(Self::new(of_slow(error.kind()), "postgres", error.remedy()));
        }
        if let Some(error) = cause.downcast_ref::<tokio_postgres::Error>() {
            let kind = SlowErrorKind::of_driver(error);
            return Some(Self::new(of_slow(kind), "postgres", kind.remedy()));
        }
        if let Some(error) = cause.downcast_ref::<ServersError>() {
            // Its text says what to do.
            return Some(Self::new(of_servers(error.kind()), "servers", ""));
        }
        if let Some(error) = cause.downcast_ref::<LockError>() {
            let held = matches!(error, LockError::Held { .. });
            return Some(if held {
                Self::new(Exit::Held, "held", "")
            } else {
                Self::new(Exit::Configuration, "lock", "")
            });
        }
        if cause.is::<figment::Error>() {
            let remedy = "Correct the setting; forebay.example.toml lists all of them.";
            return Some(Self::new(Exit::Configuration, "configuration", remedy));
        }
        if cause.is::<ProfileError>() {
            return Some(Self::new(Exit::Configuration, "network-profile", "Correct the network profile."));
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::InvalidData
        {
            return Some(Self::new(Exit::Configuration, "file", "Write the file as text in UTF-8."));
        }
        if cause.is::<io::Error>() {
            let remedy = "Check the path, its permissions and the free space of its volume.";
            return Some(Self::new(Exit::Configuration, "file", remedy));
        }
        None
    }
}

/// Of a failure of the store.
pub fn of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Refused(_) | StoreError::OtherBranch { .. } | StoreError::Request(_) => Exit::Refused,
        StoreError::Configuration { .. } => Exit::Configuration,
        StoreError::Held(_) => Exit::Held,
        StoreError::TooFarBehind(_) => Exit::TooFarBehind,
        StoreError::Away { .. } => Exit::Unavailable,
        StoreError::Fast(error) => of_fast(error.kind()),
        StoreError::Slow(error) => of_slow(error.kind()),
        // Disagreement, Stopped, and what may come.
        _ => Exit::Stopped,
    }
}

fn of_fast(kind: FastErrorKind) -> Exit {
    match kind {
        FastErrorKind::Unavailable
        | FastErrorKind::OutcomeUnknown
        | FastErrorKind::NotReady
        | FastErrorKind::AnotherRun
        | FastErrorKind::Persistence => Exit::Unavailable,
        FastErrorKind::OutOfMemory => Exit::LowMemory,
        FastErrorKind::Misconfigured | FastErrorKind::Untrusted | FastErrorKind::ReadOnlyReplica => {
            Exit::Configuration
        }
        FastErrorKind::Fenced => Exit::Held,
        FastErrorKind::Conflict | FastErrorKind::Stale | FastErrorKind::Corrupt => Exit::Stopped,
        FastErrorKind::Defect => Exit::Internal,
    }
}

fn of_slow(kind: SlowErrorKind) -> Exit {
    match kind {
        SlowErrorKind::Unavailable
        | SlowErrorKind::OutcomeUnknown
        | SlowErrorKind::Conflict
        | SlowErrorKind::Resources => Exit::Unavailable,
        SlowErrorKind::Permission | SlowErrorKind::Untrusted | SlowErrorKind::WrongDatabase => {
            Exit::Configuration
        }
        SlowErrorKind::Fenced => Exit::Held,
        SlowErrorKind::Misuse => Exit::Internal,
        SlowErrorKind::Constraint
        | SlowErrorKind::DigestMismatch
        | SlowErrorKind::Corrupt
        | SlowErrorKind::Server => Exit::Stopped,
    }
}

fn of_servers(kind: ServersErrorKind) -> Exit {
    match kind {
        ServersErrorKind::Installation | ServersErrorKind::Configuration => Exit::Configuration,
        ServersErrorKind::Unavailable => Exit::Unavailable,
        ServersErrorKind::Busy => Exit::Held,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_help_names_every_code() {
        let codes = [
            Exit::Success,
            Exit::Refused,
            Exit::Configuration,
            Exit::Unavailable,
            Exit::Verification,
            Exit::Held,
            Exit::Stopped,
            Exit::TooFarBehind,
            Exit::LowMemory,
            Exit::Internal,
            Exit::Interrupted,
        ];
        for code in codes {
            let number = format!("{:>5}  ", code as i32);
            assert!(HELP.lines().any(|line| line.starts_with(&number)), "{number}");
        }
    }

    #[test]
    fn a_verdict_is_found_below_any_context() {
        let error = Err::<(), _>(StoreError::Held("by 7".to_owned())).context("starting").unwrap_err();
        assert_eq!(Verdict::of(&error).exit, Exit::Held);
        assert_eq!(Verdict::of(&anyhow::anyhow!("odd")).exit, Exit::Internal);
    }
}
