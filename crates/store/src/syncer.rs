//! The Syncer: brings batches of operations to PostgreSQL, in order, until each is committed and flushed.
//!
//! It works on one batch at a time and knows nothing of what comes next: the node's loop hands it the next batch when
//! it reported the last. What it does not know it asks: after every broken connection the position tells whether the
//! batch was committed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use forebay_failpoint::reach;
use forebay_slow::{Committed, ErrorKind, Position, SlowOperation, SlowWriter};
use tokio::sync::mpsc;
use tokio_postgres::Config;
use tracing::Instrument as _;

use crate::error::{Decision, StoreError, decide};
use crate::owner::whole_ms;
use crate::write_log::{AttemptOutcome, Failure, LoggedAttempt, LoggedTip, WriteLog};

/// Operations to be committed in one transaction. Without operations: a question whether PostgreSQL still is where it was.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) epoch: u64,
    pub(crate) expected_seq: u64,
    pub(crate) new_seq: u64,
    pub(crate) operations: Vec<SlowOperation>,
    /// The tip before, and after each operation: for the write log.
    pub(crate) tips: Vec<LoggedTip>,
}

/// What the Syncer tells the loop.
#[derive(Debug)]
pub(crate) enum SyncEvent {
    /// The batch is committed and flushed.
    Durable { seq: u64 },
    /// An attempt failed; another follows.
    Retrying { attempt: u32, error: String, wait: Duration },
    /// PostgreSQL is behind what it had committed before: it was put back to an older state. Nothing was written.
    Behind { found: Position },
    /// A question found no answer; operations that came meanwhile need not wait for one.
    Unanswered { error: String },
    /// The batch cannot be brought to PostgreSQL.
    Failed(StoreError),
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By this attempt.
    Committed(Committed),
    /// By an earlier one, whose answer was lost; or it was a question, and all is as it was.
    Durable,
    Behind(Position),
    Unanswered(String),
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
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1_000_000) / 1_000_000.0
}

/// The task's inside.
pub(crate) struct Syncer {
    config: Config,
    writer: Option<SlowWriter>,
    log: Option<Arc<WriteLog>>,
}

impl Syncer {
    pub(crate) fn new(config: Config, log: Option<Arc<WriteLog>>) -> Self {
        Self { config, writer: None, log }
    }

    /// Commits batches until there are none, or one fails for good.
    pub(crate) async fn run(mut self, mut batches: mpsc::Receiver<Batch>, events: mpsc::Sender<SyncEvent>) {
        while let Some(batch) = batches.recv().await {
            let event = match self.commit(&batch, &events).instrument(span_of(&batch)).await {
                Ok(Outcome::Committed(_) | Outcome::Durable) => SyncEvent::Durable { seq: batch.new_seq },
                Ok(Outcome::Behind(found)) => SyncEvent::Behind { found },
                Ok(Outcome::Unanswered(error)) => SyncEvent::Unanswered { error },
                Err(error) => SyncEvent::Failed(error),
            };
            let failed = matches!(event, SyncEvent::Failed(_));
            // A loop that is gone needs no report.
            if events.send(event).await.is_err() || failed {
                return;
            }
        }
    }

    /// Commits one batch, however many attempts it takes.
    ///
    /// # Errors
    /// Poison: an operation is refused; those before it are committed. Else what cannot be tried again.
    pub(crate) async fn commit(
        &mut self,
        batch: &Batch,
        events: &mpsc::Sender<SyncEvent>,
    ) -> Result<Outcome, StoreError> {
        match self.commit_whole(batch, events).await {
            Err(error) if is_poison(&error) => self.single_out(batch, events).await,
            outcome => outcome,
        }
    }

    /// Something in the batch is refused: one operation at a time tells which.
    async fn single_out(
        &mut self,
        batch: &Batch,
        events: &mpsc::Sender<SyncEvent>,
    ) -> Result<Outcome, StoreError> {
        for ((seq, operation), tips) in
            (batch.expected_seq..).zip(&batch.operations).zip(batch.tips.windows(2))
        {
            let one = Batch {
                epoch: batch.epoch,
                expected_seq: seq,
                new_seq: seq + 1,
                operations: vec![operation.clone()],
                tips: tips.to_vec(),
            };
            match self.commit_whole(&one, events).await {
                Ok(Outcome::Committed(_) | Outcome::Durable) => {}
                Err(cause) if is_poison(&cause) => {
                    let height = match operation {
                        SlowOperation::Append(row) => row.block.height,
                        SlowOperation::TakeBack { to_height } => *to_height,
                    };
                    return Err(StoreError::Poison {
                        seq: one.new_seq,
                        height: Some(height),
                        cause: Box::new(cause),
                    });
                }
                other => return other,
            }
        }
        Ok(Outcome::Durable)
    }

