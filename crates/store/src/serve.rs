//! What the loop does for its callers: apply a block, take blocks back, tell a known block from a new one.

use std::sync::atomic::Ordering;
use std::time::Instant;

use forebay_failpoint::reach;
use forebay_fast::{FastError, FastErrorKind};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::verify::CheckedBlock;
use forebay_slow::{SlowOperation, SlowReader};
use tracing::Instrument as _;

use crate::error::{Decision, StoreError, decide};
use crate::node::{Command, Reply, Request, gone};
use crate::owner::{Owner, Unsynced};
use crate::receipt::Accepted;
use crate::syncer::BackOff;
use crate::writer::Step;

/// A command that could not be carried out because Redis is away. The loop goes on meanwhile: it brings the tail to
/// PostgreSQL, watches its limits and hears a stop.
pub(crate) struct Waiting {
    command: Command,
    pub(crate) since: Instant,
    back_off: BackOff,
    pub(crate) retry_at: Instant,
}

/// Steps that may be on their way at the same time: enough that Redis' flush to disk serves many small blocks, and that
/// it writes while the next block is verified; few enough that little has to be settled when an answer is lost.
pub(crate) const STEPS_SENT_MAX: usize = 16;

impl Owner {
    pub(crate) async fn serve(&mut self, command: Command) -> Result<(), StoreError> {
        if self.sent_ahead(&command.request).await {
            self.sent.push_back(command);
            return Ok(());
        }
        self.land_all().await?;
        // What came down in between is served first.
        self.again.push_back(command);
        Ok(())
    }

    /// Serves a command by itself, with nothing else on its way.
    pub(crate) async fn serve_alone(&mut self, command: Command) -> Result<(), StoreError> {
        let now = Instant::now();
        self.try_to_serve(Waiting { command, since: now, back_off: BackOff::new(), retry_at: now }).await
    }

    /// Sends a block's step without waiting for those before it. Whatever is not plain sailing is left to
    /// [`serve_alone`](Self::serve_alone): nothing was sent then.
    async fn sent_ahead(&mut self, request: &Request) -> bool {
        let Request::Apply { block, now } = request else { return false };
        let follows = self.writer.resident.tip.map(|tip| tip.id) == block.block().previous_block;
        follows
            && self.settled.is_empty()
            && self.again.is_empty()
            && self.writer.may_send()
            && self.writer.send((**block).clone(), *now).instrument(span_of(request)).await.is_ok()
    }

    /// Takes in Redis' answer to the oldest step on its way.
    pub(crate) async fn landed(&mut self, answer: Result<(), FastError>) -> Result<(), StoreError> {
        if let Err(error) = answer {
            self.writer.not_done(&error).await;
            // Each is tried again by itself, in order: what went wrong shows then, and is dealt with.
            self.again.extend(self.sent.drain(..));
            return Ok(());
        }
        if let (Some(step), Some(command)) = (self.writer.done(), self.sent.pop_front()) {
            let accepted = span_of(&command.request).in_scope(|| self.stepped(step));
            self.no_trouble_with_redis();
            // A caller that went away does not need the answer; the operation stays done.
            let _ = command.reply.send(Ok(accepted));
        }
        Ok(())
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn land_all(&mut self) -> Result<(), StoreError> {
        while !self.sent.is_empty() {
            let answer = self.writer.answer().await;
            self.landed(answer).await?;
        }
        Ok(())
    }

    fn stepped(&mut self, step: Step) -> Accepted {
        reach("owner.after_step");
        self.accepted(step)
    }

    /// Tries a command that waits once more.
    pub(crate) async fn serve_again(&mut self) -> Result<(), StoreError> {
        match self.waiting.take() {
            Some(waiting) => self.try_to_serve(waiting).await,
            None => Ok(()),
        }
    }

    async fn try_to_serve(&mut self, mut waiting: Waiting) -> Result<(), StoreError> {
        let mut outcome = self.carry_out(&waiting.command.request).await;
        if let Err(error) = &outcome {
            match self.healed_from(error).await {
                Ok(true) => outcome = self.carry_out(&waiting.command.request).await,
                Ok(false) => {}
                Err(fatal) => {
                    // The caller is told, too, why the node stops.
                    let _ = waiting.command.reply.send(Err(told_again(&fatal)));
                    return Err(fatal);
                }
            }
        }
        match &outcome {
            Err(error) if is_redis_away(error) && waiting.since.elapsed() <= self.redis_away_max() => {
                tracing::warn!(%error, "a caller waits for Redis");
                waiting.retry_at = Instant::now() + waiting.back_off.next(false);
                let error = error.to_string();
                self.waiting = Some(waiting);
                self.trouble_with_redis(error);
                return Ok(());
            }
            Err(error) if decide(error) == Decision::RetrySlowly => {
                tracing::error!(%error, "Redis lacks room");
                self.trouble_with_redis(error.to_string());
            }
            Ok(_) => self.no_trouble_with_redis(),
            Err(error) if decide(error) == Decision::Refuse => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.show();
            }
            Err(_) => {}
        }
        answer(waiting.command.reply, outcome)
    }

