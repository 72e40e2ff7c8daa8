//! The state of everything: two nodes, two tiers, requests that are still under way, and what is true.

use crate::ops::{Op, Ops};
use crate::rules::Bounds;

/// What Redis' keys are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Readiness {
    /// Nothing is there.
    #[default]
    Empty,
    /// Keys are being removed.
    Cleaning,
    /// Keys are being loaded.
    Restoring,
    /// Steps are taken.
    Ready,
}

/// The fast tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Redis {
    /// The epoch that owns the chain; 0: none.
    pub owner: u8,
    /// What the keys are good for.
    pub state: Readiness,
    /// The head's epoch.
    pub epoch: u8,
    /// The head's seq.
    pub seq: u8,
    /// The state: blocks above the genesis block.
    pub chain: Ops,
    /// Where the last restore began; the outbox has nothing before.
    pub base: u8,
    /// Seq of the oldest outbox entry; `seq + 1` if there is none.
    pub outbox_first: u8,
    /// The outbox.
    pub outbox: Ops,
}

/// The slow tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Postgres {
    /// The position's epoch.
    pub epoch: u8,
    /// The position's seq.
    pub seq: u8,
    /// The blocks' table: blocks above the genesis block.
    pub chain: Ops,
    /// What was done to it, in order. Not in the real database: for the invariants.
    pub log: Ops,
    /// The position's seq before the last transaction: what an older copy of the database has.
    pub seq_before: u8,
    /// The epoch before the last takeover.
    pub epoch_before: u8,
    /// Seq at the last takeover.
    pub raised_at: u8,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Phase {
    /// No process.
    #[default]
    Stopped,
    /// Knows Redis' owner.
    Looked,
    /// Knows the epoch that it will claim.
    Claiming,
    /// Has claimed it in Redis.
    TakingOver,
    /// Owns both tiers; decides what to do with the outbox.
    Deciding,
    /// Brings the outbox to PostgreSQL.
    Draining,
    /// Takes a snapshot of PostgreSQL next.
    Snapshotting,
    /// Drops Redis' state and outbox next.
    Cleaning,
    /// Loads Redis next.
    Loading,
    /// Opens Redis next.
    Opening,
    /// Marks the rollback file done next.
    Marking,
    /// Accepts operations.
    Running,
    /// Found Redis without this chain: brings its tail to PostgreSQL.
    Healing,
}

/// Why a node raises its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Reason {
    /// It starts.
    #[default]
    Start,
    /// Redis lost the chain.
    Heal,
    /// PostgreSQL was put back.
    Feed,
}

/// What a node knows of a request that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Request {
    /// There is none.
    #[default]
    None,
    /// It waits for the answer.
    Sent,
    /// The answer is lost.
    Unknown,
    /// It was not done; the same is sent again.
    Again,
}

/// A rollback file in a node's directory that is not marked done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    /// The epoch that gave up.
    pub epoch: u8,
    /// Seq of its first operation.
    pub first: u8,
    /// What is given up.
    pub ops: Ops,
}

/// A node: process and directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Node {
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it claims and restores.
    pub reason: Reason,
    /// Its heartbeat is not seen (paused, cut off); it may act all the same, at any time.
    pub silent: bool,
    /// Its connection is to the Redis that runs now.
    pub sees_run: bool,
    /// The owner that it saw in Redis.
    pub seen: u8,
    /// The epoch that it saw in PostgreSQL.
    pub seen_slow: u8,
    /// The epoch that it claims.
    pub next: u8,
    /// The epoch that it holds.
    pub epoch: u8,
    /// The chain as it knows it.
    pub chain: Ops,
    /// The last operation that it knows to be durable.
    pub durable: u8,
    /// What it knows beyond that: accepted and not durable.
    pub tail: Ops,
    /// The operation that it wants done in Redis.
    pub op: Option<Op>,
    /// What became of it.
    pub step: Request,
    /// How many of the tail's oldest are in the batch.
    pub batch: u8,
    /// What became of the batch.
    pub commit: Request,
    /// It obeys its rollback file.
    pub obeys: bool,
    /// The rollback file.
    pub order: Option<Order>,
}

/// A step on its way to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// The writer's epoch.
    pub epoch: u8,
    /// The operation that it follows.
    pub seq: u8,
    /// The tip that it follows.
    pub tip: Option<Op>,
    /// What to do.
    pub op: Op,
}

/// A transaction on its way to PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
    /// The writer's epoch.
    pub epoch: u8,
    /// Where the position must be.
    pub expected: u8,
    /// What to do.
    pub ops: Ops,
}

