//! What is known to have happened, shared by the driver, who writes it, and by those who watch the servers meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_ledger::ids::{BlockId, Height};
use serde::Serialize;

/// Violations that are kept: more of them say the same.
const VIOLATIONS_KEPT: usize = 20;

/// Everything acknowledged, and everything that was not as it must be.
#[derive(Debug, Default)]
pub struct History(Mutex<Events>);

/// See [`History`].
#[derive(Debug, Default)]
pub struct Events {
    /// Every block that was ever sent.
    pub sent: HashMap<BlockId, Height>,
    /// The tip after an operation, where it is known.
    pub tips: HashMap<u64, BlockId>,
    /// The operation that brought a block.
    pub accepted_at: HashMap<BlockId, u64>,
    /// The last acknowledged operation: epoch and number.
    pub acknowledged: (u64, u64),
    /// PostgreSQL was said to have everything up to this operation.
    pub durable_seq: u64,
    /// Redis was put back to an older state, and the node may not have noticed yet.
    pub redis_is_older: bool,
    /// PostgreSQL was put back to an older state, and is not fed again yet.
    pub postgres_is_older: bool,
    /// That state is so old that nobody has all of what it lacks: the record names where the chain goes back to.
    pub postgres_forgot: bool,
    /// A volatile Redis was killed together with the node: what came after this operation is gone, unless PostgreSQL got it.
    pub redis_forgot_after: Option<u64>,
    /// What the driver asked last, and what became of it.
    pub last_answer: String,
    /// Answers of Redis and PostgreSQL that were checked.
    pub reads_checked: u64,
    /// What is reported at the end.
    pub counts: Counts,
    /// What was not as it must be.
    pub violations: Vec<String>,
}

/// Blocks, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Acknowledged as accepted.
    pub accepted: u64,
    /// Accepted, and gone without a record.
    pub lost: u64,
    /// Done more than once.
    pub duplicated: u64,
    /// Accepted, and gone with a record.
    pub rolled_back: u64,
    /// Accepted by a volatile Redis that was killed together with the node: what that profile says of itself.
    pub lost_by_volatile_redis: u64,
}

impl Counts {
    /// Blocks that are gone, as they may be.
    pub fn given_up(&self) -> u64 {
        self.rolled_back + self.lost_by_volatile_redis
    }
}

impl Events {
    /// The servers' faults are over, and the node has noticed them: from now on everything binds again.
    pub fn is_over(&mut self) {
        self.redis_is_older = false;
        self.redis_forgot_after = None;
        self.postgres_forgot = false;
        if std::mem::take(&mut self.postgres_is_older) {
            self.durable_seq = 0;
        }
    }
}

impl History {
    /// Looks at it or adds to it.
    pub fn lock(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not as it must be.
    pub fn violated(&self, what: impl Into<String>) {
        let mut events = self.lock();
        let what = what.into();
        eprintln!("VIOLATION: {what}");
        if events.violations.len() < VIOLATIONS_KEPT {
            events.violations.push(what);
        }
    }

    /// Whether everything was as it must be so far.
    pub fn is_clean(&self) -> bool {
        self.lock().violations.is_empty()
    }
}
