//! The Writer: the only place that decides what becomes of a block, and the only one that writes.
//!
//! read what the block needs → verify → one atomic step in Redis. Several steps may be on their way: a block is verified
//! against what those before it leave, while Redis still writes them: what they changed is resident, and nothing else of
//! theirs is read. If one is not done, none after it is (each names the one before it), and the Writer goes back. When Redis' answer is lost, the steps are kept, and Redis is asked what it
//! has before anything else is tried. Waiting is the loop's business.

mod view;

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use forebay_failpoint::reach;
use forebay_fast::{
    FastError, FastErrorKind, FastTier, Fence, Head, OutboxEntry, Position, RewindTarget, State, Trim,
};
use forebay_ledger::apply::{Applied, apply_block, apply_genesis, undo};
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::refusal::Refusal;
use forebay_ledger::state::{ChangeSet, Needs, Tip, UndoRecord};
use forebay_ledger::verify::{CheckedBlock, needs};
use forebay_slow::{BlockRow, SlowOperation, SlowReader};
use tokio_postgres::Config;

use crate::error::{Decision, StoreError, decide};
use crate::options::NodeOptions;
use crate::receipt::Profile;
use crate::resident::Resident;
use crate::start::{Started, check_server};

/// A step that Redis has done: what the slow tier has to do for it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) position: Position,
    pub(crate) operation: SlowOperation,
    /// Size of the block, for the lag in bytes.
    pub(crate) bytes: usize,
    /// The tip after it.
    pub(crate) height: Height,
    pub(crate) id: BlockId,
}

/// A step that Redis may have done.
#[derive(Debug)]
struct Unsettled {
    changes: Arc<ChangeSet>,
    step: Step,
}

type Answer = Result<(), FastError>;

/// A block's step that was sent; the resident state has followed it already.
struct Sent {
    changes: Arc<ChangeSet>,
    /// How often the account cache had dropped accounts before this step's came into it.
    drops_before: u64,
    step: Step,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// The answer, if it was there at once.
    early: Option<Answer>,
}

pub(crate) struct Writer {
    pub(crate) fast: FastTier,
    pub(crate) profile: Arc<NetworkProfile>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) resident: Resident,
    /// Steps on their way, the oldest first. `seq` is that of the last one that was answered.
    sent: VecDeque<Sent>,
    /// Steps whose answers were lost: nothing else is tried before it is known what became of them.
    unsettled: Vec<Unsettled>,
    /// Asked who holds the chain when another run of Redis answers.
    pub(crate) postgres: Config,
    /// What survives in the run of Redis that is used.
    redis_is_durable: AtomicBool,
}

impl Writer {
    pub(crate) fn new(options: &NodeOptions, started: Started, checker: Arc<Checker>) -> Self {
        Self {
            fast: started.fast,
            profile: Arc::clone(&options.profile),
            checker,
            epoch: started.epoch,
            seq: started.restored.seq,
            resident: started.restored.resident,
            sent: VecDeque::new(),
            unsettled: Vec::new(),
            postgres: options.postgres.clone(),
            redis_is_durable: AtomicBool::new(started.profile == Profile::Durable),
        }
    }

    /// What a receipt says of the run of Redis that is used.
    pub(crate) fn redis_profile(&self) -> Profile {
        if self.redis_is_durable.load(Ordering::Relaxed) { Profile::Durable } else { Profile::Volatile }
    }

    /// Another run may have been started with other settings.
    ///
    /// # Errors
    /// Stopped: they break a promise.
    pub(crate) async fn trust_run(&self, run: &str) -> Result<(), StoreError> {
        let profile = check_server(&self.fast).await.map_err(|error| match error {
            StoreError::Request(problems) => {
                StoreError::Stopped(format!("Redis was started again with other settings: {problems}"))
            }
            error => error,
        })?;
        if profile != self.redis_profile() {
            tracing::warn!(?profile, "Redis was started again with another profile");
        }
        self.redis_is_durable.store(profile == Profile::Durable, Ordering::Relaxed);
        self.fast.trust_run(run);
        Ok(())
    }

    fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, seq: self.seq_sent(), tip: self.resident.tip.map(|tip| tip.id) }
    }

    /// That of the last operation that was sent.
    fn seq_sent(&self) -> u64 {
        self.seq + self.sent.len() as u64
    }

    /// Steps on their way.
    pub(crate) fn steps_sent(&self) -> usize {
        self.sent.len()
    }

    /// Bytes of their blocks.
    pub(crate) fn bytes_sent(&self) -> usize {
        self.sent.iter().map(|sent| sent.step.bytes).sum()
    }

    /// Blocks whose bodies Redis may have got and which are not accepted: nothing of theirs may be removed.
    pub(crate) fn blocks_underway(&self) -> HashSet<BlockId> {
        let sent = self.sent.iter().map(|sent| &sent.step);
        sent.chain(self.unsettled.iter().map(|unsettled| &unsettled.step)).map(|step| step.id).collect()
    }

    /// The tip that Redis has acknowledged.
    pub(crate) fn tip(&self) -> Option<Tip> {
        self.sent.front().map_or(self.resident.tip, |sent| sent.changes.tip_before)
    }

    /// Whether the next step may be sent before the last one is answered.
    pub(crate) fn may_send(&self) -> bool {
        self.unsettled.is_empty() && self.fast.unknown_run().is_none()
    }

    pub(crate) fn tip_height(&self) -> Height {
        self.resident.tip.map_or(0, |tip| tip.height)
    }

    /// Verifies a block against the state and applies it in Redis. `now`: seconds since the network's epoch.
    pub(crate) async fn apply(&mut self, checked: CheckedBlock, now: i64) -> Result<Step, StoreError> {
        self.send(checked, now).await?;
        self.answered_one().await
    }

    /// Verifies a block against what the steps on their way leave, and sends its step. Await [`answer`](Self::answer) for
    /// what becomes of it. On an error nothing was sent.
    pub(crate) async fn send(&mut self, checked: CheckedBlock, now: i64) -> Result<(), StoreError> {
        // A block that follows another tip is refused without reading anything.
        if let (Some(tip), Some(previous)) = (self.resident.tip, checked.block().previous_block)
            && previous != tip.id
        {
            let refusal = Refusal::PreviousBlock { found: previous, tip: tip.id, tip_height: tip.height };
            return Err(refusal.into());
        }
        let closing =
            self.resident.round.as_ref().filter(|_| self.profile.closes_round(self.tip_height() + 1));
        let view = self.view(needs(checked.block(), closing)).await?;
        let applied = apply_block(&view, checked, &self.profile, now, &self.checker)?;
        let forgers = self
            .profile
            .opens_round(applied.block.height)
            .then(|| self.resident.round.as_ref().map(|round| round.forgers.clone()))
            .flatten();
        self.send_forward(applied, forgers).await;
        Ok(())
    }

    /// Applies the genesis block to an empty chain.
    pub(crate) async fn apply_genesis(&mut self, genesis: Block) -> Result<Step, StoreError> {
        let view = self.view(Needs::default()).await?;
        let applied = apply_genesis(&view, genesis, &self.profile)?;
        let forgers = match &applied.changes.round {
            forebay_ledger::state::RoundChange::Closed { next, .. } => Some(next.forgers.clone()),
            _ => None,
        };
        self.send_forward(applied, forgers).await;
        self.answered_one().await
    }

    async fn send_forward(
        &mut self,
        applied: Applied,
        forgers: Option<Vec<forebay_ledger::keys::PublicKey>>,
    ) {
        let Applied { block, changes, undo } = applied;
        let (block, changes) = (Arc::new(block), Arc::new(changes));
        let position = Position { epoch: self.epoch, seq: self.seq_sent() + 1 };
        let entry = OutboxEntry::of_block(position, &changes, &block, forgers.as_deref());
        let (fast, fence) = (self.fast.clone(), self.fence());
        reach("writer.before_step");
        let mut answer: Pin<Box<dyn Future<Output = Answer> + Send>> = {
            let (changes, block) = (Arc::clone(&changes), Arc::clone(&block));
            Box::pin(async move { fast.apply(&fence, &changes, undo.as_ref(), &block, &entry).await })
        };
        // The first poll encodes the step and hands it to the connection. Without one it would hold up whoever else needs
        // one, and is not left alone before it is done.
        let early = if self.fast.is_connected() {
            match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
                Poll::Ready(early) => Some(early),
                Poll::Pending => None,
            }
        } else {
            Some(answer.as_mut().await)
        };
        let row = BlockRow {
            transactions_before: changes.tip_before.map_or(0, |tip| tip.transactions_total),
            forgers,
            delegates_digest: changes.delegates_digest,
            block,
        };
        let Tip { height, id, .. } = changes.tip_after;
        let bytes = block_bytes(&row.block);
        let step = Step { position, operation: SlowOperation::Append(row), bytes, height, id };
        let drops_before = self.resident.accounts.drops();
        self.resident.follow(&changes);
        self.sent.push_back(Sent { changes, drops_before, step, answer, early });
    }

    /// Redis' answer to the oldest step on its way; never, if there is none. What it means is for
    /// [`done`](Self::done) and [`not_done`](Self::not_done).
    pub(crate) async fn answer(&mut self) -> Answer {
        poll_fn(|context| match self.sent.front_mut() {
            Some(Sent { early: early @ Some(_), .. }) => early.take().map_or(Poll::Pending, Poll::Ready),
            Some(sent) => sent.answer.as_mut().poll(context),
            None => Poll::Pending,
        })
        .await
    }

    /// The oldest step on its way was done.
    pub(crate) fn done(&mut self) -> Option<Step> {
        let Sent { step, .. } = self.sent.pop_front()?;
        self.seq = step.position.seq;
        Some(step)
    }

    /// The oldest step on its way failed, and so did all after it: the resident state goes back to before it. Those that
    /// may have been done are kept, to be settled.
    pub(crate) async fn not_done(&mut self, error: &FastError) {
        let mut may_be_done = error.kind() == FastErrorKind::OutcomeUnknown;
        let mut kept = Vec::new();
        for (place, Sent { changes, step, answer, early, .. }) in
            std::mem::take(&mut self.sent).into_iter().enumerate()
        {
            if place > 0 {
                let answer = match early {
                    Some(early) => early,
                    None => answer.await,
                };
                may_be_done |= !answer.is_err_and(|error| error.kind() != FastErrorKind::OutcomeUnknown);
            }
            kept.push(Unsettled { changes, step });
        }
        for sent in kept.iter().rev() {
            self.resident.go_back(&sent.changes);
        }
        if may_be_done {
            tracing::warn!(steps = kept.len(), %error, "Redis' answer is missing; asking what it has");
            self.unsettled = kept;
        }
    }

    /// Waits for the only step on its way.
    async fn answered_one(&mut self) -> Result<Step, StoreError> {
        match self.answer().await {
            Ok(()) => self.done().ok_or_else(|| StoreError::Disagreement("no step is on its way".to_owned())),
            Err(error) => {
                self.not_done(&error).await;
                Err(error.into())
            }
        }
    }

    /// Follows a step back that was done; keeps one whose answer was lost, to be settled.
    fn done_back(&mut self, answer: Answer, changes: ChangeSet, step: Step) -> Result<Step, StoreError> {
        match answer {
            Ok(()) => {
                self.follow(&changes, step.position);
                Ok(step)
            }
            Err(error) => {
                if error.kind() == FastErrorKind::OutcomeUnknown {
                    tracing::warn!(position = %step.position, %error, "Redis' answer is missing; asking what it has");
                    self.unsettled = vec![Unsettled { changes: Arc::new(changes), step }];
                }
                Err(error.into())
            }
        }
    }

    /// What became of steps whose answers were lost: those that were done. Never guessed: the head tells.
    ///
    /// # Errors
    /// Disagreement: Redis is neither before nor after any of them. Unavailable: not known yet.
    pub(crate) async fn settle(&mut self) -> Result<Vec<Step>, StoreError> {
        if self.unsettled.is_empty() {
            return Ok(Vec::new());
        }
        self.confirm_run().await?;
        let head = self.fast.head().await?;
        if let Some(run_id) = self.fast.unknown_run() {
            return Err(FastError::AnotherRun { doing: "settle a step".to_owned(), run_id }.into());
        }
        let Some(count) = count_done(&head, &self.unsettled, self.seq) else {
            return Err(StoreError::Disagreement(format!(
                "Redis is at operation {}, which is not one of those that were sent after {}: it lost data, or somebody else \
                 wrote",
                head.position, self.seq
            )));
        };
        let mut steps = Vec::with_capacity(count);
        for Unsettled { changes, step } in std::mem::take(&mut self.unsettled).into_iter().take(count) {
            self.follow(&changes, step.position);
            steps.push(step);
        }
        Ok(steps)
    }

    /// Steps that were not settled are no concern any more: Redis is restored.
    pub(crate) fn forget_unsettled(&mut self) {
        self.unsettled.clear();
    }

    /// What takes the tip back, if Redis still has it.
    pub(crate) async fn undo_record(&self, height: Height) -> Result<Option<UndoRecord>, StoreError> {
        Ok(self.fast.undo_record(height).await?)
    }

    /// Takes the tip back in Redis. `None`: Redis has no undo record or no body for it.
    pub(crate) async fn take_back(&mut self) -> Result<Option<Step>, StoreError> {
        let Some(tip) = self.resident.tip else { return Ok(None) };
        let Some(record) = self.undo_record(tip.height).await? else { return Ok(None) };
        let mut bodies = self.fast.blocks(&[tip.id]).await?;
        let Some(block) = bodies.pop().flatten() else { return Ok(None) };
        let touched = record.accounts.iter().map(|(address, _)| *address).collect();
        let view = self.view(Needs { accounts: touched, ..Needs::default() }).await?;
        let changes =
            undo(&view, &block, &record).map_err(|error| StoreError::Disagreement(error.to_string()))?;
        let position = Position { epoch: self.epoch, seq: self.seq + 1 };
        let Some(entry) = OutboxEntry::of_pop(position, &changes) else {
            return Err(StoreError::Disagreement(
                "an undo's change set does not take a block back".to_owned(),
            ));
        };
        let fence = self.fence();
        reach("writer.before_step_back");
        let answer = self.fast.take_back(&fence, &changes, &entry).await;
        let Tip { height, id, .. } = changes.tip_after;
        let operation = SlowOperation::TakeBack { to_height: height };
        self.done_back(answer, changes, Step { position, operation, bytes: 0, height, id }).map(Some)
    }

    /// Accepts a rewind: reads and steps pause until Redis is restored. Doing it again is harmless.
    pub(crate) async fn rewind(&mut self, to_height: Height, id: BlockId) -> Result<Step, StoreError> {
        let position = Position { epoch: self.epoch, seq: self.seq + 1 };
        let target = RewindTarget { height: to_height, id };
        if let Err(error) = self.fast.rewind(&self.fence(), position.seq, target).await {
            // It may have been done, now or by an attempt before, whose answer was lost.
            let head = self.fast.head().await?;
            if head.position != position || head.state != State::Rewinding {
                return Err(error.into());
            }
        }
        self.seq = position.seq;
        let operation = SlowOperation::TakeBack { to_height };
        Ok(Step { position, operation, bytes: 0, height: to_height, id })
    }

    /// Removes what is durable and old enough; doing it twice is harmless.
    pub(crate) async fn trim(&self, trim: &Trim) -> Result<(), StoreError> {
        Ok(self.fast.trim(self.epoch, trim).await?)
    }

    /// Another run of Redis may have begun with a copy from before somebody took the chain over; PostgreSQL knows.
    ///
    /// # Errors
    /// Held: somebody did. AnotherRun: PostgreSQL cannot tell now.
    pub(crate) async fn confirm_run(&self) -> Result<(), StoreError> {
        let Some(run) = self.fast.unknown_run() else { return Ok(()) };
        let asked = async { SlowReader::connect(&self.postgres).await?.reads().position().await };
        let position = match asked.await.map_err(StoreError::from) {
            Ok(position) => position,
            Err(error)
                if matches!(decide(&error), Decision::Retry | Decision::Ask | Decision::RetrySlowly) =>
            {
                let doing = format!("wait for PostgreSQL ({error})");
                return Err(FastError::AnotherRun { doing, run_id: run }.into());
            }
            Err(error) => return Err(error),
        };
        if position.epoch > self.epoch {
            return Err(StoreError::Held(format!(
                "another node took the chain over with epoch {}, and this Redis does not know it",
                position.epoch
            )));
        }
        self.trust_run(&run).await
    }

    fn follow(&mut self, changes: &ChangeSet, position: Position) {
        self.resident.follow(changes);
        self.seq = position.seq;
    }
}

