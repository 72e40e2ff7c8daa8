//! What the loop does for its callers: apply a block, take blocks back, tell a known block from a new one.

use std::time::Instant;

use forebay_failpoint::reach;
use forebay_fast::FastErrorKind;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::verify::CheckedBlock;
use forebay_slow::{SlowOperation, SlowReader};

use crate::error::{Decision, StoreError, decide};
use crate::node::{Reply, gone};
use crate::owner::{Owner, Unsynced};
use crate::receipt::Accepted;
use crate::syncer::BackOff;
use crate::writer::Step;

impl Owner {
    pub(crate) async fn serve_apply(
        &mut self,
        block: &CheckedBlock,
        now: i64,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let mut outcome = self.apply(block.clone(), now).await;
        if let Err(error) = &outcome
            && self.healed_from(error).await?
        {
            outcome = self.apply(block.clone(), now).await;
        }
        answer(reply, outcome)
    }

    pub(crate) async fn serve_take_back(
        &mut self,
        to_height: Height,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let mut outcome = self.take_back_to(to_height).await;
        if let Err(error) = &outcome
            && self.healed_from(error).await?
        {
            outcome = self.take_back_to(to_height).await;
        }
        answer(reply, outcome)
    }

    async fn apply(&mut self, block: CheckedBlock, now: i64) -> Result<Accepted, StoreError> {
        if let Some(known) = self.known(block.block()).await? {
            return Ok(known);
        }
        let step = self.writer.apply(block, now).await?;
        reach("owner.after_step");
        Ok(self.accepted(step))
    }

    /// The block, if the chain has it already: recognised by its computed id, at the place that `previousBlock` gives it.
    async fn known(&self, block: &Block) -> Result<Option<Accepted>, StoreError> {
        let Some(tip) = self.writer.resident.tip else { return Ok(None) };
        if block.previous_block == Some(tip.id) {
            return Ok(None);
        }
        let position = self.position();
        let profile = self.profile;
        let known = |height, id| Some(Accepted { id, height, position, is_new: false, profile });
        if block.id == tip.id {
            return Ok(known(tip.height, tip.id));
        }
        let Some(previous) = block.previous_block else {
            let genesis = self.options.genesis.id;
            return Ok(if block.id == genesis { known(1, genesis) } else { None });
        };
        let Some(height) = self.height_of(previous).await?.map(|height| height + 1) else { return Ok(None) };
        match self.id_at(height).await? {
            Some(ours) if ours == block.id => Ok(known(height, ours)),
            Some(ours) => Err(StoreError::OtherBranch { height, ours, theirs: block.id }),
            None => Ok(None),
        }
    }

    /// Where a block of the chain stands: among the kept ones, else in PostgreSQL.
    async fn height_of(&self, id: BlockId) -> Result<Option<Height>, StoreError> {
        if let Some(height) = self.retention.height_of(id) {
            return Ok(Some(height));
        }
        if self.retention.has_whole_chain() {
            return Ok(None);
        }
        let reader = SlowReader::connect(&self.options.postgres).await?;
        Ok(reader.reads().block_by_id(id).await?.map(|block| block.height))
    }

    async fn id_at(&self, height: Height) -> Result<Option<BlockId>, StoreError> {
        if let Some(id) = self.retention.id_at(height) {
            return Ok(Some(id));
        }
        let reader = SlowReader::connect(&self.options.postgres).await?;
        Ok(reader.reads().block_by_height(height).await?.map(|block| block.id))
    }

    pub(crate) fn accepted(&mut self, step: Step) -> Accepted {
        let tip = self.writer.resident.tip;
        let (height, id) = tip.map_or((0, BlockId(0)), |tip| (tip.height, tip.id));
        match &step.operation {
            SlowOperation::Append(_) => self.retention.applied(step.position, height, id),
            SlowOperation::TakeBack { .. } => self.retention.taken_back(step.position, self.round()),
        }
        let position = step.position;
        self.push(step, height, id);
        self.show();
        Accepted { id, height, position, is_new: true, profile: self.profile }
    }

