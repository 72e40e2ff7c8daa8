//! Faults in the middle of a rewind: PostgreSQL takes blocks back, then Redis is cleaned and restored.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::driver::Wish;
use crate::plan::Fault;
use crate::process::POLL;
use crate::servers::Server;
use crate::supervisor::{LIVENESS_MAX, Supervisor};

/// What the node logs at the beginning of a rewind, and at its later steps.
const STEPS: [&str; 3] = ["rewinding: ", "start phase=\"clean\"", "start phase=\"restore\""];
/// A chain of this height has enough blocks for deep take-backs.
const HEIGHT_MIN: u32 = 80;

impl Supervisor {
    pub(super) async fn kill_node_rewinding(&mut self, fault: &Fault, hold: Duration) -> anyhow::Result<()> {
        self.come_to_rewind(fault).await?;
        self.kill_node(hold).await
    }

    pub(super) async fn kill_server_rewinding(
        &mut self,
        server: Server,
        fault: &Fault,
        hold: Duration,
    ) -> anyhow::Result<()> {
        self.come_to_rewind(fault).await?;
        self.servers.kill_and_wait(server).await?;
        tokio::time::sleep(hold).await;
        self.servers.ensure(server).await
    }

    /// Waits until the node is at the step of a rewind that the choice names.
    async fn come_to_rewind(&mut self, fault: &Fault) -> anyhow::Result<()> {
        while self.view.borrow().height < HEIGHT_MIN {
            self.load_until(self.operations() + 1).await?;
        }
        // Undo records do not survive a restart: a take-back beyond the newest blocks is a rewind then.
        self.restart_node().await?;
        self.wait_for_progress("a new start").await?;
        let place = usize::try_from(fault.choice % STEPS.len() as u64).unwrap_or_default();
        let step = STEPS.get(place).copied().unwrap_or_default();
        let before = self.node.count_logged(step)?;
        let begin = Instant::now();
        self.wish(Wish::Deep);
        while self.node.count_logged(step)? == before {
            self.still_runs("deep take-backs")?;
            if begin.elapsed() > LIVENESS_MAX {
                bail!("no rewind is seen; the node's log:\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL / 5).await;
        }
        self.wish(Wish::Anything);
        Ok(())
    }
}
