//! What a running node tells of itself: `<data_dir>/node.json`, for `forebay status` beside it. It says what neither Redis
//! nor PostgreSQL can: the phase of a start, attempts at PostgreSQL that failed, the last failure.
//!
//! A courtesy, not a promise: written a few times a second at most, not flushed to the disk, and believed only while the
//! process that wrote it holds the data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_store::{Limits, Pace, Phase, PhaseProgress, Progress};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const FILE: &str = "node.json";
/// Between two writes, unless the phase changed: a reader is a person or a monitor that asks every few seconds.
const INTERVAL: Duration = Duration::from_millis(250);

/// A report is written at least every two seconds: one that is older by this is not what the node would say now.
const SILENT_AFTER_MS: u64 = 5_000;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Who wrote it.
    pub pid: u32,
    /// When, milliseconds since 1970: at least every two seconds while the node runs.
    pub written_unix_ms: u64,
    /// What it is doing: a phase of the start, `ready`, `stopping`.
    pub phase: String,
    /// Steps of this phase done, of how many; null where nobody counts.
    pub phase_done: Option<u64>,
    /// See `phase_done`.
    pub phase_total: Option<u64>,
    /// What an acceptance survives: `durable` or `volatile`; null before Redis was asked.
    pub profile: Option<String>,
    /// Attempts at a server that failed since the start began, or since the node was ready.
    pub retries: u64,
    /// The last failure, while it lasts.
    pub last_error: Option<String>,
    /// Operations accepted and not durable.
    pub lag_operations: u64,
    /// Bytes of their blocks.
    pub lag_bytes: u64,
    /// Age of the oldest of them, seconds.
    pub lag_seconds: u64,
    /// Half of the newest operations were durable so many milliseconds after they were accepted; null before the first.
    pub durable_p50_ms: Option<u64>,
    /// The same of 99 of 100.
    pub durable_p99_ms: Option<u64>,
    /// What Redis uses, bytes; 0 before it was asked.
    pub memory_used_bytes: u64,
    /// What the memory plan gives it right after the load, bytes.
    pub memory_planned_bytes: u64,
    /// Its `maxmemory`, bytes; 0: none.
    pub memory_max_bytes: u64,
    /// Whether blocks are taken more slowly because Redis is filling up.
    pub memory_slowed: bool,
    /// Where both tiers are; null during a start.
    pub tips: Option<Tips>,
    /// How blocks are taken: `free`, `slowed`, `waiting`.
    pub pace: String,
    /// Pause before each block while the pace is `slowed`, milliseconds.
    pub pause_ms: u64,
    /// How long operations have waited without any progress of PostgreSQL, seconds.
    pub no_progress_seconds: u64,
    /// What is wrong with Redis, while it lasts.
    pub redis_error: Option<String>,
    /// What is wrong with PostgreSQL, while it lasts.
    pub postgres_error: Option<String>,
    /// What was done since the node was ready.
    pub counts: CountsReport,
    /// How far PostgreSQL may be behind.
    pub limits: LimitsReport,
    /// Operations that it left in the outbox, once it has ended in order; null before, and after any other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_operations: Option<u64>,
}

/// Where both tiers are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tips {
    /// Under which the node holds the chain.
    pub epoch: u64,
    /// Of the newest accepted block.
    pub accepted_height: u32,
    /// Its id; null: there is none.
    pub accepted_id: Option<String>,
    /// Of the newest accepted operation.
    pub accepted_seq: u64,
    /// Of the newest durable block.
    pub durable_height: u32,
    /// Its id; null: there is none.
    pub durable_id: Option<String>,
    /// Of the newest durable operation.
    pub durable_seq: u64,
}

/// See [`forebay_store::Counts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CountsReport {
    /// Blocks accepted.
    pub blocks_accepted: u64,
    /// Transactions in them.
    pub transactions_accepted: u64,
    /// Blocks taken back.
    pub blocks_taken_back: u64,
    /// Requests refused.
    pub requests_refused: u64,
    /// Blocks that became durable.
    pub blocks_durable: u64,
    /// Transactions in them.
    pub transactions_durable: u64,
    /// Batches that became durable.
    pub batches_durable: u64,
    /// Attempts at Redis that failed.
    pub redis_failures: u64,
    /// Attempts at PostgreSQL that failed.
    pub postgres_failures: u64,
    /// Times that Redis was restored from PostgreSQL.
    pub redis_restores: u64,
}

