//! Short seeded runs over real processes. Together they do every kind of fault that the node survives.
//!
//! A failure prints the report with its seed, and keeps the run's directory. Longer: `make soak DURATION=10m SEED=7`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use forebay_chaos::kind::FaultKind;
use forebay_chaos::plan::Plan;
use forebay_chaos::report::Report;
use forebay_chaos::supervisor::{RunOptions, run};

/// One run of these tests: a lap over every n-th kind.
struct Slice {
    seed: u64,
    place: usize,
}

/// Three, because tests run beside each other.
const SLICES: [Slice; 3] =
    [Slice { seed: 101, place: 0 }, Slice { seed: 202, place: 1 }, Slice { seed: 303, place: 2 }];

impl Slice {
    fn kinds(&self) -> Vec<FaultKind> {
        FaultKind::default_set().into_iter().skip(self.place).step_by(SLICES.len()).collect()
    }

    fn cycles(&self) -> u32 {
        u32::try_from(self.kinds().len()).unwrap()
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            seed: self.seed,
            duration: None,
            cycles: Some(self.cycles()),
            kinds: self.kinds(),
            node: program(),
            directory: PathBuf::from(format!("/tmp/forebay-chaos-test-{}-{}", self.seed, std::process::id())),
            keep: false,
            blocks_per_second: 150,
            sabotage: false,
        }
    }
}

async fn held(options: &RunOptions) -> Report {
    run(options, &AtomicBool::new(false)).await
}

#[test]
fn the_slices_reach_every_kind_of_fault_that_is_not_excepted_by_name() {
    let mut reached = BTreeSet::new();
    for slice in &SLICES {
        let cycles = usize::try_from(slice.cycles()).unwrap();
        reached.extend(Plan::new(slice.seed, slice.kinds()).take(cycles).map(|cycle| cycle.kind));
    }
    reached.extend(FaultKind::NOT_YET.iter().map(|(kind, _)| *kind));
    let missing: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|kind| !reached.contains(kind)).collect();
    assert_eq!(missing, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_loses_accepted_blocks_fails_and_counts_them() {
    let slice = Slice { seed: 404, place: 0 };
    let options = RunOptions { sabotage: true, cycles: Some(0), ..slice.options() };
    let report = held(&options).await;
    assert!(!report.ok && report.counts.lost > 0, "{}", serde_json::to_string_pretty(&report).unwrap());
    assert_eq!(report.directory.as_deref(), Some(options.directory.as_path()));
    assert!(options.directory.join("acknowledged.jsonl").exists(), "evidence is kept");
    std::fs::remove_dir_all(&options.directory).unwrap();
}

/// The node's program: built beside this test. A test of this package alone does not build it, so that is done here when
/// it is missing or older than what it is made of.
fn program() -> PathBuf {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(build_program).clone()
}

fn build_program() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let program = folder.join("forebay");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let parts = ["fast", "forebay", "ledger", "servers", "slow", "store"];
    let newest = parts.iter().filter_map(|part| newest_change(&crates.join(part).join("src"))).max();
    if changed(&program) < newest {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--locked", "-p", "forebay"]).current_dir(crates);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the node's program cannot be built");
    }
    program
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

fn newest_change(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    entries.filter_map(|path| if path.is_dir() { newest_change(&path) } else { changed(&path) }).max()
}

/// `make slices`. Not part of `make test` until the node survives every kind of fault on every run: see
/// `FaultKind::NOT_YET`.
#[cfg(feature = "slices")]
mod slices {
    use super::*;

    async fn holds(slice: &Slice) {
        let report = held(&slice.options()).await;
        let text = serde_json::to_string_pretty(&report).unwrap();
        assert!(report.ok, "seed {}: {text}", slice.seed);
        assert_eq!(report.cycles + u32::try_from(report.skipped.len()).unwrap(), slice.cycles(), "{text}");
        assert!(report.counts.accepted > 0 && report.reads_checked > 0, "{text}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_lost_in_the_first_slice() {
        holds(&SLICES[0]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_lost_in_the_second_slice() {
        holds(&SLICES[1]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_lost_in_the_third_slice() {
        holds(&SLICES[2]).await;
    }
}
