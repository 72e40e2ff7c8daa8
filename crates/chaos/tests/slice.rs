//! Short seeded runs over real processes. Together they do every kind of fault.
//!
//! A failure prints the report with its seed, and keeps the run's directory. Longer: `make soak DURATION=10m SEED=7`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use forebay_chaos::kind::FaultKind;
use forebay_chaos::left_behind::end_runs_left_behind;
use forebay_chaos::plan::{Cycle, Plan};
use forebay_chaos::report::Report;
use forebay_chaos::supervisor::{RunOptions, run};
use forebay_servers::RedisProfile::{self, Durable, Volatile};

/// One run of these tests: a lap over its share of the kinds.
struct Slice {
    seed: u64,
    redis: RedisProfile,
}

/// Several, because tests run beside each other. The volatile one has the kinds that only it can have, and as many others.
const SLICES: [Slice; 4] = [
    Slice { seed: 101, redis: Durable },
    Slice { seed: 202, redis: Durable },
    Slice { seed: 303, redis: Durable },
    Slice { seed: 404, redis: Volatile },
];

impl Slice {
    /// Kinds are dealt out in turn; one that does not suit the place goes to the next that it suits.
    fn kinds(&self) -> Vec<FaultKind> {
        let takes = |place: usize, kind: FaultKind| {
            (0..SLICES.len())
                .map(|step| &SLICES[(place + step) % SLICES.len()])
                .find(|slice| kind.suits(slice.redis))
                .is_some_and(|slice| slice.seed == self.seed)
        };
        let kinds = FaultKind::ALL.into_iter().enumerate();
        kinds.filter(|(place, kind)| takes(*place, *kind)).map(|(_, kind)| kind).collect()
    }

    fn plan(&self) -> Vec<Cycle> {
        Plan::new(self.seed, self.kinds()).take(self.kinds().len()).collect()
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            seed: self.seed,
            duration: None,
            cycles: Some(u32::try_from(self.kinds().len()).unwrap()),
            kinds: self.kinds(),
            redis: self.redis,
            hold: None,
            node: program(),
            directory: PathBuf::from(format!("{PLACE}/{PREFIX}{}-{}", self.seed, std::process::id())),
            keep: false,
            blocks_per_second: 150,
            sabotage: false,
        }
    }
}

/// Where the runs' directories are. Short: sockets lie below it.
const PLACE: &str = "/tmp";
const PREFIX: &str = "forebay-chaos-test-";

async fn held(options: &RunOptions) -> Report {
    end_runs_left_behind(Path::new(PLACE), PREFIX).unwrap();
    run(options, &AtomicBool::new(false)).await
}

#[test]
fn the_slices_reach_every_kind_of_fault_and_several_at_once() {
    let cycles: Vec<Cycle> = SLICES.iter().flat_map(Slice::plan).collect();
    let reached: BTreeSet<FaultKind> = cycles.iter().map(|cycle| cycle.fault.kind).collect();
    let missing: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|kind| !reached.contains(kind)).collect();
    assert_eq!(missing, []);
    let together = cycles.iter().filter(|cycle| cycle.second.is_some()).count();
    assert!(together >= 4, "{together}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_loses_accepted_blocks_fails_and_counts_them() {
    let slice = Slice { seed: 505, redis: Durable };
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

async fn holds(slice: &Slice) {
    let report = held(&slice.options()).await;
    let text = serde_json::to_string_pretty(&report).unwrap();
    assert!(report.ok, "seed {}: {text}", slice.seed);
    let reached: BTreeSet<FaultKind> = report.faults.keys().chain(report.skipped.keys()).copied().collect();
    assert_eq!(reached, slice.plan().iter().flat_map(Cycle::kinds).collect(), "{text}");
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_the_slice_with_a_volatile_redis() {
    holds(&SLICES[3]).await;
}
