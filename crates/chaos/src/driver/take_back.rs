//! Blocks that are taken back.

use anyhow::bail;
use serde_json::json;

use super::{AGAIN, Driver, Outcome};

impl Driver {
    /// So many blocks go, from `least` to `most`; half of the chain stays.
    pub(super) async fn take_back(&mut self, least: u64, most: u64) -> anyhow::Result<u64> {
        // Some chain shall remain, and the generator must be able to follow.
        let count = usize::try_from(self.random.between(least, most)).unwrap_or(1).min(self.acked / 2);
        if count == 0 {
            return Ok(0);
        }
        let target = self.acked - count;
        while self.acked > target {
            self.take_back_to(target).await?;
        }
        for _ in 0..count {
            self.plan.chain.pop()?;
        }
        self.blocks.truncate(target);
        self.sent = target;
        if self.random.percent(60) {
            self.fork()?;
        }
        Ok(count as u64)
    }

    /// One attempt; afterwards `acked` is where the node's chain is known to end.
    async fn take_back_to(&mut self, target: usize) -> anyhow::Result<()> {
        let count = self.acked - target;
        let (height, id) = self.at(target);
        let Some(outcome) = self.converse_here(&json!({ "op": "pop", "count": count })).await else {
            // At a node that was rolled back, as many blocks back are other ones.
            self.find_what_is_left().await?;
            return Ok(());
        };
        match outcome {
            Outcome::Done(done) => {
                let steps = done.seq.saturating_sub(self.seq);
                if done.id != id.to_string() || done.height != height || done.epoch < self.epoch {
                    bail!("taking back to {id} at height {height} was answered as {done:?}");
                }
                if steps < 1 || steps > count as u64 + 1 {
                    bail!("taking back {count} blocks after operation {} was answered as {done:?}", self.seq);
                }
                (self.acked, self.seq, self.epoch) = (target, done.seq, done.epoch);
                self.record(&json!({ "back": height, "seq": done.seq }))?;
                self.acknowledged(0, height, id);
                Ok(())
            }
            Outcome::Refused(refused) => bail!("taking back to height {height} was refused: {refused:?}"),
            Outcome::Unknown => {
                tokio::time::sleep(AGAIN).await;
                let before = self.seq;
                let (place, done, is_new) = self.probe().await?;
                if place < target || done.seq < before {
                    // What was to be taken back anyway need not be there.
                    return self.rolled_back(place, &done, is_new, target).await;
                }
                // At most all of it was done, and one block came back by our question.
                if done.seq > before + count as u64 + 2 {
                    bail!("after operation {before} and a lost take-back of {count}: {done:?}");
                }
                self.found_at(place, &done, "found")
            }
        }
    }
}
