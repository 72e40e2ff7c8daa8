//! How each fault is done. When one returns, it is over or [`Supervisor`] heals it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use forebay_testkit::proxy::{Direction, Flow};
use rustix::process::Signal;
use tokio_postgres::Client;

use crate::clock;
use crate::feed::{Answer, Feed};
use crate::kind::FaultKind;
use crate::plan::Cycle;
use crate::process::POLL;
use crate::servers::Server;
use crate::supervisor::{LIVENESS_MAX, Performed, Supervisor, UNDISTURBED_MAX};

/// Pause between two of something that is done again and again.
const AGAIN: Duration = Duration::from_millis(120);
/// Held: documented in docs/cli.md.
const EXIT_HELD: i32 = 6;
/// PostgreSQL is too far behind: documented there too.
const EXIT_TOO_FAR_BEHIND: i32 = 8;
/// Operations after which the outbox has been trimmed for certain: the node trims in lots.
const OPERATIONS_UNTIL_TRIM: u64 = 200;
/// How far below need memory is set, bytes.
const MEMORY_BELOW: u64 = 32 << 10;

impl Supervisor {
    /// Does the fault of a cycle.
    ///
    /// # Errors
    /// The node ended where it must not, or the fault could not be done.
    pub async fn perform(&mut self, cycle: &Cycle) -> anyhow::Result<Performed> {
        use FaultKind as Kind;
        use Server::{Postgres, Redis};
        let hold = Duration::from_millis(cycle.hold_ms);
        match cycle.kind {
            Kind::KillNode => self.kill_node(hold).await?,
            Kind::KillRedis => self.kill_server(Redis, hold).await?,
            Kind::KillPostgres => self.kill_server(Postgres, hold).await?,
            Kind::KillAll => self.kill_all(hold).await?,
            Kind::KillNodeWithoutPostgres => self.kill_node_without_postgres(hold).await?,
            Kind::RestartNode => self.restart_node().await?,
            Kind::RestartRedis => self.restart_server(Redis, hold).await?,
            Kind::RestartPostgres => self.restart_server(Postgres, hold).await?,
            Kind::PauseNode => self.pause(true, &[], hold).await?,
            Kind::PauseRedis | Kind::PauseRedisLong => self.pause(false, &[Redis], hold).await?,
            Kind::PausePostgres | Kind::PausePostgresLong => self.pause(false, &[Postgres], hold).await?,
            Kind::PauseAll => self.pause(true, &[Redis, Postgres], hold).await?,
            Kind::FlushRedis => {
                self.servers.redis_command(&["FLUSHALL"]).await?;
            }
            Kind::OlderRedis => self.older_redis(hold).await?,
            Kind::OlderRedisAtStart => self.older_redis_at_start(hold).await?,
            Kind::RedisMemory => self.redis_memory(hold).await?,
            Kind::CutRedis => self.cut(Redis, None, cycle, hold).await,
            Kind::CutPostgres => self.cut(Postgres, None, cycle, hold).await,
            Kind::CutRedisAnswer => self.cut(Redis, Some(Direction::ToClient), cycle, hold).await,
            Kind::CutRedisQuestion => self.cut(Redis, Some(Direction::ToServer), cycle, hold).await,
            Kind::CutPostgresAnswer => self.cut(Postgres, Some(Direction::ToClient), cycle, hold).await,
            Kind::CutPostgresQuestion => self.cut(Postgres, Some(Direction::ToServer), cycle, hold).await,
            Kind::DelayRedis => self.delay(Redis, cycle, hold).await,
            Kind::DelayPostgres => self.delay(Postgres, cycle, hold).await,
            Kind::BlackHoleRedis => self.black_hole(Redis, cycle, hold).await,
            Kind::BlackHolePostgres => self.black_hole(Postgres, cycle, hold).await,
            Kind::RefuseRedis => self.refuse(Redis, hold).await,
            Kind::RefusePostgres => self.refuse(Postgres, hold).await,
            Kind::TerminateSessions => self.terminate_sessions(hold).await?,
            Kind::RivalLocks => self.rival_locks(hold).await?,
            Kind::AdministratorLock => self.administrator_lock(hold).await?,
            Kind::LockTimeout => self.lock_timeout(hold).await?,
            Kind::PostgresDiskFull => return self.disk_full(Postgres, hold).await,
            Kind::RedisDiskFull => return self.disk_full(Redis, hold).await,
            Kind::OlderPostgres => self.older_postgres(hold).await?,
            Kind::OlderPostgresTooOld => self.older_postgres_too_old().await?,
            Kind::HardLimitRollback => self.hard_limit("rollback").await?,
            Kind::HardLimitKeep => self.hard_limit("keep").await?,
            Kind::SecondNode => self.second_node().await?,
            Kind::TakeOver => self.take_over().await?,
            Kind::ClockJump => return self.clock_jump(cycle, hold).await,
        }
        Ok(Performed::Done)
    }

