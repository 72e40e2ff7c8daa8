//! Why a benchmark could not be run.

use forebay_fast::FastError;
use forebay_generator::GenerateError;
use forebay_ledger::refusal::Refusal;
use forebay_servers::ServersError;
use forebay_slow::SlowError;
use forebay_store::StoreError;

/// Why a benchmark could not be run. Nothing outside of its own directory was changed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A private server did not start or end.
    #[error("{0}")]
    Servers(#[from] ServersError),
    /// The node stopped or refused.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The fast tier failed.
    #[error("{0}")]
    Fast(#[from] FastError),
    /// The slow tier failed.
    #[error("{0}")]
    Slow(#[from] SlowError),
    /// A control arm's command to Redis failed.
    #[error("Redis, for a control arm: {0}")]
    Redis(#[from] redis::RedisError),
    /// A control arm's statement failed.
    #[error("PostgreSQL, for a control arm: {}", .0.as_db_error().map_or_else(|| .0.to_string(), ToString::to_string))]
    Postgres(#[from] tokio_postgres::Error),
    /// The load could not be made.
    #[error("{0}")]
    Generate(#[from] GenerateError),
    /// A block of the load was refused.
    #[error("a block of the load was refused: {0}")]
    Refused(#[from] Refusal),
    /// A file or socket.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The API could not listen.
    #[error("{0}")]
    Serving(#[from] forebay_api::ServerError),
    /// `wrk` is not in PATH.
    #[error("http needs wrk, a load generator, and it is not in PATH (package wrk: apt-get install wrk)")]
    NoLoadGenerator,
    /// Somebody asked to stop.
    #[error("the benchmark was interrupted")]
    Interrupted,
    /// Options that cannot be measured with, or an arm that did not do what it should.
    #[error("{0}")]
    Other(String),
}

impl BenchError {
    /// What can be done about it, one sentence.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Servers(_) => "The message says what to put right.",
            Self::Io { .. } => "Choose another directory with --dir; it needs some free gigabytes.",
            Self::NoLoadGenerator => "Install it with scripts/setup, or name the other parts.",
            _ => "Try smaller sizes, or --quick; if it stays so, it is a defect.",
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }
}

impl From<tokio::task::JoinError> for BenchError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(format!("a task of the benchmark failed: {error}"))
    }
}
