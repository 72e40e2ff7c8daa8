//! The Syncer: brings batches of operations to PostgreSQL, in order, until each is committed and flushed.
//!
//! It works on one batch at a time and knows nothing of what comes next: the node's loop hands it the next batch when
//! it reported the last. What it does not know it asks: after every broken connection the position tells whether the
//! batch was committed.

use std::time::Duration;

use forebay_slow::{Committed, SlowOperation, SlowWriter};
use tokio::sync::mpsc;
use tokio_postgres::Config;

use crate::error::{Decision, StoreError, decide};

/// Operations to be committed in one transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) expected_seq: u64,
    pub(crate) new_seq: u64,
    pub(crate) operations: Vec<SlowOperation>,
}

/// What the Syncer tells the loop.
#[derive(Debug)]
pub(crate) enum SyncEvent {
    /// The batch is committed and flushed.
    Durable { seq: u64 },
    /// An attempt failed; another follows.
    Retrying { attempt: u32, error: String, wait: Duration },
    /// The batch cannot be brought to PostgreSQL.
    Failed(StoreError),
}

/// Pauses between attempts: doubled each time, with jitter, up to the cap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackOff {
    attempt: u32,
}

/// First pause: a restart of the server takes longer, a deadlock's victim need not wait longer.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause while the server is away: what a recovered server then waits for us at most.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Longest pause while the server lacks room: an operator has to act first.
const PAUSE_SLOW_MAX: Duration = Duration::from_secs(30);

impl BackOff {
    pub(crate) fn new() -> Self {
        Self { attempt: 0 }
    }

    /// The next pause; between half and the whole of the doubled step.
    pub(crate) fn next(&mut self, slowly: bool) -> Duration {
        let cap = if slowly { PAUSE_SLOW_MAX } else { PAUSE_MAX };
        let step = PAUSE_FIRST.saturating_mul(1 << self.attempt.min(12)).min(cap);
        self.attempt = self.attempt.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * jitter())
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A number of 0 to 1 from the clock's last digits: enough to keep two nodes from retrying in step.
fn jitter() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1_000_000) / 1_000_000.0
}

/// The task's inside.
pub(crate) struct Syncer {
    config: Config,
    epoch: u64,
    writer: Option<SlowWriter>,
}

impl Syncer {
    pub(crate) fn new(config: Config, epoch: u64) -> Self {
        Self { config, epoch, writer: None }
    }

    /// Commits batches until there are none, or one fails for good.
    pub(crate) async fn run(mut self, mut batches: mpsc::Receiver<Batch>, events: mpsc::Sender<SyncEvent>) {
        while let Some(batch) = batches.recv().await {
            let outcome = match self.commit(&batch, &events).await {
                Ok(()) => SyncEvent::Durable { seq: batch.new_seq },
                Err(error) => SyncEvent::Failed(error),
            };
            let failed = matches!(outcome, SyncEvent::Failed(_));
            // A loop that is gone needs no report.
            if events.send(outcome).await.is_err() || failed {
                return;
            }
        }
    }

    /// Commits one batch, however many attempts it takes.
    pub(crate) async fn commit(
        &mut self,
        batch: &Batch,
        events: &mpsc::Sender<SyncEvent>,
    ) -> Result<(), StoreError> {
        let mut back_off = BackOff::new();
        loop {
            let error = match self.attempt(batch).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let decision = decide(&error);
            // A session after a failure is not used again: what state it is in is not known.
            self.writer = None;
            if decision == Decision::Stop || decision == Decision::Refuse {
                return Err(error);
            }
            let wait = back_off.next(decision == Decision::RetrySlowly);
            tracing::warn!(attempt = back_off.attempt(), wait_ms = wait.as_millis(), %error, "PostgreSQL did not take a batch; trying again");
            let event = SyncEvent::Retrying { attempt: back_off.attempt(), error: error.to_string(), wait };
            if events.send(event).await.is_err() {
                return Err(StoreError::Stopped(
                    "the node ended while PostgreSQL was tried again".to_owned(),
                ));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let is_new = self.writer.is_none();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(SlowWriter::connect(&self.config).await?),
        };
        if is_new {
            // The batch may have been committed by an attempt whose answer was lost.
            let position = writer.position().await?;
            if position.epoch == self.epoch && position.seq == batch.new_seq {
                return Ok(());
            }
            if position.epoch != self.epoch || position.seq != batch.expected_seq {
                return Err(taken_over(self.epoch, batch, position));
            }
        }
        let committed =
            writer.apply(self.epoch, batch.expected_seq, batch.new_seq, &batch.operations).await?;
        log_committed(&committed);
        Ok(())
    }
}

fn log_committed(committed: &Committed) {
    tracing::debug!(
        seq = committed.position.seq,
        height = committed.position.height,
        blocks = committed.blocks_inserted,
        transactions = committed.transactions_inserted,
        taken_back = committed.blocks_deleted,
        "durable"
    );
}

fn taken_over(epoch: u64, batch: &Batch, found: forebay_slow::Position) -> StoreError {
    StoreError::Disagreement(format!(
        "PostgreSQL's position is epoch {} seq {}, not epoch {epoch} seq {}: another node took over, or the database \
         was put back to an older state",
        found.epoch, found.seq, batch.expected_seq
    ))
}