/// The limits that the lag is held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsReport {
    /// For `lagOperations`.
    pub lag_operations_max: u64,
    /// For `lagBytes`.
    pub lag_bytes_max: u64,
    /// For `noProgressSeconds`.
    pub no_progress_seconds_max: u64,
    /// For `durableP99Ms`, with a live chain.
    pub durable_within_ms: u64,
}

impl From<&Limits> for LimitsReport {
    fn from(limits: &Limits) -> Self {
        Self {
            lag_operations_max: limits.lag_blocks_max as u64,
            lag_bytes_max: limits.lag_bytes_max as u64,
            no_progress_seconds_max: limits.no_progress_max.as_secs(),
            durable_within_ms: milliseconds(limits.durable_within),
        }
    }
}

impl From<&Progress> for Tips {
    fn from(progress: &Progress) -> Self {
        Self {
            epoch: progress.position.epoch,
            accepted_height: progress.tip.map_or(0, |tip| tip.height),
            accepted_id: progress.tip.map(|tip| tip.id.to_string()),
            accepted_seq: progress.position.seq,
            durable_height: progress.durable.height,
            durable_id: progress.durable.id.map(|id| id.to_string()),
            durable_seq: progress.durable.seq,
        }
    }
}

impl From<&forebay_store::Counts> for CountsReport {
    fn from(counts: &forebay_store::Counts) -> Self {
        Self {
            blocks_accepted: counts.blocks_accepted,
            transactions_accepted: counts.transactions_accepted,
            blocks_taken_back: counts.blocks_taken_back,
            requests_refused: counts.requests_refused,
            blocks_durable: counts.blocks_durable,
            transactions_durable: counts.transactions_durable,
            batches_durable: counts.batches_durable,
            redis_failures: counts.redis_failures,
            postgres_failures: counts.postgres_failures,
            redis_restores: counts.redis_restores,
        }
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl NodeReport {
    /// What the process that holds the data directory says of itself, if it does.
    pub fn read(data_dir: &Path, holder_pid: u32) -> Option<Self> {
        let text = fs::read(data_dir.join(FILE)).ok()?;
        let report: Self = serde_json::from_slice(&text).ok()?;
        (report.pid == holder_pid).then_some(report)
    }

    /// Whether the last node here, which is gone, said at its end that PostgreSQL has everything.
    pub fn left_nothing(data_dir: &Path) -> bool {
        let text = fs::read(data_dir.join(FILE)).ok();
        let report = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        report.is_some_and(|report| report.left_operations == Some(0))
    }

    /// How long ago it was written, seconds, if that is longer than a node that runs and can write takes.
    pub fn silent_for_s(&self) -> Option<u64> {
        let age_ms = unix_ms().saturating_sub(self.written_unix_ms);
        (age_ms > SILENT_AFTER_MS).then_some(age_ms / 1000)
    }

    fn of_start(progress: PhaseProgress, limits: LimitsReport) -> Self {
        Self {
            pid: std::process::id(),
            written_unix_ms: unix_ms(),
            limits,
            phase: progress.phase.name().to_owned(),
            phase_done: progress.total.map(|_| progress.done),
            phase_total: progress.total,
            retries: progress.retries,
            last_error: progress.last_error,
            ..Self::default()
        }
    }

    fn of_node(progress: &Progress, limits: LimitsReport) -> Self {
        Self {
            pid: std::process::id(),
            written_unix_ms: unix_ms(),
            phase: progress.phase.name().to_owned(),
            phase_done: None,
            phase_total: None,
            profile: Some(progress.profile.name().to_owned()),
            retries: progress.retries,
            last_error: progress.last_error.clone(),
            lag_operations: progress.lag_operations as u64,
            lag_bytes: progress.lag_bytes as u64,
            lag_seconds: progress.lag_since.map_or(0, |since| since.elapsed().as_secs()),
            durable_p50_ms: progress.durable_after.map(|took| milliseconds(took.p50)),
            durable_p99_ms: progress.durable_after.map(|took| milliseconds(took.p99)),
            memory_used_bytes: progress.memory.used_bytes,
            memory_planned_bytes: progress.memory.planned_bytes,
            memory_max_bytes: progress.memory.maxmemory_bytes,
            memory_slowed: progress.memory.is_slowed,
            tips: Some(progress.into()),
            pace: progress.pace.name().to_owned(),
            pause_ms: if let Pace::Slowed(pause) = progress.pace { milliseconds(pause) } else { 0 },
            no_progress_seconds: progress.no_progress_since.map_or(0, |since| since.elapsed().as_secs()),
            redis_error: progress.redis_error.clone(),
            postgres_error: progress.postgres_error.clone(),
            counts: (&progress.counts).into(),
            limits,
            left_operations: None,
        }
    }
}

/// Writes the file. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    path: PathBuf,
    limits: LimitsReport,
    last: Arc<Mutex<Option<(Instant, Phase)>>>,
}

impl Reporter {
    /// Of the process that holds this data directory.
    pub fn new(data_dir: &Path, limits: &Limits) -> Self {
        Self { path: data_dir.join(FILE), limits: limits.into(), last: Arc::default() }
    }

