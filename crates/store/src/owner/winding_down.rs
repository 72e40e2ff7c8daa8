//! The end of the loop: what was accepted is brought to PostgreSQL within the time to drain, or it is certain where it
//! stays. Redis has it, or a rollback file: a tail that only memory has does not end with the process.

use std::time::Duration;

use forebay_failpoint::reach;
use forebay_fast::FastError;

use super::{Flight, Owner, StopAsked};
use crate::error::StoreError;
use crate::progress::Phase;
use crate::receipt::{Durable, Profile};
use crate::start::ago;

/// How long Redis may take to say what it has. A stop keeps to its time, whatever Redis does.
const ASK_REDIS_MAX: Duration = Duration::from_secs(1);

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// What PostgreSQL has.
    pub durable: Durable,
    /// Operations that stayed in the outbox; the next start drains them.
    pub left_in_outbox: usize,
}

/// Where the tail is, beside memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    InRedis,
    /// Redis lost it.
    OnlyHere,
    /// Redis does not answer.
    Unknown,
}

impl Owner {
    pub(super) async fn wind_down(&mut self, stop: StopAsked) -> Result<Stopped, StoreError> {
        self.stops.heard();
        self.progress.send_modify(|progress| progress.phase = Phase::Stopping);
        self.land_all().await?;
        self.turn_waiting_away();
        self.record_ahead(&stop).await?;
        match tokio::time::timeout(stop.time_left(), self.drain()).await {
            Ok(outcome) => outcome?,
            Err(_) => self.leave_the_rest().await?,
        }
        // All of it is durable, or in the outbox.
        self.withdraw_order();
        // A PostgreSQL that was put back is fed from the outbox: of that nothing goes.
        if self.tail.is_empty() && self.behind.is_none() {
            self.trim(0).await?;
        }
        reach("owner.before_release");
        if let Err(error) = self.release().await {
            tracing::warn!(%error, "Redis was not told of the end: the next start watches the heartbeat first");
        }
        Ok(Stopped { durable: self.durable, left_in_outbox: self.lacking() })
    }

    /// Gives the chain up, so that the next start need not watch the heartbeat.
    pub(super) async fn release(&self) -> Result<(), FastError> {
        self.heartbeat.end();
        self.writer.fast.release(self.writer.epoch).await
    }

    /// Operations that PostgreSQL lacks, those included that it lost.
    fn lacking(&self) -> usize {
        let lost = self.behind.map_or(0, |found| self.durable.seq.saturating_sub(found.seq));
        self.tail.len().saturating_add(usize::try_from(lost).unwrap_or(usize::MAX))
    }

    /// Until PostgreSQL has everything, what it lost included.
    async fn drain(&mut self) -> Result<(), StoreError> {
        loop {
            self.until_synced().await?;
            if self.behind.is_none() {
                return Ok(());
            }
            if self.flight == Flight::Idle && self.may_sync() {
                self.ask_postgres().await?;
            }
            self.next_report().await?;
        }
    }

    /// A stop may be followed by a kill, of an operator or of a service manager. A tail that only memory has is recorded
    /// before the drain is tried, not after it. The file is an order from then on, which harms nothing: a start that obeys
    /// it takes nothing away from PostgreSQL, however far the drain came. When the drain succeeds it is withdrawn.
    async fn record_ahead(&mut self, stop: &StopAsked) -> Result<(), StoreError> {
        if self.where_is_the_tail(stop.time_left().min(ASK_REDIS_MAX)).await? != Tail::OnlyHere {
            return Ok(());
        }
        self.redis_is_out = true;
        let operations = self.tail.len();
        let consequence = self.write_order();
        tracing::warn!(
            operations,
            consequence,
            "Redis lost what PostgreSQL lacks: unless that is drained now, this holds"
        );
        Ok(())
    }

    /// After a drain that took too long. The rest stays in the outbox, if there still is one.
    async fn leave_the_rest(&mut self) -> Result<(), StoreError> {
        let is_there = match self.where_is_the_tail(ASK_REDIS_MAX).await? {
            Tail::InRedis => true,
            Tail::OnlyHere => false,
            // What does not answer now has it later, if it keeps it on disk.
            Tail::Unknown => self.writer.redis_profile() == Profile::Durable,
        };
        if !is_there {
            let (operations, last_error) = (self.tail.len(), self.last_error());
            let consequence = self.write_order();
            return Err(StoreError::TooFarBehind(format!(
                "PostgreSQL lacks {operations} operations at the end of the time to drain, and Redis lost them; last error: \
                 {last_error}; {consequence}"
            )));
        }
        tracing::warn!(operations = self.lacking(), "the drain took too long; the rest stays in the outbox");
        Ok(())
    }

    /// Whatever ends the loop: what only memory has is recorded, unless it is by now. The words for the log.
    pub(super) async fn record_at_the_end(&mut self) -> Option<String> {
        if self.order.is_some() || self.where_is_the_tail(ASK_REDIS_MAX).await.ok()? != Tail::OnlyHere {
            return None;
        }
        self.redis_is_out = true;
        Some(self.write_order())
    }

    /// Asked of Redis, which may be another run whose state nothing is known of: for what the tail needs it is enough that
    /// its last operation is ours or a later one of our epochs. Nobody else writes under those.
    ///
    /// # Errors
    /// Held: another node has the chain, and with it the outbox.
    async fn where_is_the_tail(&self, ask_max: Duration) -> Result<Tail, StoreError> {
        if self.tail.is_empty() {
            return Ok(Tail::InRedis);
        }
        match tokio::time::timeout(ask_max, self.redis_has_the_tail()).await {
            Ok(Ok(true)) => Ok(Tail::InRedis),
            Ok(Ok(false)) => Ok(Tail::OnlyHere),
            Ok(Err(error @ StoreError::Held(_))) => Err(error),
            Ok(Err(_)) | Err(_) if self.redis_is_out => Ok(Tail::OnlyHere),
            Ok(Err(_)) | Err(_) => Ok(Tail::Unknown),
        }
    }

    async fn redis_has_the_tail(&self) -> Result<bool, StoreError> {
        let fast = &self.writer.fast;
        if let Some(owner) = fast.owner().await?.filter(|owner| owner.epoch > self.writer.epoch) {
            return Err(StoreError::Held(format!(
                "process {} on {} took the chain over {}",
                owner.holder.pid,
                owner.holder.host,
                ago(owner.holder.since_ms)
            )));
        }
        let head = fast.head().await?;
        let has_state = head.state.has_outbox();
        let is_there = self.tail.back().is_none_or(|unsynced| {
            let last = unsynced.position;
            // Since it was accepted the epoch may have been raised, by nobody but us.
            (last.epoch..=self.writer.epoch).contains(&head.position.epoch) && head.position.seq >= last.seq
        });
        Ok(has_state && is_there)
    }
}
