//! A node's data layer: one owner of the protocol's state, one loop.
//!
//! Callers hand in commands; the loop takes one action at a time, does it, and checks its invariants. It alone talks to
//! the Writer and knows the unsynced tail; the Syncer gets batches of the tail and reports back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_fast::{Durable as DurableNote, FastTier, Position};
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::Height;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::verify::{CheckedBlock, check_block};
use forebay_slow::{SlowOperation, SlowReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::StoreError;
use crate::options::NodeOptions;
use crate::progress::{Phase, PhaseProgress, Progress};
use crate::receipt::{Accepted, Durable};
use crate::restore::RestoreFrom;
use crate::retention::Retention;
use crate::start::{Heartbeat, Observer, start};
use crate::syncer::{Batch, SyncEvent, Syncer};
use crate::writer::{Step, Writer};

/// Commands that wait for the loop: enough to keep it busy, few enough that a full queue is felt at once.
const COMMANDS_WAITING_MAX: usize = 64;
/// Things to remove from Redis before a trim is worth a call of its own.
const TRIM_AT_LEAST: usize = 64;

/// A running node. Cheap to clone; all clones drive the same loop.
#[derive(Clone)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    profile: Arc<NetworkProfile>,
    checker: Arc<Checker>,
    fast: FastTier,
}

/// The loop of a node, to be awaited: it ends when the node was stopped, or with what stopped it.
pub struct Running {
    task: JoinHandle<Result<Stopped, StoreError>>,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// What PostgreSQL has.
    pub durable: Durable,
    /// Operations that stayed in the outbox; the next start drains them.
    pub left_in_outbox: usize,
}

enum Command {
    Apply { block: Box<CheckedBlock>, now: i64, reply: oneshot::Sender<Result<Accepted, StoreError>> },
    TakeBack { to_height: Height, reply: oneshot::Sender<Result<Accepted, StoreError>> },
    Stop { drain_max: Duration },
}

impl Node {
    /// Runs the start sequence (claim, drain, clean, restore) and the loop. When it returns, reads and writes work and
    /// the chain has at least its genesis block, accepted.
    ///
    /// # Errors
    /// [`StoreError`]: nothing runs then, and starting again is safe.
    pub async fn start(options: NodeOptions, observe: Observer) -> Result<(Self, Running), StoreError> {
        let started = start(&options, &observe).await?;
        let checker = Arc::new(Checker::default());
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (batches, to_syncer) = mpsc::channel(1);
        let (to_loop, events) = mpsc::channel(16);
        let syncer = Syncer::new(options.postgres.clone(), started.epoch);
        tokio::spawn(syncer.run(to_syncer, to_loop));
        let restored = started.restored;
        let tip = restored.resident.tip;
        let durable =
            Durable { seq: restored.seq, height: tip.map_or(0, |tip| tip.height), id: tip.map(|tip| tip.id) };
        let position = Position { epoch: started.epoch, seq: restored.seq };
        let (progress, progress_seen) = watch::channel(Progress {
            phase: Phase::Ready,
            tip,
            position,
            durable,
            lag_operations: 0,
            lag_bytes: 0,
            retries: 0,
            last_error: None,
        });
        let round = restored.resident.round.as_ref().map_or(1, |round| round.round);
        let retention = Retention::after_restore(&options.limits, restored.kept, durable.height, round);
        let writer = Writer {
            fast: started.fast.clone(),
            profile: Arc::clone(&options.profile),
            checker: Arc::clone(&checker),
            epoch: started.epoch,
            seq: restored.seq,
            resident: restored.resident,
            redis_away_max: options.limits.redis_away_max,
        };
        let heartbeat = Heartbeat::start(&started.fast, started.epoch, options.limits.takeover_after);
        let mut owner = Owner {
            options,
            writer,
            tail: VecDeque::new(),
            tail_bytes: 0,
            in_flight: 0,
            durable,
            retention,
            batches,
            events,
            progress,
            _heartbeat: heartbeat,
            observe,
        };
        if owner.writer.resident.tip.is_none() {
            owner.begin_chain().await?;
        }
        let node = Self {
            commands,
            progress: progress_seen,
            profile: Arc::clone(&owner.options.profile),
            checker,
            fast: started.fast,
        };
        (owner.observe)(PhaseProgress { phase: Phase::Ready, done: 0, total: None });
        // A thread of its own: the loop verifies and applies, which would hold up whatever else runs on a shared one.
        let runtime = tokio::runtime::Handle::current();
        let task = tokio::task::spawn_blocking(move || runtime.block_on(owner.run(waiting)));
        Ok((node, Running { task }))
    }

