//! Servers that come back with an older state, or with none.

use std::time::Duration;

use crate::driver::Wish;
use crate::servers::Server;
use crate::supervisor::Supervisor;

/// Operations after which the outbox has been trimmed for certain: the node trims in lots.
const OPERATIONS_UNTIL_TRIM: u64 = 200;
/// Operations after which a deep take-back has something to take back.
const OPERATIONS_UNTIL_DEEP: u64 = 60;
/// Accepted blocks that a sabotage loses at least.
const BLOCKS_TO_LOSE: u64 = 20;

impl Supervisor {
    pub(super) async fn older_redis(&mut self, hold: Duration) -> anyhow::Result<()> {
        let copy = self.servers.keep_copy(Server::Redis)?;
        self.load_for(hold).await?;
        self.history.lock().redis_is_older = true;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.put_back(Server::Redis, &copy)?;
        self.servers.ensure(Server::Redis).await
    }

    pub(super) async fn older_redis_at_start(&mut self, hold: Duration) -> anyhow::Result<()> {
        let copy = self.servers.keep_copy(Server::Redis)?;
        self.load_for(hold).await?;
        self.rest().await?;
        self.node.kill().await?;
        self.history.lock().redis_is_older = true;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.put_back(Server::Redis, &copy)?;
        self.servers.ensure(Server::Redis).await?;
        self.start_node(self.slot)?;
        self.resume_load();
        Ok(())
    }

    pub(super) async fn older_rdb(&mut self, hold: Duration) -> anyhow::Result<()> {
        let copy = self.servers.keep_snapshot().await?;
        self.load_for(hold).await?;
        self.history.lock().redis_is_older = true;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.put_snapshot(&copy)?;
        self.servers.ensure(Server::Redis).await
    }

    /// A volatile Redis dies together with the node. What PostgreSQL had then is there afterwards.
    pub(super) async fn lose_volatile_redis(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        let durable_seq = self.durable_seq().await?;
        self.history.lock().redis_forgot_after = Some(durable_seq);
        self.node.kill().await?;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.ensure(Server::Redis).await?;
        self.start_node(self.slot)
    }

    /// The kept outbox covers what PostgreSQL lacks: no rewind comes in between.
    pub(super) async fn older_postgres(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.wish_heard(Wish::Shallow).await?;
        let copy = self.copy_postgres().await?;
        self.load_for(hold).await?;
        self.history.lock().postgres_is_older = true;
        self.put_postgres_back(&copy).await?;
        self.wait_for_progress("PostgreSQL was put back").await?;
        self.wish(Wish::Anything);
        Ok(())
    }

    /// The same while no node runs; Redis has the outbox.
    pub(super) async fn older_postgres_at_start(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.wish_heard(Wish::Shallow).await?;
        let copy = self.copy_postgres().await?;
        self.load_for(hold).await?;
        self.rest().await?;
        self.node.kill().await?;
        self.history.lock().postgres_is_older = true;
        self.put_postgres_back(&copy).await?;
        self.start_node(self.slot)?;
        self.wish(Wish::Anything);
        self.resume_load();
        Ok(())
    }

    /// The node finds it out at rest, or under load, as the choice says. After a rest the load goes on with take-backs: at
    /// the new node they would take back other blocks.
    pub(super) async fn older_postgres_too_old(&mut self, choice: u64) -> anyhow::Result<()> {
        self.restart_node_with(&[("LIMITS__OUTBOX_KEPT", "5")]).await?;
        let copy = self.copy_postgres().await?;
        self.load_until(self.operations() + OPERATIONS_UNTIL_TRIM).await?;
        let is_at_rest = choice.is_multiple_of(2);
        if is_at_rest {
            self.rest().await?;
            self.wish(Wish::TakeBacks);
        }
        self.forget_postgres();
        self.put_postgres_back(&copy).await?;
        self.ends_too_far_behind().await?;
        self.start_node(self.slot)?;
        if is_at_rest {
            self.resume_load();
            self.wait_for_progress("take-backs after a rest").await?;
            self.wish(Wish::Anything);
        }
        Ok(())
    }

    pub(super) async fn older_postgres_rewound(&mut self) -> anyhow::Result<()> {
        let copy = self.copy_postgres().await?;
        self.load_until(self.operations() + OPERATIONS_UNTIL_DEEP).await?;
        self.wish_heard(Wish::Deep).await?;
        self.load_until(self.operations() + 1).await?;
        self.wish_heard(Wish::Anything).await?;
        self.forget_postgres();
        self.put_postgres_back(&copy).await?;
        if self.goes_on_or_ends_too_far_behind().await? { Ok(()) } else { self.start_node(self.slot) }
    }

    async fn copy_postgres(&mut self) -> anyhow::Result<std::path::PathBuf> {
        self.servers.stop(Server::Postgres).await?;
        let copy = self.servers.keep_copy(Server::Postgres)?;
        self.servers.ensure(Server::Postgres).await?;
        self.wait_for_progress("PostgreSQL was copied").await?;
        Ok(copy)
    }

    async fn put_postgres_back(&mut self, copy: &std::path::Path) -> anyhow::Result<()> {
        // A session that is left would write into what is put there, or answer from half of it.
        self.servers.kill_with_sessions(Server::Postgres).await?;
        self.servers.put_back(Server::Postgres, copy)?;
        self.servers.ensure(Server::Postgres).await
    }

    fn forget_postgres(&self) {
        let mut events = self.history.lock();
        (events.postgres_is_older, events.postgres_forgot) = (true, true);
    }

    /// Redis loses everything, the node dies and PostgreSQL has not got the newest blocks: more than any promise covers.
    ///
    /// # Errors
    /// A server does not do what it is told.
    pub async fn lose_accepted_blocks(&mut self) -> anyhow::Result<()> {
        self.rest().await?;
        self.servers.kill_and_wait(Server::Postgres).await?;
        let enough = self.history.lock().counts.accepted + BLOCKS_TO_LOSE;
        self.wish(Wish::Blocks);
        self.resume_load();
        self.load_accepts(enough).await?;
        self.node.kill().await?;
        self.servers.redis_command(&["FLUSHALL"]).await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }
}
