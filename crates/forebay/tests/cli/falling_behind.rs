use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Ended, Place, RunningNode, asking, is_alive, until};

/// A PostgreSQL that is away for 2 s ends the node.
const IMPATIENT: (&str, &str) = ("FOREBAY_LIMITS__NO_PROGRESS_SECONDS_MAX", "2");

fn files(place: &Place, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

/// Thirty durable blocks, then PostgreSQL dies for good, and ten operations are accepted: six blocks, two taken back, two
/// that are there again. The node ends by itself.
fn node_that_loses_postgres(place: &Place, settings: &[(&str, &str)]) -> Ended {
    let blocks = place.blocks();
    let node: RunningNode = place.start_node_with(settings);
    let mut feed = node.connect();
    blocks[1..30].iter().for_each(|block| feed.send(&asking(block)));
    blocks[1..30].iter().for_each(|_| {
        let answer = feed.receive();
        assert_eq!((&answer["accepted"], &answer["profile"]), (&json!(true), &json!("durable")));
    });
    assert_eq!(feed.ask(r#"{"op":"await","height":30}"#)["durable"], true);
    let _away = place.postgres_away();
    blocks[30..36].iter().for_each(|block| {
        let answer = feed.ask(&asking(block));
        assert_eq!((&answer["accepted"], &answer["durable"]), (&json!(true), &json!(false)), "{answer}");
    });
    assert_eq!(feed.ask(r#"{"op":"pop","count":2}"#)["height"], 34);
    blocks[34..36].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));
    node.ended()
}

#[test]
fn a_node_without_postgres_ends_with_its_own_code_goes_back_and_gets_its_operations_again() {
    let Some(place) = Place::new() else { return };
    let Some(straight) = Place::new() else { return };
    let ended = node_that_loses_postgres(&place, &[IMPATIENT]);
    let order = files(&place, ".jsonl").pop().expect("the order is written");
    let ended = ended
        .with_code(8)
        .says("PostgreSQL made no progress for")
        .says("limit 2 s")
        .says("10 operations")
        .says("the next start goes back to height 30")
        .says("last error")
        .says(order.to_str().unwrap());
    assert!(!ended.stderr.contains("last error: none"), "{}", ended.stderr);
    let record = fs::read_to_string(&order).unwrap();
    assert_eq!(record.lines().count(), 11, "a header and every operation, the pops too:\n{record}");
    let seqs: Vec<u64> = record
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (31..=40).collect::<Vec<_>>());

    // Who asks is told what the next start does.
    let status = place.run(&["status", "--json"]).with_code(0).json();
    let standing = &status["standingOrders"];
    assert_eq!((&standing[0]["file"], &standing[0]["seq"]), (&json!(order), &json!(30)), "{status}");
    let shown = place.run(&["status"]).with_code(0).stdout;
    assert!(shown.contains("goes back to operation 30 by "), "{shown}");

    // The next start goes back; the file is a record from then on.
    let node = place.start_node();
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["fast"]["height"], &status["slow"]["height"]), (&json!(30), &json!(30)));
    assert_eq!(status["standingOrders"], json!([]), "it was obeyed");
    node.end(Signal::TERM).with_code(0);
    assert!(!order.exists());
    let done = files(&place, ".jsonl.done").pop().expect("the record stays");
    assert_eq!(fs::read_to_string(&done).unwrap(), record);

    let replayed = place.run(&["replay", done.to_str().unwrap(), "--json"]).with_code(0).json();
    assert_eq!((&replayed["height"], &replayed["durableHeight"]), (&json!(36), &json!(36)));
    assert_eq!((&replayed["blocks"], &replayed["blocksTakenBack"]), (&json!(8), &json!(2)));
    place.run(&["verify", "--deep"]).with_code(0);
    straight.replay("blocks.jsonl", &straight.blocks()[..36]);
    assert_eq!(place.dump("slow"), straight.dump("slow"));
    assert_eq!(place.dump("fast"), straight.dump("fast"));
    // A second time its base is not the tip any more.
    place.run(&["replay", done.to_str().unwrap()]).with_code(1).says("line 1");
}

