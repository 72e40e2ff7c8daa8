//! What a run says at its end: one JSON line for machines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::history::{Counts, Events};
use crate::kind::FaultKind;
use crate::supervisor::ByKind;

/// The result of a run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Decides the plan.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// Faults done.
    pub cycles: u32,
    /// The same by kind.
    pub faults: ByKind<u32>,
    /// Blocks.
    #[serde(flatten)]
    pub counts: Counts,
    /// Everything was as it must be.
    pub ok: bool,
    /// Answers of Redis and PostgreSQL that readers checked meanwhile.
    pub reads_checked: u64,
    /// The slowest recovery of each kind, from the fault's end until progress, milliseconds.
    pub recovery_ms_max: ByKind<u64>,
    /// Kinds that cannot be done here, and why.
    #[serde(skip_serializing_if = "ByKind::is_empty")]
    pub skipped: ByKind<String>,
    /// Kinds that the node does not survive yet, and why they were left out.
    #[serde(skip_serializing_if = "ByKind::is_empty")]
    pub not_yet: ByKind<&'static str>,
    /// What was not as it must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
    /// Where everything about a bad run is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

impl Report {
    /// A fault was done and healed.
    pub fn done(&mut self, kind: FaultKind, recovery: Duration) {
        self.cycles += 1;
        *self.faults.entry(kind).or_default() += 1;
        let slowest = self.recovery_ms_max.entry(kind).or_default();
        *slowest = (*slowest).max(u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX));
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
        self.not_yet = FaultKind::NOT_YET.into_iter().collect();
        let Counts { lost, duplicated, .. } = self.counts;
        self.ok = self.violations.is_empty() && lost == 0 && duplicated == 0;
        self.directory = (!self.ok).then(|| directory.to_owned());
    }
}