    /// A stop does not wait for Redis.
    pub(crate) fn turn_waiting_away(&mut self) {
        let waiting = self.waiting.take().map(|waiting| waiting.command);
        for command in waiting.into_iter().chain(self.again.drain(..)) {
            let message =
                "it was stopped while Redis was away; the next start knows whether this was accepted";
            let _ = command.reply.send(Err(StoreError::Stopped(message.to_owned())));
        }
    }

    /// Every caller that still waits learns why the node stops.
    pub(crate) fn tell_callers(&mut self, error: &StoreError) {
        let waiting = self.waiting.take().map(|waiting| waiting.command);
        for command in waiting.into_iter().chain(self.sent.drain(..)).chain(self.again.drain(..)) {
            let _ = command.reply.send(Err(told_again(error)));
        }
    }

    async fn carry_out(&mut self, request: &Request) -> Result<Accepted, StoreError> {
        let span = span_of(request);
        let work = async {
            self.stops.clone().unless_asked(self.writer.confirm_run()).await?;
            self.settle().await?;
            match request {
                Request::Apply { block, now } => self.apply((**block).clone(), *now).await,
                Request::TakeBack { to_height } => self.take_back_to(*to_height).await,
            }
        };
        work.instrument(span).await
    }

    /// Takes in steps whose answers were lost, as far as they were done.
    pub(crate) async fn settle(&mut self) -> Result<(), StoreError> {
        for step in self.writer.settle().await? {
            let accepted = self.accepted(step);
            self.settled.push_back(accepted);
        }
        Ok(())
    }

    async fn apply(&mut self, block: CheckedBlock, now: i64) -> Result<Accepted, StoreError> {
        // Callers come in the order of the steps.
        while let Some(settled) = self.settled.pop_front() {
            if settled.id == block.block().id {
                return Ok(settled);
            }
        }
        if let Some(known) = self.known(block.block()).await? {
            return Ok(known);
        }
        let step = self.writer.apply(block, now).await?;
        Ok(self.stepped(step))
    }