    /// Tells of a start. A new phase is in the file when it returns.
    pub fn starting(&self, progress: PhaseProgress) {
        let phase = progress.phase;
        let is_trouble = progress.last_error.is_some();
        let report = NodeReport::of_start(progress, self.limits);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if is_trouble || last.as_ref().is_none_or(|(at, last)| *last != phase || at.elapsed() >= INTERVAL) {
            self.write(&report);
            *last = Some((Instant::now(), phase));
        }
    }

    /// Tells of a node from now on, until the task is aborted or the node is gone.
    pub fn follow(&self, mut node: watch::Receiver<Progress>) -> JoinHandle<()> {
        let reporter = self.clone();
        tokio::spawn(async move {
            loop {
                let report = NodeReport::of_node(&node.borrow_and_update(), reporter.limits);
                reporter.write(&report);
                tokio::time::sleep(INTERVAL).await;
                // The lag in seconds grows by itself.
                if let Ok(Err(_)) = tokio::time::timeout(Duration::from_secs(1), node.changed()).await {
                    return;
                }
            }
        })
    }

    /// The node has ended; private servers are being stopped. The last word: the file stays, and of a process that is gone
    /// only what it left is believed. `left_operations`: `None` after a failure.
    pub fn stopping(&self, left_operations: Option<u64>) {
        self.write(&NodeReport {
            pid: std::process::id(),
            written_unix_ms: unix_ms(),
            phase: Phase::Stopping.name().to_owned(),
            left_operations,
            limits: self.limits,
            ..NodeReport::default()
        });
    }

    fn write(&self, report: &NodeReport) {
        if let Err(error) = self.replace(report) {
            tracing::debug!(%error, path = %self.path.display(), "the node's report was not written");
        }
    }

    /// A reader sees the old one or the new one, whole.
    fn replace(&self, report: &NodeReport) -> io::Result<()> {
        let draft = self.path.with_extension("json.draft");
        fs::write(&draft, serde_json::to_vec(report)?)?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_believed_of_its_writer_alone_and_a_new_phase_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(directory.path(), &Limits::default());
        let pid = std::process::id();
        assert_eq!(NodeReport::read(directory.path(), pid), None);
        reporter.starting(PhaseProgress::new(Phase::Claim, 0, None));
        reporter.starting(PhaseProgress::new(Phase::Drain, 3, Some(9)));
        let report = NodeReport::read(directory.path(), pid).unwrap();
        assert_eq!(
            (report.phase.as_str(), report.phase_done, report.phase_total),
            ("drain", Some(3), Some(9))
        );
        assert_eq!(NodeReport::read(directory.path(), pid + 1), None);
        reporter.stopping(Some(0));
        assert_eq!(NodeReport::read(directory.path(), pid).unwrap().phase, "stopping");
    }
}
