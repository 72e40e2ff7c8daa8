//! What is left of the chain, after an answer was lost or the node was rolled back.

use anyhow::bail;
use forebay_ledger::block::Block;
use forebay_ledger::json::block_to_value;
use serde_json::json;

use super::{AGAIN, Driver, Outcome};
use crate::feed::Done;
use crate::rollback::Recorded;

impl Driver {
    /// The chain ends after so many blocks.
    pub(super) fn found_at(&mut self, place: usize, done: &Done, how: &str) -> anyhow::Result<()> {
        let (height, id) = self.at(place);
        (self.acked, self.seq, self.epoch) = (place, done.seq, done.epoch);
        self.is_unsure = false;
        self.record(&json!({ "back": height, "seq": done.seq, how: true }))?;
        self.acknowledged(0, height, id);
        Ok(())
    }

    /// The newest of our blocks that the node has: asks by sending them again, from the last one down. A block that follows
    /// the node's tip is taken by that (then the last is true).
    pub(super) async fn probe(&mut self) -> anyhow::Result<(usize, Done, bool)> {
        let mut place = self.acked;
        loop {
            match self.ask(place).await {
                Outcome::Done(done) => {
                    let is_new = !done.known && place > 0;
                    return Ok((place, done, is_new));
                }
                Outcome::Refused(refused) if refused.is_elsewhere() && place > 0 => place -= 1,
                Outcome::Refused(refused) => bail!("an accepted block was refused: {refused:?}"),
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Whether something was given up since we last looked, on the record or by a volatile Redis. A record that cannot be
    /// read may be one.
    pub(super) fn may_be_rolled_back(&self) -> bool {
        let is_recorded = Recorded::of_run(&self.plan.root).map_or(true, |all| all.files > self.records_used);
        is_recorded || self.history.lock().redis_forgot_after.is_some()
    }

    /// Sends a block again. The genesis block is awaited instead.
    async fn ask(&mut self, place: usize) -> Outcome {
        let line = self.question(place);
        self.converse(&line).await
    }

    /// Whether the chain has its block at a place.
    pub(super) fn question(&self, place: usize) -> serde_json::Value {
        match place.checked_sub(1).and_then(|index| self.blocks.get(index)) {
            Some(block) => {
                json!({ "op": "block", "block": block_to_value(block, &self.plan.chain.network().profile) })
            }
            None => json!({ "op": "await", "height": 1 }),
        }
    }

    /// Asks whether the node still has all that it acknowledged. `false`: it has.
    pub(super) async fn find_what_is_left(&mut self) -> anyhow::Result<bool> {
        let (place, done, is_new) = self.probe().await?;
        if !is_new && place == self.acked && done.seq >= self.seq {
            self.is_unsure = false;
            return Ok(false);
        }
        self.rolled_back(place, &done, is_new, self.acked).await?;
        Ok(true)
    }

    /// The node went back to an earlier operation. The first `expected` of our blocks had to be there, but for those that
    /// a new rollback record explains.
    pub(super) async fn rolled_back(
        &mut self,
        place: usize,
        done: &Done,
        is_new: bool,
        expected: usize,
    ) -> anyhow::Result<()> {
        let kept = if is_new { place - 1 } else { place };
        let recorded = Recorded::of_run(&self.plan.root)?;
        let gone: Vec<&Block> = self.blocks.iter().take(expected).skip(kept).collect();
        let (base, _) = self.at(kept);
        let (may_miss, forgot_after) = {
            let events = self.history.lock();
            let is_named = recorded.base_heights.iter().any(|recorded_base| *recorded_base >= base);
            (events.postgres_forgot && is_named, events.redis_forgot_after)
        };
        let (given_up, gone): (Vec<&Block>, Vec<&Block>) =
            gone.into_iter().partition(|block| may_miss || recorded.blocks.contains(&block.id.to_string()));
        let (forgotten, lost): (Vec<&Block>, Vec<&Block>) =
            gone.into_iter().partition(|block| forgot_after.is_some_and(|seq| self.accepted_at(block) > seq));
        {
            let mut events = self.history.lock();
            events.counts.rolled_back += given_up.len() as u64;
            events.counts.lost_by_volatile_redis += forgotten.len() as u64;
            events.counts.lost += lost.len() as u64;
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            bail!(
                "{} accepted blocks, heights {} to {}, are gone without a record; the node is at {done:?}",
                lost.len(),
                first.height,
                last.height
            );
        }
        if recorded.files <= self.records_used && forgot_after.is_none() {
            bail!(
                "operation {} was acknowledged, and without a new record the node is at {done:?}",
                self.seq
            );
        }
        self.records_used = recorded.files;
        let (place, done) =
            if is_new { (place, done.clone()) } else { self.leave_other_branch(place).await? };
        self.found_at(place, &done, "rolledBack")
    }

    /// A rollback may have given take-backs up too: then blocks that we had left stand above our newest one. They are taken
    /// back one by one. One block too many does no harm: it is sent again.
    async fn leave_other_branch(&mut self, ours: usize) -> anyhow::Result<(usize, Done)> {
        let (height, id) = self.at(ours);
        loop {
            match self.converse(&json!({ "op": "pop", "count": 1 })).await {
                Outcome::Done(done) if done.height > height => {}
                Outcome::Done(done) => {
                    let place = ours.saturating_sub(usize::try_from(height - done.height)?);
                    let (_, expected) = self.at(place);
                    if done.id != expected.to_string() {
                        bail!("below block {id} at height {height} stands {done:?}, not {expected}");
                    }
                    return Ok((place, done));
                }
                // Nothing stands above the genesis block.
                Outcome::Refused(refused) if refused.kind == "request" => {
                    if let Outcome::Done(done) = self.ask(0).await {
                        return Ok((0, done));
                    }
                }
                Outcome::Refused(refused) => bail!("taking back after a rollback was refused: {refused:?}"),
                // The next answer tells.
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// The operation that brought a block.
    fn accepted_at(&self, block: &Block) -> u64 {
        self.history.lock().accepted_at.get(&block.id).copied().unwrap_or_default()
    }
}
