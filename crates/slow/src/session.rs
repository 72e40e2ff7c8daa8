//! What the writer's sessions wait for, and how long.

use std::future::Future;
use std::time::Duration;

use crate::error::{ErrorKind, SlowError};

/// Bounds of waiting. Each has its reason beside its default; zero means no bound of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// How long a statement waits for a lock that another session holds, then it is a Conflict. 10 s: longer than the short
    /// locks of maintenance last; an administrator who keeps one longer is seen in the log, and it is tried again.
    pub lock_timeout: Duration,
    /// How long one statement may take, then it is a Conflict. 120 s: a hundred times what a full round of blocks takes.
    /// The server does not count COMMIT.
    pub statement_timeout: Duration,
    /// How long the server keeps a transaction that stands still. 60 s: a paused node must not hold its locks for ever.
    pub idle_in_transaction_timeout: Duration,
    /// How long we wait for any answer, COMMIT's too, then the connection counts as broken. 150 s: later than the server's
    /// own limits, so that only a server that cannot be heard any more gets here.
    pub answer_timeout: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(120),
            idle_in_transaction_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(150),
        }
    }
}

impl WriterOptions {
    /// The statements that a session begins with.
    pub(crate) fn settings(&self) -> String {
        format!(
            "set synchronous_commit = on; set application_name = 'forebay writer'; set lock_timeout = {}; \
             set statement_timeout = {}; set idle_in_transaction_session_timeout = {}",
            milliseconds(self.lock_timeout),
            milliseconds(self.statement_timeout),
            milliseconds(self.idle_in_transaction_timeout)
        )
    }

    /// Waits for an answer, but not for ever. The session is not used again after that, so that whatever the server still
    /// does is rolled back, unless it was COMMIT.
    pub(crate) async fn answered<T>(
        &self,
        doing: &str,
        kind_if_silent: ErrorKind,
        answer: impl Future<Output = Result<T, SlowError>>,
    ) -> Result<T, SlowError> {
        within(self.answer_timeout, doing, kind_if_silent, answer).await
    }
}

/// Waits for a server's answer for so long.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: &str,
    kind_if_silent: ErrorKind,
    answer: impl Future<Output = Result<T, SlowError>>,
) -> Result<T, SlowError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("the server was silent for {} s", limit.as_secs_f64());
            Err(SlowError::new(kind_if_silent, doing, message))
        }
    }
}

/// The server takes 31 bits of milliseconds; 0 is no bound, so the shortest is 1.
fn milliseconds(duration: Duration) -> i32 {
    let milliseconds = i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    if duration.is_zero() { 0 } else { milliseconds.max(1) }
}