    fn push(&mut self, step: Step, height: Height, id: BlockId) {
        self.tail_bytes += step.bytes;
        self.tail.push_back(Unsynced {
            position: step.position,
            operation: step.operation,
            bytes: step.bytes,
            height,
            id,
            accepted_at: Instant::now(),
        });
    }

    /// Block by block while Redis has undo records for all of it; else by a rewind in PostgreSQL.
    async fn take_back_to(&mut self, to_height: Height) -> Result<Accepted, StoreError> {
        let height = self.writer.tip_height();
        if to_height == 0 || to_height > height {
            return Err(StoreError::Request(format!(
                "cannot go back to height {to_height}: the tip is at {height}, and the genesis block stays"
            )));
        }
        let Some(tip) = self.writer.resident.tip else { return Err(gone()) };
        let mut last = Accepted {
            id: tip.id,
            height: tip.height,
            position: self.position(),
            is_new: false,
            profile: self.profile,
        };
        // Undo records are kept without gaps down from the tip: the deepest one decides.
        if to_height < height && self.writer.undo_record(to_height + 1).await?.is_none() {
            return self.rewind_to(to_height).await;
        }
        while self.writer.tip_height() > to_height {
            match self.writer.take_back().await? {
                Some(step) => last = self.accepted(step),
                None => return self.rewind_to(to_height).await,
            }
            reach("owner.after_step_back");
        }
        Ok(last)
    }

    /// Waits for PostgreSQL while it comes and goes.
    async fn block_in_postgres(&self, height: Height) -> Result<Option<Block>, StoreError> {
        let (since, mut back_off) = (Instant::now(), BackOff::new());
        loop {
            let read = async {
                let reader = SlowReader::connect(&self.options.postgres).await?;
                reader.reads().block_by_height(height).await
            };
            match read.await {
                Ok(block) => return Ok(block),
                Err(error) => self.bear(error.into(), since, &mut back_off).await?,
            }
        }
    }

    /// Beyond Redis' undo records: everything accepted becomes durable, PostgreSQL takes the blocks back, and Redis is
    /// restored from it. Reads pause meanwhile.
    async fn rewind_to(&mut self, to_height: Height) -> Result<Accepted, StoreError> {
        self.until_synced().await?;
        let target = self.block_in_postgres(to_height).await?.ok_or_else(|| {
            StoreError::Disagreement(format!("PostgreSQL has no block at height {to_height}"))
        })?;
        let step = self.writer.rewind(to_height, target.id).await?;
        tracing::info!(to_height, "rewinding: PostgreSQL takes blocks back, then Redis is restored");
        reach("owner.rewind_accepted");
        self.push(step, to_height, target.id);
        self.until_synced().await?;
        reach("owner.rewind_durable");
        self.restore_patiently().await?;
        Ok(Accepted {
            id: target.id,
            height: to_height,
            position: self.position(),
            is_new: true,
            profile: self.profile,
        })
    }
}

/// Answers a caller. A failure that is not the caller's alone stops the node, after the caller was told.
fn answer(reply: Reply, outcome: Result<Accepted, StoreError>) -> Result<(), StoreError> {
    let fatal = match &outcome {
        Err(error) => match decide(error) {
            Decision::Refuse | Decision::RetrySlowly => None,
            // PostgreSQL could not be asked about an older block, or about another run of Redis: nothing was done.
            Decision::Retry | Decision::Ask
                if matches!(error, StoreError::Slow(_)) || is_another_run(error) =>
            {
                None
            }
            Decision::Stop | Decision::Ask | Decision::Retry => Some(match error {
                // These keep their own kind, and with it their exit code.
                StoreError::TooFarBehind(message) => StoreError::TooFarBehind(message.clone()),
                StoreError::Held(message) => StoreError::Held(message.clone()),
                other => StoreError::Stopped(other.to_string()),
            }),
        },
        Ok(_) => None,
    };
    // A caller that went away does not need the answer; the operation stays done.
    let _ = reply.send(outcome);
    fatal.map_or(Ok(()), Err)
}

fn is_another_run(error: &StoreError) -> bool {
    matches!(error, StoreError::Fast(error) if error.kind() == FastErrorKind::AnotherRun)
}
