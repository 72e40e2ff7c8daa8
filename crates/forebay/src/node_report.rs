//! What a running node tells of itself: `<data_dir>/node.json`, for `forebay status` beside it. It says what neither Redis
//! nor PostgreSQL can: the phase of a start, attempts at PostgreSQL that failed, the last failure.
//!
//! A courtesy, not a promise: written a few times a second at most, not flushed to the disk, and believed only while the
//! process that wrote it holds the data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_store::{Phase, PhaseProgress, Progress};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const FILE: &str = "node.json";
/// Between two writes, unless the phase changed: a reader is a person or a monitor that asks every few seconds.
const INTERVAL: Duration = Duration::from_millis(250);

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Who wrote it.
    pub pid: u32,
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

    fn of_start(progress: PhaseProgress) -> Self {
        Self {
            pid: std::process::id(),
            phase: progress.phase.name().to_owned(),
            phase_done: progress.total.map(|_| progress.done),
            phase_total: progress.total,
            retries: progress.retries,
            last_error: progress.last_error,
            ..Self::default()
        }
    }

    fn of_node(progress: &Progress) -> Self {
        Self {
            pid: std::process::id(),
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
        }
    }
}

/// Writes the file. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    path: PathBuf,
    last: Arc<Mutex<Option<(Instant, Phase)>>>,
}

impl Reporter {
    /// Of the process that holds this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), last: Arc::default() }
    }

    /// Tells of a start. A new phase is in the file when it returns.
    pub fn starting(&self, progress: PhaseProgress) {
        let phase = progress.phase;
        let is_trouble = progress.last_error.is_some();
        let report = NodeReport::of_start(progress);
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
                let report = NodeReport::of_node(&node.borrow_and_update());
                reporter.write(&report);
                tokio::time::sleep(INTERVAL).await;
                // The lag in seconds grows by itself.
                if let Ok(Err(_)) = tokio::time::timeout(Duration::from_secs(1), node.changed()).await {
                    return;
                }
            }
        })
    }

    /// Removes the file.
    pub fn ended(&self) {
        // One that stays is not believed.
        let _ = fs::remove_file(&self.path);
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
        let reporter = Reporter::new(directory.path());
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
        reporter.ended();
        assert_eq!(NodeReport::read(directory.path(), pid), None);
    }
}
