//! The load as the supervisor steers it: rest, wishes, progress.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::driver::Wish;
use crate::process::POLL;
use crate::supervisor::{LIVENESS_MAX, Supervisor};

/// Operations that are progress.
const PROGRESS_OPERATIONS: u64 = 3;

impl Supervisor {
    /// The node that runs now takes operations, and PostgreSQL has what was acknowledged before.
    pub async fn wait_for_progress(&mut self, after: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        let operations = self.view.borrow().operations + PROGRESS_OPERATIONS;
        let node = self.orders.borrow().node;
        let mut wanted = u64::MAX;
        let mut durable = 0;
        loop {
            self.still_runs(after)?;
            // After a recorded rollback the numbers go on from a lower one.
            wanted = wanted.min(self.history.lock().acknowledged.1);
            let view = *self.view.borrow();
            if view.ended || !self.history.is_clean() {
                bail!("safety was violated after {after}");
            }
            let is_answered = view.operations >= operations && view.node == node;
            if is_answered && durable < wanted {
                durable = self.durable_seq().await.unwrap_or(0);
            }
            if is_answered && durable >= wanted {
                return Ok(());
            }
            if begin.elapsed() > LIVENESS_MAX {
                bail!(
                    "no progress within {} s after {after} was healed: {} of {operations} operations, PostgreSQL at {durable} \
                     of {wanted}; the last answer: {}; the node's log:\n{}",
                    LIVENESS_MAX.as_secs(),
                    view.operations,
                    self.history.lock().last_answer,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Operations acknowledged so far.
    pub fn operations(&self) -> u64 {
        self.view.borrow().operations
    }

    /// Which operations the load has from its next one on.
    pub fn wish(&self, wish: Wish) {
        self.orders.send_modify(|order| order.wish = wish);
    }

    /// The same; when it returns, what was under way before is done.
    ///
    /// # Errors
    /// That takes too long.
    pub async fn wish_heard(&mut self, wish: Wish) -> anyhow::Result<()> {
        self.wish(wish);
        let heard = self.view.wait_for(|view| view.wish == wish || view.ended);
        let heard = tokio::time::timeout(LIVENESS_MAX, heard).await.context("the load hears no wish")?;
        if heard?.ended {
            bail!("the driver gave up");
        }
        Ok(())
    }

    /// Lets the load go on for a time.
    ///
    /// # Errors
    /// The node ended.
    pub async fn load_for(&mut self, time: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(time).await;
        self.still_runs("the load")
    }

    /// Lets the load go on until so many operations are acknowledged, and PostgreSQL has them.
    ///
    /// # Errors
    /// There is no progress.
    pub async fn load_until(&mut self, operations: u64) -> anyhow::Result<()> {
        while self.operations() < operations {
            self.wait_for_progress("the load").await?;
        }
        Ok(())
    }

    /// Waits until so many blocks are accepted, durable or not.
    ///
    /// # Errors
    /// That takes too long, or the node ended.
    pub async fn load_accepts(&mut self, blocks: u64) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.history.lock().counts.accepted < blocks {
            self.still_runs("blocks were to be accepted")?;
            if begin.elapsed() > LIVENESS_MAX {
                bail!("blocks are not accepted any more; the node's log:\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until nothing is under way and PostgreSQL has everything. The load goes on with [`Self::resume_load`].
    ///
    /// # Errors
    /// That takes too long.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        self.orders.send_modify(|order| order.rest = true);
        let rests = self.view.wait_for(|view| view.rests || view.ended);
        let rested =
            tokio::time::timeout(LIVENESS_MAX, rests).await.context("the load does not come to rest")?;
        if rested?.ended {
            bail!("the driver gave up");
        }
        let wanted = self.history.lock().acknowledged.1;
        let begin = Instant::now();
        while self.durable_seq().await.unwrap_or(0) < wanted {
            self.still_runs("the load came to rest")?;
            if begin.elapsed() > LIVENESS_MAX {
                bail!("PostgreSQL does not reach operation {wanted}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// See [`Self::rest`].
    pub fn resume_load(&self) {
        self.orders.send_modify(|order| order.rest = false);
    }
}