    /// Checks what needs no state, on all cores. Do it ahead: blocks can be checked while others are applied.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, block: Block) -> Result<CheckedBlock, StoreError> {
        Ok(check_block(block, &self.profile, &self.checker)?)
    }

    /// The checker, to check blocks elsewhere with the same cache of keys.
    #[must_use]
    pub fn checker(&self) -> Arc<Checker> {
        Arc::clone(&self.checker)
    }

    /// Applies a block. When it returns, the block is accepted: applied in Redis, in the outbox; not yet durable. A block
    /// that the chain already has is accepted again, and nothing is done. Waits while too much is not durable.
    ///
    /// `now`: seconds since the network's epoch, against which slots are checked.
    ///
    /// # Errors
    /// Refused, or another branch: nothing was changed. Stopped: ask the next start whether it was accepted.
    pub async fn apply(&self, block: CheckedBlock, now: i64) -> Result<Accepted, StoreError> {
        self.ask(|reply| Command::Apply { block: Box::new(block), now, reply }).await
    }

    /// Takes back every block above a height. When it returns, that is accepted (and, where Redis had no undo records,
    /// already durable).
    ///
    /// # Errors
    /// A height of 0 or above the tip: nothing was changed.
    pub async fn take_back_to(&self, to_height: Height) -> Result<Accepted, StoreError> {
        self.ask(|reply| Command::TakeBack { to_height, reply }).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<Accepted, StoreError>>) -> Command,
    ) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Where the node stands now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Changes of [`Node::progress`] as they come.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until everything up to and with this operation is durable.
    ///
    /// # Errors
    /// The node stopped before.
    pub async fn until_durable(&self, position: Position) -> Result<Durable, StoreError> {
        let mut progress = self.progress.clone();
        let reached =
            progress.wait_for(|progress| progress.durable.seq >= position.seq).await.map_err(|_| gone())?;
        Ok(reached.durable)
    }

    /// The fast tier, for reads.
    #[must_use]
    pub fn fast(&self) -> &FastTier {
        &self.fast
    }

    /// Asks the loop to stop: nothing more is accepted, the outbox is drained for at most `drain_max`, the chain is
    /// given up. Await [`Running::ended`] for the outcome.
    pub async fn stop(&self, drain_max: Duration) {
        // A loop that has ended needs no order.
        let _ = self.commands.send(Command::Stop { drain_max }).await;
    }
}

impl Running {
    /// How the node ended.
    ///
    /// # Errors
    /// What stopped it, if nobody asked it to.
    pub async fn ended(&mut self) -> Result<Stopped, StoreError> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(StoreError::Stopped(format!("its task failed: {error}"))),
        }
    }
}

fn gone() -> StoreError {
    StoreError::Stopped("it takes no more commands".to_owned())
}

/// An operation that Redis has and PostgreSQL does not.
struct Unsynced {
    position: Position,
    operation: SlowOperation,
    bytes: usize,
    /// The tip after it.
    height: Height,
    id: forebay_ledger::ids::BlockId,
}

/// What the loop does next.
enum Action {
    Command(Command),
    Synced(SyncEvent),
    /// All senders are gone: nobody can ask for anything any more.
    Abandoned,
    SyncerGone,
}

struct Owner {
    options: NodeOptions,
    writer: Writer,
    tail: VecDeque<Unsynced>,
    tail_bytes: usize,
    /// How many of the tail's oldest are with the Syncer.
    in_flight: usize,
    durable: Durable,
    retention: Retention,
    batches: mpsc::Sender<Batch>,
    events: mpsc::Receiver<SyncEvent>,
    progress: watch::Sender<Progress>,
    /// Beats as long as the loop lives.
    _heartbeat: Heartbeat,
    observe: Observer,
}

