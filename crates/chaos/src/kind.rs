//! Every kind of fault, by name.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is done to the node and its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// `kill -9` of the node.
    KillNode,
    /// `kill -9` of Redis.
    KillRedis,
    /// `kill -9` of the postmaster.
    KillPostgres,
    /// `kill -9` of all three at the same moment.
    KillAll,
    /// The node is killed while PostgreSQL is away.
    KillNodeWithoutPostgres,
    /// SIGTERM, a drain, a new start.
    RestartNode,
    /// A graceful end and a new start of Redis.
    RestartRedis,
    /// A fast shutdown and a new start of PostgreSQL.
    RestartPostgres,
    /// SIGSTOP of the node, shorter than a successor waits.
    PauseNode,
    /// SIGSTOP of Redis for a moment.
    PauseRedis,
    /// SIGSTOP of PostgreSQL and its sessions for a moment.
    PausePostgres,
    /// SIGSTOP of Redis for many seconds.
    PauseRedisLong,
    /// SIGSTOP of PostgreSQL and its sessions for many seconds.
    PausePostgresLong,
    /// SIGSTOP of all three.
    PauseAll,
    /// FLUSHALL under a running node.
    FlushRedis,
    /// Redis comes back with an older copy of its files under a running node.
    OlderRedis,
    /// Redis has an older copy of its files when the node starts; PostgreSQL has everything.
    OlderRedisAtStart,
    /// `maxmemory` just below need, then lifted.
    RedisMemory,
    /// Connections to Redis end.
    CutRedis,
    /// Connections to PostgreSQL end.
    CutPostgres,
    /// Connections to Redis end in the middle of an answer.
    CutRedisAnswer,
    /// Connections to Redis end in the middle of a question.
    CutRedisQuestion,
    /// Connections to PostgreSQL end in the middle of an answer.
    CutPostgresAnswer,
    /// Connections to PostgreSQL end in the middle of a question.
    CutPostgresQuestion,
    /// Redis answers late.
    DelayRedis,
    /// PostgreSQL answers late.
    DelayPostgres,
    /// What is sent to Redis or comes from it is thrown away.
    BlackHoleRedis,
    /// What is sent to PostgreSQL or comes from it is thrown away.
    BlackHolePostgres,
    /// Redis refuses connections; open ones end.
    RefuseRedis,
    /// PostgreSQL refuses connections; open ones end.
    RefusePostgres,
    /// `pg_terminate_backend` of the node's sessions, again and again.
    TerminateSessions,
    /// A rival session locks rows in the reverse order: deadlocks.
    RivalLocks,
    /// An administrator locks the tables.
    AdministratorLock,
    /// An administrator locks the tables, and the writer has a short `lock_timeout`.
    LockTimeout,
    /// PostgreSQL's disk is full.
    PostgresDiskFull,
    /// The disk of Redis' append-only file is full.
    RedisDiskFull,
    /// PostgreSQL's data are an earlier state; the kept outbox covers the difference.
    OlderPostgres,
    /// PostgreSQL's data are so old that the kept outbox does not reach back: the node says so and goes back to them.
    OlderPostgresTooOld,
    /// No progress of PostgreSQL beyond the time limit: the node ends with its own code; what is given up is recorded.
    HardLimitRollback,
    /// The same with `keep`: the next start drains.
    HardLimitKeep,
    /// A second node starts beside the first: it is told who holds the chain.
    SecondNode,
    /// The node is paused until a second one has taken over, then wakes up.
    TakeOver,
    /// The node's wall clock jumps by hours, to and fro.
    ClockJump,
}

/// Seen with `--only cut-redis --seed 2` and `--only cut-redis-answer --seed 1`.
const READ_NOT_REPEATED: &str = "a connection to Redis that breaks while a take-back reads its undo record, or while a rewind \
                                 cleans Redis, ends the node with code 7 instead of being tried again";

/// Seen with `--all --seed 4`.
const OUTBOX_EMPTIED: &str = "a rewind, a healing of Redis or a start empties the outbox: a PostgreSQL that is put back to \
                              before it cannot be fed again, and what was durable since is gone without a record";

