//! What the loop does when a tier lost something: ask first, never guess.
//!
//! Redis lost (flushed, restarted empty, an older copy): PostgreSQL gets the unsynced tail from memory, then Redis is
//! restored from it under a new epoch. PostgreSQL older than it was: it is fed again from the outbox that Redis kept.
//! What cannot be fed, and a slow tier too far behind, end the node with a rollback file: `giving_up.rs`. A stop is heard in
//! each wait of all this; what was begun is left to the drain, or to the next start.

use std::sync::Arc;
use std::time::Instant;

use forebay_failpoint::reach;
use forebay_fast::{FastErrorKind, State};
use forebay_slow::{Position as SlowPosition, SlowWriter};

use crate::drain::{check_contiguous, check_overlap, operations_of};
use crate::error::{Decision, StoreError, Tier, decide};
use crate::giving_up::{entries_since, tip_after};
use crate::kept::KeptOperations;
use crate::owner::{Flight, Owner, Unsynced};
use crate::progress::Phase;
use crate::receipt::Durable;
use crate::restore::RestoreFrom;
use crate::retention::Retention;
use crate::start::{Heartbeat, ago};
use crate::syncer::BackOff;
use crate::writer::operation_bytes;

/// Claims that may be tried again because a heartbeat came in between.
const CLAIMS_MAX: u32 = 10;

impl Owner {
    /// Whether the failure came from a Redis that lost our state, and it was healed.
    pub(crate) async fn healed_from(&mut self, error: &StoreError) -> Result<bool, StoreError> {
        let may_be_lost = match error {
            StoreError::Fast(error) => {
                !matches!(error.kind(), FastErrorKind::OutOfMemory | FastErrorKind::Persistence)
            }
            StoreError::Disagreement(_) => true,
            _ => false,
        };
        if !may_be_lost || self.redis_is_out {
            return Ok(false);
        }
        tracing::warn!(%error, "asking Redis whether it still has this chain");
        self.heal_if_lost().await
    }