#[test]
fn with_keep_the_node_ends_with_its_own_code_and_the_next_start_drains() {
    let Some(place) = Place::new() else { return };
    let ended = node_that_loses_postgres(&place, &[IMPATIENT, ("FOREBAY_ON_HARD_LIMIT", "keep")]);
    ended.with_code(8).says("10 operations").says("the next start drains them");
    assert_eq!(files(&place, ".jsonl"), Vec::<PathBuf>::new());
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["running"], &status["slow"]["height"]), (&json!(false), &json!(30)));
    // Redis dies as well: what it had is in its files.
    let redis = place.redis_pid().unwrap();
    kill_process(Pid::from_raw(redis).unwrap(), Signal::KILL).unwrap();
    until("Redis is gone", || !is_alive(redis));
    let shown = place.run(&["status"]).with_code(0).stdout;
    assert!(shown.contains("the next start drains what its files have and PostgreSQL lacks"), "{shown}");
    // Redis has it in its files, so nobody says that the chain does not.
    place
        .run(&["block", "--height", "36"])
        .with_code(1)
        .says("PostgreSQL, which alone was asked, has no block at height 36");
    let silence = place.run(&["status", "--json"]).with_code(0).json()["redisSilence"].clone();
    assert!(silence.as_str().is_some_and(|silence| silence.starts_with("not running; ")), "{silence}");
    place.start_node().end(Signal::TERM).with_code(0).says("stopped at height 36");
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["redisSilence"], &status["slow"]["height"]), (&Value::Null, &json!(36)), "{status}");
    place.run(&["verify", "--deep"]).with_code(0);
}

#[test]
fn status_beside_a_node_that_lost_postgres_says_so_at_once() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    assert_eq!(feed.ask(&asking(&blocks[1]))["accepted"], true);
    assert_eq!(feed.ask(r#"{"op":"await","height":2}"#)["durable"], true);
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["node"]["retries"], &status["node"]["lastError"]), (&json!(0), &Value::Null));
    assert_eq!((&status["node"]["phase"], &status["node"]["profile"]), (&json!("ready"), &json!("durable")));
    let away = place.postgres_away();
    assert_eq!(feed.ask(&asking(&blocks[2]))["accepted"], true);
    until("the failed attempts are told", || {
        let status = place.run(&["status", "--json"]).with_code(0).json();
        assert_eq!((&status["fast"]["height"], &status["slow"]), (&json!(3), &Value::Null));
        status["node"]["retries"].as_u64().unwrap() > 1 && status["node"]["lastError"].is_string()
    });
    let shown = place.run(&["status"]).with_code(0);
    assert!(shown.stdout.contains("last error: "), "{}", shown.stdout);
    // Redis answers what needs no PostgreSQL.
    assert_eq!(place.run(&["block", "3", "--json"]).with_code(0).json()["tier"], "fast");
    node.end(Signal::KILL);
    drop(away);
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!(status["node"], Value::Null, "a dead node's word is not believed");
}

#[test]
fn an_order_that_is_moved_away_is_none_and_the_next_start_drains() {
    let Some(place) = Place::new() else { return };
    node_that_loses_postgres(&place, &[IMPATIENT]).with_code(8);
    let order = files(&place, ".jsonl").pop().expect("the order is written");
    fs::rename(&order, place.path("elsewhere.jsonl")).unwrap();
    place.start_node().end(Signal::TERM).with_code(0).says("stopped at height 36");
    place.run(&["verify", "--deep"]).with_code(0);
}

