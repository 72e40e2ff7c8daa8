//! Faults of a server or of what leads to it. They leave nodes and files alone, and may be done while another one is active.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use forebay_testkit::proxy::{Direction, Flow};
use rustix::process::Signal;
use tokio_postgres::Client;

use crate::kind::FaultKind;
use crate::plan::Fault;
use crate::process::{POLL, signal};
use crate::servers::Server::{self, Postgres, Redis};
use crate::servers::Servers;

/// Pause between two of something that is done again and again.
const AGAIN: Duration = Duration::from_millis(120);
/// How far below need memory is set, bytes.
pub const MEMORY_BELOW: u64 = 32 << 10;

/// Does light faults.
#[derive(Clone)]
pub struct Light(pub Arc<Servers>);

impl Light {
    /// Does a light fault. When it returns the fault is over, or only a healing ends it.
    ///
    /// # Errors
    /// It could not be done, or it is no light one.
    pub async fn perform(&self, fault: &Fault) -> anyhow::Result<()> {
        use FaultKind as Kind;
        let hold = Duration::from_millis(fault.hold_ms);
        match fault.kind {
            Kind::KillRedis => self.kill_server(Redis, hold).await,
            Kind::KillPostgres => self.kill_server(Postgres, hold).await,
            Kind::RestartRedis => self.restart_server(Redis, hold).await,
            Kind::RestartPostgres => self.restart_server(Postgres, hold).await,
            Kind::KillSession => self.kill_session().await,
            Kind::PauseRedis | Kind::PauseRedisLong => self.pause(Redis, hold).await,
            Kind::PausePostgres | Kind::PausePostgresLong => self.pause(Postgres, hold).await,
            Kind::FlushRedis => self.0.redis_command(&["FLUSHALL"]).await.map(|_| ()),
            Kind::RedisMemory => self.redis_memory(hold).await,
            Kind::CutRedis => self.cut(Redis, None, fault, hold).await,
            Kind::CutPostgres => self.cut(Postgres, None, fault, hold).await,
            Kind::CutRedisAnswer => self.cut(Redis, Some(Direction::ToClient), fault, hold).await,
            Kind::CutRedisQuestion => self.cut(Redis, Some(Direction::ToServer), fault, hold).await,
            Kind::CutPostgresAnswer => self.cut(Postgres, Some(Direction::ToClient), fault, hold).await,
            Kind::CutPostgresQuestion => self.cut(Postgres, Some(Direction::ToServer), fault, hold).await,
            Kind::DelayRedis => self.delay(Redis, fault, hold).await,
            Kind::DelayPostgres => self.delay(Postgres, fault, hold).await,
            Kind::BlackHoleRedis => self.black_hole(Redis, fault, hold).await,
            Kind::BlackHolePostgres => self.black_hole(Postgres, fault, hold).await,
            Kind::RefuseRedis => self.refuse(Redis, hold).await,
            Kind::RefusePostgres => self.refuse(Postgres, hold).await,
            Kind::TerminateSessions => self.terminate_sessions(hold).await,
            Kind::RivalLocks => self.rival_locks(hold).await,
            Kind::AdministratorLock => self.administrator_lock(hold).await,
            Kind::LockTimeout => self.lock_timeout(hold).await,
            kind => bail!("{kind} is no fault of a server alone"),
        }
    }

    async fn kill_server(&self, server: Server, hold: Duration) -> anyhow::Result<()> {
        self.0.kill_and_wait(server).await?;
        tokio::time::sleep(hold).await;
        self.0.ensure(server).await
    }

    async fn restart_server(&self, server: Server, hold: Duration) -> anyhow::Result<()> {
        self.0.stop(server).await?;
        tokio::time::sleep(hold).await;
        self.0.ensure(server).await
    }

    /// PostgreSQL ends all sessions then, and recovers.
    async fn kill_session(&self) -> anyhow::Result<()> {
        let client = self.0.administrator().await?;
        let sql = "select pid from pg_stat_activity where usename = $1";
        for row in client.query(sql, &[&self.0.names.writer]).await? {
            signal(row.try_get::<_, i32>(0)?.unsigned_abs(), Signal::KILL)?;
        }
        Ok(())
    }

    async fn pause(&self, server: Server, hold: Duration) -> anyhow::Result<()> {
        self.0.pause(server)?;
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn redis_memory(&self, hold: Duration) -> anyhow::Result<()> {
        self.limit_memory().await?;
        tokio::time::sleep(hold).await;
        self.0.redis_command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        Ok(())
    }

    /// Allows Redis a little less memory than it uses.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn limit_memory(&self) -> anyhow::Result<()> {
        let info: String = redis::from_redis_value(self.0.redis_command(&["INFO", "memory"]).await?)
            .context("reading Redis' memory")?;
        let used =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok());
        let limit = used.context("Redis does not tell its memory")?.saturating_sub(MEMORY_BELOW);
        self.0.redis_command(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await?;
        Ok(())
    }

    async fn cut(
        &self,
        server: Server,
        inside: Option<Direction>,
        fault: &Fault,
        hold: Duration,
    ) -> anyhow::Result<()> {
        let proxy = self.0.proxy(server);
        let until = Instant::now() + hold;
        let mut bytes = fault.choice % 3_000;
        loop {
            match inside {
                None => proxy.cut(),
                Some(direction) => proxy.cut_after(direction, bytes),
            }
            bytes = bytes * 7 % 3_001;
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn delay(&self, server: Server, fault: &Fault, hold: Duration) -> anyhow::Result<()> {
        let direction =
            if fault.choice.is_multiple_of(2) { Direction::ToServer } else { Direction::ToClient };
        let delay = Duration::from_millis(5 + fault.choice / 2 % 200);
        self.0.proxy(server).set_delay(direction, delay);
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn black_hole(&self, server: Server, fault: &Fault, hold: Duration) -> anyhow::Result<()> {
        let proxy = self.0.proxy(server);
        if !fault.choice.is_multiple_of(3) {
            proxy.set_flow(Direction::ToServer, Flow::Swallow);
        }
        if fault.choice % 3 != 1 {
            proxy.set_flow(Direction::ToClient, Flow::Swallow);
        }
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn refuse(&self, server: Server, hold: Duration) -> anyhow::Result<()> {
        let proxy = self.0.proxy(server);
        proxy.refuse();
        proxy.cut();
        tokio::time::sleep(hold).await;
        Ok(())
    }

    async fn terminate_sessions(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.0.administrator().await?;
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
        client.query(sql, &[&self.0.names.writer]).await?;
        Ok(())
    }

    /// From the highest address down, in two steps: the triggers go from the lowest up.
    async fn rival_locks(&self, hold: Duration) -> anyhow::Result<()> {
        let client = self.0.administrator().await?;
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
        let client = self.0.administrator().await?;
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
        let client = self.0.administrator().await?;
        let writer = &self.0.names.writer;
        client.batch_execute(&format!("alter role {writer} set lock_timeout = '50ms'")).await?;
        self.terminate_writer(&client).await?;
        self.administrator_lock(hold).await?;
        client.batch_execute(&format!("alter role {writer} reset lock_timeout")).await?;
        self.terminate_writer(&client).await
    }
}
