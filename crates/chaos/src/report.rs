//! What a run says at its end: one JSON line for machines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::history::{Counts, Events};
use crate::kind::FaultKind;
use crate::plan::Cycle;
use crate::supervisor::ByKind;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Decides the plan.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// What Redis keeps on disk.
    pub redis: String,
    /// Faults done, those that were done together as one.
    pub cycles: u32,
    /// Cycles with two faults at once.
    pub together: u32,
    /// Faults by kind.
    pub faults: ByKind<u32>,
    /// Blocks.
    #[serde(flatten)]
    pub counts: Counts,
    /// Everything was as it must be.
    pub ok: bool,
    /// Answers of Redis and PostgreSQL that readers checked meanwhile.
    pub reads_checked: u64,
    /// The slowest recovery of each kind: from the end of its faults until progress.
    pub slowest_recovery_seconds: ByKind<f64>,
    /// Kinds that cannot be done here, and why.
    #[serde(skip_serializing_if = "ByKind::is_empty")]
    pub skipped: ByKind<String>,
    /// What was not as it must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
    /// Where everything about a bad run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

impl Report {
    /// The faults of a cycle were done and healed.
    pub fn done(&mut self, cycle: &Cycle, recovery: Duration) {
        self.cycles += 1;
        self.together += u32::from(cycle.second.is_some());
        let seconds = (recovery.as_secs_f64() * 1000.0).round() / 1000.0;
        for kind in cycle.kinds() {
            *self.faults.entry(kind).or_default() += 1;
            let slowest = self.slowest_recovery_seconds.entry(kind).or_default();
            *slowest = slowest.max(seconds);
        }
    }

    /// A fault cannot be done here.
    pub fn skipped(&mut self, kind: FaultKind, reason: String) {
        eprintln!("     {:<26} skipped: {reason}", kind.name());
        self.skipped.insert(kind, reason);
    }

    /// The end.
    pub fn finish(&mut self, elapsed: Duration, events: &Events, directory: &Path) {
        self.seconds = (elapsed.as_secs_f64() * 10.0).round() / 10.0;
        self.counts = events.counts;
        self.reads_checked = events.reads_checked;
        self.violations.clone_from(&events.violations);
        let Counts { lost, duplicated, .. } = self.counts;
        self.ok = self.violations.is_empty() && lost == 0 && duplicated == 0;
        self.directory = (!self.ok).then(|| directory.to_owned());
    }
}
