//! A node's data layer as its callers see it. The loop behind it is in `owner.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_fast::{FastTier, Position};
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::Height;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::verify::{CheckedBlock, check_block};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::StoreError;
use crate::options::NodeOptions;
use crate::owner::stops::{self, AskToStop};
use crate::owner::{Owner, Stopped};
use crate::progress::{Phase, PhaseProgress, Progress};
use crate::receipt::{Accepted, Durable};
use crate::start::{Observer, start};

/// Commands that wait for the loop: enough to keep it busy, few enough that a full queue is felt at once.
const COMMANDS_WAITING_MAX: usize = 64;

/// A running node. Cheap to clone; all clones drive the same loop.
#[derive(Clone)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    stops: AskToStop,
    progress: watch::Receiver<Progress>,
    profile: Arc<NetworkProfile>,
    checker: Arc<Checker>,
    fast: FastTier,
    /// See [`Counts::requests_refused`](crate::Counts::requests_refused).
    refused: Arc<AtomicU64>,
}

/// The loop of a node, to be awaited: it ends when the node was stopped, or with what stopped it.
pub struct Running {
    task: JoinHandle<Result<Stopped, StoreError>>,
}

/// What a caller asks of the loop.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
}

pub(crate) enum Request {
    Apply { block: Box<CheckedBlock>, now: i64 },
    TakeBack { to_height: Height },
}

/// How a caller is answered.
pub(crate) type Reply = oneshot::Sender<Result<Accepted, StoreError>>;

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
        let (stops, stopping) = stops::channel();
        let fast = started.fast.clone();
        let profile = Arc::clone(&options.profile);
        let (mut owner, progress) =
            Owner::new(options, started, Arc::clone(&checker), Arc::clone(&observe), stopping);
        let refused = Arc::clone(&owner.refused);
        owner.begin_chain().await?;
        observe(PhaseProgress::new(Phase::Ready, 0, None));
        // A thread of its own: the loop verifies and applies, which would hold up whatever else runs on a shared one.
        let runtime = tokio::runtime::Handle::current();
        let task = tokio::task::spawn_blocking(move || runtime.block_on(owner.run(waiting)));
        Ok((Self { commands, stops, progress, profile, checker, fast, refused }, Running { task }))
    }

    /// Checks what needs no state, on all cores. Do it ahead: blocks can be checked while others are applied.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, block: Block) -> Result<CheckedBlock, StoreError> {
        check_block(block, &self.profile, &self.checker).map_err(|refusal| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            refusal.into()
        })
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
        self.ask(Request::Apply { block: Box::new(block), now }).await
    }

    /// Takes back every block above a height. When it returns, that is accepted (and, where Redis had no undo records,
    /// already durable).
    ///
    /// # Errors
    /// A height of 0 or above the tip: nothing was changed.
    pub async fn take_back_to(&self, to_height: Height) -> Result<Accepted, StoreError> {
        self.ask(Request::TakeBack { to_height }).await
    }

    async fn ask(&self, request: Request) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { request, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Where the node stands now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Commands that wait for the loop, and how many may; whoever comes later waits for a place.
    #[must_use]
    pub fn commands_waiting(&self) -> (usize, usize) {
        let places = self.commands.max_capacity();
        (places - self.commands.capacity().min(places), places)
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

    /// Asks the loop to stop: nothing more is accepted, the outbox is drained for at most `drain_max` from now on, the
    /// chain is given up. It is heard whatever the loop waits for. Operations that Redis lost are in a rollback file before
    /// the drain is tried. Await [`Running::ended`] for the outcome.
    pub async fn stop(&self, drain_max: Duration) {
        self.stops.ask(drain_max);
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

pub(crate) fn gone() -> StoreError {
    StoreError::Stopped("it takes no more commands".to_owned())
}
