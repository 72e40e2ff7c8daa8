//! The Writer: the only place that decides what becomes of a block, and the only one that writes.
//!
//! read what the block needs → verify → one atomic step in Redis. When Redis' answer is lost, the step is kept, and Redis
//! is asked what it has before anything else is tried. Waiting is the loop's business: nothing here does.

use std::collections::HashMap;
use std::sync::Arc;

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
use forebay_ledger::state::{ChangeSet, Needs, UndoRecord};
use forebay_ledger::verify::{CheckedBlock, needs};
use forebay_slow::{BlockRow, SlowOperation, SlowReader};
use tokio_postgres::Config;

use crate::error::{Decision, StoreError, decide};
use crate::options::NodeOptions;
use crate::resident::{BlockView, Resident};
use crate::start::Started;

/// A step that Redis has done: what the slow tier has to do for it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) position: Position,
    pub(crate) operation: SlowOperation,
    /// Size of the block, for the lag in bytes.
    pub(crate) bytes: usize,
}

/// A step that Redis may have done.
#[derive(Debug)]
struct Unsettled {
    changes: ChangeSet,
    step: Step,
}

pub(crate) struct Writer {
    pub(crate) fast: FastTier,
    pub(crate) profile: Arc<NetworkProfile>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) resident: Resident,
    /// A step whose answer was lost: nothing else is tried before it is known what became of it.
    unsettled: Option<Unsettled>,
    /// Asked who holds the chain when another run of Redis answers.
    pub(crate) postgres: Config,
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
            unsettled: None,
            postgres: options.postgres.clone(),
        }
    }

    fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, seq: self.seq, tip: self.resident.tip.map(|tip| tip.id) }
    }

    pub(crate) fn tip_height(&self) -> Height {
        self.resident.tip.map_or(0, |tip| tip.height)
    }

    /// Verifies a block against the state and applies it in Redis. `now`: seconds since the network's epoch.
    pub(crate) async fn apply(&mut self, checked: CheckedBlock, now: i64) -> Result<Step, StoreError> {
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
        self.step_forward(applied, forgers).await
    }

    /// Applies the genesis block to an empty chain.
    pub(crate) async fn apply_genesis(&mut self, genesis: Block) -> Result<Step, StoreError> {
        let view = self.view(Needs::default()).await?;
        let applied = apply_genesis(&view, genesis, &self.profile)?;
        let forgers = match &applied.changes.round {
            forebay_ledger::state::RoundChange::Closed { next, .. } => Some(next.forgers.clone()),
            _ => None,
        };
        self.step_forward(applied, forgers).await
    }

    async fn step_forward(
        &mut self,
        applied: Applied,
        forgers: Option<Vec<forebay_ledger::keys::PublicKey>>,
    ) -> Result<Step, StoreError> {
        let Applied { block, changes, undo } = applied;
        let position = Position { epoch: self.epoch, seq: self.seq + 1 };
        let entry = OutboxEntry::of_block(position, &changes, &block, forgers.as_deref());
        let fence = self.fence();
        reach("writer.before_step");
        let answer = self.fast.apply(&fence, &changes, undo.as_ref(), &block, &entry).await;
        let row = BlockRow {
            transactions_before: changes.tip_before.map_or(0, |tip| tip.transactions_total),
            forgers,
            delegates_digest: changes.delegates_digest,
            block: Arc::new(block),
        };
        let bytes = block_bytes(&row.block);
        self.done(answer, changes, Step { position, operation: SlowOperation::Append(row), bytes })
    }

    /// Follows a step that was done; keeps one whose answer was lost, to be settled.
    fn done(
        &mut self,
        answer: Result<(), FastError>,
        changes: ChangeSet,
        step: Step,
    ) -> Result<Step, StoreError> {
        match answer {
            Ok(()) => {
                self.follow(&changes, step.position);
                Ok(step)
            }
            Err(error) => {
                if error.kind() == FastErrorKind::OutcomeUnknown {
                    tracing::warn!(position = %step.position, %error, "Redis' answer is missing; asking what it has");
                    self.unsettled = Some(Unsettled { changes, step });
                }
                Err(error.into())
            }
        }
    }

    /// What became of a step whose answer was lost. Never guessed: the head tells whether it was done.
    ///
    /// # Errors
    /// Disagreement: Redis is neither before nor after it. Unavailable: not known yet.
    pub(crate) async fn settle(&mut self) -> Result<Option<Step>, StoreError> {
        let Some(Unsettled { changes, step }) = &self.unsettled else { return Ok(None) };
        self.confirm_run().await?;
        let head = self.fast.head().await?;
        if let Some(run_id) = self.fast.unknown_run() {
            return Err(FastError::AnotherRun { doing: "settle a step".to_owned(), run_id }.into());
        }
        match where_is(&head, changes, step.position, self.seq) {
            Whereabouts::Done => {}
            Whereabouts::NotDone => {
                self.unsettled = None;
                return Ok(None);
            }
            Whereabouts::Elsewhere => {
                return Err(StoreError::Disagreement(format!(
                    "Redis is at operation {}, neither before nor at {}: it lost data, or somebody else wrote",
                    head.position, step.position
                )));
            }
        }
        let Some(Unsettled { changes, step }) = self.unsettled.take() else { return Ok(None) };
        self.follow(&changes, step.position);
        Ok(Some(step))
    }

    /// A step that was not settled is no concern any more: Redis is restored.
    pub(crate) fn forget_unsettled(&mut self) {
        self.unsettled = None;
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
        let operation = SlowOperation::TakeBack { to_height: changes.tip_after.height };
        self.done(answer, changes, Step { position, operation, bytes: 0 }).map(Some)
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
        Ok(Step { position, operation: SlowOperation::TakeBack { to_height }, bytes: 0 })
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
        self.fast.trust_run(&run);
        Ok(())
    }

    fn follow(&mut self, changes: &ChangeSet, position: Position) {
        self.resident.follow(changes);
        self.seq = position.seq;
    }

    /// The state as a block sees it.
    async fn view(&self, needed: Needs) -> Result<BlockView<'_>, StoreError> {
        let missing = self.resident.missing(needed);
        let nothing =
            missing.accounts.is_empty() && missing.usernames.is_empty() && missing.transactions.is_empty();
        let mut view = BlockView {
            resident: &self.resident,
            accounts: HashMap::new(),
            usernames: Default::default(),
            transactions: Default::default(),
        };
        if nothing {
            return Ok(view);
        }
        let loaded = self.fast.read_needs(&missing).await?;
        if loaded.at.position.seq != self.seq {
            return Err(StoreError::Disagreement(format!(
                "Redis is at operation {}, the writer at {}: somebody else wrote",
                loaded.at.position, self.seq
            )));
        }
        view.accounts = loaded.value.accounts.into_iter().map(|account| (account.address, account)).collect();
        view.usernames = loaded.value.usernames.into_iter().collect();
        view.transactions = loaded.value.transactions.into_iter().map(|(id, _)| id).collect();
        Ok(view)
    }
}

enum Whereabouts {
    Done,
    NotDone,
    Elsewhere,
}

fn where_is(head: &Head, changes: &ChangeSet, position: Position, seq_before: u64) -> Whereabouts {
    let tip = head.tip.map(|tip| tip.id);
    if head.position == position && tip == Some(changes.tip_after.id) {
        Whereabouts::Done
    } else if head.position.seq == seq_before && tip == changes.tip_before.map(|tip| tip.id) {
        Whereabouts::NotDone
    } else {
        Whereabouts::Elsewhere
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
