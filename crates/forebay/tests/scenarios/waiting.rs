//! A start that waits, and a wall clock that jumps.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use forebay_testkit::proxy::{Direction, Endpoint, Proxy};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Place, asking, until};
use crate::yours::{Yours, with};

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_start_waits_for_postgres_status_names_its_phase_and_it_goes_on_by_itself() {
    let Some(place) = Place::new() else { return };
    let yours = Yours::start();
    let socket = format!(".s.PGSQL.{}", yours.servers.postgres().port());
    let front = place.path("front");
    std::fs::create_dir(&front).unwrap();
    let behind = yours.servers.postgres().socket_dir().join(&socket);
    let proxy =
        yours.block_on(Proxy::start(Endpoint::Unix(front.join(&socket)), Endpoint::Unix(behind))).unwrap();
    proxy.refuse();
    let settings = yours.settings_through(&front);
    // Reads give up at once; the node's start does not.
    let settings = with(&settings, &[("FOREBAY_CONNECT_TIMEOUT_SECONDS", "1")]);
    let genesis = place.oracle.join("genesis.json");
    let feed = place.path("feed.sock");
    let mut command = place.command(&["run", "--network", "rise-devnet", "--genesis"]);
    command
        .arg(genesis)
        .arg("--feed")
        .arg(&feed)
        .envs(settings.clone())
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    let mut node = Ending(command.spawn().unwrap());
    let status = || -> Value {
        let output = place.command(&["status", "--json"]).envs(settings.clone()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    until("the phase is told", || status()["phase"] == json!("starting (setup)"));
    let told = status();
    assert_eq!((&told["running"], &told["slow"]), (&json!(true), &Value::Null), "{told}");
    assert_eq!(told["holder"]["pid"], json!(node.0.id()));
    assert!(node.0.try_wait().unwrap().is_none(), "it waits, it does not end");
    proxy.heal();
    until("it is ready", || status()["phase"] == json!("ready"));
    until("the genesis block is durable", || status()["slow"]["height"] == 1);
    kill_process(Pid::from_child(&node.0), Signal::TERM).unwrap();
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
}

/// The connections to one server are cut after a half, a quarter and so on of what a start sends there: most of that is
/// the restore, and what is asked before is short.
const HALVINGS: u64 = 10;

#[test]
fn a_start_bears_that_its_connections_break_wherever_it_is() {
    let Some(place) = Place::new() else { return };
    let yours = Yours::start();
    let socket = format!(".s.PGSQL.{}", yours.servers.postgres().port());
    let front = place.path("front");
    std::fs::create_dir(&front).unwrap();
    let between = |front: PathBuf, behind: PathBuf| {
        yours.block_on(Proxy::start(Endpoint::Unix(front), Endpoint::Unix(behind)))
    };
    let postgres = between(front.join(&socket), yours.servers.postgres().socket_dir().join(&socket)).unwrap();
    let redis_url = yours.servers.redis().redis_url();
    let redis_path = yours.servers.redis().socket();
    let redis = between(front.join("redis.sock"), redis_path.clone()).unwrap();
    let redis_url =
        redis_url.replace(redis_path.to_str().unwrap(), front.join("redis.sock").to_str().unwrap());
    let mut settings = yours.settings_through(&front);
    settings[0].1 = redis_url;
    let settings = with(&settings, &[]);

    let node = place.start_node_with(&settings);
    let mut feed = node.connect();
    for block in &place.blocks()[1..4] {
        assert_eq!(feed.ask(&asking(block))["accepted"], true);
    }
    node.end(Signal::TERM).with_code(0);
    for proxy in [&redis, &postgres] {
        let before = proxy.passed_bytes(Direction::ToServer);
        let node = place.start_node_with(&settings);
        let a_start = proxy.passed_bytes(Direction::ToServer) - before;
        node.end(Signal::TERM).with_code(0);
        for halvings in 1..=HALVINGS {
            proxy.cut_after(Direction::ToServer, a_start >> halvings);
            let node = place.start_node_with(&settings);
            let mut feed = node.connect();
            assert_eq!(feed.ask(r#"{"op":"await","height":4}"#)["durable"], true, "{a_start} >> {halvings}");
            proxy.heal();
            node.end(Signal::TERM).with_code(0);
        }
    }
}

/// Debian's place first.
fn faketime() -> Option<PathBuf> {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .iter()
        .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
}

#[test]
fn a_wall_clock_that_jumps_does_not_move_the_guard() {
    let Some(library) = faketime() else {
        eprintln!("SKIPPED jumps of the wall clock: libfaketime is not installed");
        return;
    };
    for jump in ["+7200\n", "-7200\n"] {
        let Some(place) = Place::new() else { return };
        let clock = place.path("clock");
        std::fs::write(&clock, "+0\n").unwrap();
        let yours = Yours::start();
        let settings = yours.settings();
        let node = place.start_node_with(&with(
            &settings,
            &[
                ("LD_PRELOAD", library.to_str().unwrap()),
                ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("FOREBAY_LIMITS__NO_PROGRESS_SECONDS_MAX", "3"),
            ],
        ));
        let mut feed = node.connect();
        assert_eq!(feed.ask(&asking(&place.blocks()[1]))["accepted"], true);
        assert_eq!(feed.ask(r#"{"op":"await","height":2}"#)["durable"], true);
        yours.block_on(yours.servers.kill_postgres());
        assert_eq!(feed.ask(&asking(&place.blocks()[2]))["accepted"], true);
        std::fs::write(place.path("clock.new"), jump).unwrap();
        std::fs::rename(place.path("clock.new"), &clock).unwrap();
        let ended = node.ended().with_code(8);
        // Its own measure of the time, in seconds: neither two hours nor nothing.
        let (_, after) = ended.stderr.split_once("made no progress for ").expect("it says why");
        let seconds: u64 = after.split(' ').next().unwrap().parse().unwrap();
        assert!((3..60).contains(&seconds), "{jump}: {}", ended.stderr);
    }
}