    async fn kill_node(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.kill().await?;
        tokio::time::sleep(hold).await;
        self.start_node(self.slot)
    }

    async fn kill_server(&mut self, server: Server, hold: Duration) -> anyhow::Result<()> {
        self.servers.kill_and_wait(server).await?;
        tokio::time::sleep(hold).await;
        self.servers.ensure(server).await
    }

    async fn kill_all(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.signal(Signal::KILL)?;
        self.servers.kill(Server::Redis)?;
        self.servers.kill(Server::Postgres)?;
        self.node.kill().await?;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.kill_and_wait(Server::Postgres).await?;
        tokio::time::sleep(hold).await;
        // The node may well be the first that is back.
        self.start_node(self.slot)?;
        self.servers.ensure(Server::Redis).await?;
        self.servers.ensure(Server::Postgres).await
    }

    async fn kill_node_without_postgres(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.servers.kill_and_wait(Server::Postgres).await?;
        tokio::time::sleep(hold / 2).await;
        self.still_runs("PostgreSQL was killed")?;
        self.node.kill().await?;
        self.start_node(self.slot)?;
        tokio::time::sleep(hold / 2).await;
        self.still_runs("a start without PostgreSQL")?;
        self.servers.ensure(Server::Postgres).await
    }

    async fn restart_node(&mut self) -> anyhow::Result<()> {
        self.end_node().await?;
        self.start_node(self.slot)
    }

    async fn restart_node_with(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.end_node().await?;
        self.start_node_with(self.slot, settings)?;
        self.wait_for_progress("a start with other settings").await
    }

    async fn end_node(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.signal(Signal::TERM)?;
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if !status.success() {
            bail!("SIGTERM ended the node with {status}");
        }
        Ok(())
    }

    async fn restart_server(&mut self, server: Server, hold: Duration) -> anyhow::Result<()> {
        self.servers.stop(server).await?;
        tokio::time::sleep(hold).await;
        self.servers.ensure(server).await
    }