/// A replay of 60 blocks whose PostgreSQL went away after the 30th, asked to end by SIGTERM when all is accepted.
/// Returns its summary. PostgreSQL comes back after the signal, or when the replay has ended.
fn asked_to_end_while_postgres_is_away(place: &Place, drain_seconds: &str, comes_back: bool) -> Value {
    use std::io::Write as _;
    let blocks = place.blocks();
    // The directory knows its network from here on.
    place.replay("first", &blocks[1..2]);
    let mut replay = place
        .command(&["replay", "-", "--json"])
        .env("FOREBAY_DRAIN_SECONDS", drain_seconds)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = replay.stdin.take().unwrap();
    blocks[1..30].iter().for_each(|block| writeln!(lines, "{block}").unwrap());
    until("the node is up", || tip(place) == Some(30));
    let away = place.postgres_away();
    blocks[30..60].iter().for_each(|block| writeln!(lines, "{block}").unwrap());
    // All is read, and the replay waits for PostgreSQL.
    drop(lines);
    until("all is accepted", || tip(place) == Some(60));
    let asked = std::time::Instant::now();
    kill_process(Pid::from_raw(i32::try_from(replay.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    let away = (!comes_back).then_some(away);
    let output = replay.wait_with_output().unwrap();
    drop(away);
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(comes_back || asked.elapsed().as_secs() < 20, "it took {:?}", asked.elapsed());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_replay_that_was_asked_to_end_tells_what_the_end_brought_to_postgres() {
    let Some(place) = Place::new() else { return };
    let summary = asked_to_end_while_postgres_is_away(&place, "60", true);
    assert_eq!((&summary["height"], &summary["durableHeight"]), (&json!(60), &json!(60)), "{summary}");
    assert!(summary["durableTransactionsPerSecond"].is_number(), "{summary}");
    assert!(summary["seconds"].as_f64() > summary["acceptedSeconds"].as_f64(), "{summary}");
    assert_eq!(place.run(&["status", "--json"]).with_code(0).json()["slow"]["height"], 60);
}

#[test]
fn one_signal_ends_a_replay_whose_postgres_is_gone_within_the_drain_time() {
    let Some(place) = Place::new() else { return };
    let summary = asked_to_end_while_postgres_is_away(&place, "2", false);
    assert_eq!(summary["error"]["kind"], "interrupted", "{summary}");
    assert_eq!((&summary["height"], &summary["durableHeight"]), (&json!(60), &json!(30)), "{summary}");
    assert!(summary["durableTransactionsPerSecond"].is_null(), "{summary}");
    // Nothing accepted is lost.
    let again = place.replay("more", &place.blocks()[60..62]);
    assert_eq!((&again["height"], &again["durableHeight"]), (&json!(62), &json!(62)), "{again}");
}

/// The height that Redis has, once there is a node.
fn tip(place: &Place) -> Option<u64> {
    let output = place.command(&["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    status["fast"]["height"].as_u64()
}

/// Ends a private server, and waits until another one of its kind runs.
fn is_started_again(place: &Place, which: fn((i32, i32)) -> i32) {
    let before = which(place.server_pids().unwrap());
    kill_process(Pid::from_raw(before).unwrap(), Signal::KILL).unwrap();
    until("it is started again", || place.server_pids().is_some_and(|pids| which(pids) != before));
}

#[test]
fn private_servers_that_die_are_started_again_under_the_node() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    let mut next = 1;
    for which in [(|pids: (i32, i32)| pids.0) as fn((i32, i32)) -> i32, |pids| pids.1, |pids| pids.0] {
        is_started_again(&place, which);
        for block in &blocks[next..next + 5] {
            // What is refused while a server is away is sent again, as a client would.
            until("the block is accepted", || feed.ask(&asking(block))["accepted"] == true);
        }
        next += 5;
        until("all is durable", || {
            feed.ask(&json!({"op": "await", "height": next}).to_string())["durable"] == true
        });
    }
    node.end(Signal::TERM).with_code(0).says("stopped at height 16");
    place.assert_no_server();
    place.run(&["verify", "--deep"]).with_code(0);
}

#[test]
fn a_private_server_that_dies_under_a_start_is_started_again() {
    let Some(place) = Place::new() else { return };
    place.start_node().end(Signal::KILL);
    let (redis, postgres) = place.server_pids().unwrap();
    let signal = |pid: i32, signal| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    // The start finds PostgreSQL, then waits for a Redis that stands still.
    signal(redis, Signal::STOP);
    let genesis = place.oracle.join("genesis.json");
    let arguments = ["run", "--network", "rise-devnet", "--genesis", genesis.to_str().unwrap()];
    let mut child = place.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let running = place.data_dir().join("node.lock");
    until("the start has begun", || {
        fs::read_to_string(&running).is_ok_and(|text| text.contains("forebay run"))
    });
    until("PostgreSQL is kept running", || {
        if let Some(pid) = postgres_pid(&place).filter(|pid| *pid == postgres && is_alive(*pid)) {
            signal(pid, Signal::KILL);
        }
        postgres_pid(&place).is_some_and(|pid| pid != postgres && is_alive(pid))
    });
    signal(redis, Signal::CONT);
    until("it is ready", || {
        let output = place.command(&["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["phase"] == "ready"
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

fn postgres_pid(place: &Place) -> Option<i32> {
    let text = fs::read_to_string(place.data_dir().join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

#[test]
fn status_is_told_within_its_time_beside_servers_that_stand_still() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let (redis, postgres) = place.server_pids().unwrap();
    let signal = |pid: i32, signal| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    for pid in [redis, postgres] {
        signal(pid, Signal::STOP);
    }
    let began = std::time::Instant::now();
    let shown = place.run(&["status", "--json", "--connect-timeout", "1"]);
    let took = began.elapsed();
    let logged = place.run(&["log", "--connect-timeout", "1"]);
    for pid in [redis, postgres] {
        signal(pid, Signal::CONT);
    }
    let status = shown.with_code(0).says("does not answer within").json();
    assert_eq!((&status["slow"], &status["postgres"]), (&Value::Null, &Value::Null), "{status}");
    let redis = (&status["phase"], &status["redisSilence"]);
    assert_eq!(redis, (&json!("ready"), &json!("not answering")), "{status}");
    assert!(took.as_secs() < 30, "it took {took:?}");
    logged.with_code(4).says("does not answer within");
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn a_stop_beside_a_server_that_stands_still_gives_it_up_names_it_and_is_told_as_a_stop() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let (_, postgres) = place.server_pids().unwrap();
    let signal = |pid, signal| kill_process(pid, signal).unwrap();
    let postgres = Pid::from_raw(postgres).unwrap();
    assert_eq!(node.connect().ask(r#"{"op":"await","height":1}"#)["durable"], true);
    signal(postgres, Signal::STOP);
    signal(Pid::from_raw(node.pid()).unwrap(), Signal::TERM);
    until("the stop is told", || {
        let status = place.run(&["status", "--json", "--connect-timeout", "1"]).with_code(0).json();
        status["phase"] == "stopping" && status["running"] == true
    });
    let ended = node.ended();
    signal(postgres, Signal::CONT);
    ended.with_code(4).says(&format!("kill -CONT {}", postgres.as_raw_nonzero()));
    // It ends once it goes on; the next start does not mind either way.
    assert_eq!(place.replay("next", &place.blocks()[1..3])["height"], 3);
}

#[test]
fn a_deep_take_back_without_postgres_ends_with_the_code_of_a_server_that_is_away_and_says_so_once() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..10]);
    // After a start Redis has no undo records: PostgreSQL has to take the blocks back.
    let node = place.start_node_with(&[IMPATIENT]);
    let mut feed = node.connect();
    let away = place.postgres_away();
    let answer = feed.ask(r#"{"op":"pop","count":5}"#);
    assert_eq!(answer["error"]["kind"], "postgres", "{answer}");
    let ended = node.ended().with_code(4);
    for told in [answer["error"]["message"].as_str().unwrap(), ended.stderr.lines().last().unwrap()] {
        assert_eq!(told.matches("PostgreSQL was away for").count(), 1, "{told}");
        assert_eq!(
            told.matches("stopped").count(),
            told.matches("the node stopped by itself").count(),
            "{told}"
        );
    }
    drop(away);
    // Nothing was done, and nothing is lost.
    assert_eq!(place.run(&["pop", "--count", "5", "--json"]).with_code(0).json()["height"], 5);
}
