//! What a node is told: where its servers are, which chain it keeps, and how far the slow tier may fall behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_fast::Holder;
use forebay_ledger::block::Block;
use forebay_ledger::profile::NetworkProfile;
use forebay_slow::setup::{Names, Passwords};
use tokio_postgres::Config;

use crate::write_log::WriteLog;

/// Everything a node needs to start.
#[derive(Clone)]
pub struct NodeOptions {
    /// Redis: `redis://`, `rediss://` or `unix://` address.
    pub redis_url: String,
    /// PostgreSQL, as the writer role.
    pub postgres: Config,
    /// Roles, database and schema are made with this before anything else; `None`: somebody else did.
    pub setup: Option<Setup>,
    /// The network's rules.
    pub profile: Arc<NetworkProfile>,
    /// The chain's first block.
    pub genesis: Arc<Block>,
    /// Bounds of everything that grows.
    pub limits: Limits,
    /// Who we are, for those who come later.
    pub holder: Holder,
    /// True when the caller knows that an earlier holder is gone (it holds the lock of the data directory): its
    /// heartbeat need not be watched.
    pub holder_is_gone: bool,
    /// How long to wait for servers that are away at the start; `None`: as long as it takes.
    pub connect_timeout: Option<Duration>,
    /// Where rollback files are written and looked for; `None`: nowhere, so that a hard limit leaves no order and the
    /// next start drains.
    pub rollback_dir: Option<PathBuf>,
    /// What the guard's stop means for the next start.
    pub on_hard_limit: OnHardLimit,
    /// What the memory plan gives Redis right after the load, bytes: shown beside what it uses. 0: nobody planned.
    pub memory_planned_bytes: u64,
    /// True: a PostgreSQL that does not flush what it answers is good enough. For tests alone, whose servers are thrown away:
    /// no setting and no flag of the program leads here.
    pub postgres_may_forget: bool,
    /// Where every attempt of the Syncer is written down, beside the table in PostgreSQL.
    pub write_log: Option<Arc<WriteLog>>,
}

/// What happens when the guard stops the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnHardLimit {
    /// The tail is written to a rollback file; the next start goes back to PostgreSQL's last block.
    #[default]
    Rollback,
    /// The tail stays in the outbox; the next start drains it.
    Keep,
}

/// How PostgreSQL is set up.
#[derive(Clone)]
pub struct Setup {
    /// A superuser, or a role that may create roles and databases.
    pub admin: Config,
    /// What database and roles are called.
    pub names: Names,
    /// Their passwords.
    pub passwords: Passwords,
}

/// Bounds. Each has its reason beside its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Blocks that may be accepted and not yet durable; the writer waits at it. 1,000: some eight hours of a live chain,
    /// seconds of a bulk load.
    pub lag_blocks_max: usize,
    /// Bytes of blocks that may be accepted and not yet durable. 256 MiB: what a small machine can spare.
    pub lag_bytes_max: usize,
    /// Operations in one PostgreSQL transaction. 500: the cost of COMMIT vanishes, a lost batch is soon repeated.
    pub batch_operations_max: usize,
    /// Bytes of blocks in one PostgreSQL transaction. 32 MiB.
    pub batch_bytes_max: usize,
    /// Newest blocks that Redis keeps bodies of. 1,000: what peers ask for.
    pub blocks_kept: u32,
    /// Blocks below the durable height that can be taken back out of Redis alone. 202: two rounds of 101.
    pub undo_kept: u32,
    /// Outbox entries kept after they are durable, so that a PostgreSQL put back to an older state can be fed again.
    /// 202: two rounds of 101.
    pub outbox_kept: usize,
    /// Memory for accounts that the node keeps at hand, bytes: a block that touches another one waits for Redis once more.
    /// 128 MB: 400,000 of them. See [`accounts_cached_bytes_by_memory`](Self::accounts_cached_bytes_by_memory).
    pub accounts_cached_bytes_max: u64,
    /// How long a foreign holder's heartbeat must stand still before its chain is taken.
    pub takeover_after: Duration,
    /// How long Redis may be away under a running node before it stops.
    pub redis_away_max: Duration,
    /// How long operations may wait without any progress of the slow tier before the node stops. 600 s: longer than a
    /// restart of PostgreSQL with crash recovery takes.
    pub no_progress_max: Duration,
    /// How soon a block of a live chain should be durable; the log names one that took longer. 1 s: 99 of 100 do, with
    /// servers that are not busy otherwise.
    pub durable_within: Duration,
    /// How long a live chain may stay at the limit of operations before the node stops. 60 s.
    pub grace: Duration,
    /// A tip younger than this makes the chain live. 300 s: ten slots of 30 s.
    pub live_within: Duration,
}

/// Accounts at hand on a machine of whatever size.
const ACCOUNTS_CACHED_BYTES_LEAST: u64 = 128_000_000;
/// And where there is more memory: one part of so many, up to 2 GiB, which is 6,700,000 accounts.
const ACCOUNTS_CACHED_SHARE: u64 = 16;
const ACCOUNTS_CACHED_BYTES_MOST: u64 = 2 << 30;

impl Limits {
    /// What accounts at hand may take where nobody said otherwise: a sixteenth of the memory of the machine, or of the control
    /// group, 128 MB at least and 2 GiB at most. A chain with fewer accounts takes less.
    #[must_use]
    pub fn accounts_cached_bytes_by_memory(memory_bytes: u64) -> u64 {
        (memory_bytes / ACCOUNTS_CACHED_SHARE).clamp(ACCOUNTS_CACHED_BYTES_LEAST, ACCOUNTS_CACHED_BYTES_MOST)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lag_blocks_max: 1000,
            lag_bytes_max: 256 << 20,
            batch_operations_max: 500,
            batch_bytes_max: 32 << 20,
            blocks_kept: 1000,
            undo_kept: 202,
            outbox_kept: 202,
            accounts_cached_bytes_max: ACCOUNTS_CACHED_BYTES_LEAST,
            takeover_after: Duration::from_secs(10),
            redis_away_max: Duration::from_secs(60),
            no_progress_max: Duration::from_secs(600),
            durable_within: Duration::from_secs(1),
            grace: Duration::from_secs(60),
            live_within: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn accounts_at_hand_follow_the_memory_within_bounds() {
        let by_memory = Limits::accounts_cached_bytes_by_memory;
        assert_eq!(by_memory(1 << 30), 128_000_000);
        assert_eq!(by_memory(24 << 30), 1536 << 20);
        assert_eq!(by_memory(u64::MAX), 2 << 30);
        assert_eq!(Limits::default().accounts_cached_bytes_max, by_memory(0));
    }
}
