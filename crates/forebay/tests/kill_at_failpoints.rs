//! The program is killed between every two effects, started again, and has lost nothing and done nothing twice.
//!
//! The places are collected from the source (`reach("…")`), so that none can be forgotten. Built with the feature
//! `failpoints`, as `make test` does.
#![cfg(feature = "failpoints")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use forebay_generator::{Chain, ChainOptions, Mix, Network, NetworkOptions, files};
use forebay_ledger::block::Block;
use forebay_ledger::json::block_to_value;
use serde_json::{Value, json};

/// Failpoints in the source, each name once.
fn names() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    let mut folders = vec![crates];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir()
                && !path.ends_with("target")
                && !path.ends_with("tests")
                && !path.ends_with("failpoint")
            {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for part in text.split("reach(\"").skip(1) {
                    let name = part.split('"').next().unwrap().to_owned();
                    assert!(names.insert(name.clone()), "the failpoint {name} stands in the source twice");
                }
            }
        }
    }
    names
}

/// What the driver asks for, in order.
enum Act {
    Block(Box<Block>),
    /// Back to the tip that stands beside it.
    Pop,
    /// Until the whole chain is durable.
    Await,
    /// Redis loses everything.
    Flush,
    /// The node is stopped in order and started again.
    Restart,
}

/// A network, what is asked for, and the tip (height, id) that each act leaves.
struct Script {
    network: Arc<Network>,
    acts: Vec<(Act, (u32, String))>,
}

fn script() -> Script {
    let options = NetworkOptions {
        name: "killed".to_owned(),
        delegates: 7,
        standby_delegates: 4,
        accounts: 30,
        ..NetworkOptions::default()
    };
    let network = Arc::new(Network::from_seed("killed", &options).unwrap());
    let options = ChainOptions {
        mix: Mix::all_types(),
        transactions_min: 0,
        transactions_max: 6,
        ..ChainOptions::default()
    };
    let now = 1_767_225_600;
    let mut chain = Chain::new(Arc::clone(&network), options.clone(), now).unwrap();
    let mut acts = Vec::new();
    let mut branch = 0;
    let mut tip = (1, network.genesis.id.to_string());
    let mut ids = vec![tip.1.clone()];
    // 40 blocks; a fork near the tip; a flush; a rewind, deeper than the undo records; a restart; more blocks, and a fork
    // again: the first one is a rewind, too, where a kill came right before it, since a start leaves no undo records.
    let plan: [(&str, u32); 17] = [
        ("forward", 40),
        ("pop", 2),
        ("forward", 5),
        ("await", 0),
        ("forward", 3),
        ("flush", 0),
        ("forward", 3),
        ("await", 0),
        ("pop", 20),
        ("forward", 9),
        ("await", 0),
        ("forward", 2),
        ("restart", 0),
        ("forward", 6),
        ("pop", 2),
        ("forward", 3),
        ("await", 0),
    ];
    for (what, count) in plan {
        match what {
            "forward" => {
                for _ in 0..count {
                    let block = chain.next_block().unwrap();
                    tip = (chain.height(), block.id.to_string());
                    ids.push(tip.1.clone());
                    acts.push((Act::Block(Box::new(block)), tip.clone()));
                }
            }
            "pop" => {
                for _ in 0..count {
                    chain.pop().unwrap();
                    ids.pop();
                }
                branch += 1;
                chain
                    .set_options(ChainOptions { seed: format!("branch {branch}"), ..options.clone() })
                    .unwrap();
                tip = (chain.height(), ids.last().unwrap().clone());
                acts.push((Act::Pop, tip.clone()));
            }
            "await" => acts.push((Act::Await, tip.clone())),
            "flush" => acts.push((Act::Flush, tip.clone())),
            _ => acts.push((Act::Restart, tip.clone())),
        }
    }
    Script { network, acts }
}

