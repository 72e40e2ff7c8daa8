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
//! | `FB007` | the position was not moved first, or by less than was done, or does not name the tip at COMMIT |
//! | `FB008` | transactions without a block |
//! | `FB009` | the database was not initialised |

use std::error::Error;
use std::fmt;

use tokio_postgres::error::Severity;

use crate::tls::is_of_tls;

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
    /// The server's certificate is not trusted, or it does not speak TLS as the address says. A start is refused; a running
    /// node tries again, as if the server were away.
    Untrusted,
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
    /// The only place that knows the server's codes. Pure.
    #[must_use]
    pub fn of_sqlstate(code: &str) -> Self {
        match code {
            // Deadlock, serialization failure, lock_timeout, object in use, statement_timeout or a cancel.
            "40P01" | "40001" | "55P03" | "55006" | "57014" => Self::Conflict,
            // The server itself does not know how COMMIT ended.
            "40003" | "08007" => Self::OutcomeUnknown,
            // Shutdown, crash, starting up, a session ended for standing still; a standby before its promotion.
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" | "25006" => Self::Unavailable,
            "42501" | "28P01" | "28000" => Self::Permission,
            // Something that our migrations make is not there, or the database was dropped.
            "42P01" | "3F000" | "3D000" | "42703" | "42883" | "57P04" | "FB009" => Self::WrongDatabase,
            "FB001" => Self::DigestMismatch,
            // The disk fails to read or write.
            "58030" => Self::Resources,
            // A file of the database is gone.
            "58P01" => Self::Corrupt,
            _ => match code.get(..2) {
                Some("FB" | "23" | "22") => Self::Constraint,
                Some("53") => Self::Resources,
                Some("08") => Self::Unavailable,
                Some("XX") => Self::Corrupt,
                _ => Self::Server,
            },
        }
    }

    /// What a failure of the driver is.
    #[must_use]
    pub fn of_driver(error: &tokio_postgres::Error) -> Self {
        classify(error)
    }

    /// A short, stable name for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Conflict => "conflict",
            Self::Resources => "resources",
            Self::Fenced => "fenced",
            Self::Constraint => "constraint",
            Self::DigestMismatch => "digest-mismatch",
            Self::Permission => "permission",
            Self::Untrusted => "untrusted",
            Self::WrongDatabase => "wrong-database",
            Self::Misuse => "misuse",
            Self::Corrupt => "corrupt",
            Self::Server => "server",
        }
    }

    /// What an operator can do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unavailable => "check that PostgreSQL runs and can be reached",
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
            Self::Untrusted => {
                "give the certificate of who signed the server's (a PEM file) in the environment variable SSL_CERT_FILE, or add \
                 it to those that the system trusts; the address must have the name that is in the certificate, and \
                 sslmode=require only where the server speaks TLS (not over a Unix socket)"
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

    /// A server that cannot be asked, for a caller that knows why.
    #[must_use]
    pub fn unavailable(doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, doing, message)
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

    /// What was being done and what went wrong, for a caller with a remedy of its own.
    #[must_use]
    pub fn without_remedy(&self) -> String {
        let code = self.sqlstate.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
        format!("{}: {}{code}", self.doing, self.message)
    }
}

impl fmt::Display for SlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.without_remedy(), self.remedy())
    }
}

impl Error for SlowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
    }
}

/// The kind that the driver's error somewhere below another library's error leads to.
pub(crate) fn kind_below(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return Some(classify(error));
        }
        next = error.source();
    }
    None
}

fn classify(error: &tokio_postgres::Error) -> ErrorKind {
    match error.code() {
        Some(code) => ErrorKind::of_sqlstate(code.code()),
        None if is_of_tls(error) => ErrorKind::Untrusted,
        // Without an answer of the server it is the connection, except for values that did not fit their types.
        None => {
            let text = error.to_string();
            let local = text.contains("serializing parameter") || text.contains("deserializing column");
            if local { ErrorKind::Corrupt } else { ErrorKind::Unavailable }
        }
    }
}

/// The driver's own text says only "db error" or "error connecting": the innermost cause says why.
fn innermost(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorKind::{self, *};

    /// What each code stands for, and what follows from it.
    const CODES: [(&str, &str, ErrorKind); 46] = [
        ("08000", "connection exception", Unavailable),
        ("08001", "cannot establish the connection", Unavailable),
        ("08003", "the connection does not exist", Unavailable),
        ("08004", "the server rejected the connection", Unavailable),
        ("08006", "the connection failed", Unavailable),
        ("08007", "transaction resolution unknown", OutcomeUnknown),
        ("08P01", "protocol violation", Unavailable),
        ("22001", "text too long", Constraint),
        ("22003", "number out of range", Constraint),
        ("22P02", "invalid text", Constraint),
        ("23502", "not null", Constraint),
        ("23503", "foreign key", Constraint),
        ("23505", "unique", Constraint),
        ("23514", "check", Constraint),
        ("25006", "read-only: a standby", Unavailable),
        ("25P02", "the transaction failed before", Server),
        ("25P03", "idle in transaction for too long", Unavailable),
        ("28000", "invalid authorization", Permission),
        ("28P01", "invalid password", Permission),
        ("3D000", "no such database", WrongDatabase),
        ("3F000", "no such schema", WrongDatabase),
        ("40001", "serialization failure", Conflict),
        ("40003", "completion unknown", OutcomeUnknown),
        ("40P01", "deadlock", Conflict),
        ("42501", "insufficient privilege", Permission),
        ("42601", "syntax error", Server),
        ("42703", "no such column", WrongDatabase),
        ("42883", "no such function", WrongDatabase),
        ("42P01", "no such table", WrongDatabase),
        ("53000", "insufficient resources", Resources),
        ("53100", "disk full", Resources),
        ("53200", "out of memory", Resources),
        ("53300", "too many connections", Resources),
        ("55006", "object in use", Conflict),
        ("55P03", "lock not available: lock_timeout", Conflict),
        ("57014", "canceled: statement_timeout", Conflict),
        ("57P01", "shutdown, or the session was ended", Unavailable),
        ("57P02", "crash of another session", Unavailable),
        ("57P03", "starting up or shutting down", Unavailable),
        ("57P04", "the database was dropped", WrongDatabase),
        ("58030", "input or output error", Resources),
        ("58P01", "a file is gone", Corrupt),
        ("FB001", "another digest", DigestMismatch),
        ("FB007", "the position was not moved first", Constraint),
        ("FB009", "not initialised", WrongDatabase),
        ("XX001", "data corrupted", Corrupt),
    ];

    #[test]
    fn every_code_leads_to_one_kind() {
        for (code, meaning, kind) in CODES {
            assert_eq!(ErrorKind::of_sqlstate(code), kind, "{code}, {meaning}");
        }
        assert_eq!(ErrorKind::of_sqlstate("0A000"), Server);
        assert_eq!(ErrorKind::of_sqlstate(""), Server);
    }
}
