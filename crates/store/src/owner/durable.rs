//! What PostgreSQL has: the tail gets shorter, Redis is trimmed; how far PostgreSQL may be behind.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use forebay_failpoint::reach;
use forebay_fast::{Durable as DurableNote, Position};
use forebay_slow::SlowOperation;

use super::{Flight, Owner, TICK, TRIM_AT_LEAST, whole_ms};
use crate::error::{Decision, StoreError, decide};
use crate::guard::{Lag, Verdict};
use crate::progress::Pace;
use crate::receipt::Durable;

impl Owner {
    pub(super) fn verdict(&mut self) -> Verdict {
        let lag = Lag {
            operations: self.tail.len(),
            bytes: self.tail_bytes,
            steps_sent: self.writer.steps_sent(),
            bytes_sent: self.writer.bytes_sent(),
        };
        let now = Instant::now();
        let verdict = self.guard.observe(self.awake.now(), &lag, self.is_live());
        let verdict = self.memory.slowed(verdict);
        let at_limit = lag.operations >= self.options.limits.lag_blocks_max;
        self.at_limit_since = at_limit.then(|| self.at_limit_since.unwrap_or(now));
        let pace = match verdict {
            Verdict::Fine => Pace::Free,
            Verdict::Slow(pause) => Pace::Slowed(pause),
            Verdict::Wait | Verdict::Stop(_) => Pace::Waiting,
        };
        if std::mem::replace(&mut self.pace, pace) != pace {
            self.show();
        }
        verdict
    }

    /// Whether the tip is close to the clock.
    pub(super) fn is_live(&self) -> bool {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = self.options.profile.network_time(i64::try_from(unix).unwrap_or(i64::MAX));
        let tip = self.writer.resident.tip.map_or(0, |tip| i64::from(tip.timestamp));
        (now - tip).unsigned_abs() < self.options.limits.live_within.as_secs()
    }

    pub(super) async fn durable_to(&mut self, seq: u64) -> Result<(), StoreError> {
        let count = if let Flight::Batch(count) = self.flight { count } else { 0 };
        self.flight = Flight::Idle;
        let is_live = self.is_live();
        for unsynced in self.tail.drain(..count.min(self.tail.len())) {
            self.tail_bytes -= unsynced.bytes.min(self.tail_bytes);
            let took = unsynced.accepted_at.elapsed();
            self.latency.add(took);
            self.counts.operations_durable += 1;
            if let SlowOperation::Append(row) = &unsynced.operation {
                self.counts.blocks_durable += 1;
                self.counts.transactions_durable += row.block.transactions.len() as u64;
            }
            if is_live && took > self.options.limits.durable_within {
                let (height, took_ms) = (unsynced.height, whole_ms(took));
                tracing::warn!(height, took_ms, "a block took long to become durable");
            }
            self.durable =
                Durable { seq: unsynced.position.seq, height: unsynced.height, id: Some(unsynced.id) };
        }
        if self.durable.seq != seq {
            return Err(StoreError::Disagreement(format!(
                "the Syncer committed up to operation {seq}, the batch ended at {}",
                self.durable.seq
            )));
        }
        self.behind = None;
        self.progressed_at = Instant::now();
        self.guard.progressed(self.awake.now());
        self.counts.batches_durable += u64::from(count > 0);
        self.slow_trouble = None;
        self.show();
        let outcome = self.trim(TRIM_AT_LEAST).await;
        let kept = self.retention.kept(self.durable.seq, self.durable.height);
        // Whoever waits for the durable position has been told; nobody waits for this.
        self.progress.send_if_modified(|progress| {
            progress.kept = kept;
            false
        });
        outcome
    }

    /// Removes from Redis what is durable and old enough.
    pub(super) async fn trim(&mut self, least: usize) -> Result<(), StoreError> {
        if self.redis_is_out {
            return Ok(());
        }
        let position = Position { epoch: self.writer.epoch, seq: self.durable.seq };
        let note = DurableNote { position, height: self.durable.height };
        let round = self.round();
        let underway = self.writer.blocks_underway();
        let Some(trim) = self.retention.trim(note, round, least, &underway) else { return Ok(()) };
        reach("owner.before_trim");
        let Err(error) = self.writer.trim(&trim).await else {
            reach("owner.after_trim");
            self.no_trouble_with_redis();
            return Ok(());
        };
        // Trimming twice is harmless; what is written again meanwhile leaves the list.
        self.retention.put_back(trim);
        if !matches!(decide(&error), Decision::Retry | Decision::Ask | Decision::RetrySlowly) {
            return Err(error);
        }
        tracing::warn!(%error, "Redis is trimmed later");
        self.trouble_with_redis(error.to_string());
        Ok(())
    }

    /// Leaves PostgreSQL alone for a moment; the ticks go on.
    pub(crate) fn pause_sync(&mut self) {
        self.sync_from = Instant::now() + TICK;
    }
}
