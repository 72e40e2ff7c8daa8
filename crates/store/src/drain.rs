//! The drain: what an earlier node accepted and left in the outbox is brought to PostgreSQL before Redis is cleaned.

use std::pin::pin;
use std::sync::Arc;

use forebay_failpoint::reach;
use forebay_fast::{FastErrorKind, FastTier, Head, Operation, OutboxEntry};
use forebay_slow::{BlockRow, Position as SlowPosition, SlowOperation};
use tokio::sync::mpsc;

use crate::error::StoreError;
use crate::gap::GapEnd;
use crate::giving_up::{CANNOT_KEEP, Lost, tip_after};
use crate::options::{NodeOptions, OnHardLimit};
use crate::progress::Phase;
use crate::rollback::{self, Base, GivenUp};
use crate::start::Told;
use crate::syncer::{Batch, Outcome, SyncEvent, Syncer};

/// Brings to PostgreSQL what an earlier node accepted and left in the outbox, as far as it is not given up.
#[derive(Clone, Copy)]
pub(crate) struct Drain<'a> {
    pub(crate) options: &'a NodeOptions,
    pub(crate) fast: &'a FastTier,
    pub(crate) epoch: u64,
    /// What comes after it is given up.
    pub(crate) until_seq: u64,
    pub(crate) told: &'a Told<'a>,
}

impl Drain<'_> {
    /// Brings everything there, from PostgreSQL's position on. Returns its last operation then.
    ///
    /// # Errors
    /// Poison: an operation cannot be brought there; all before it are. Disagreement: the outbox is not the chain's.
    /// TooFarBehind: PostgreSQL is older than the outbox reaches.
    pub(crate) async fn run(&self, mut position: SlowPosition) -> Result<u64, StoreError> {
        let Self { options, fast, epoch, until_seq, .. } = *self;
        let head = fast.head().await?;
        if !head.state.has_outbox() {
            tracing::info!(state = %head.state, "Redis has no complete state to drain");
            return Ok(position.seq);
        }
        let (entries, damaged) = fast.outbox_until_damage(position.seq).await?;
        let damaged = damaged.filter(|entry| entry.position.seq <= until_seq);
        check_overlap(&entries, &position)?;
        if position.seq < until_seq && damaged.is_none() && is_older(&entries, &position, &head) {
            return Err(give_up_older(options, fast, epoch, &position, &head, entries).await);
        }
        let pending: Vec<OutboxEntry> = entries
            .into_iter()
            .filter(|entry| entry.position.seq > position.seq && entry.position.seq <= until_seq)
            .collect();
        let readable_until = damaged.as_ref().map_or(head.position.seq, |entry| entry.position.seq - 1);
        check_contiguous(&pending, position.seq, readable_until.min(until_seq))?;
        if !pending.is_empty() {
            tracing::info!(
                operations = pending.len(),
                from_seq = position.seq + 1,
                "draining what an earlier node accepted"
            );
        }
        self.bring(&pending, &mut position).await?;
        match damaged {
            None => Ok(position.seq),
            Some(entry) => Err(StoreError::Poison {
                seq: entry.position.seq,
                height: entry.height,
                cause: Box::new(entry.error.into()),
            }),
        }
    }

    async fn bring(&self, pending: &[OutboxEntry], position: &mut SlowPosition) -> Result<(), StoreError> {
        let mut syncer = Syncer::new(self.options.postgres.clone(), self.options.write_log.clone());
        let total = pending.len() as u64;
        let mut done = 0;
        let mut rest = pending;
        let mut operations_max = self.options.limits.batch_operations_max.max(1);
        while let Some(first) = rest.first() {
            let chunk = rest.get(..operations_max.min(rest.len())).unwrap_or_default();
            let operations = match operations_of(self.fast, chunk).await {
                Ok(operations) => operations,
                // One of them has no whole body: one at a time tells which, after those before it.
                Err(error) if is_damage(&error) && operations_max > 1 => {
                    operations_max = 1;
                    continue;
                }
                Err(error) if is_damage(&error) => {
                    let (seq, height) = (first.position.seq, Some(tip_after(&first.operation).0));
                    return Err(StoreError::Poison { seq, height, cause: Box::new(error) });
                }
                Err(error) => return Err(error),
            };
            self.commit(&mut syncer, chunk, operations, position).await?;
            reach("start.drained_batch");
            done += chunk.len() as u64;
            rest = rest.get(chunk.len()..).unwrap_or_default();
            self.told.at(Phase::Drain, done, Some(total));
        }
        Ok(())
    }

    async fn commit(
        &self,
        syncer: &mut Syncer,
        chunk: &[OutboxEntry],
        operations: Vec<SlowOperation>,
        position: &mut SlowPosition,
    ) -> Result<(), StoreError> {
        let mut tips = vec![(position.height, position.block_id)];
        tips.extend(chunk.iter().map(|entry| {
            let (height, id) = tip_after(&entry.operation);
            (height, Some(id))
        }));
        let new_seq = position.seq + chunk.len() as u64;
        let (height, block_id) = tips.last().copied().unwrap_or_default();
        let batch = Batch { epoch: self.epoch, expected_seq: position.seq, new_seq, operations, tips };
        let (events, mut reports) = mpsc::channel(1);
        let mut commit = pin!(syncer.commit(&batch, &events));
        let outcome = loop {
            tokio::select! {
                outcome = &mut commit => break outcome?,
                Some(event) = reports.recv() => {
                    if let SyncEvent::Retrying { error, .. } = event {
                        self.told.failed(error);
                    }
                }
            }
        };
        if let Outcome::Behind(found) = outcome {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL went back from operation {} to {} while it was drained into: start again",
                position.seq, found.seq
            )));
        }
        (position.seq, position.height, position.block_id) = (new_seq, height, block_id);
        Ok(())
    }
}

