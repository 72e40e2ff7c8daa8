use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Place, asking, sessions_of, until};

fn seqs(answer: &Value) -> Vec<u64> {
    answer["operations"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

#[test]
fn the_log_shows_and_filters_what_was_committed_with_and_without_a_node() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    blocks[1..60].iter().for_each(|block| feed.send(&asking(block)));
    blocks[1..60].iter().for_each(|_| drop(feed.receive()));
    assert_eq!(feed.ask(r#"{"op":"pop","count":3}"#)["height"], 57);
    feed.ask(r#"{"op":"await","height":57}"#);
    until("the last take-back is durable", || {
        place.run(&["status", "--json"]).with_code(0).json()["slow"]["seq"] == 63
    });

    let log = |arguments: &[&str]| {
        let mut all = vec!["log", "--json"];
        all.extend(arguments);
        place.run(&all).with_code(0).json()
    };
    let newest = log(&[]);
    assert_eq!(newest["tier"], "slow");
    assert_eq!(seqs(&newest), (14..=63).collect::<Vec<_>>(), "the newest 50, the newest last");
    let last: Value = serde_json::from_str(&blocks[59]).unwrap();
    let popped = log(&["--operation", "take-back", "--height", "60"]);
    let entry = &popped["operations"][0];
    assert_eq!((seqs(&popped), &entry["operation"]), (vec![61], &json!("take-back")));
    assert_eq!((&entry["fromHeight"], &entry["lastId"]), (&json!(60), &last["id"]));
    assert_eq!((&entry["blocks"], &entry["attempt"]), (&json!(1), &json!(1)));
    assert!(
        entry["durationMs"].as_f64().unwrap() > 0.0 && entry["startedAt"].as_str().unwrap().ends_with('Z')
    );
    assert_eq!(seqs(&log(&["--height", "60"])), [60, 61]);
    assert_eq!(seqs(&log(&["--from-seq", "5", "--to-seq", "7"])), [5, 6, 7]);
    assert_eq!(seqs(&log(&["--to-seq", "20", "--limit", "2"])), [19, 20]);
    assert_eq!(seqs(&log(&["--since", "1h", "--limit", "1"])), [63]);
    assert_eq!(seqs(&log(&["--since", "2999-01-01"])), Vec::<u64>::new());
    let shown = place.run(&["log", "--operation", "take-back"]).with_code(0);
    assert_eq!((shown.stdout.lines().count(), shown.stdout.matches("take-back").count()), (4, 3));

    node.end(Signal::TERM).with_code(0);
    let without = place.run(&["log", "--json"]).with_code(0).says("PostgreSQL alone").json();
    assert_eq!(without, newest);
    place.assert_no_server();

    place.run(&["log", "--since", "yesterday"]).with_code(2).says("yesterday").says("15min");
    place.run(&["log", "--limit", "0"]).with_code(2);
    place.run(&["log", "--outcome", "retry"]).with_code(2).says("--file");
    place.run(&["log", "--file"]).with_code(3).says("write_log_file");
}

#[test]
fn the_file_has_every_attempt_the_failed_ones_too() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let file = place.path("log/write.jsonl");
    let setting = ("FOREBAY_WRITE_LOG_FILE", file.to_str().unwrap());
    let node = place.start_node_with(&[
        setting,
        ("FOREBAY_WRITE_LOG_BYTES_MAX", "400"),
        ("FOREBAY_WRITE_LOG_FILES_MAX", "100"),
    ]);
    let mut feed = node.connect();
    for height in 2..6_usize {
        assert_eq!(feed.ask(&asking(&blocks[height - 1]))["accepted"], true);
        feed.ask(&json!({"op": "await", "height": height}).to_string());
    }
    let log = |arguments: &[&str]| {
        let mut all = vec!["log", "--json", "--file", file.to_str().unwrap()];
        all.extend(arguments);
        place.run(&all).with_code(0).json()
    };
    let retries = || log(&["--outcome", "retry"])["attempts"].as_array().unwrap().len();
    // PostgreSQL comes back by itself when a session of it dies. The node may just have asked it something then, which is
    // no attempt: once more.
    let mut height = 5;
    while retries() == 0 {
        assert!(height < 15, "no attempt failed");
        height += 1;
        for session in sessions_of(place.server_pids().unwrap().1) {
            kill_process(Pid::from_raw(session).unwrap(), Signal::KILL).unwrap();
        }
        assert_eq!(feed.ask(&asking(&blocks[height - 1]))["accepted"], true);
        assert_eq!(feed.ask(&json!({"op": "await", "height": height}).to_string())["durable"], true);
    }
    let committed = log(&["--outcome", "ok"]);
    let attempts = committed["attempts"].as_array().unwrap();
    let ends: Vec<_> = attempts.iter().map(|attempt| attempt["toSeq"].as_u64().unwrap()).collect();
    assert_eq!(ends, (1..=height as u64).collect::<Vec<_>>(), "over the rotated files, the newest last");
    assert!(file.with_extension("jsonl.1").exists(), "full files move on");
    let both = log(&["--height", &height.to_string(), "--operation", "append"]);
    let both = both["attempts"].as_array().unwrap();
    let (first, last) = (&both[0], both.last().unwrap());
    assert_eq!((&first["outcome"], &first["attempt"]), (&json!("retry"), &json!(1)));
    assert!(first["fromSeq"] == height && first["message"].is_string(), "{first}");
    assert_eq!((&last["outcome"], &last["attempt"]), (&json!("ok"), &json!(both.len())));
    assert_eq!(log(&["--to-seq", "3", "--from-seq", "3"])["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(log(&["--since", "2999-01-01"])["attempts"], json!([]));
    assert_eq!(log(&["--operation", "take-back"])["attempts"], json!([]));
    assert_eq!((&committed["linesLost"], &committed["unreadableLines"]), (&json!(0), &json!(0)));

    // The configured file, for people.
    let shown = place.command(&["log", "--file"]).env(setting.0, setting.1).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("append 5") && text.contains(" retry "), "{text}");
    place.run(&["log", "--file", "/nowhere/log"]).with_code(3).says("/nowhere/log");
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn a_write_log_that_cannot_be_opened_is_told_before_anything_is_started() {
    let Some(place) = Place::new() else { return };
    let file = place.write("blocks.jsonl", &place.blocks()[..3]);
    let genesis = place.oracle.join("genesis.json");
    let arguments = [
        "replay",
        file.to_str().unwrap(),
        "--network",
        "rise-devnet",
        "--genesis",
        genesis.to_str().unwrap(),
    ];
    let ended = place.command(&arguments).env("FOREBAY_WRITE_LOG_FILE", "/dev/null/log").output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("/dev/null/log"), "{stderr}");
    place.assert_no_server();
}
