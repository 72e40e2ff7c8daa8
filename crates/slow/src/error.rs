//! One error type: what we were doing, what went wrong, what to do. SQLSTATEs are decoded here and nowhere else.
//!
//! Codes that the triggers raise:
//!
//! | code | meaning |
//! |---|---|
//! | `FB001` | the delegates at a round end differ from the ledger's digest |
//! | `FB002` | blocks that do not follow the tip or each other, or cross the end of a round |
//! | `FB003` | a block's header disagrees with its transactions |
//! | `FB004` | a block of another forger than its slot's, or a forger list or digest in the wrong place |
//! | `FB005` | a balance below zero |
//! | `FB006` | votes that do not fit: twice, removed without being there, for no delegate, too many |
//! | `FB007` | the position was not moved first, or does not name the tip at COMMIT |
//! | `FB008` | transactions without a block |
//! | `FB009` | the database was not initialised |

use std::error::Error;
use std::fmt;

use tokio_postgres::error::{Severity, SqlState};

/// What kind of failure: decides between trying again, asking and stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The server cannot be reached, is starting or stopping, or the connection broke before COMMIT: nothing was written.
    Unavailable,
    /// The connection broke while COMMIT's answer was awaited: read the position to know.
    OutcomeUnknown,
    /// Another session got in the way (deadlock, serialization, a lock): nothing was written, the same may work again.
    Conflict,
    /// The server is out of disk, memory or connections: nothing was written.
    Resources,
    /// The position is not where the caller thinks: another writer took over, or the batch was committed before.
    Fenced,
    /// A constraint or a trigger refused the rows: a mistake of ours, or a tampered database.
    Constraint,
    /// The delegates derived by the triggers differ from the ledger's.
    DigestMismatch,
    /// The server refused the login or the right.
    Permission,
    /// The database holds another chain, was not initialised, or was made by another version.
    WrongDatabase,
    /// The caller asked for something that makes no sense.
    Misuse,
    /// Rows that cannot be what was written.
    Corrupt,
    /// Anything else that the server said.
    Server,
}

impl ErrorKind {
    /// What an operator can do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unavailable => "check that PostgreSQL runs and can be reached; it is tried again",
            Self::OutcomeUnknown => {
                "the position in the database tells whether it was committed; it is asked"
            }
            Self::Conflict => {
                "it is tried again; if it stays, look for a session that holds locks (pg_locks)"
            }
            Self::Resources => {
                "give the server disk space, memory or connections; it is tried again more slowly"
            }
            Self::Fenced => {
                "another node took over this chain, or the batch was committed before: read the position"
            }
            Self::Constraint => "stop and report it with the message: the rows or the database are wrong",
            Self::DigestMismatch => "stop; run `forebay verify --deep` to find the delegates that differ",
            Self::Permission => {
                "check the role's name, password and grants; run the setup again as an administrator"
            }
            Self::WrongDatabase => "use another database for this chain, or run the setup of this version",
            Self::Misuse => "this is a mistake in the calling program: report it",
            Self::Corrupt => "stop; the database was changed by another program: restore it from a backup",
            Self::Server => "see the server's message and its log",
        }
    }
}

/// A failure of the slow tier.
#[derive(Debug)]
pub struct SlowError {
    kind: ErrorKind,
    doing: String,
    message: String,
    sqlstate: Option<String>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SlowError {
    /// A failure that is not the server's.
    pub(crate) fn new(kind: ErrorKind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), message: message.into(), sqlstate: None, cause: None }
    }

    /// Decodes what the driver reports.
    pub(crate) fn from_postgres(doing: impl Into<String>, error: tokio_postgres::Error) -> Self {
        let database_error = error.as_db_error();
        Self {
            kind: classify(&error),
            doing: doing.into(),
            message: database_error.map_or_else(|| innermost(&error), |e| e.message().to_owned()),
            sqlstate: database_error.map(|e| e.code().code().to_owned()),
            cause: Some(Box::new(error)),
        }
    }

    /// Decodes a failure of COMMIT: without a plain refusal by the server, nobody knows.
    pub(crate) fn from_commit(doing: impl Into<String>, error: tokio_postgres::Error) -> Self {
        let refused = error
            .as_db_error()
            .is_some_and(|e| !matches!(e.parsed_severity(), Some(Severity::Fatal | Severity::Panic)));
        let mut decoded = Self::from_postgres(doing, error);
        if !refused {
            decoded.kind = ErrorKind::OutcomeUnknown;
        }
        decoded
    }

    pub(crate) fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The server's five-letter code, when the server answered.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// What was being done.
    #[must_use]
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// What an operator can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.kind.remedy()
    }
}

impl fmt::Display for SlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.message)?;
        if let Some(code) = &self.sqlstate {
            write!(f, " ({code})")?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl Error for SlowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
    }
}

fn classify(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(code) = error.code() else {
        // Without an answer of the server it is the connection, except for values that did not fit their types.
        let text = error.to_string();
        let local = text.contains("serializing parameter") || text.contains("deserializing column");
        return if local { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    };
    match code {
        c if *c == SqlState::T_R_DEADLOCK_DETECTED
            || *c == SqlState::T_R_SERIALIZATION_FAILURE
            || *c == SqlState::LOCK_NOT_AVAILABLE
            || *c == SqlState::QUERY_CANCELED
            || *c == SqlState::OBJECT_IN_USE =>
        {
            ErrorKind::Conflict
        }
        c if *c == SqlState::ADMIN_SHUTDOWN
            || *c == SqlState::CRASH_SHUTDOWN
            || *c == SqlState::CANNOT_CONNECT_NOW
            || *c == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            || *c == SqlState::READ_ONLY_SQL_TRANSACTION =>
        {
            ErrorKind::Unavailable
        }
        c if *c == SqlState::INSUFFICIENT_PRIVILEGE
            || *c == SqlState::INVALID_PASSWORD
            || *c == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            ErrorKind::Permission
        }
        c if *c == SqlState::UNDEFINED_TABLE
            || *c == SqlState::INVALID_SCHEMA_NAME
            || *c == SqlState::INVALID_CATALOG_NAME
            || *c == SqlState::UNDEFINED_COLUMN
            || *c == SqlState::UNDEFINED_FUNCTION =>
        {
            ErrorKind::WrongDatabase
        }
        c => match c.code().get(..2) {
            _ if c.code() == "FB001" => ErrorKind::DigestMismatch,
            _ if c.code() == "FB009" => ErrorKind::WrongDatabase,
            Some("FB" | "23" | "22") => ErrorKind::Constraint,
            Some("53") => ErrorKind::Resources,
            Some("08") => ErrorKind::Unavailable,
            Some("XX") => ErrorKind::Corrupt,
            _ => ErrorKind::Server,
        },
    }
}

/// The driver's own text says only "db error" or "error connecting": the innermost cause says why.
fn innermost(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
