//! Two nodes on one chain.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::driver::Wish;
use crate::feed::{Answer, Feed};
use crate::node::NodeProcess;
use crate::plan::Fault;
use crate::process::POLL;
use crate::supervisor::{LIVENESS_MAX, Supervisor, UNDISTURBED_MAX};

/// Held: documented in docs/cli.md.
const EXIT_HELD: i32 = 6;
/// What a node that woke up is asked gets an answer within this, if it gets one.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A session of the writer that has a transaction open and waits for the node.
const OPEN_TRANSACTION: &str = "select 1 from pg_stat_activity where usename = $1 and backend_xid is not null \
    and (state = 'idle in transaction' or wait_event = 'ClientRead') limit 1";

impl Supervisor {
    pub(super) async fn second_node(&mut self) -> anyhow::Result<()> {
        let mut second = self.nodes.spawn(&self.servers, 1 - self.slot, &[])?;
        let status = second.wait_end(UNDISTURBED_MAX).await?;
        if status.code() != Some(EXIT_HELD) {
            bail!("a second node beside a living one ended with {status}, not with {EXIT_HELD}");
        }
        self.still_runs("a second node was started")
    }

    pub(super) async fn two_nodes(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.kill().await?;
        let mut left = self.nodes.spawn(&self.servers, self.slot, &[])?;
        let mut right = self.nodes.spawn(&self.servers, 1 - self.slot, &[])?;
        let begin = Instant::now();
        let (loser, is_left_ready) = loop {
            match (left.ended()?, right.ended()?) {
                (Some(left), Some(right)) => bail!("of two nodes none got the chain: {left}, {right}"),
                (Some(status), None) if Feed::connect(&right.feed).await.is_ok() => break (status, false),
                (None, Some(status)) if Feed::connect(&left.feed).await.is_ok() => break (status, true),
                _ if begin.elapsed() > LIVENESS_MAX => bail!("two nodes do not settle who gets the chain"),
                _ => tokio::time::sleep(POLL).await,
            }
        };
        if !is_left_ready {
            self.slot = 1 - self.slot;
        }
        self.node = if is_left_ready { left } else { right };
        self.drive_node();
        if loser.code() != Some(EXIT_HELD) {
            bail!("the later one of two nodes ended with {loser}, not with {EXIT_HELD}");
        }
        Ok(())
    }

    pub(super) async fn take_over(&mut self) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.signal(Signal::STOP)?;
        self.succeed().await
    }

    /// Paused again and again, until that was in the middle of a transaction.
    pub(super) async fn take_over_in_transaction(&mut self) -> anyhow::Result<()> {
        self.wish_heard(Wish::Blocks).await?;
        let client = self.servers.administrator().await?;
        let begin = Instant::now();
        loop {
            self.still_runs("the load")?;
            self.node.signal(Signal::STOP)?;
            if client.query_opt(OPEN_TRANSACTION, &[&self.servers.names.writer]).await?.is_some() {
                break;
            }
            self.node.signal(Signal::CONT)?;
            if begin.elapsed() > LIVENESS_MAX {
                bail!("the node is never seen in a transaction");
            }
            tokio::time::sleep(POLL).await;
        }
        self.wish(Wish::Anything);
        self.succeed().await
    }

    pub(super) async fn take_over_starting(&mut self, fault: &Fault) -> anyhow::Result<()> {
        self.still_runs("the load")?;
        self.node.kill().await?;
        self.start_node(self.slot)?;
        self.reach_phase(fault.choice).await?;
        self.node.signal(Signal::STOP)?;
        self.succeed().await
    }

    /// Another node takes the chain over from a paused one, which then wakes up.
    async fn succeed(&mut self) -> anyhow::Result<()> {
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
        takes_nothing_back(&first).await?;
        let status = first.wait_end(UNDISTURBED_MAX).await.context("a node that lost the chain")?;
        if status.success() {
            bail!("a node that lost the chain ended as if nothing were wrong");
        }
        Ok(())
    }
}

/// It may end before it answers, or say that it does not hold the chain; anything but a "done".
async fn takes_nothing_back(node: &NodeProcess) -> anyhow::Result<()> {
    let Ok(mut feed) = Feed::connect(&node.feed).await else { return Ok(()) };
    if feed.send(b"{\"op\":\"pop\",\"count\":1}\n").await.is_ok()
        && let Ok(Ok(Answer::Done(done))) = tokio::time::timeout(ANSWER_MAX, feed.answer()).await
    {
        bail!("a node that lost the chain took a block back: {done:?}");
    }
    Ok(())
}