/// Seen with `--all --seed 16`.
const CODE_HIDDEN: &str = "a guard that stops the node in the middle of a take-back (a rewind waits for PostgreSQL) ends it \
                           with code 7, not 8: the answer to the caller wraps the reason";

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 43] = [
        Self::KillNode,
        Self::KillRedis,
        Self::KillPostgres,
        Self::KillAll,
        Self::KillNodeWithoutPostgres,
        Self::RestartNode,
        Self::RestartRedis,
        Self::RestartPostgres,
        Self::PauseNode,
        Self::PauseRedis,
        Self::PausePostgres,
        Self::PauseRedisLong,
        Self::PausePostgresLong,
        Self::PauseAll,
        Self::FlushRedis,
        Self::OlderRedis,
        Self::OlderRedisAtStart,
        Self::RedisMemory,
        Self::CutRedis,
        Self::CutPostgres,
        Self::CutRedisAnswer,
        Self::CutRedisQuestion,
        Self::CutPostgresAnswer,
        Self::CutPostgresQuestion,
        Self::DelayRedis,
        Self::DelayPostgres,
        Self::BlackHoleRedis,
        Self::BlackHolePostgres,
        Self::RefuseRedis,
        Self::RefusePostgres,
        Self::TerminateSessions,
        Self::RivalLocks,
        Self::AdministratorLock,
        Self::LockTimeout,
        Self::PostgresDiskFull,
        Self::RedisDiskFull,
        Self::OlderPostgres,
        Self::OlderPostgresTooOld,
        Self::HardLimitRollback,
        Self::HardLimitKeep,
        Self::SecondNode,
        Self::TakeOver,
        Self::ClockJump,
    ];

    /// Kinds that the node does not survive yet, each with the reason; not in the default set. Empty is the aim.
    pub const NOT_YET: [(Self, &'static str); 12] = [
        (Self::KillRedis, READ_NOT_REPEATED),
        (Self::RestartRedis, READ_NOT_REPEATED),
        (Self::OlderRedis, READ_NOT_REPEATED),
        (Self::CutRedis, READ_NOT_REPEATED),
        (Self::CutRedisAnswer, READ_NOT_REPEATED),
        (Self::CutRedisQuestion, READ_NOT_REPEATED),
        (Self::BlackHoleRedis, READ_NOT_REPEATED),
        (Self::RefuseRedis, READ_NOT_REPEATED),
        (Self::RedisDiskFull, READ_NOT_REPEATED),
        (Self::HardLimitRollback, CODE_HIDDEN),
        (Self::HardLimitKeep, CODE_HIDDEN),
        (Self::OlderPostgres, OUTBOX_EMPTIED),
    ];

    /// The kinds that a run draws from unless it is told otherwise.
    pub fn default_set() -> Vec<Self> {
        Self::ALL.into_iter().filter(|kind| kind.not_yet().is_none()).collect()
    }

    /// Why the kind is not in the default set; `None`: it is.
    pub fn not_yet(self) -> Option<&'static str> {
        Self::NOT_YET.iter().find(|(kind, _)| *kind == self).map(|(_, reason)| *reason)
    }

    /// Its name in plans and reports: the variant in kebab case.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// The kind with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long the fault is held, in milliseconds: least and most.
    pub fn hold_ms(self) -> (u64, u64) {
        match self {
            Self::PauseRedisLong | Self::PausePostgresLong => (4_000, 12_000),
            Self::PauseNode => (100, 900),
            // The Syncer's cap while the server lacks room is long: what counts is that the fault was met.
            Self::PostgresDiskFull | Self::RedisDiskFull | Self::RedisMemory => (500, 1_500),
            Self::OlderPostgres | Self::OlderRedis | Self::OlderRedisAtStart => (200, 1_200),
            _ => (50, 2_000),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Serialize for FaultKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_found_by_its_name() {
        let names: BTreeSet<String> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), FaultKind::ALL.len());
        assert!(FaultKind::ALL.iter().all(|kind| FaultKind::of_name(&kind.name()) == Some(*kind)));
        assert_eq!(FaultKind::KillNode.name(), "kill-node");
        // Listed in the order of declaration: one that was left out would leave a hole.
        assert!(FaultKind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
    }
}
