//! Every kind of fault, by name.

use std::fmt;

use forebay_servers::RedisProfile;
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
    /// The node is killed in its start, again and again.
    KillNodeStarting,
    /// SIGTERM, a drain, a new start.
    RestartNode,
    /// SIGTERM while PostgreSQL is away: what the drain cannot bring stays in the outbox.
    StopWithoutPostgres,
    /// A second SIGTERM while the first one drains: the end at once.
    StopTwice,
    /// `kill -9` of the node in the middle of a rewind.
    KillNodeRewinding,
    /// `kill -9` of Redis in the middle of a rewind.
    KillRedisRewinding,
    /// `kill -9` of the postmaster in the middle of a rewind.
    KillPostgresRewinding,
    /// A graceful end and a new start of Redis.
    RestartRedis,
    /// A fast shutdown and a new start of PostgreSQL.
    RestartPostgres,
    /// `kill -9` of the writer's session in PostgreSQL, which then recovers by itself.
    KillSession,
    /// SIGSTOP of the node, shorter than a successor waits.
    PauseNode,
    /// SIGSTOP of Redis for a moment.
    PauseRedis,
    /// SIGSTOP of PostgreSQL and its sessions for a moment.
    PausePostgres,
    /// SIGSTOP of Redis for seconds; minutes with `--hold`.
    PauseRedisLong,
    /// SIGSTOP of PostgreSQL and its sessions for seconds; minutes with `--hold`.
    PausePostgresLong,
    /// SIGSTOP of all three.
    PauseAll,
    /// FLUSHALL under a running node.
    FlushRedis,
    /// Redis comes back with an older copy of its files under a running node.
    OlderRedis,
    /// Redis has an older copy of its files when the node starts; PostgreSQL has everything.
    OlderRedisAtStart,
    /// Redis comes back with an older snapshot (RDB) under a running node.
    OlderRdb,
    /// A volatile Redis and the node are killed together: what PostgreSQL has is there, and no more was promised.
    LoseVolatileRedis,
    /// `maxmemory` just below need, then lifted.
    RedisMemory,
    /// The same while blocks are taken back: that works.
    RedisMemoryTakeBack,
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
    /// PostgreSQL has earlier data when the node starts; the kept outbox covers the difference.
    OlderPostgresAtStart,
    /// PostgreSQL's data are so old that the kept outbox does not reach back: the node says so and goes back to them.
    OlderPostgresTooOld,
    /// PostgreSQL's data are of before a rewind: it is fed again, or the node says so and goes back to them.
    OlderPostgresRewound,
    /// PostgreSQL is away and the writer is at the limit of what may wait: it waits.
    WriterWaits,
    /// No progress of PostgreSQL beyond the time limit: the node ends with its own code; what is given up is recorded.
    HardLimitRollback,
    /// The same with `keep`: the next start drains.
    HardLimitKeep,
    /// The same with Redis away too: the record comes from memory.
    HardLimitWithoutRedis,
    /// The same, and the rollback file cannot be written: there is no order, and the next start drains.
    HardLimitUnwritable,
    /// A live chain stays at the limit of blocks for longer than the grace.
    HardLimitGrace,
    /// A second node starts beside the first: it is told who holds the chain.
    SecondNode,
    /// Two nodes start at the same moment: one gets the chain, the other is told.
    TwoNodes,
    /// The node is paused until a second one has taken over, then wakes up.
    TakeOver,
    /// The same in an open transaction: its locks do not hold the successor up.
    TakeOverInTransaction,
    /// The same in its start: it wakes in the middle of a claim, a drain, a clean, a restore.
    TakeOverStarting,
    /// The node's wall clock jumps forward by hours, and stays there until the next jump.
    ClockForward,
    /// The node's wall clock jumps back by hours, and stays there until the next jump.
    ClockBackward,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 63] = [
        Self::KillNode,
        Self::KillRedis,
        Self::KillPostgres,
        Self::KillAll,
        Self::KillNodeWithoutPostgres,
        Self::KillNodeStarting,
        Self::RestartNode,
        Self::StopWithoutPostgres,
        Self::StopTwice,
        Self::KillNodeRewinding,
        Self::KillRedisRewinding,
        Self::KillPostgresRewinding,
        Self::RestartRedis,
        Self::RestartPostgres,
        Self::KillSession,
        Self::PauseNode,
        Self::PauseRedis,
        Self::PausePostgres,
        Self::PauseRedisLong,
        Self::PausePostgresLong,
        Self::PauseAll,
        Self::FlushRedis,
        Self::OlderRedis,
        Self::OlderRedisAtStart,
        Self::OlderRdb,
        Self::LoseVolatileRedis,
        Self::RedisMemory,
        Self::RedisMemoryTakeBack,
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
        Self::OlderPostgresAtStart,
        Self::OlderPostgresTooOld,
        Self::OlderPostgresRewound,
        Self::WriterWaits,
        Self::HardLimitRollback,
        Self::HardLimitKeep,
        Self::HardLimitWithoutRedis,
        Self::HardLimitUnwritable,
        Self::HardLimitGrace,
        Self::SecondNode,
        Self::TwoNodes,
        Self::TakeOver,
        Self::TakeOverInTransaction,
        Self::TakeOverStarting,
        Self::ClockForward,
        Self::ClockBackward,
    ];

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

    /// Whether it can be done with a Redis of this profile.
    pub fn suits(self, redis: RedisProfile) -> bool {
        match self {
            // Its files, or everything accepted after its death, are what these are about.
            Self::KillAll
            | Self::OlderRedis
            | Self::OlderRedisAtStart
            | Self::RedisDiskFull
            | Self::HardLimitKeep
            | Self::HardLimitUnwritable => redis == RedisProfile::Durable,
            Self::LoseVolatileRedis => redis == RedisProfile::Volatile,
            _ => true,
        }
    }

    /// How long the fault is held, in milliseconds: least and most.
    pub fn hold_ms(self) -> (u64, u64) {
        match self {
            Self::PauseRedisLong | Self::PausePostgresLong => (3_000, 5_000),
            Self::PauseNode => (100, 900),
            // The Syncer's cap while the server lacks room is long: what counts is that the fault was met.
            Self::PostgresDiskFull | Self::RedisDiskFull | Self::RedisMemory => (500, 1_500),
            Self::OlderPostgres
            | Self::OlderPostgresAtStart
            | Self::OlderRedis
            | Self::OlderRdb
            | Self::OlderRedisAtStart => (200, 1_200),
            Self::WriterWaits => (1_000, 3_000),
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
