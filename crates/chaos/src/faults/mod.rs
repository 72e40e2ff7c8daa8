//! How each fault is done. When one returns, it is over or [`Supervisor`] heals it.

mod light;
mod limits;
mod nodes;
mod older;
mod processes;
mod rewinds;
mod room;

use std::time::Duration;

use anyhow::Context as _;

use crate::clock;
use crate::kind::FaultKind;
use crate::plan::{Cycle, Fault, Second};
use crate::servers::{Disk, Server};
use crate::supervisor::Supervisor;
use crate::together::light_on;
use light::Light;

/// How a fault went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Performed {
    /// Done, and the servers run again.
    Done,
    /// The same; and once there is progress, no more blocks than these were rolled back so far.
    Kept {
        /// Blocks rolled back before.
        rolled_back: u64,
    },
    /// It cannot be done here.
    Skipped(String),
}

impl Supervisor {
    /// Does the faults of a cycle.
    ///
    /// # Errors
    /// The node ended where it must not, or a fault could not be done.
    pub async fn perform(&mut self, cycle: &Cycle) -> anyhow::Result<Performed> {
        let second = cycle.second.map(|second| tokio::spawn(join(self.light(), second)));
        let performed = self.perform_one(&cycle.fault).await;
        if let Some(second) = second {
            second.await?.context("the second fault")?;
        }
        performed
    }

    async fn perform_one(&mut self, fault: &Fault) -> anyhow::Result<Performed> {
        use FaultKind as Kind;
        let hold = Duration::from_millis(fault.hold_ms);
        match fault.kind {
            Kind::KillNode => self.kill_node(hold).await?,
            Kind::KillAll => self.kill_all(hold).await?,
            Kind::KillNodeWithoutPostgres => self.kill_node_without_postgres(hold).await?,
            Kind::KillNodeStarting => self.kill_node_starting(fault).await?,
            Kind::KillNodeRewinding => self.kill_node_rewinding(fault, hold).await?,
            Kind::KillRedisRewinding => self.kill_server_rewinding(Server::Redis, fault, hold).await?,
            Kind::KillPostgresRewinding => self.kill_server_rewinding(Server::Postgres, fault, hold).await?,
            Kind::RestartNode => self.restart_node().await?,
            Kind::StopWithoutPostgres => self.stop_without_postgres().await?,
            Kind::StopTwice => self.stop_twice().await?,
            Kind::PauseNode => self.pause_node(hold).await?,
            Kind::PauseAll => self.pause_all(hold).await?,
            Kind::LoseVolatileRedis => self.lose_volatile_redis().await?,
            Kind::OlderRedis => self.older_redis(hold).await?,
            Kind::OlderRedisAtStart => self.older_redis_at_start(hold).await?,
            Kind::OlderRdb => self.older_rdb(hold).await?,
            Kind::OlderPostgres => self.older_postgres(hold).await?,
            Kind::OlderPostgresAtStart => self.older_postgres_at_start(hold).await?,
            Kind::OlderPostgresTooOld => self.older_postgres_too_old(fault.choice).await?,
            Kind::OlderPostgresRewound => self.older_postgres_rewound().await?,
            Kind::RedisMemoryTakeBack => self.redis_memory_take_back().await?,
            Kind::PostgresDiskFull => return self.disk_full(Server::Postgres, hold).await,
            Kind::RedisDiskFull => return self.disk_full(Server::Redis, hold).await,
            Kind::WriterWaits => self.writer_waits(hold).await?,
            Kind::HardLimitRollback => return self.hard_limit("rollback").await,
            Kind::HardLimitKeep => return self.hard_limit("keep").await,
            Kind::HardLimitWithoutRedis => self.hard_limit_without_redis().await?,
            Kind::HardLimitUnwritable => return self.hard_limit_unwritable().await,
            Kind::HardLimitGrace => self.hard_limit_grace().await?,
            Kind::SecondNode => self.second_node().await?,
            Kind::TwoNodes => self.two_nodes().await?,
            Kind::TakeOver => self.take_over().await?,
            Kind::TakeOverInTransaction => self.take_over_in_transaction().await?,
            Kind::TakeOverStarting => self.take_over_starting(fault).await?,
            Kind::ClockForward => return self.clock_jump(1, fault, hold).await,
            Kind::ClockBackward => return self.clock_jump(-1, fault, hold).await,
            _ => self.light().perform(fault).await?,
        }
        Ok(Performed::Done)
    }

    fn light(&self) -> Light {
        Light(std::sync::Arc::clone(&self.servers))
    }

    async fn disk_full(&mut self, server: Server, hold: Duration) -> anyhow::Result<Performed> {
        if let Some(reason) = &self.servers.no_small_disks {
            return Ok(Performed::Skipped(format!("no small disk of its own: {reason}")));
        }
        self.servers.fill_disk(Disk::Of(server))?;
        tokio::time::sleep(hold).await;
        self.servers.free_disk(Disk::Of(server))?;
        self.servers.ensure(server).await?;
        Ok(Performed::Done)
    }

    /// The clock stays where it jumped to: what follows has to live with it.
    async fn clock_jump(&mut self, sign: i64, fault: &Fault, hold: Duration) -> anyhow::Result<Performed> {
        if self.nodes.faketime.is_none() {
            return Ok(Performed::Skipped("libfaketime is not installed".to_owned()));
        }
        let hours = i64::try_from(fault.choice % 48 + 1).unwrap_or(1);
        clock::set(&self.nodes, sign * hours * 3600)?;
        tokio::time::sleep(hold).await;
        Ok(Performed::Done)
    }
}

async fn join(light: Light, second: Second) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(second.after_ms)).await;
    light.perform(&second.fault).await?;
    // The first fault may wait for what this one broke.
    light_on(second.fault.kind).map_or(Ok(()), |server| light.0.heal(server))
}
