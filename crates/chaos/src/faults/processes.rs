//! Nodes and servers that are killed, paused, stopped.

use std::time::Duration;

use anyhow::bail;
use rustix::process::Signal;

use crate::plan::Fault;
use crate::process::POLL;
use crate::servers::Server;
use crate::supervisor::{LIVENESS_MAX, Supervisor, UNDISTURBED_MAX};

/// What the node logs when the first signal has arrived: two that come together are one.
const ASKED_TO_END: &str = "asked to end; a second signal ends at once";
/// A second SIGTERM: 128 and its number.
const EXIT_SECOND_SIGTERM: i32 = 143;
/// Phases of a start as the log names them, in their order.
pub const START_PHASES: [&str; 6] = ["setup", "claim", "drain", "clean", "restore", "check"];

impl Supervisor {
    pub(super) async fn kill_node(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.kill().await?;
        tokio::time::sleep(hold).await;
        self.start_node(self.slot)
    }

    pub(super) async fn kill_all(&mut self, hold: Duration) -> anyhow::Result<()> {
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

    pub(super) async fn kill_node_without_postgres(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.servers.kill_and_wait(Server::Postgres).await?;
        tokio::time::sleep(hold / 2).await;
        self.still_runs("PostgreSQL was killed")?;
        self.node.kill().await?;
        self.start_node(self.slot)?;
        tokio::time::sleep(hold / 2).await;
        self.still_runs("a start without PostgreSQL")?;
        self.servers.ensure(Server::Postgres).await
    }

    /// Killed in two phases of its start, which the choice names; a short phase may be over when we look.
    pub(super) async fn kill_node_starting(&mut self, fault: &Fault) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        let mut choice = fault.choice;
        for _ in 0..2 {
            self.node.kill().await?;
            self.start_node(self.slot)?;
            self.reach_phase(choice).await?;
            choice /= START_PHASES.len() as u64;
        }
        self.node.kill().await?;
        self.start_node(self.slot)
    }

    /// Waits until the node's start has come to the phase that a choice names.
    pub(super) async fn reach_phase(&mut self, choice: u64) -> anyhow::Result<()> {
        let place = usize::try_from(choice % START_PHASES.len() as u64).unwrap_or_default();
        let phase = START_PHASES.get(place).copied().unwrap_or_default();
        self.wait_for_log(&format!("phase=\"{phase}\"")).await
    }

    /// Waits for words in what this node has logged since its start.
    pub(super) async fn wait_for_log(&mut self, words: &str) -> anyhow::Result<()> {
        let seen = async {
            loop {
                if self.node.has_logged(words)? {
                    return Ok(());
                }
                self.still_runs(words)?;
                tokio::time::sleep(POLL / 5).await;
            }
        };
        match tokio::time::timeout(LIVENESS_MAX, seen).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("the node never logged \"{words}\"; its log:\n{}", self.log_tail()),
        }
    }

    pub(super) async fn restart_node(&mut self) -> anyhow::Result<()> {
        self.end_node().await?;
        self.start_node(self.slot)
    }

    /// Ends in order, starts with settings of its own, and works.
    pub(super) async fn restart_node_with(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.end_node().await?;
        self.start_node_with(self.slot, settings)?;
        self.wait_for_progress("a start with other settings").await
    }

    async fn end_node(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.signal(Signal::TERM)?;
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if !status.success() {
            bail!("SIGTERM ended the node with {status}; its log:\n{}", self.log_tail());
        }
        Ok(())
    }

    pub(super) async fn stop_without_postgres(&mut self) -> anyhow::Result<()> {
        self.restart_node_with(&[("DRAIN_SECONDS", "1")]).await?;
        self.kill_postgres_under_blocks().await?;
        self.end_node().await?;
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }

    pub(super) async fn stop_twice(&mut self) -> anyhow::Result<()> {
        self.kill_postgres_under_blocks().await?;
        self.node.signal(Signal::TERM)?;
        self.wait_for_log(ASKED_TO_END).await?;
        self.node.signal(Signal::TERM)?;
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if status.code() != Some(EXIT_SECOND_SIGTERM) {
            bail!("a second SIGTERM ended the node with {status}; its log:\n{}", self.log_tail());
        }
        self.servers.ensure(Server::Postgres).await?;
        self.start_node(self.slot)
    }

    pub(super) async fn pause_node(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.node.signal(Signal::STOP)?;
        tokio::time::sleep(hold).await;
        Ok(())
    }

    pub(super) async fn pause_all(&mut self, hold: Duration) -> anyhow::Result<()> {
        self.node.signal(Signal::STOP)?;
        self.servers.pause(Server::Redis)?;
        self.servers.pause(Server::Postgres)?;
        tokio::time::sleep(hold).await;
        Ok(())
    }
}