impl Owner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<Stopped, StoreError> {
        let outcome = self.work(&mut commands).await;
        let stopped = match outcome {
            Ok(drain_max) => self.wind_down(drain_max).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &stopped {
            tracing::error!(%error, remedy = error.remedy(), "the node stops");
            let message = error.to_string();
            self.progress.send_modify(|progress| progress.last_error = Some(message));
        }
        self.progress.send_modify(|progress| progress.phase = Phase::Stopped);
        stopped
    }

    /// Works until it is asked to stop (then: how long to drain), or must stop.
    async fn work(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<Duration, StoreError> {
        loop {
            self.send_batch().await?;
            match self.next_action(commands).await {
                Action::Command(Command::Apply { block, now, reply }) => {
                    let outcome = self.apply(*block, now).await;
                    answer(reply, outcome)?;
                }
                Action::Command(Command::TakeBack { to_height, reply }) => {
                    let outcome = self.take_back_to(to_height).await;
                    answer(reply, outcome)?;
                }
                Action::Command(Command::Stop { drain_max }) => return Ok(drain_max),
                Action::Abandoned => return Ok(Duration::ZERO),
                Action::Synced(event) => self.synced(event).await?,
                Action::SyncerGone => return Err(StoreError::Stopped("the Syncer ended".to_owned())),
            }
            self.check_invariants()?;
        }
    }

    /// While too much is not durable, no command is taken: whoever sent it waits.
    async fn next_action(&mut self, commands: &mut mpsc::Receiver<Command>) -> Action {
        let limits = &self.options.limits;
        let has_room = self.tail.len() < limits.lag_blocks_max && self.tail_bytes < limits.lag_bytes_max;
        tokio::select! {
            biased;
            event = self.events.recv() => event.map_or(Action::SyncerGone, Action::Synced),
            command = commands.recv(), if has_room => command.map_or(Action::Abandoned, Action::Command),
        }
    }

    fn check_invariants(&self) -> Result<(), StoreError> {
        let first_unsynced = self.tail.front().map_or(self.writer.seq + 1, |unsynced| unsynced.position.seq);
        if first_unsynced != self.durable.seq + 1 || self.in_flight > self.tail.len() {
            return Err(StoreError::Disagreement(format!(
                "the tail begins at operation {first_unsynced}, but PostgreSQL is at {}",
                self.durable.seq
            )));
        }
        Ok(())
    }

    async fn begin_chain(&mut self) -> Result<(), StoreError> {
        let genesis = (*self.options.genesis).clone();
        self.writer.resident.genesis_account =
            Some(forebay_ledger::ids::Address::of(&genesis.generator_public_key));
        let step = self.writer.apply_genesis(genesis).await?;
        self.accepted(step);
        Ok(())
    }

    async fn apply(&mut self, block: CheckedBlock, now: i64) -> Result<Accepted, StoreError> {
        if let Some(known) = self.known(block.block()).await? {
            return Ok(known);
        }
        let step = self.writer.apply(block, now).await?;
        Ok(self.accepted(step))
    }

    /// The block, if the chain has it already: recognised by its computed id, at the place that `previousBlock` gives it.
    async fn known(&self, block: &Block) -> Result<Option<Accepted>, StoreError> {
        let Some(tip) = self.writer.resident.tip else { return Ok(None) };
        if block.previous_block == Some(tip.id) {
            return Ok(None);
        }
        let position = Position { epoch: self.writer.epoch, seq: self.writer.seq };
        let known = |height, id| Some(Accepted { id, height, position, is_new: false });
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
    async fn height_of(&self, id: forebay_ledger::ids::BlockId) -> Result<Option<Height>, StoreError> {
        if let Some(height) = self.retention.height_of(id) {
            return Ok(Some(height));
        }
        if self.retention.has_whole_chain() {
            return Ok(None);
        }
        let reader = SlowReader::connect(&self.options.postgres).await?;
        Ok(reader.reads().block_by_id(id).await?.map(|block| block.height))
    }

    async fn id_at(&self, height: Height) -> Result<Option<forebay_ledger::ids::BlockId>, StoreError> {
        if let Some(id) = self.retention.id_at(height) {
            return Ok(Some(id));
        }
        let reader = SlowReader::connect(&self.options.postgres).await?;
        Ok(reader.reads().block_by_height(height).await?.map(|block| block.id))
    }

    fn accepted(&mut self, step: Step) -> Accepted {
        let tip = self.writer.resident.tip;
        let (height, id) = tip.map_or((0, forebay_ledger::ids::BlockId(0)), |tip| (tip.height, tip.id));
        match &step.operation {
            SlowOperation::Append(_) => self.retention.applied(step.position, height, id),
            SlowOperation::TakeBack { .. } => self.retention.taken_back(step.position, self.round()),
        }
        self.tail_bytes += step.bytes;
        self.tail.push_back(Unsynced {
            position: step.position,
            operation: step.operation,
            bytes: step.bytes,
            height,
            id,
        });
        self.show();
        Accepted { id, height, position: step.position, is_new: true }
    }

    fn round(&self) -> u32 {
        self.writer.resident.round.as_ref().map_or(1, |round| round.round)
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
        let position = Position { epoch: self.writer.epoch, seq: self.writer.seq };
        let mut last = Accepted { id: tip.id, height: tip.height, position, is_new: false };
        // Undo records are kept without gaps down from the tip: the deepest one decides.
        if to_height < height && self.writer.undo_record(to_height + 1).await?.is_none() {
            return self.rewind_to(to_height).await;
        }
        while self.writer.tip_height() > to_height {
            match self.writer.take_back().await? {
                Some(step) => last = self.accepted(step),
                None => return self.rewind_to(to_height).await,
            }
        }
        Ok(last)
    }

    /// Beyond Redis' undo records: everything accepted becomes durable, PostgreSQL takes the blocks back, and Redis is
    /// restored from it. Reads pause meanwhile.
    async fn rewind_to(&mut self, to_height: Height) -> Result<Accepted, StoreError> {
        self.until_synced().await?;
        let reader = SlowReader::connect(&self.options.postgres).await?;
        let target = reader.reads().block_by_height(to_height).await?.ok_or_else(|| {
            StoreError::Disagreement(format!("PostgreSQL has no block at height {to_height}"))
        })?;
        let step = self.writer.rewind(to_height, target.id).await?;
        tracing::info!(to_height, "rewinding: PostgreSQL takes blocks back, then Redis is restored");
        self.tail.push_back(Unsynced {
            position: step.position,
            operation: step.operation,
            bytes: 0,
            height: to_height,
            id: target.id,
        });
        self.until_synced().await?;
        let restored = RestoreFrom {
            fast: &self.writer.fast,
            postgres: &self.options.postgres,
            profile: &self.options.profile,
            limits: &self.options.limits,
            genesis_account: forebay_ledger::ids::Address::of(&self.options.genesis.generator_public_key),
            epoch: self.writer.epoch,
        }
        .run(self.observe.as_ref())
        .await?;
        self.writer.seq = restored.seq;
        self.writer.resident = restored.resident;
        let round = self.round();
        self.retention = Retention::after_restore(&self.options.limits, restored.kept, to_height, round);
        self.show();
        let position = Position { epoch: self.writer.epoch, seq: self.writer.seq };
        Ok(Accepted { id: target.id, height: to_height, position, is_new: true })
    }

    async fn until_synced(&mut self) -> Result<(), StoreError> {
        while !self.tail.is_empty() {
            self.send_batch().await?;
            match self.events.recv().await {
                Some(event) => self.synced(event).await?,
                None => return Err(StoreError::Stopped("the Syncer ended".to_owned())),
            }
        }
        Ok(())
    }

    /// Hands the Syncer the next batch when it is idle: everything that waits, within the limits. At the tip that is one
    /// block at once; far behind it is many.
    async fn send_batch(&mut self) -> Result<(), StoreError> {
        if self.in_flight > 0 || self.tail.is_empty() {
            return Ok(());
        }
        let limits = &self.options.limits;
        let mut operations = Vec::new();
        let mut bytes = 0;
        let mut new_seq = self.durable.seq;
        for unsynced in self.tail.iter().take(limits.batch_operations_max.max(1)) {
            if !operations.is_empty() && bytes + unsynced.bytes > limits.batch_bytes_max {
                break;
            }
            bytes += unsynced.bytes;
            new_seq = unsynced.position.seq;
            operations.push(unsynced.operation.clone());
        }
        self.in_flight = operations.len();
        let batch = Batch { expected_seq: self.durable.seq, new_seq, operations };
        self.batches.send(batch).await.map_err(|_| StoreError::Stopped("the Syncer ended".to_owned()))
    }

    async fn synced(&mut self, event: SyncEvent) -> Result<(), StoreError> {
        match event {
            SyncEvent::Durable { seq } => {
                for unsynced in self.tail.drain(..self.in_flight) {
                    self.tail_bytes -= unsynced.bytes.min(self.tail_bytes);
                    self.durable = Durable {
                        seq: unsynced.position.seq,
                        height: unsynced.height,
                        id: Some(unsynced.id),
                    };
                }
                self.in_flight = 0;
                if self.durable.seq != seq {
                    return Err(StoreError::Disagreement(format!(
                        "the Syncer committed up to operation {seq}, the batch ended at {}",
                        self.durable.seq
                    )));
                }
                self.progress.send_modify(|progress| progress.last_error = None);
                self.trim(TRIM_AT_LEAST).await?;
                self.show();
                Ok(())
            }
            SyncEvent::Retrying { attempt, error, wait } => {
                tracing::debug!(attempt, wait_ms = wait.as_millis(), "the Syncer tries again");
                self.progress.send_modify(|progress| {
                    progress.retries += 1;
                    progress.last_error = Some(error);
                });
                Ok(())
            }
            SyncEvent::Failed(error) => Err(error),
        }
    }

    /// Removes from Redis what is durable and old enough.
    async fn trim(&mut self, least: usize) -> Result<(), StoreError> {
        let position = Position { epoch: self.writer.epoch, seq: self.durable.seq };
        let note = DurableNote { position, height: self.durable.height };
        let round = self.round();
        if let Some(trim) = self.retention.trim(note, round, least) {
            self.writer.trim(&trim).await?;
        }
        Ok(())
    }

    fn show(&self) {
        self.progress.send_modify(|progress| {
            progress.tip = self.writer.resident.tip;
            progress.position = Position { epoch: self.writer.epoch, seq: self.writer.seq };
            progress.durable = self.durable;
            progress.lag_operations = self.tail.len();
            progress.lag_bytes = self.tail_bytes;
        });
    }

    async fn wind_down(&mut self, drain_max: Duration) -> Result<Stopped, StoreError> {
        self.progress.send_modify(|progress| progress.phase = Phase::Stopping);
        match tokio::time::timeout(drain_max, self.until_synced()).await {
            Ok(outcome) => outcome?,
            Err(_) => tracing::warn!(
                operations = self.tail.len(),
                "the drain took too long; the rest stays in the outbox"
            ),
        }
        if self.tail.is_empty() {
            self.trim(0).await?;
        }
        self.writer.fast.release(self.writer.epoch).await?;
        Ok(Stopped { durable: self.durable, left_in_outbox: self.tail.len() })
    }
}

/// Answers a caller. A failure that is not the caller's alone stops the node, after the caller was told.
fn answer(
    reply: oneshot::Sender<Result<Accepted, StoreError>>,
    outcome: Result<Accepted, StoreError>,
) -> Result<(), StoreError> {
    use crate::error::{Decision, decide};
    let fatal = match &outcome {
        Err(error) => match decide(error) {
            Decision::Refuse | Decision::RetrySlowly => None,
            Decision::Stop | Decision::Ask | Decision::Retry => Some(error.to_string()),
        },
        Ok(_) => None,
    };
    // A caller that went away does not need the answer; the operation stays done.
    let _ = reply.send(outcome);
    fatal.map_or(Ok(()), |message| Err(StoreError::Stopped(message)))
}
