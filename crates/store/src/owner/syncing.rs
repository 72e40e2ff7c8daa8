//! Between the loop and the Syncer: batches of the tail there, reports back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_slow::SlowOperation;

use super::{Flight, Owner, TICKS_A_QUESTION, whole_ms};
use crate::error::StoreError;
use crate::guard::Verdict;
use crate::progress::InFlight;
use crate::syncer::{Batch, SyncEvent};
use crate::write_log::LoggedTip;

/// So many times what a block may take to become durable is silence.
const SILENCE: u32 = 10;
/// And never less.
const SILENCE_LEAST: Duration = Duration::from_secs(2);

impl Owner {
    /// Waits until PostgreSQL has everything; the guard goes on watching.
    ///
    /// # Errors
    /// Stopping: somebody asked for it first. What was done stays, the rest is the drain's.
    pub(crate) async fn until_synced(&mut self) -> Result<(), StoreError> {
        while !self.tail.is_empty() {
            self.send_batch().await?;
            self.next_report().await?;
        }
        Ok(())
    }

    /// Waits for the Syncer's next report and takes it in; the guard goes on watching.
    pub(crate) async fn next_report(&mut self) -> Result<(), StoreError> {
        tokio::select! {
            event = self.events.recv() => self.synced(event.ok_or_else(syncer_gone)?).await,
            _ = self.stops.asked() => Err(StoreError::Stopping),
            _ = self.ticks.tick() => match self.verdict() {
                Verdict::Stop(overrun) => Err(self.give_up(overrun)),
                _ => Ok(()),
            },
        }
    }

    /// Hands the Syncer the next batch when it is idle: everything that waits, within the limits. At the tip that is one
    /// block at once; far behind it is many.
    pub(super) async fn send_batch(&mut self) -> Result<(), StoreError> {
        if self.flight != Flight::Idle || self.tail.is_empty() || !self.may_sync() {
            return Ok(());
        }
        let limits = &self.options.limits;
        let mut operations = Vec::new();
        let mut tips = vec![(self.durable.height, self.durable.id)];
        let mut bytes = 0;
        let mut new_seq = self.durable.seq;
        for unsynced in self.tail.iter().take(limits.batch_operations_max.max(1)) {
            if !operations.is_empty() && bytes + unsynced.bytes > limits.batch_bytes_max {
                break;
            }
            bytes += unsynced.bytes;
            new_seq = unsynced.position.seq;
            operations.push(unsynced.operation.clone());
            tips.push((unsynced.height, Some(unsynced.id)));
        }
        self.flight = Flight::Batch(operations.len());
        let in_flight = InFlight { operations: operations.len(), bytes };
        self.progress.send_modify(|progress| progress.in_flight = in_flight);
        self.send(new_seq, operations, tips).await
    }

    async fn send(
        &mut self,
        new_seq: u64,
        operations: Vec<SlowOperation>,
        tips: Vec<LoggedTip>,
    ) -> Result<(), StoreError> {
        self.flight_since = Instant::now();
        let batch =
            Batch { epoch: self.writer.epoch, expected_seq: self.durable.seq, new_seq, operations, tips };
        self.batches.send(batch).await.map_err(|_| syncer_gone())
    }

    /// An idle PostgreSQL is asked now and then whether it still is where it was: one that was put back to an older state
    /// must be noticed before the next block.
    pub(super) async fn tick(&mut self) -> Result<(), StoreError> {
        let memory = self.memory.latest();
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.memory, memory) != memory);
        self.ticks_seen = self.ticks_seen.wrapping_add(1);
        let profile = self.writer.redis_profile();
        self.progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.profile, profile) != profile);
        let durable_after = self.latency.quantiles();
        self.progress.send_if_modified(|progress| {
            let is_new = progress.durable_after != durable_after;
            progress.durable_after = durable_after;
            // Nobody waits for this alone.
            progress.looked_at = Instant::now();
            is_new
        });
        if self.counts.requests_refused != self.refused.load(Ordering::Relaxed) {
            self.show();
        }
        self.notice_silence();
        if self.flight == Flight::Idle
            && self.tail.is_empty()
            && self.ticks_seen.is_multiple_of(TICKS_A_QUESTION)
        {
            self.ask_postgres().await?;
        }
        Ok(())
    }

    /// A PostgreSQL that takes what it is given and does not answer fails no attempt: without this, nobody is told before
    /// the limit is reached.
    fn notice_silence(&mut self) {
        let silence_max = self.options.limits.durable_within.saturating_mul(SILENCE).max(SILENCE_LEAST);
        if self.flight == Flight::Idle
            || self.slow_trouble.is_some()
            || self.flight_since.elapsed() < silence_max
        {
            return;
        }
        let trouble = format!(
            "PostgreSQL takes what it is given, and has not answered for more than {} s; see whether its process is stopped, \
             a lock is in its way, or its disk overloaded",
            silence_max.as_secs()
        );
        tracing::warn!("{trouble}");
        self.slow_trouble = Some(trouble);
        self.show();
    }

    /// Whether it still is where it was.
    pub(super) async fn ask_postgres(&mut self) -> Result<(), StoreError> {
        self.flight = Flight::Question;
        self.send(self.durable.seq, Vec::new(), Vec::new()).await
    }

    /// Whether PostgreSQL may be tried again by now.
    pub(super) fn may_sync(&self) -> bool {
        Instant::now() >= self.sync_from
    }

    pub(super) async fn synced(&mut self, event: SyncEvent) -> Result<(), StoreError> {
        match event {
            SyncEvent::Durable { seq } => self.durable_to(seq).await,
            SyncEvent::Behind { found } => {
                self.land_all().await?;
                self.feed_again(found).await
            }
            SyncEvent::Retrying { attempt, error, wait } => {
                tracing::debug!(attempt, wait_ms = whole_ms(wait), "the Syncer tries again");
                self.trouble_with_postgres(error);
                Ok(())
            }
            SyncEvent::Unanswered { error } => {
                self.flight = Flight::Idle;
                self.trouble_with_postgres(error);
                Ok(())
            }
            SyncEvent::Failed(error) => Err(error),
        }
    }
}

pub(super) fn syncer_gone() -> StoreError {
    StoreError::Stopped("the Syncer ended".to_owned())
}