    async fn pause(&mut self, node: bool, servers: &[Server], hold: Duration) -> anyhow::Result<()> {
        if node {
            self.node.signal(Signal::STOP)?;
        }
        for server in servers {
            self.servers.pause(*server)?;
        }
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn older_redis(&mut self, hold: Duration) -> anyhow::Result<()> {
        let copy = self.servers.keep_copy(Server::Redis)?;
        self.load_for(hold).await?;
        self.history.lock().redis_is_older = true;
        self.servers.kill_and_wait(Server::Redis).await?;
        self.servers.put_back(Server::Redis, &copy)?;
        self.servers.ensure(Server::Redis).await
    }

    async fn older_redis_at_start(&mut self, hold: Duration) -> anyhow::Result<()> {
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

    async fn redis_memory(&mut self, hold: Duration) -> anyhow::Result<()> {
        let info: String = redis::from_redis_value(self.servers.redis_command(&["INFO", "memory"]).await?)
            .context("reading Redis' memory")?;
        let used =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
        let limit = used.context("Redis does not tell its memory")?.saturating_sub(MEMORY_BELOW);
        self.servers.redis_command(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await?;
        tokio::time::sleep(hold).await;
        self.servers.redis_command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        Ok(())
    }

    async fn cut(&self, server: Server, inside: Option<Direction>, cycle: &Cycle, hold: Duration) {
        let proxy = self.servers.proxy(server);
        let until = Instant::now() + hold;
        let mut bytes = cycle.choice % 3_000;
        loop {
            match inside {
                None => proxy.cut(),
                Some(direction) => proxy.cut_after(direction, bytes),
            }
            bytes = bytes * 7 % 3_001;
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn delay(&self, server: Server, cycle: &Cycle, hold: Duration) {
        let direction =
            if cycle.choice.is_multiple_of(2) { Direction::ToServer } else { Direction::ToClient };
        let delay = Duration::from_millis(5 + cycle.choice / 2 % 200);
        self.servers.proxy(server).set_delay(direction, delay);
        tokio::time::sleep(hold).await;
    }

    async fn black_hole(&self, server: Server, cycle: &Cycle, hold: Duration) {
        let proxy = self.servers.proxy(server);
        if !cycle.choice.is_multiple_of(3) {
            proxy.set_flow(Direction::ToServer, Flow::Swallow);
        }
        if cycle.choice % 3 != 1 {
            proxy.set_flow(Direction::ToClient, Flow::Swallow);
        }
        tokio::time::sleep(hold).await;
    }

    async fn refuse(&self, server: Server, hold: Duration) {
        let proxy = self.servers.proxy(server);
        proxy.refuse();
        proxy.cut();
        tokio::time::sleep(hold).await;
    }

    async fn terminate_sessions(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.servers.administrator().await?;
        let until = Instant::now() + hold;
        loop {
            self.terminate_writer(&client).await?;
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn terminate_writer(&self, client: &Client) -> anyhow::Result<()> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1";
        client.query(sql, &[&self.servers.names.writer]).await?;
        Ok(())
    }

    /// From the highest address down, in two steps: the triggers go from the lowest up.
    async fn rival_locks(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.servers.administrator().await?;
        let until = Instant::now() + hold;
        while Instant::now() < until {
            client.batch_execute("begin").await?;
            for half in [">= 0", "< 0"] {
                let sql = format!(
                    "select 1 from forebay.accounts where address {half} order by address desc for update"
                );
                // The victim of a deadlock may be either.
                if client.batch_execute(&sql).await.is_err() {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            client.batch_execute("rollback").await?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn administrator_lock(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.servers.administrator().await?;
        // In the order in which the node comes to them; a restore reads in another one, so we may be a deadlock's victim.
        let lock = "begin; lock table forebay.position, forebay.transactions, forebay.blocks, forebay.accounts \
                    in access exclusive mode";
        while client.batch_execute(lock).await.is_err() {
            client.batch_execute("rollback").await?;
        }
        tokio::time::sleep(hold).await;
        client.batch_execute("rollback").await?;
        Ok(())
    }

    async fn lock_timeout(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.servers.administrator().await?;
        let writer = &self.servers.names.writer;
        client.batch_execute(&format!("alter role {writer} set lock_timeout = '50ms'")).await?;
        self.terminate_writer(&client).await?;
        self.administrator_lock(hold).await?;
        client.batch_execute(&format!("alter role {writer} reset lock_timeout")).await?;
        self.terminate_writer(&client).await
    }

    async fn disk_full(&mut self, server: Server, hold: Duration) -> anyhow::Result<Performed> {
        if let Some(reason) = &self.servers.no_small_disks {
            return Ok(Performed::Skipped(format!("no small disk of its own: {reason}")));
        }
        self.servers.fill_disk(server)?;
        tokio::time::sleep(hold).await;
        self.servers.free_disk(server)?;
        self.servers.ensure(server).await?;
        Ok(Performed::Done)
    }

    async fn older_postgres(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.servers.stop(Server::Postgres).await?;
        let copy = self.servers.keep_copy(Server::Postgres)?;
        self.servers.ensure(Server::Postgres).await?;
        self.wait_for_progress("PostgreSQL was copied").await?;
        self.load_for(hold).await?;
        self.history.lock().postgres_is_older = true;
        self.servers.kill_and_wait(Server::Postgres).await?;
        // Its sessions end in a moment; they must not write into what is put there.
        self.servers.put_back(Server::Postgres, &copy)?;
        self.servers.ensure(Server::Postgres).await
    }

    async fn older_postgres_too_old(&mut self) -> anyhow::Result<()> {
        self.restart_node_with(&[("LIMITS__OUTBOX_KEPT", "5")]).await?;
        self.servers.stop(Server::Postgres).await?;
        let copy = self.servers.keep_copy(Server::Postgres)?;
        self.servers.ensure(Server::Postgres).await?;
        let enough = self.operations() + OPERATIONS_UNTIL_TRIM;
        while self.operations() < enough {
            self.wait_for_progress("PostgreSQL was copied").await?;
        }
        {
            let mut events = self.history.lock();
            (events.postgres_is_older, events.postgres_forgot) = (true, true);
        }
        self.servers.kill_and_wait(Server::Postgres).await?;
        self.servers.put_back(Server::Postgres, &copy)?;
        self.servers.ensure(Server::Postgres).await?;
        self.ends_too_far_behind().await?;
        self.start_node(self.slot)
    }

    async fn hard_limit(&mut self, then: &str) -> anyhow::Result<()> {
        let settings = [("LIMITS__NO_PROGRESS_SECONDS_MAX", "2"), ("ON_HARD_LIMIT", then)];
        self.restart_node_with(&settings).await?;
        let before = self.history.lock().counts.rolled_back;
        self.servers.kill_and_wait(Server::Postgres).await?;
        self.ends_too_far_behind().await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)?;
        self.wait_for_progress("the hard limit was reached").await?;
        let rolled_back = self.history.lock().counts.rolled_back - before;
        if then == "keep" && rolled_back > 0 {
            bail!("{rolled_back} blocks were rolled back, though the node was told to keep them");
        }
        Ok(())
    }

    /// The node ends by itself, with the code for that.
    async fn ends_too_far_behind(&mut self) -> anyhow::Result<()> {
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if status.code() == Some(EXIT_TOO_FAR_BEHIND) {
            return Ok(());
        }
        bail!("the node ended with {status}, not with {EXIT_TOO_FAR_BEHIND}; its log:\n{}", self.log_tail())
    }

    async fn load_for(&mut self, time: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(time).await;
        self.still_runs("the load")
    }

    async fn second_node(&mut self) -> anyhow::Result<()> {
        let mut second = self.nodes.spawn(&self.servers, 1 - self.slot, &[])?;
        let status = second.wait_end(UNDISTURBED_MAX).await?;
        if status.code() != Some(EXIT_HELD) {
            bail!("a second node beside a living one ended with {status}, not with {EXIT_HELD}");
        }
        self.still_runs("a second node was started")
    }

    async fn take_over(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.signal(Signal::STOP)?;
        let mut second = self.nodes.spawn(&self.servers, 1 - self.slot, &[])?;
        let begin = Instant::now();
        while Feed::connect(&second.feed).await.is_err() {
            if let Some(status) = second.ended()? {
                bail!("the successor of a paused node ended with {status}");
            }
            if begin.elapsed() > LIVENESS_MAX {
                bail!("the successor of a paused node does not get ready");
            }
            tokio::time::sleep(POLL).await;
        }
        let mut first = std::mem::replace(&mut self.node, second);
        self.slot = 1 - self.slot;
        self.drive_node();
        first.signal(Signal::CONT)?;
        if let Ok(mut feed) = Feed::connect(&first.feed).await {
            // It may end before it answers, or say that it does not hold the chain; anything but a "done".
            let sent = feed.send(b"{\"op\":\"pop\",\"count\":1}\n").await;
            if sent.is_ok()
                && let Ok(Ok(Answer::Done(done))) = tokio::time::timeout(LIVENESS_MAX, feed.answer()).await
            {
                bail!("a node that lost the chain took a block back: {done:?}");
            }
        }
        let status = first.wait_end(UNDISTURBED_MAX).await.context("a node that lost the chain")?;
        if status.success() {
            bail!("a node that lost the chain ended as if nothing were wrong");
        }
        Ok(())
    }

    /// Redis loses everything, the node dies and PostgreSQL has not got the newest blocks: more than any promise covers.
    pub async fn lose_accepted_blocks(&mut self) -> anyhow::Result<()> {
        self.servers.kill_and_wait(Server::Postgres).await?;
        let enough = self.history.lock().counts.accepted + 20;
        let begin = Instant::now();
        // A take-back beyond the undo records, or an await, may keep the load waiting for PostgreSQL.
        while self.history.lock().counts.accepted < enough && begin.elapsed() < UNDISTURBED_MAX / 10 {
            tokio::time::sleep(POLL).await;
        }
        self.node.kill().await?;
        self.servers.redis_command(&["FLUSHALL"]).await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }

    async fn clock_jump(&mut self, cycle: &Cycle, hold: Duration) -> anyhow::Result<Performed> {
        if self.nodes.faketime.is_none() {
            return Ok(Performed::Skipped("libfaketime is not installed".to_owned()));
        }
        let hours = i64::try_from(cycle.choice % 48 + 1).unwrap_or(1);
        for offset in [hours * 3600, -hours * 3600, 0] {
            clock::set(&self.nodes, offset)?;
            tokio::time::sleep(hold / 3).await;
        }
        Ok(Performed::Done)
    }
}
