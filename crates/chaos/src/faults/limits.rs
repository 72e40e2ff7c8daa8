//! PostgreSQL stays away until the node reaches a limit.

use std::time::Duration;

use anyhow::bail;

use super::Performed;
use crate::driver::Wish;
use crate::servers::{Disk, Server};
use crate::supervisor::{Supervisor, UNDISTURBED_MAX};

/// PostgreSQL is too far behind: documented in docs/cli.md.
const EXIT_TOO_FAR_BEHIND: i32 = 8;
/// Operations that may wait where the limit of that is what a fault is about.
const LAG_MAX: u64 = 30;
/// Blocks that were accepted before PostgreSQL was killed, their answers not read yet: as many as are sent at once.
const LAG_SLACK: u64 = 8;
/// Blocks accepted after PostgreSQL's end, so that there is something to give up or to keep. More than are sent at once: the
/// first answers may be of blocks that it got.
const ACCEPTED_WITHOUT: u64 = 12;

impl Supervisor {
    /// The time without progress is over; what is accepted is given up on the record, or kept.
    pub(super) async fn hard_limit(&mut self, then: &str) -> anyhow::Result<Performed> {
        self.restart_node_with(&[("LIMITS__NO_PROGRESS_SECONDS_MAX", "2"), ("ON_HARD_LIMIT", then)]).await?;
        let rolled_back = self.rolled_back();
        self.kill_postgres_under_blocks().await?;
        self.ends_too_far_behind().await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)?;
        Ok(if then == "keep" { Performed::Kept { rolled_back } } else { Performed::Done })
    }

    pub(super) async fn hard_limit_without_redis(&mut self) -> anyhow::Result<()> {
        self.restart_node_with(&[("LIMITS__NO_PROGRESS_SECONDS_MAX", "2")]).await?;
        self.kill_postgres_under_blocks().await?;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.ends_too_far_behind().await?;
        self.servers.ensure(Server::Redis).await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }

    /// No room for the record: no order.
    pub(super) async fn hard_limit_unwritable(&mut self) -> anyhow::Result<Performed> {
        if let Some(reason) = &self.servers.no_small_disks {
            return Ok(Performed::Skipped(format!("no small disk of its own: {reason}")));
        }
        self.restart_node_with(&[("LIMITS__NO_PROGRESS_SECONDS_MAX", "2")]).await?;
        let rolled_back = self.rolled_back();
        self.servers.fill_disk(Disk::Node(self.slot))?;
        self.kill_postgres_under_blocks().await?;
        self.ends_too_far_behind().await?;
        self.servers.free_disk(Disk::Node(self.slot))?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)?;
        Ok(Performed::Kept { rolled_back })
    }

    /// A chain whose tip is close to the clock ends sooner.
    pub(super) async fn hard_limit_grace(&mut self) -> anyhow::Result<()> {
        let settings = [
            ("LIMITS__LAG_BLOCKS_MAX", &*LAG_MAX.to_string()),
            ("LIMITS__GRACE_SECONDS", "2"),
            // Every tip counts as close.
            ("LIMITS__LIVE_WITHIN_SECONDS", "3153600000"),
        ];
        self.restart_node_with(&settings).await?;
        self.wish_heard(Wish::Blocks).await?;
        self.servers.kill_and_wait(Server::Postgres).await?;
        self.ends_too_far_behind().await?;
        self.wish(Wish::Anything);
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }

    pub(super) async fn writer_waits(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.restart_node_with(&[("LIMITS__LAG_BLOCKS_MAX", &LAG_MAX.to_string())]).await?;
        self.wish_heard(Wish::Blocks).await?;
        self.servers.kill_and_wait(Server::Postgres).await?;
        let before = self.history.lock().acknowledged.1;
        self.load_for(hold).await?;
        let after = self.history.lock().acknowledged.1;
        if after > before + LAG_MAX + LAG_SLACK {
            bail!("{} operations were accepted without PostgreSQL, {LAG_MAX} may wait", after - before);
        }
        self.wish(Wish::Anything);
        self.servers.ensure(Server::Postgres).await?;
        self.wait_for_progress("the writer waited").await?;
        self.restart_node().await
    }

    /// The node ends by itself, with the code for that.
    pub(super) async fn ends_too_far_behind(&mut self) -> anyhow::Result<()> {
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if status.code() == Some(EXIT_TOO_FAR_BEHIND) {
            return Ok(());
        }
        bail!("the node ended with {status}, not with {EXIT_TOO_FAR_BEHIND}; its log:\n{}", self.log_tail())
    }

    /// `true`: it goes on.
    pub(super) async fn goes_on_or_ends_too_far_behind(&mut self) -> anyhow::Result<bool> {
        match self.wait_for_progress("PostgreSQL was put back").await {
            Ok(()) => Ok(true),
            Err(_) if self.node.ended()?.is_some() => self.ends_too_far_behind().await.map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// PostgreSQL is killed, and blocks are accepted that it lacks.
    pub(super) async fn kill_postgres_under_blocks(&mut self) -> anyhow::Result<()> {
        self.wish_heard(Wish::Blocks).await?;
        self.servers.kill_and_wait(Server::Postgres).await?;
        let enough = self.history.lock().counts.accepted + ACCEPTED_WITHOUT;
        self.load_accepts(enough).await?;
        self.wish(Wish::Anything);
        Ok(())
    }

    fn rolled_back(&self) -> u64 {
        self.history.lock().counts.rolled_back
    }
}