/// A program on a data directory of its own.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(network: &Network) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("forebay-kill-")
            .tempdir_in(forebay_servers::testing::scratch())
            .unwrap();
        // The servers' account must get through when this runs as root.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        files::write_profile(&mut file("profile.toml"), network).unwrap();
        files::write_genesis(&mut file("genesis.json"), network).unwrap();
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .arg("--data-dir")
            .arg(self.data())
            .arg("--network")
            .arg(self.folder.path().join("profile.toml"))
            .arg("--genesis")
            .arg(self.folder.path().join("genesis.json"))
            // Small windows: trims and rewinds come soon.
            .env("FOREBAY_LIMITS__UNDO_KEPT", "2")
            .env("FOREBAY_LIMITS__OUTBOX_KEPT", "4")
            .env("FOREBAY_LIMITS__BLOCKS_KEPT", "6")
            .env("FOREBAY_LIMITS__TAKEOVER_AFTER_SECONDS", "1");
        command
    }

    fn start(&self, failpoints: &str) -> Feed {
        let mut command = self.command();
        command.args(["run", "--feed", "-"]).env("FAILPOINTS", failpoints);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Feed { requests: child.stdin.take().unwrap(), answers, child }
    }

    fn json(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.command().args(arguments).arg("--json").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = serde_json::from_str(text.trim()).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
        });
        (output.status.success(), value)
    }

    fn flush(&self) {
        let folder = self.data().join("redis");
        let secrets = std::fs::read(folder.join("secrets.json")).unwrap();
        let secrets: Value = serde_json::from_slice(&secrets).unwrap();
        let password = secrets["roles"]["forebay-admin"].as_str().unwrap();
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(folder.join("redis.sock")).args([
            "--user",
            "forebay-admin",
            "--pass",
            password,
        ]);
        let flushed = command.args(["--no-auth-warning", "flushall"]).output().unwrap();
        assert!(flushed.status.success(), "{flushed:?}");
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Stage {
    /// After a failure the private servers are still there: they outlive a killed node.
    fn drop(&mut self) {
        for file in ["redis/redis.pid", "postgres/data/postmaster.pid"] {
            let text = std::fs::read_to_string(self.data().join(file)).unwrap_or_default();
            if let Some(pid) = text.lines().next().filter(|pid| pid.parse::<u32>().is_ok()) {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
        }
    }
}

struct Feed {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<std::process::ChildStdout>,
}

impl Feed {
    /// `None`: the program is gone.
    fn ask(&mut self, request: &Value) -> Option<Value> {
        writeln!(self.requests, "{request}").ok()?;
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(length) if length > 0 => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }

    /// Ends it in order; `false`: it was killed.
    fn end(mut self) -> bool {
        drop(self.requests);
        self.child.wait().unwrap().success()
    }
}

/// Drives the script. The starts have these failpoints, one after the other, then none. Returns how many killed.
fn drive(stage: &Stage, script: &Script, failpoints: &[String]) -> usize {
    let mut kills = 0;
    let with = |kills: usize| failpoints.get(kills).map_or("", String::as_str);
    let mut feed = stage.start(with(0));
    let mut next = 0;
    let mut before = (1, script.network.genesis.id.to_string());
    while next < script.acts.len() {
        let (act, after) = &script.acts[next];
        let answer = match act {
            Act::Block(block) => {
                feed.ask(&json!({ "op": "block", "block": block_to_value(block, &script.network.profile) }))
            }
            // A kill may have come between two blocks of it.
            Act::Pop => feed.ask(&json!({ "op": "pop", "count": before.0 - after.0 })),
            Act::Await => feed.ask(&json!({ "op": "await", "height": after.0 })),
            Act::Flush => {
                stage.flush();
                Some(json!({ "height": after.0, "id": after.1 }))
            }
            Act::Restart => {
                let ended = feed.end();
                kills += usize::from(!ended);
                feed = stage.start(with(kills));
                Some(json!({ "height": after.0, "id": after.1 }))
            }
        };
        if let Some(answer) = answer {
            let expected = (&json!(after.0), &json!(after.1));
            assert_eq!(
                (&answer["height"], &answer["id"]),
                expected,
                "{answer} for act {next}\n{}",
                stage.log()
            );
            before = after.clone();
            next += 1;
            continue;
        }
        // Killed, perhaps again while it started. Then it must stand where the last answer left it, or further by what
        // was asked last: that answer was lost.
        let ready = loop {
            assert!(kills < failpoints.len(), "it ended by itself\n{}", stage.log());
            kills += 1;
            feed.end();
            feed = stage.start(with(kills));
            // Whatever the answer is: it comes when the start is over.
            if let Some(ready) = feed.ask(&json!({ "op": "await", "height": 1 })) {
                break ready;
            }
        };
        let found = standing(stage);
        if found == *after && found != before {
            before = after.clone();
            next += 1;
        } else if matches!(act, Act::Pop) && (after.0..before.0).contains(&found.0) {
            before = found;
        } else if let Some(again) = after_a_flush(script, next, &found) {
            (before, next) = (found, again);
        } else {
            assert_eq!(found, before, "after act {next}, {ready}\n{}", stage.log());
        }
    }
    kills + usize::from(!feed.end())
}

/// Redis lost everything, and the node was killed before it had brought what it knew to PostgreSQL: two faults at once, which
/// leave what PostgreSQL had. How far that was depends on how fast it is; what was awaited it has. Where the script goes on,
/// if it is that.
fn after_a_flush(script: &Script, next: usize, found: &(u32, String)) -> Option<usize> {
    let (flush, before) = script.acts.get(..next)?.split_last()?;
    if !matches!(flush.0, Act::Flush) {
        return None;
    }
    let awaited = before.iter().rposition(|(act, _)| matches!(act, Act::Await))?;
    let last = before.iter().skip(awaited).rposition(|(_, tip)| tip == found)?;
    Some(awaited + last + 1)
}

/// The tip in Redis, as `status` tells it beside the node.
fn standing(stage: &Stage) -> (u32, String) {
    let (_, status) = stage.json(&["status"]);
    let tip = &status["fast"];
    let height = tip["height"].as_u64().unwrap_or_else(|| panic!("no tip in {status}"));
    (u32::try_from(height).unwrap(), tip["blockId"].as_str().unwrap().to_owned())
}

/// Whether every failpoint was reached.
fn run(script: &Script, name: &str, failpoints: &[String]) -> bool {
    let stage = Stage::new(&script.network);
    let reached = drive(&stage, script, failpoints) == failpoints.len();
    let (held, verified) = stage.json(&["verify", "--deep"]);
    assert!(held, "{name}: {verified}\n{}", stage.log());
    let (height, _) = &script.acts.last().unwrap().1;
    assert_eq!(verified["height"], json!(height), "{name}: {verified}");
    reached
}

/// Places that a start reaches, and those that every block reaches many times: killed at some later pass too.
fn occurrences(name: &str) -> &'static [u32] {
    match name {
        "fast.before_call" | "fast.after_call" => &[0, 7],
        // A restore's rows first, then blocks.
        "fast.before_exec" | "fast.after_exec" => &[0, 7, 20],
        "owner.after_step" | "writer.before_step" => &[0, 20],
        // How many batches there are depends on how fast PostgreSQL is; a few there always are.
        "syncer.before_apply" | "syncer.after_commit" => &[0, 3],
        _ => &[0],
    }
}

/// Places that blocks reach early, where a kill leaves something that the next start has to drain.
const LEAVES_SOMETHING: [(&str, u32); 7] = [
    ("owner.after_step", 20),
    ("writer.before_step", 20),
    ("slow.position_moved", 0),
    ("slow.rows_inserted", 0),
    ("slow.before_commit", 0),
    ("syncer.before_apply", 0),
    ("syncer.before_apply", 3),
];

/// Places that only the later acts reach, however often the node was killed before.
const LATER: [&str; 8] = [
    "heal.claimed",
    "heal.synced",
    "owner.after_step_back",
    "owner.before_release",
    "owner.rewind_accepted",
    "owner.rewind_durable",
    "slow.rows_deleted",
    "writer.before_step_back",
];

fn failpoint(name: &str, skipped: u32) -> String {
    if skipped == 0 { format!("{name}=return") } else { format!("{name}={skipped}*off->return") }
}

/// What each run is killed at. A kill in a start needs one before it, and one that comes late costs no run of its own: up
/// to three kills go together.
fn runs(names: &BTreeSet<String>) -> Vec<Vec<String>> {
    let is_start = |name: &str| name.starts_with("start.") || name.starts_with("restore.");
    let mut first = LEAVES_SOMETHING.iter();
    let mut later = LATER.iter();
    let starts: Vec<Vec<String>> = names
        .iter()
        .filter(|name| is_start(name))
        .map(|name| {
            let (before, skipped) = first.next().unwrap_or(&("owner.after_step", 9));
            let mut run = vec![failpoint(before, *skipped), failpoint(name, 0)];
            run.extend(later.next().map(|name| failpoint(name, 0)));
            run
        })
        .collect();
    // How late the first kill comes depends on PostgreSQL where it is the Syncer's: here it is the last block before the fork.
    let late = vec![failpoint("owner.after_step", 39), failpoint("owner.after_step_back", 0)];
    let together: BTreeSet<String> = starts.iter().flatten().cloned().collect();
    let alone = names
        .iter()
        .filter(|name| !is_start(name))
        .flat_map(|name| occurrences(name).iter().map(move |skipped| failpoint(name, *skipped)));
    starts
        .into_iter()
        .chain([late])
        .chain(alone.filter(|one| !together.contains(one)).map(|one| vec![one]))
        .collect()
}

#[test]
fn a_kill_at_every_failpoint_loses_nothing_and_does_nothing_twice() {
    let script = script();
    let names = names();
    assert!(names.len() > 20, "{names:?}");
    let work = std::sync::Mutex::new(runs(&names).into_iter());
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(failpoints) = work.lock().unwrap().next() else { return };
                    let name = failpoints.join(", ");
                    let outcome = std::panic::catch_unwind(|| run(&script, &name, &failpoints));
                    match outcome {
                        Ok(true) => {}
                        Ok(false) => wrong
                            .lock()
                            .unwrap()
                            .push(format!("{name}: the script does not reach it, or not all of them")),
                        Err(_) => wrong.lock().unwrap().push(format!("{name}: see above")),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