    /// The block, if the chain has it already: recognised by its computed id, at the place that `previousBlock` gives it.
    async fn known(&self, block: &Block) -> Result<Option<Accepted>, StoreError> {
        let Some(tip) = self.writer.resident.tip else { return Ok(None) };
        if block.previous_block == Some(tip.id) {
            return Ok(None);
        }
        let position = self.position();
        let profile = self.writer.redis_profile();
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

    /// Where a block of the chain stands: among the kept ones, else in PostgreSQL. That may still have blocks which were
    /// taken back since: it is believed only below what is kept here.
    async fn height_of(&self, id: BlockId) -> Result<Option<Height>, StoreError> {
        if let Some(height) = self.retention.height_of(id) {
            return Ok(Some(height));
        }
        if !self.is_below_kept(1) {
            return Ok(None);
        }
        let read = async {
            let reader = SlowReader::connect(&self.options.postgres).await?;
            Ok(reader.reads().block_by_id(id).await?)
        };
        let block = self.stops.clone().unless_asked(read).await?;
        Ok(block.map(|block| block.height).filter(|height| self.is_below_kept(*height)))
    }

    async fn id_at(&self, height: Height) -> Result<Option<BlockId>, StoreError> {
        if let Some(id) = self.retention.id_at(height) {
            return Ok(Some(id));
        }
        if !self.is_below_kept(height) {
            return Ok(None);
        }
        let read = async {
            let reader = SlowReader::connect(&self.options.postgres).await?;
            Ok(reader.reads().block_by_height(height).await?)
        };
        Ok(self.stops.clone().unless_asked(read).await?.map(|block| block.id))
    }

    /// Whether the chain has this height, and the tail does not.
    fn is_below_kept(&self, height: Height) -> bool {
        match self.retention.kept_from() {
            Some(first) => height < first,
            None => height <= self.writer.tip_height(),
        }
    }

    pub(crate) fn accepted(&mut self, step: Step) -> Accepted {
        let (height, id) = (step.height, step.id);
        self.counts.operations_accepted += 1;
        match &step.operation {
            SlowOperation::Append(row) => {
                self.counts.blocks_accepted += 1;
                self.counts.transactions_accepted += row.block.transactions.len() as u64;
                self.retention.applied(step.position, height, id);
            }
            SlowOperation::TakeBack { .. } => {
                self.counts.blocks_taken_back += 1;
                self.retention.taken_back(step.position, self.round());
            }
        }
        let position = step.position;
        tracing::debug!(seq = position.seq, height, "accepted");
        self.push(step);
        self.show();
        Accepted { id, height, position, is_new: true, profile: self.writer.redis_profile() }
    }

    fn push(&mut self, step: Step) {
        self.tail_bytes += step.bytes;
        self.tail.push_back(Unsynced {
            position: step.position,
            operation: step.operation,
            bytes: step.bytes,
            height: step.height,
            id: step.id,
            accepted_at: Instant::now(),
        });
    }

    /// Block by block while Redis has undo records for all of it; else by a rewind in PostgreSQL.
    async fn take_back_to(&mut self, to_height: Height) -> Result<Accepted, StoreError> {
        let height = self.writer.tip_height();
        if to_height == 0 || to_height > height {
            return Err(StoreError::Request(format!(
                "cannot go back to height {to_height}: heights from 1, the genesis block, to {height}, the tip, are possible"
            )));
        }
        let Some(tip) = self.writer.resident.tip else { return Err(gone()) };
        let here = Accepted {
            id: tip.id,
            height: tip.height,
            position: self.position(),
            is_new: false,
            profile: self.writer.redis_profile(),
        };
        let mut last = self.settled.drain(..).next_back().unwrap_or(here);
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
                Ok(reader.reads().block_by_height(height).await?)
            };
            match self.stops.clone().unless_asked(read).await {
                Ok(block) => return Ok(block),
                Err(error) => self.bear(error, since, &mut back_off).await?,
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
        let blocks = self.writer.tip_height().saturating_sub(to_height);
        let step = self.writer.rewind(to_height, target.id).await?;
        self.counts.operations_accepted += 1;
        self.counts.blocks_taken_back += u64::from(blocks);
        tracing::info!(to_height, "rewinding: PostgreSQL takes blocks back, then Redis is restored");
        reach("owner.rewind_accepted");
        self.push(step);
        self.until_synced().await?;
        reach("owner.rewind_durable");
        self.restore_patiently().await?;
        Ok(Accepted {
            id: target.id,
            height: to_height,
            position: self.position(),
            is_new: true,
            profile: self.writer.redis_profile(),
        })
    }
}

/// What log lines about a request are said within.
fn span_of(request: &Request) -> tracing::Span {
    match request {
        Request::Apply { block, .. } => {
            let block = block.block();
            tracing::info_span!("block", id = %block.id, transactions = block.transactions.len())
        }
        Request::TakeBack { to_height } => tracing::info_span!("take_back", to_height),
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
            Decision::Stop | Decision::Ask | Decision::Retry => Some(told_again(error)),
        },
        Ok(_) => None,
    };
    // A caller that went away does not need the answer; the operation stays done.
    let _ = reply.send(outcome);
    fatal.map_or(Ok(()), Err)
}

/// Why the node stops, for a second listener. These keep their own kind, and with it their exit code.
fn told_again(error: &StoreError) -> StoreError {
    match error {
        StoreError::TooFarBehind(message) => StoreError::TooFarBehind(message.clone()),
        StoreError::Held(message) => StoreError::Held(message.clone()),
        StoreError::Away { tier, waited_s, cause } => {
            StoreError::Away { tier: *tier, waited_s: *waited_s, cause: cause.clone() }
        }
        StoreError::Stopping => StoreError::Stopping,
        StoreError::Stopped(message) => StoreError::Stopped(message.clone()),
        other => StoreError::Stopped(other.to_string()),
    }
}

/// Away, or just back and not made sure of.
fn is_redis_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Fast(_)) && matches!(decide(error), Decision::Retry | Decision::Ask)
}

fn is_another_run(error: &StoreError) -> bool {
    matches!(error, StoreError::Fast(error) if error.kind() == FastErrorKind::AnotherRun)
}
