//! Row 9, and the graceful stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Place, RunningNode, asking, is_alive, until};
use crate::yours::{Yours, with};

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn all_three_killed_at_once_lose_nothing_that_was_accepted() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let mut accepted = 1;
    // At the first block, in a round, around its end.
    for answers in [1, 90, 40] {
        let node = place.start_node();
        let mut feed = node.connect();
        // More than are answered: some are on their way when all three die.
        let sent = (answers + 30).min(blocks.len() - accepted);
        blocks[accepted..accepted + sent].iter().for_each(|block| feed.send(&asking(block)));
        for _ in 0..answers {
            let answer = feed.receive();
            assert_eq!(
                (&answer["accepted"], &answer["profile"]),
                (&json!(true), &json!("durable")),
                "{answer}"
            );
            accepted += 1;
        }
        let (redis, postgres) = place.server_pids().unwrap();
        let pids = [node.pid(), redis, postgres];
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        drop(feed);
        node.ended();
        until("both servers are gone", || !is_alive(redis) && !is_alive(postgres));

        let node = place.start_node();
        let status = place.run(&["status", "--json"]).with_code(0).json();
        let height = usize::try_from(status["fast"]["height"].as_u64().unwrap()).unwrap();
        assert!((accepted..=accepted + 30).contains(&height), "{accepted} were accepted: {status}");
        let tip: Value = serde_json::from_str(&blocks[height - 1]).unwrap();
        assert_eq!(status["fast"]["blockId"], tip["id"]);
        accepted = height;
        // What was answered is known, and not done again.
        let again = node.connect().ask(&asking(&blocks[accepted - 1]));
        assert_eq!((&again["known"], &again["height"]), (&json!(true), &json!(height)));
        node.end(Signal::TERM).with_code(0);
    }
    place.run(&["verify", "--deep"]).with_code(0);
}

#[test]
fn a_stop_that_cannot_drain_says_what_stays_and_the_next_start_brings_it() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let yours = Yours::start();
    let settings = yours.settings();
    let settings = with(&settings, &[("FOREBAY_DRAIN_SECONDS", "1")]);
    let node = place.start_node_with(&settings);
    let mut feed = node.connect();
    blocks[1..10].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));
    assert_eq!(feed.ask(r#"{"op":"await","height":10}"#)["durable"], true);
    let administrator = yours.administrator();
    let lock = "begin; lock table forebay.blocks in access exclusive mode";
    yours.block_on(administrator.batch_execute(lock)).unwrap();
    blocks[10..14].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));
    drop(feed);
    let ended = node.end(Signal::INT).with_code(0);
    assert!(!ended.stderr.contains("all of it durable"), "{}", ended.stderr);
    ended.says("4 operations are accepted and not in PostgreSQL yet").says("PostgreSQL is at height 10");
    yours.block_on(administrator.batch_execute("rollback")).unwrap();
    place
        .start_node_with(&settings)
        .end(Signal::TERM)
        .with_code(0)
        .says("stopped at height 14, all of it durable");
    assert!(place.command(&["verify", "--deep"]).envs(settings).status().unwrap().success());
}

/// Ten blocks are durable, four more accepted without PostgreSQL; then Redis is emptied, which the node notices, and a line
/// of the feed waits for it.
fn node_that_heals_without_postgres(
    place: &Place,
    yours: &Yours,
    settings: &[(&str, &str)],
) -> (RunningNode, crate::support::Connection) {
    let blocks = place.blocks();
    let node = place.start_node_with(settings);
    let mut feed = node.connect();
    blocks[1..10].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));
    assert_eq!(feed.ask(r#"{"op":"await","height":10}"#)["durable"], true);
    yours.kill_postgres();
    blocks[10..14].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));
    yours.flush_redis();
    feed.send(&asking(&blocks[14]));
    until("the loss is noticed", || {
        let output = place.command(&["status", "--json"]).envs(settings.iter().copied()).output().unwrap();
        let status = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        status["node"]["phase"] == "restore"
    });
    (node, feed)
}

fn record(place: &Place, name: &str) -> Option<PathBuf> {
    Some(place.data_dir().join(name)).filter(|path| path.exists())
}

/// The next start goes back to the last durable block, and the record brings the rest.
fn assert_replays(place: &Place, settings: &[(&str, &str)]) {
    place.start_node_with(settings).end(Signal::TERM).with_code(0).says("stopped at height 10");
    let done = record(place, "rollback-1-10.jsonl.done").expect("it was obeyed");
    let replayed = place
        .command(&["replay", done.to_str().unwrap(), "--json"])
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!((&summary["height"], &summary["durableHeight"]), (&json!(14), &json!(14)), "{summary}");
    let verified = place.command(&["verify", "--deep"]).envs(settings.iter().copied()).status().unwrap();
    assert!(verified.success());
}

#[test]
fn a_stop_without_postgres_after_redis_lost_its_state_keeps_its_time_and_leaves_a_record() {
    let Some(place) = Place::new() else { return };
    let mut yours = Yours::start();
    let settings = yours.settings();
    let settings = with(&settings, &[("FOREBAY_DRAIN_SECONDS", "2")]);
    let (node, _feed) = node_that_heals_without_postgres(&place, &yours, &settings);
    let asked = Instant::now();
    let ended = node.end(Signal::TERM).with_code(8);
    assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?}", asked.elapsed());
    ended
        .says("PostgreSQL lacks 4 operations at the end of the time to drain, and Redis lost them")
        .says("the next start goes back to height 10")
        .says("rollback-1-10.jsonl");
    yours.restart_postgres();
    assert_replays(&place, &settings);
}

#[test]
fn a_second_signal_after_redis_lost_its_state_ends_at_once_and_the_record_is_there() {
    let Some(place) = Place::new() else { return };
    let mut yours = Yours::start();
    let settings = yours.settings();
    let settings = with(&settings, &[("FOREBAY_DRAIN_SECONDS", "600")]);
    let (node, _feed) = node_that_heals_without_postgres(&place, &yours, &settings);
    signal(node.pid(), Signal::TERM);
    until("the record is written", || record(&place, "rollback-1-10.jsonl").is_some());
    node.end(Signal::TERM).with_code(143);
    yours.restart_postgres();
    assert_replays(&place, &settings);
}