    async fn commit_whole(
        &mut self,
        batch: &Batch,
        events: &mpsc::Sender<SyncEvent>,
    ) -> Result<Outcome, StoreError> {
        let mut back_off = BackOff::new();
        loop {
            let attempt = Attempt::begins(batch, back_off.attempt() + 1);
            let error = match self.attempt(batch, attempt.number).await {
                Ok(outcome) => {
                    if let Outcome::Committed(committed) = &outcome {
                        self.record(&attempt, AttemptOutcome::Ok(*committed));
                    }
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            let decision = decide(&error);
            // A session after a failure is not used again: what state it is in is not known.
            self.writer = None;
            if decision == Decision::Stop || decision == Decision::Refuse {
                self.record(&attempt, AttemptOutcome::Failed(Failure::from(&error)));
                return Err(error);
            }
            if batch.operations.is_empty() {
                return Ok(Outcome::Unanswered(error.to_string()));
            }
            self.record(&attempt, AttemptOutcome::Retry(Failure::from(&error)));
            let wait = back_off.next(decision == Decision::RetrySlowly);
            tracing::warn!(attempt = back_off.attempt(), wait_ms = whole_ms(wait), %error, "PostgreSQL did not take a batch; trying again");
            let event = SyncEvent::Retrying { attempt: back_off.attempt(), error: error.to_string(), wait };
            if events.send(event).await.is_err() {
                return Err(StoreError::Stopped(
                    "the node ended while PostgreSQL was tried again".to_owned(),
                ));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// `number`: 1 for the first attempt at this batch; for the write log.
    async fn attempt(&mut self, batch: &Batch, number: u32) -> Result<Outcome, StoreError> {
        let is_new = self.writer.is_none();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(SlowWriter::connect(&self.config).await?),
        };
        if is_new || batch.operations.is_empty() {
            // The batch may have been committed by an attempt whose answer was lost; or PostgreSQL is not what it was.
            match whereabouts(batch, &writer.position().await?)? {
                Whereabouts::Committed => return Ok(Outcome::Durable),
                Whereabouts::Behind(found) => return Ok(Outcome::Behind(found)),
                Whereabouts::Expected => {}
            }
        }
        if batch.operations.is_empty() {
            return Ok(Outcome::Durable);
        }
        reach("syncer.before_apply");
        let committed =
            writer.apply(batch.epoch, batch.expected_seq, batch.new_seq, &batch.operations, number).await?;
        reach("syncer.after_commit");
        log_committed(&committed);
        Ok(Outcome::Committed(committed))
    }

    /// A line in the write log. A question is no operation.
    fn record(&self, attempt: &Attempt<'_>, outcome: AttemptOutcome) {
        let Some(log) = self.log.as_ref().filter(|_| !attempt.batch.operations.is_empty()) else { return };
        log.record(&LoggedAttempt {
            epoch: attempt.batch.epoch,
            expected_seq: attempt.batch.expected_seq,
            operations: &attempt.batch.operations,
            tips: &attempt.batch.tips,
            attempt: attempt.number,
            started_at: attempt.started_at,
            duration: attempt.since.elapsed(),
            outcome,
        });
    }
}

/// What log lines about a batch are said within; a question is none.
fn span_of(batch: &Batch) -> tracing::Span {
    if batch.operations.is_empty() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        "batch",
        epoch = batch.epoch,
        from_seq = batch.expected_seq + 1,
        to_seq = batch.new_seq,
        operations = batch.operations.len()
    )
}

/// The rows themselves are refused, and will be again.
fn is_poison(error: &StoreError) -> bool {
    matches!(error, StoreError::Slow(error) if matches!(error.kind(), ErrorKind::Constraint | ErrorKind::DigestMismatch))
}

/// One try at a batch.
struct Attempt<'a> {
    batch: &'a Batch,
    number: u32,
    started_at: SystemTime,
    since: Instant,
}

impl<'a> Attempt<'a> {
    fn begins(batch: &'a Batch, number: u32) -> Self {
        Self { batch, number, started_at: SystemTime::now(), since: Instant::now() }
    }
}

enum Whereabouts {
    Expected,
    Committed,
    Behind(Position),
}

/// Where PostgreSQL is, as seen from a batch. Pure.
fn whereabouts(batch: &Batch, found: &Position) -> Result<Whereabouts, StoreError> {
    if found.epoch == batch.epoch && found.seq == batch.new_seq {
        return Ok(Whereabouts::Committed);
    }
    if found.epoch == batch.epoch && found.seq == batch.expected_seq {
        return Ok(Whereabouts::Expected);
    }
    if found.epoch <= batch.epoch && found.seq <= batch.expected_seq {
        return Ok(Whereabouts::Behind(*found));
    }
    let message = format!(
        "PostgreSQL is at epoch {} operation {}, this node at epoch {} operation {}: another node took the chain over",
        found.epoch, found.seq, batch.epoch, batch.expected_seq
    );
    Err(if found.epoch > batch.epoch { StoreError::Held(message) } else { StoreError::Disagreement(message) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq, height: 1, block_id: None }
    }

    fn batch() -> Batch {
        Batch { epoch: 5, expected_seq: 10, new_seq: 13, operations: Vec::new(), tips: Vec::new() }
    }

    #[test]
    fn the_position_tells_what_became_of_a_batch() {
        assert!(matches!(whereabouts(&batch(), &found(5, 10)), Ok(Whereabouts::Expected)));
        assert!(matches!(whereabouts(&batch(), &found(5, 13)), Ok(Whereabouts::Committed)));
        for (epoch, seq) in [(5, 9), (5, 0), (4, 10), (4, 2)] {
            assert!(
                matches!(whereabouts(&batch(), &found(epoch, seq)), Ok(Whereabouts::Behind(_))),
                "{epoch}-{seq}"
            );
        }
        assert!(matches!(whereabouts(&batch(), &found(6, 13)), Err(StoreError::Held(_))));
        assert!(matches!(whereabouts(&batch(), &found(5, 12)), Err(StoreError::Disagreement(_))));
    }

    #[test]
    fn pauses_grow_up_to_their_cap() {
        for (slowly, cap) in [(false, PAUSE_MAX), (true, PAUSE_SLOW_MAX)] {
            let mut back_off = BackOff::new();
            let pauses: Vec<Duration> = (0..40).map(|_| back_off.next(slowly)).collect();
            assert!(pauses[0] <= PAUSE_FIRST && pauses[0] >= PAUSE_FIRST / 2);
            assert!(pauses.iter().all(|pause| *pause <= cap));
            assert!(*pauses.last().unwrap() >= cap / 2);
        }
    }
}