/// A promise that was broken by an action (others are seen in the state).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    /// An acknowledged operation was replaced by another.
    Overwritten,
    /// An operation was done in Redis that does not follow the ones before.
    Gap,
    /// An operation was acknowledged that is not there.
    AcknowledgedNothing,
    /// An epoch changed a tier that another owns.
    FencedWrite,
    /// The epoch in PostgreSQL went down.
    EpochWentBack,
    /// A block came to PostgreSQL that does not follow its tip, or there was nothing to take back.
    DoesNotFit,
    /// A rollback dropped an acknowledged operation that its file does not have.
    LostBeyondRecord,
    /// A start drained although a rollback file ordered otherwise.
    OrderIgnored,
    /// A node opened Redis with another state than PostgreSQL's.
    TiersDiffer,
    /// A node stopped although both tiers were its own and whole.
    StoppedWithoutCause,
}

/// What is true, and no process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Truth {
    /// The operations in order: those done in Redis, and not replaced since.
    pub history: Ops,
    /// How many of them were acknowledged (all up to the last that was).
    pub acknowledged: u8,
    /// The parent of each block; a pop stands for the genesis block.
    pub parents: Ops,
    /// Redis lost something and was not restored since: whoever holds the tail in memory then has the only copy.
    pub redis_lost: bool,
    /// PostgreSQL was put back some time.
    pub put_back: bool,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct World {
    /// The nodes, in an order of their own: which is which does not matter.
    pub nodes: [Node; 2],
    /// The fast tier.
    pub redis: Redis,
    /// An older copy of it.
    pub replica: Option<Redis>,
    /// The slow tier.
    pub postgres: Postgres,
    /// Steps without an answer that may still arrive.
    pub late_steps: [Option<Step>; 2],
    /// Transactions without an answer that may still be committed.
    pub late_commits: [Option<Commit>; 2],
    /// What is true.
    pub truth: Truth,
    /// What may still happen.
    pub left: Bounds,
}

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The first.
    A,
    /// The second.
    B,
}

impl Who {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other.
    #[must_use]
    pub fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }
}

impl Node {
    /// The last operation that it knows.
    #[must_use]
    pub fn seq(&self) -> u8 {
        self.durable + self.tail.len()
    }

    /// Whether it has claimed the chain and not given it up: its heartbeat is there to be seen, unless it is silent.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.phase > Phase::Claiming || (self.phase != Phase::Stopped && self.reason != Reason::Start)
    }

    /// Whether its tail can still come to PostgreSQL.
    #[must_use]
    pub fn holds_tail(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Running | Phase::Healing)
            || (self.reason == Reason::Feed && self.phase != Phase::Stopped)
    }
}

impl Redis {
    /// The outbox entry of an operation.
    #[must_use]
    pub fn entry(&self, seq: u8) -> Option<Op> {
        self.outbox.get(seq.checked_sub(self.outbox_first)?)
    }

    /// What the outbox has after an operation; `None`: it does not go on there, or has a gap.
    #[must_use]
    pub fn entries_after(&self, seq: u8) -> Option<Ops> {
        if self.seq <= seq {
            return Some(Ops::EMPTY);
        }
        let skipped = (seq + 1).checked_sub(self.outbox_first)?;
        let entries = self.outbox.skip(skipped);
        (entries.len() == self.seq - seq).then_some(entries)
    }
}

impl World {
    /// Nothing has happened.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { left: bounds, ..Self::default() }
    }

    /// A node.
    #[must_use]
    pub fn node(&self, who: Who) -> &Node {
        let [a, b] = &self.nodes;
        if who == Who::A { a } else { b }
    }

    pub(crate) fn node_mut(&mut self, who: Who) -> &mut Node {
        let [a, b] = &mut self.nodes;
        if who == Who::A { a } else { b }
    }

    pub(crate) fn break_promise(&mut self, broken: Broken) {
        self.truth.broken.get_or_insert(broken);
    }

    /// Up to where the operations exist somewhere from which the protocol brings them to PostgreSQL.
    #[must_use]
    pub fn recoverable(&self) -> u8 {
        let durable = self.postgres.seq;
        let in_outbox = (self.redis.state == Readiness::Ready)
            .then(|| self.redis.entries_after(durable))
            .flatten()
            .map_or(durable, |entries| durable + entries.len());
        let in_memory = self
            .nodes
            .iter()
            .filter(|node| node.holds_tail() && node.epoch >= self.postgres.epoch && node.durable <= durable)
            .map(Node::seq)
            .max();
        in_outbox.max(in_memory.unwrap_or_default())
    }

    /// A fault took the last copy of something: that is no longer promised.
    pub(crate) fn excuse(&mut self) {
        self.truth.acknowledged = self.truth.acknowledged.min(self.recoverable());
    }
}
