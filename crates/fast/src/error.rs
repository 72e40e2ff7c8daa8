//! What can go wrong, decoded once: Redis' error prefixes and the functions' refusals become kinds here.

#[cfg(feature = "tls")]
use std::error::Error;
use std::fmt;
#[cfg(feature = "tls")]
use std::io;
#[cfg(feature = "tls")]
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::codec::CodecError;
use crate::head::{Position, State};

/// Whether a call changes anything: decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Change,
}

/// A failed call of the fast tier.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FastError {
    /// The server cannot be reached, or says that it cannot serve now. Nothing was changed.
    #[error("{doing}: Redis is not available ({source})")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// What the client says.
        source: RedisError,
    },
    /// The answer to a change was lost: it happened or it did not.
    #[error("{doing}: no answer from Redis, so whether it happened is not known ({source})")]
    OutcomeUnknown {
        /// What was being done.
        doing: String,
        /// What the client says.
        source: RedisError,
    },
    /// The caller does not hold the chain (any more). Nothing was changed.
    #[error("{doing}: epoch {epoch} does not hold the chain{}", held_by(*.found, *.released))]
    Fenced {
        /// What was being done.
        doing: String,
        /// The caller's epoch, or the one that it wanted.
        epoch: u64,
        /// Who holds it; `None`: nobody, as in an emptied Redis.
        found: Option<u64>,
        /// The holder gave it up.
        released: bool,
    },
    /// Another operation came between, or this one was already accepted. Nothing was changed.
    #[error("{doing}: expected to follow operation {expected}, the last one is {found}")]
    SeqConflict {
        /// What was being done.
        doing: String,
        /// What the caller took for the last operation.
        expected: u64,
        /// The last operation.
        found: u64,
    },
    /// The tip is another block. Nothing was changed.
    #[error("{doing}: expected the tip {expected}, it is {found}")]
    TipConflict {
        /// What was being done.
        doing: String,
        /// What the caller took for the tip.
        expected: String,
        /// The tip.
        found: String,
    },
    /// The outbox already has this entry or a later one. Nothing was changed.
    #[error("{doing}: the outbox refuses the entry ({detail})")]
    OutboxConflict {
        /// What was being done.
        doing: String,
        /// What Redis says.
        detail: String,
    },
    /// Redis was restored with another number of buckets since this process last looked. Nothing was changed.
    #[error("{doing}: the keys are spread over another number of buckets now")]
    BucketsChanged {
        /// What was being done.
        doing: String,
    },
    /// The chain moved on during each attempt at a read that takes two round trips.
    #[error("{doing}: the chain moved on during each of {attempts} attempts")]
    Busy {
        /// What was being done.
        doing: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The chain's state is not complete: no reads, no writes.
    #[error("the chain in Redis is not ready: {state}")]
    NotReady {
        /// Its state.
        state: State,
    },
    /// Redis is older than what this process has seen acknowledged: a restart, an old copy, a stale replica.
    #[error("Redis is at operation {found}, but {floor} was acknowledged before")]
    Stale {
        /// The last acknowledged.
        floor: Position,
        /// What Redis has.
        found: Position,
    },
    /// Redis' memory is full. Nothing was changed.
    #[error("{doing}: Redis' memory is full ({source})")]
    OutOfMemory {
        /// What was being done.
        doing: String,
        /// What the server says.
        source: RedisError,
    },
    /// Redis cannot write its own files. Nothing was changed.
    #[error("{doing}: Redis cannot persist ({source})")]
    Persistence {
        /// What was being done.
        doing: String,
        /// What the server says.
        source: RedisError,
    },
    /// The server is a replica. Nothing was changed.
    #[error("{doing}: this Redis is a read-only replica ({source})")]
    ReadOnlyReplica {
        /// What was being done.
        doing: String,
        /// What the server says.
        source: RedisError,
    },
    /// Address, rights or version do not fit. Nothing was changed.
    #[error("{doing}: {detail}")]
    Misconfigured {
        /// What was being done.
        doing: String,
        /// What does not fit.
        detail: String,
    },
    /// The server's certificate is not trusted, or it does not speak TLS as the address says. Nothing was sent.
    #[error("{doing}: Redis cannot be talked to encrypted ({detail})")]
    Untrusted {
        /// What was being done.
        doing: String,
        /// What is wrong with the certificate or the encryption.
        detail: String,
    },
    /// Another run of Redis answers than the one that was connected. Nothing was sent.
    #[error("{doing}: Redis was started again (run {run_id}); PostgreSQL is asked first who holds the chain")]
    AnotherRun {
        /// What was being done.
        doing: String,
        /// The run that answers.
        run_id: String,
    },
    /// A key does not hold what we would have written.
    #[error("the key {key} is damaged: {detail}")]
    Corrupt {
        /// Which key, and field if it is a hash.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The arguments contradict each other. Nothing was sent.
    #[error("{doing}: {detail}")]
    Inconsistent {
        /// What was being done.
        doing: String,
        /// What contradicts what.
        detail: String,
    },
    /// Redis answered something that this program does not expect.
    #[error("{doing}: unexpected answer from Redis: {detail}")]
    UnexpectedAnswer {
        /// What was being done.
        doing: String,
        /// The answer.
        detail: String,
    },
}

fn held_by(found: Option<u64>, released: bool) -> String {
    match found {
        None => ": nobody does, Redis may have lost its data".to_owned(),
        Some(epoch) if released => format!(": epoch {epoch} had it and gave it up"),
        Some(epoch) => format!(": epoch {epoch} does"),
    }
}

/// What a caller decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FastErrorKind {
    /// Try again later; nothing was changed.
    Unavailable,
    /// Ask [`head`](crate::FastTier::head) before anything else.
    OutcomeUnknown,
    /// Stop: somebody else holds the chain, or nobody.
    Fenced,
    /// Ask the head: the operation may be accepted already.
    Conflict,
    /// Wait for the restore.
    NotReady,
    /// Restore before reading or writing.
    Stale,
    /// Ask the slow tier who holds the chain, then trust the run or stop.
    AnotherRun,
    /// Slow down and raise the alarm; trimming and taking back still work.
    OutOfMemory,
    /// Slow down and raise the alarm: the disk of Redis.
    Persistence,
    /// Wrong server of a replicated pair.
    ReadOnlyReplica,
    /// An operator has to change something.
    Misconfigured,
    /// A start is refused until certificates or address are changed; a running node tries again, as if the server were away.
    Untrusted,
    /// Stop: clean and restore.
    Corrupt,
    /// Stop: a defect of this program.
    Defect,
}