/// What the outbox holds is not what was written into it.
pub(crate) fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Disagreement(_) => true,
        StoreError::Fast(error) => error.kind() == FastErrorKind::Corrupt,
        _ => false,
    }
}

/// Whether PostgreSQL lacks operations that it had done: the outbox goes on behind a gap.
fn is_older(entries: &[OutboxEntry], position: &SlowPosition, head: &Head) -> bool {
    let goes_on = entries.iter().any(|entry| entry.position.seq == position.seq + 1);
    head.position.seq > position.seq && !goes_on
}

/// What PostgreSQL lost is not in the outbox any more. What is there becomes order and record, for the next start.
async fn give_up_older(
    options: &NodeOptions,
    fast: &FastTier,
    epoch: u64,
    found: &SlowPosition,
    head: &Head,
    entries: Vec<OutboxEntry>,
) -> StoreError {
    let went_back = format!(
        "PostgreSQL is at operation {} (height {}), Redis at {}, and the outbox does not reach back that far: PostgreSQL was \
         put back to an older state",
        found.seq, found.height, head.position
    );
    if options.on_hard_limit == OnHardLimit::Keep {
        return StoreError::TooFarBehind(format!("{went_back}; {CANNOT_KEEP}"));
    }
    let since: Vec<OutboxEntry> =
        entries.into_iter().filter(|entry| entry.position.seq > found.seq).collect();
    let through = head.tip.map(|tip| GapEnd { seq: head.position.seq, height: tip.height, id: tip.id });
    let lost = match Lost::of(fast, found, since, through).await {
        Ok(lost) => lost,
        Err(error) => return error,
    };
    let given_up: Vec<GivenUp<'_>> = lost.given_up().collect();
    let base = Base { epoch, seq: found.seq, height: found.height, id: found.block_id };
    let consequence = rollback::order(options, base, head.position.seq, &given_up)
        .map_or_else(|problem| problem.without_order(), |written| written.consequence);
    StoreError::TooFarBehind(format!("{went_back}; {consequence}"))
}

/// The entry that PostgreSQL did last must be the one that the outbox has there.
pub(crate) fn check_overlap(entries: &[OutboxEntry], position: &SlowPosition) -> Result<(), StoreError> {
    let Some(entry) = entries.iter().find(|entry| entry.position.seq == position.seq) else { return Ok(()) };
    let tip = match &entry.operation {
        Operation::Block { id, .. } => *id,
        Operation::Pop { tip, .. } | Operation::Rewind { tip, .. } => *tip,
    };
    if Some(tip) == position.block_id {
        return Ok(());
    }
    Err(StoreError::Disagreement(format!(
        "operation {} left the tip {tip} in the outbox, but PostgreSQL's tip there is {}",
        entry.position,
        position.block_id.map_or_else(|| "none".to_owned(), |id| id.to_string())
    )))
}

/// The outbox must go on where PostgreSQL ends, without a gap, up to what Redis accepted.
pub(crate) fn check_contiguous(pending: &[OutboxEntry], seq: u64, accepted: u64) -> Result<(), StoreError> {
    let mut expected = seq;
    for entry in pending {
        expected += 1;
        if entry.position.seq != expected {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL is at operation {seq}, but the outbox goes on with {}, not with {expected}: PostgreSQL was put \
                 back to an older state, or the outbox was changed",
                entry.position
            )));
        }
    }
    if expected < accepted {
        return Err(StoreError::Disagreement(format!(
            "Redis accepted operations up to {accepted}, but its outbox ends at {expected}"
        )));
    }
    Ok(())
}

pub(crate) async fn operations_of(
    fast: &FastTier,
    entries: &[OutboxEntry],
) -> Result<Vec<SlowOperation>, StoreError> {
    let ids: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.operation {
            Operation::Block { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    let mut bodies = fast.blocks(&ids).await?.into_iter();
    entries
        .iter()
        .map(|entry| match &entry.operation {
            Operation::Block { id, transactions_before, forgers, delegates_digest, .. } => {
                let block = bodies.next().flatten().ok_or_else(|| {
                    StoreError::Disagreement(format!(
                        "the outbox has block {id} ({}), but its body is missing",
                        entry.position
                    ))
                })?;
                Ok(SlowOperation::Append(BlockRow {
                    block: Arc::new(block),
                    transactions_before: *transactions_before,
                    forgers: forgers.clone(),
                    delegates_digest: *delegates_digest,
                }))
            }
            Operation::Pop { height, .. } => {
                Ok(SlowOperation::TakeBack { to_height: height.saturating_sub(1) })
            }
            Operation::Rewind { height, .. } => Ok(SlowOperation::TakeBack { to_height: *height }),
        })
        .collect()
}
