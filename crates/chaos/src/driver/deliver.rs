//! Blocks on their way to the node.

use anyhow::{Context as _, bail};
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_to_value;
use serde_json::json;

use super::{AGAIN, Driver, Outcome, SENT_AGAIN_MAX};
use crate::feed::Done;

impl Driver {
    /// Sends all blocks that are not acknowledged, and reads the answers.
    async fn deliver(&mut self) -> anyhow::Result<()> {
        let first = self.acked;
        let was_sent = self.sent;
        let lines: Vec<_> = self.blocks.iter().skip(first).map(|block| self.block_line(block)).collect();
        let count = lines.len();
        let Some(mut feed) = self.connected().await else { return Ok(()) };
        if self.is_unsure && self.may_be_rolled_back() {
            // A chain that ends where ours does may have come there by fewer operations.
            self.feed = Some(feed);
            self.find_what_is_left().await?;
            return Ok(());
        }
        self.sent = self.sent.max(first + count);
        self.history.lock().last_answer = format!("none yet to {count} blocks");
        for line in lines {
            if feed.send(&line).await.is_err() {
                return Ok(());
            }
        }
        let mut is_troubled = false;
        for place in first..first + count {
            match self.answer(&mut feed).await {
                Outcome::Done(done) => self.block_acknowledged(place, was_sent, &done)?,
                Outcome::Refused(refused) if is_troubled && refused.is_elsewhere() => {}
                Outcome::Refused(refused) if refused.is_elsewhere() => {
                    drop(feed);
                    if !self.find_what_is_left().await? {
                        bail!("a block that follows the last accepted one was refused: {refused:?}");
                    }
                    return Ok(());
                }
                Outcome::Refused(refused) => {
                    bail!("block {place} after the genesis block is valid, but refused: {refused:?}")
                }
                // Either the connection is gone, or the rest of its answers tells more.
                Outcome::Unknown if feed.is_broken() => return Ok(()),
                Outcome::Unknown => is_troubled = true,
            }
        }
        self.feed = Some(feed);
        if is_troubled {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Checks an acknowledgement against our own count.
    fn block_acknowledged(&mut self, place: usize, was_sent: usize, done: &Done) -> anyhow::Result<()> {
        let block = self.blocks.get(place).context("an answer to a block that was not sent")?;
        if done.id != block.id.to_string() || done.height != block.height {
            bail!("block {} at height {} was answered as {done:?}", block.id, block.height);
        }
        // Blocks before it that got no answer are done too: this one stands on them.
        let number = self.seq + (place + 1).saturating_sub(self.acked) as u64;
        let newest = self.seq + was_sent.max(place + 1).saturating_sub(self.acked) as u64;
        let fits = match done.known {
            false => done.seq == number,
            true => (number..=newest).contains(&done.seq) && place < was_sent,
        };
        if !fits || done.epoch < self.epoch {
            self.history.lock().counts.duplicated += done.seq.saturating_sub(newest);
            bail!(
                "block {} at height {} is operation {number} (at most {newest} were sent) of epoch {} or later, but was \
                 answered as {done:?}",
                block.id,
                block.height,
                self.epoch
            );
        }
        let (id, height) = (block.id, block.height);
        for done_place in self.acked..=place {
            if let Some(block) = self.blocks.get(done_place) {
                let seq = self.seq + (done_place + 1 - self.acked) as u64;
                self.history.lock().accepted_at.insert(block.id, seq);
                let block = block_to_value(block, &self.plan.chain.network().profile);
                self.record(&json!({ "accepted": block, "known": done.known, "seq": done.seq }))?;
            }
        }
        let count = (place + 1).saturating_sub(self.acked) as u64;
        (self.acked, self.seq, self.epoch) = (place + 1, number, done.epoch);
        self.is_unsure = false;
        self.acknowledged(count, height, id);
        Ok(())
    }

    /// Sends a block of the chain again: it is known, and nothing is done.
    pub(super) async fn send_again(&mut self) -> anyhow::Result<u64> {
        let below = usize::try_from(self.random.between(0, SENT_AGAIN_MAX)).unwrap_or_default();
        let place = self.acked.saturating_sub(below);
        if place == 0 {
            return Ok(0);
        }
        let (height, id) = self.at(place);
        // The next operation finds out what a new node has.
        let Some(outcome) = self.converse_here(&self.question(place)).await else { return Ok(0) };
        match outcome {
            Outcome::Done(done) if done.known && done.id == id.to_string() && done.height == height => {
                self.acknowledged_one();
            }
            Outcome::Done(done) => {
                bail!("block {id} at height {height}, sent again, was answered as {done:?}")
            }
            Outcome::Refused(refused) => bail!("block {id} at height {height}, sent again: {refused:?}"),
            Outcome::Unknown => {}
        }
        Ok(0)
    }

    /// Sends a block before the one that it stands on: it is refused, and nothing is done.
    pub(super) async fn send_out_of_order(&mut self) -> anyhow::Result<u64> {
        self.forge()?;
        self.forge()?;
        match self.converse_here(&self.question(self.blocks.len())).await {
            Some(Outcome::Done(done)) => {
                bail!("a block that follows no block of the chain was accepted: {done:?}")
            }
            Some(Outcome::Refused(refused)) if refused.kind != "previous-block" => {
                bail!("a block that follows no block of the chain was refused as {refused:?}")
            }
            Some(Outcome::Refused(_) | Outcome::Unknown) | None => {}
        }
        self.deliver_all().await?;
        Ok(2)
    }

    /// All blocks, until they are acknowledged.
    pub(super) async fn deliver_all(&mut self) -> anyhow::Result<()> {
        while self.acked < self.blocks.len() {
            self.deliver().await?;
        }
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, blocks: u64, height: Height, tip: BlockId) {
        {
            let mut events = self.history.lock();
            events.counts.accepted += blocks;
            events.acknowledged = (self.epoch, self.seq);
            events.tips.insert(self.seq, tip);
        }
        self.acknowledged_one();
        self.view.send_modify(|view| view.height = height);
    }
}