impl FastError {
    /// What a caller decides by.
    #[must_use]
    pub fn kind(&self) -> FastErrorKind {
        match self {
            Self::Unavailable { .. } | Self::Busy { .. } => FastErrorKind::Unavailable,
            Self::OutcomeUnknown { .. } => FastErrorKind::OutcomeUnknown,
            Self::Fenced { .. } => FastErrorKind::Fenced,
            Self::SeqConflict { .. }
            | Self::TipConflict { .. }
            | Self::OutboxConflict { .. }
            | Self::BucketsChanged { .. } => FastErrorKind::Conflict,
            Self::NotReady { .. } => FastErrorKind::NotReady,
            Self::Stale { .. } => FastErrorKind::Stale,
            Self::AnotherRun { .. } => FastErrorKind::AnotherRun,
            Self::OutOfMemory { .. } => FastErrorKind::OutOfMemory,
            Self::Persistence { .. } => FastErrorKind::Persistence,
            Self::ReadOnlyReplica { .. } => FastErrorKind::ReadOnlyReplica,
            Self::Misconfigured { .. } => FastErrorKind::Misconfigured,
            Self::Untrusted { .. } => FastErrorKind::Untrusted,
            Self::Corrupt { .. } => FastErrorKind::Corrupt,
            Self::Inconsistent { .. } | Self::UnexpectedAnswer { .. } => FastErrorKind::Defect,
        }
    }

