//! The rules of the protocol, each of which can be left out, and the bounds of an exploration.

/// A rule. Leaving it out must lead to a counterexample, or it is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A step in Redis is refused unless its epoch owns the chain.
    StepChecksEpoch,
    /// A step is refused unless it follows the last accepted operation.
    StepChecksSeq,
    /// A step is refused unless it follows the tip.
    StepChecksTip,
    /// An outbox entry's id `<epoch>-<seq>` must be above the last one's.
    OutboxIdsGrow,
    /// Before Redis is asked what became of a step, the connection that the step went over is killed.
    OldConnectionIsKilled,
    /// Clean, restore and trim are refused unless their epoch owns the chain.
    UpkeepChecksEpoch,
    /// The chain is claimed in Redis only if its owner is still as it was seen.
    ClaimComparesOwner,
    /// Who finds no owner in Redis, though PostgreSQL names an epoch, watches for a living one before it claims.
    ClaimWaitsWithoutOwner,
    /// PostgreSQL is taken over only if its epoch is below the new one.
    TakeOverOnlyRaises,
    /// PostgreSQL is taken over only if its epoch is still the one that was seen.
    TakeOverComparesEpoch,
    /// A transaction's first statement moves the position only at its own epoch.
    PositionChecksEpoch,
    /// A transaction's first statement moves the position only from the seq that it expects.
    PositionChecksSeq,
    /// A start reads the outbox after it owns both tiers.
    OutboxReadAfterClaim,
    /// A start brings the outbox to PostgreSQL before it restores from it.
    DrainBeforeRestore,
    /// A start drops the outbox only when it was drained.
    DrainBeforeClean,
    /// A restore takes PostgreSQL only as the node left it: own epoch, and the seq that was drained up to.
    SnapshotIsCompared,
    /// Only what PostgreSQL has flushed is trimmed from the outbox.
    TrimOnlyDurable,
    /// The newest entries stay in the outbox after they are durable.
    KeepRecentEntries,
    /// A lost answer to COMMIT is not taken as a failure: the position is asked.
    LostCommitIsNotFailed,
    /// A lost answer to COMMIT is not taken as success: the position is asked.
    LostCommitIsNotDone,
    /// A lost answer to a step is not taken as success: the head is asked.
    LostStepIsNotDone,
    /// A Redis that refuses, or is silent, is asked whether it still has this chain, and is healed if not.
    IdentityIsChecked,
    /// Another run of Redis is written to only when PostgreSQL still names this node's epoch; a start or a restore that
    /// was under way begins again.
    NewRunIsNoticed,
    /// A node raises its own epoch (to heal) only while PostgreSQL names no higher one.
    RaiseOnlyOverOwn,
    /// The tail in memory goes to PostgreSQL before Redis is restored from it.
    TailBeforeHeal,
    /// A PostgreSQL that was put back is fed from the outbox, not taken as it is.
    OlderPostgresIsFed,
    /// A rollback file orders the next start to give the outbox up.
    RollbackIsObeyed,
    /// The rollback file is marked done before the node accepts anything.
    RollbackIsMarked,
    /// A rollback file orders nothing once a later epoch has restored Redis.
    RollbackIsBound,
    /// A rollback goes back to the base that its file names: what PostgreSQL lacks below is drained first.
    RollbackKeepsItsBase,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::StepChecksEpoch,
        Self::StepChecksSeq,
        Self::StepChecksTip,
        Self::OutboxIdsGrow,
        Self::OldConnectionIsKilled,
        Self::UpkeepChecksEpoch,
        Self::ClaimComparesOwner,
        Self::ClaimWaitsWithoutOwner,
        Self::TakeOverOnlyRaises,
        Self::TakeOverComparesEpoch,
        Self::PositionChecksEpoch,
        Self::PositionChecksSeq,
        Self::OutboxReadAfterClaim,
        Self::DrainBeforeRestore,
        Self::DrainBeforeClean,
        Self::SnapshotIsCompared,
        Self::TrimOnlyDurable,
        Self::KeepRecentEntries,
        Self::LostCommitIsNotFailed,
        Self::LostCommitIsNotDone,
        Self::LostStepIsNotDone,
        Self::IdentityIsChecked,
        Self::NewRunIsNoticed,
        Self::RaiseOnlyOverOwn,
        Self::TailBeforeHeal,
        Self::OlderPostgresIsFed,
        Self::RollbackIsObeyed,
        Self::RollbackIsMarked,
        Self::RollbackIsBound,
        Self::RollbackKeepsItsBase,
    ];
}

/// The rules in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u32);

impl Rules {
    /// The whole protocol.
    #[must_use]
    pub fn all() -> Self {
        Self(u32::MAX)
    }

    /// A mutation: one rule less.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// Whether a rule is in force.
    #[must_use]
    pub fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}

/// How often each thing may happen in one history. Starts, questions and late arrivals are not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bounds {
    /// Operations that clients submit.
    pub operations: u8,
    /// How many of them may be pops.
    pub pops: u8,
    /// Faults of any of these kinds: crash of a node, of Redis (data kept), of PostgreSQL; a node that falls silent; an
    /// answer that is lost (the request is done before that, later, or never).
    pub faults: u8,
    /// How many of the faults may be silences.
    pub silences: u8,
    /// Times that Redis is emptied under way.
    pub redis_emptied: u8,
    /// Times that an older copy takes Redis' place.
    pub redis_stale: u8,
    /// Times that PostgreSQL is put back, by no more than the outbox still keeps.
    pub put_backs: u8,
    /// Times that a node reaches the hard limit and writes a rollback file.
    pub rollbacks: u8,
}

/// Outbox entries that stay after they are durable.
pub const ENTRIES_KEPT: u8 = 1;