/// How many of the steps Redis has done; `None`: it is elsewhere.
fn count_done(head: &Head, steps: &[Unsettled], seq_before: u64) -> Option<usize> {
    let tip = head.tip.map(|tip| tip.id);
    let is_last =
        |sent: &Unsettled| head.position == sent.step.position && tip == Some(sent.changes.tip_after.id);
    let before = steps.first()?.changes.tip_before.map(|tip| tip.id);
    match steps.iter().position(is_last) {
        Some(place) => Some(place + 1),
        None => (head.position.seq == seq_before && tip == before).then_some(0),
    }
}

/// About what a block takes in memory and on the wire: header, and fixed parts, signatures and asset of each transaction.
pub(crate) fn block_bytes(block: &Block) -> usize {
    const HEADER_BYTES: usize = 256;
    const TRANSACTION_BYTES: usize = 192;
    let of_transaction = |t: &forebay_ledger::transaction::Transaction| {
        TRANSACTION_BYTES + 64 * t.signatures.len() + t.asset.to_bytes().len()
    };
    HEADER_BYTES + block.transactions.iter().map(of_transaction).sum::<usize>()
}

/// The same of an operation.
pub(crate) fn operation_bytes(operation: &SlowOperation) -> usize {
    match operation {
        SlowOperation::Append(row) => block_bytes(&row.block),
        SlowOperation::TakeBack { .. } => 0,
    }
}