    /// One sentence for the operator.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.kind() {
            FastErrorKind::Unavailable => "Check that the Redis server runs and that its address is right.",
            FastErrorKind::OutcomeUnknown => "The node asks Redis what it has before it goes on.",
            FastErrorKind::Fenced => {
                "Another node took the chain, or Redis was emptied; start this node again."
            }
            FastErrorKind::Conflict => {
                "The node reads the head again; the operation may be accepted already."
            }
            FastErrorKind::NotReady => "Wait until the restore from PostgreSQL is complete.",
            FastErrorKind::Stale => "Redis lost data; it must be restored from PostgreSQL.",
            FastErrorKind::AnotherRun => "Wait: the node asks PostgreSQL who holds the chain, then goes on.",
            FastErrorKind::OutOfMemory => "Raise Redis' maxmemory, or let the slow tier catch up.",
            FastErrorKind::Persistence => "Free space on Redis' disk and look into its log.",
            FastErrorKind::ReadOnlyReplica => "Point the address at the primary.",
            FastErrorKind::Misconfigured => "Correct the address, the user's rights or the server's version.",
            FastErrorKind::Untrusted => {
                "Give the certificate of who signed the server's (a PEM file) in the environment variable SSL_CERT_FILE, or add \
                 it to those that the system trusts; the address (rediss://) must have the name that is in the certificate."
            }
            FastErrorKind::Corrupt => "Stop the node and start it again: it cleans Redis and restores it.",
            FastErrorKind::Defect => "This is a defect of the program; please report it with the log.",
        }
    }

    pub(crate) fn of_connecting(doing: &str, source: RedisError) -> Self {
        match source.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                Self::Misconfigured { doing: doing.to_owned(), detail: source.to_string() }
            }
            _ if is_of_tls(&source) => {
                Self::Untrusted { doing: doing.to_owned(), detail: source.to_string() }
            }
            _ => Self::of_answer(doing, Effect::Read, source),
        }
    }

    pub(crate) fn of_answer(doing: &str, effect: Effect, source: RedisError) -> Self {
        let doing = doing.to_owned();
        let codes = server_codes(&source);
        let says = |code: &str| codes.iter().any(|found| found == code);
        if says("OOM") {
            Self::OutOfMemory { doing, source }
        } else if says("MISCONF") {
            Self::Persistence { doing, source }
        } else if says("READONLY") {
            Self::ReadOnlyReplica { doing, source }
        } else if ["NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "CROSSSLOT"].iter().any(|code| says(code)) {
            Self::Misconfigured { doing, detail: source.to_string() }
        } else if says("WRONGTYPE") {
            Self::Corrupt { key: doing, detail: source.to_string() }
        } else if ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"]
            .iter()
            .any(|code| says(code))
        {
            Self::Unavailable { doing, source }
        } else if !codes.is_empty() || source.kind() == ErrorKind::UnexpectedReturnType {
            Self::UnexpectedAnswer { doing, detail: source.to_string() }
        } else if effect == Effect::Change {
            Self::OutcomeUnknown { doing, source }
        } else {
            Self::Unavailable { doing, source }
        }
    }

    pub(crate) fn corrupt(key: impl fmt::Display, cause: CodecError) -> Self {
        Self::Corrupt { key: key.to_string(), detail: cause.to_string() }
    }
}

/// Whether it is not the connection that failed but what is said over it: the certificate, or a server without TLS.
#[cfg(feature = "tls")]
fn is_of_tls(error: &RedisError) -> bool {
    let Some(source) = error.source() else { return false };
    // The client shares causes among its errors.
    let cause = match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => shared.as_ref(),
        None => source,
    };
    match cause.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        // Trusted certificates that cannot be read, or a host that is no name: nothing was sent yet.
        None => error.is_io_error() || cause.is::<rustls::Error>(),
    }
}

#[cfg(not(feature = "tls"))]
fn is_of_tls(_error: &RedisError) -> bool {
    false
}

/// The first words of the server's errors; empty if the error is not the server's. Of a transaction that was refused
/// at its end, the word that says why.
fn server_codes(error: &RedisError) -> Vec<String> {
    const WHY: &str = "because of: ";
    let mut codes: Vec<String> = error
        .clone()
        .into_server_errors()
        .map(|errors| errors.iter().map(|(_, error)| error.code().to_owned()).collect())
        .unwrap_or_default();
    if codes.is_empty()
        && let ErrorKind::Server(kind) = error.kind()
        && kind != ServerErrorKind::ResponseError
    {
        codes.extend(error.code().map(str::to_owned));
    }
    if error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort)
        && let Some((_, why)) = error.detail().and_then(|detail| detail.split_once(WHY))
    {
        codes.extend(why.split_whitespace().next().map(str::to_owned));
    }
    codes
}