    /// Asks Redis who holds the chain and where it stands; heals it if our state is gone.
    pub(crate) async fn heal_if_lost(&mut self) -> Result<bool, StoreError> {
        match self.redis_is_ours().await {
            Ok(true) => Ok(false),
            Ok(false) => self.heal().await.map(|()| true),
            // Away is not lost: whoever needs it waits for it.
            Err(error) if matches!(decide(&error), Decision::Retry | Decision::Ask) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Identity: our epoch holds the chain, and what was last accepted is there.
    pub(crate) async fn redis_is_ours(&mut self) -> Result<bool, StoreError> {
        self.stops.clone().unless_asked(self.writer.confirm_run()).await?;
        match self.settle().await {
            Err(StoreError::Disagreement(_)) => return Ok(false),
            settled => settled?,
        }
        let fast = &self.writer.fast;
        let owner = fast.owner().await?;
        if let Some(owner) = owner.as_ref().filter(|owner| owner.epoch > self.writer.epoch) {
            return Err(StoreError::Held(format!(
                "process {} on {} took the chain over {}",
                owner.holder.pid,
                owner.holder.host,
                ago(owner.holder.since_ms)
            )));
        }
        let holds = owner.is_some_and(|owner| owner.epoch == self.writer.epoch && !owner.released);
        let head = fast.head().await?;
        let state = matches!(head.state, State::Ready | State::Rewinding);
        Ok(holds && state && head.position.seq == self.writer.seq && head.tip == self.writer.resident.tip)
    }

    /// PostgreSQL gets all that was accepted, then Redis is restored from it. Nothing is lost: the tail is in memory.
    async fn heal(&mut self) -> Result<(), StoreError> {
        let since = Instant::now();
        tracing::warn!(
            operations_in_memory = self.tail.len(),
            "Redis lost this chain's state: bringing the tail to PostgreSQL, then restoring Redis"
        );
        self.progress.send_modify(|progress| progress.phase = Phase::Restore);
        self.redis_is_out = true;
        self.writer.forget_unsettled();
        let outcome = self.heal_steps().await;
        // As long as only memory has a tail, or the restore was left for a stop, it stays out.
        self.redis_is_out =
            matches!(outcome, Err(StoreError::Stopping)) || (outcome.is_err() && !self.tail.is_empty());
        outcome?;
        self.progress.send_modify(|progress| progress.phase = Phase::Ready);
        tracing::warn!(took_ms = crate::owner::whole_ms(since.elapsed()), "Redis is restored");
        Ok(())
    }

    async fn heal_steps(&mut self) -> Result<(), StoreError> {
        self.until_synced().await?;
        reach("heal.synced");
        self.settle_flight().await?;
        let (since, mut back_off) = (Instant::now(), BackOff::new());
        loop {
            // Everything is durable: whatever is given up here the next start does.
            match self.stops.clone().unless_asked(self.claim_and_restore()).await {
                Ok(()) => return Ok(()),
                Err(error) => self.bear(error, since, &mut back_off).await?,
            }
        }
    }

    /// Redis from PostgreSQL, while that comes and goes.
    pub(crate) async fn restore_patiently(&mut self) -> Result<(), StoreError> {
        let (since, mut back_off) = (Instant::now(), BackOff::new());
        // The clean drops the outbox: what it keeps is read before.
        let carried = loop {
            match self.stops.clone().unless_asked(self.kept_operations()).await {
                Ok(carried) => break carried,
                Err(error) => self.bear(error, since, &mut back_off).await?,
            }
        };
        let carried = Arc::new(carried);
        self.redis_is_out = true;
        let restored = loop {
            match self.stops.clone().unless_asked(self.restore(Arc::clone(&carried))).await {
                Ok(()) => break Ok(()),
                Err(error) => {
                    if let Err(error) = self.bear(error, since, &mut back_off).await {
                        break Err(error);
                    }
                }
            }
        };
        self.redis_is_out = matches!(restored, Err(StoreError::Stopping));
        restored
    }

    async fn kept_operations(&self) -> Result<KeptOperations, StoreError> {
        self.writer.confirm_run().await?;
        let count = self.options.limits.outbox_kept;
        KeptOperations::of_outbox(&self.writer.fast, self.durable.seq, count).await
    }

    /// A pause before the next try, if the failure may pass and the time is not up.
    ///
    /// # Errors
    /// Stopping: somebody asked for it. The failure: it will not pass. Away: it took too long to.
    pub(crate) async fn bear(
        &self,
        error: StoreError,
        since: Instant,
        back_off: &mut BackOff,
    ) -> Result<(), StoreError> {
        if !matches!(decide(&error), Decision::Retry | Decision::Ask | Decision::RetrySlowly) {
            return Err(error);
        }
        if since.elapsed() > self.options.limits.no_progress_max {
            let (tier, cause) = match &error {
                StoreError::Slow(error) => (Tier::Slow, error.without_remedy()),
                StoreError::Fast(error) => (Tier::Fast, error.to_string()),
                // Nothing else passes by itself.
                _ => return Err(error),
            };
            return Err(StoreError::Away { tier, waited_s: since.elapsed().as_secs(), cause });
        }
        tracing::warn!(%error, "trying again");
        let pause = async {
            tokio::time::sleep(back_off.next(false)).await;
            Ok(())
        };
        self.stops.clone().unless_asked(pause).await
    }

    async fn claim_and_restore(&mut self) -> Result<(), StoreError> {
        self.raise_epoch(0).await?;
        reach("heal.claimed");
        self.restore(Arc::default()).await
    }

    /// Redis from PostgreSQL; the loop goes on where PostgreSQL is.
    pub(crate) async fn restore(&mut self, carried: Arc<KeptOperations>) -> Result<(), StoreError> {
        self.writer.confirm_run().await?;
        let restored = RestoreFrom {
            fast: &self.writer.fast,
            postgres: &self.options.postgres,
            profile: &self.options.profile,
            limits: &self.options.limits,
            genesis: &self.options.genesis,
            epoch: self.writer.epoch,
            seq: self.durable.seq,
            carried,
        }
        .run(self.observe.as_ref())
        .await?;
        let tip = restored.resident.tip;
        self.writer.seq = restored.seq;
        self.writer.resident = restored.resident;
        self.durable =
            Durable { seq: restored.seq, height: tip.map_or(0, |tip| tip.height), id: tip.map(|tip| tip.id) };
        let (height, round) = (self.durable.height, self.round());
        self.retention =
            Retention::after_restore(&self.options.limits, restored.kept, restored.outbox, height, round);
        self.writer.fast.raise_floor(self.position());
        self.counts.redis_restores += 1;
        self.show();
        Ok(())
    }

    /// A new epoch in both tiers, above all that were seen.
    async fn raise_epoch(&mut self, seen: u64) -> Result<SlowPosition, StoreError> {
        let fast = self.writer.fast.clone();
        let slow = SlowWriter::connect(&self.options.postgres).await?;
        let mut claims = 0;
        let (at_slow, epoch) = loop {
            let owner = fast.owner().await?;
            if let Some(owner) =
                owner.as_ref().filter(|owner| owner.epoch > self.writer.epoch && !owner.released)
            {
                return Err(StoreError::Held(format!(
                    "process {} on {} took the chain over",
                    owner.holder.pid, owner.holder.host
                )));
            }
            let run = fast.unknown_run();
            let at_slow = slow.position().await?.epoch;
            if at_slow > self.writer.epoch {
                // Redis may have been emptied since; PostgreSQL remembers who came after us.
                return Err(StoreError::Held(format!(
                    "another node took the chain over with epoch {at_slow}"
                )));
            }
            if let Some(run) = run {
                self.writer.trust_run(&run).await?;
            }
            let highest = [self.writer.epoch, at_slow, seen, owner.as_ref().map_or(0, |owner| owner.epoch)];
            let epoch = highest.into_iter().max().unwrap_or(0) + 1;
            claims += 1;
            match fast.claim(owner.as_ref(), epoch, &self.options.holder).await {
                Ok(()) => break (at_slow, epoch),
                // Our own heartbeat, between the look and the claim.
                Err(error) if error.kind() == FastErrorKind::Fenced && claims < CLAIMS_MAX => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.writer.epoch = epoch;
        self.heartbeat =
            Heartbeat::start(&fast, epoch, &self.options, Arc::clone(&self.suspect), self.pulse.clone());
        let position = slow.take_over(at_slow, epoch).await?;
        tracing::info!(epoch, seq = position.seq, "a new epoch");
        Ok(position)
    }

    /// PostgreSQL was put back to an older state: what it lacks is fed again from the outbox that Redis kept.
    pub(crate) async fn feed_again(&mut self, mut found: SlowPosition) -> Result<(), StoreError> {
        self.flight = Flight::Idle;
        self.behind = Some(found);
        tracing::error!(
            had_seq = self.durable.seq,
            has_seq = found.seq,
            "PostgreSQL is older than it was: feeding it again from the outbox that Redis kept"
        );
        // Left for a stop, it is done again by the drain, which asks PostgreSQL once more.
        match self.stops.clone().unless_asked(self.try_to_feed(&mut found)).await {
            // A standby that is not promoted yet, a Redis that is away for a moment: the loop goes on, and asks again.
            Err(error)
                if matches!(decide(&error), Decision::Retry | Decision::Ask | Decision::RetrySlowly) =>
            {
                tracing::warn!(%error, "PostgreSQL cannot be fed yet");
                self.trouble_with_postgres(format!(
                    "PostgreSQL is older than it was, and cannot be fed yet: {error}"
                ));
                self.pause_sync();
                Ok(())
            }
            fed => fed,
        }
    }

    async fn try_to_feed(&mut self, found: &mut SlowPosition) -> Result<(), StoreError> {
        self.writer.confirm_run().await?;
        let kept = self.writer.fast.outbox_entries(None, usize::MAX >> 1).await?;
        let (lacking, operations) = loop {
            let lacking = entries_since(&kept, found.seq, self.durable.seq);
            let feedable = check_overlap(&kept, found)
                .and_then(|()| check_contiguous(&lacking, found.seq, self.durable.seq));
            if let Err(error) = feedable {
                return Err(self.give_up_older(*found, &kept, &error).await);
            }
            let operations = operations_of(&self.writer.fast, &lacking).await?;
            let taken_over = self.raise_epoch(found.epoch).await?;
            if taken_over.seq == found.seq && taken_over.block_id == found.block_id {
                break (lacking, operations);
            }
            // It was put back once more, or a late COMMIT of ours came in between.
            *found = taken_over;
        };
        for (entry, operation) in lacking.iter().zip(operations).rev() {
            let (height, id) = tip_after(&entry.operation);
            let bytes = operation_bytes(&operation);
            self.tail_bytes += bytes;
            let position = entry.position;
            let accepted_at = Instant::now();
            self.tail.push_front(Unsynced { position, operation, bytes, height, id, accepted_at });
        }
        self.durable = Durable { seq: found.seq, height: found.height, id: found.block_id };
        self.behind = None;
        self.trouble_with_postgres(
            "PostgreSQL was put back to an older state; it is being fed again".to_owned(),
        );
        Ok(())
    }

    /// A question that is under way ends before the epoch changes.
    async fn settle_flight(&mut self) -> Result<(), StoreError> {
        while self.flight != Flight::Idle {
            self.next_report().await?;
        }
        Ok(())
    }
}
