use rustix::process::Signal;
use serde_json::json;

use crate::support::{Place, asking, is_alive, sessions_of, until};

#[test]
fn beside_a_node_reads_work_and_writes_are_refused_with_who_holds_it() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    blocks[1..30].iter().for_each(|block| {
        assert_eq!(feed.ask(&asking(block))["accepted"], true);
    });
    feed.ask(r#"{"op":"await","height":30}"#);

    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["running"], &status["phase"]), (&json!(true), &json!("ready")));
    assert_eq!(status["holder"]["pid"], node.pid());
    assert_eq!((&status["fast"]["height"], &status["slow"]["height"]), (&json!(30), &json!(30)));
    assert_eq!(status["redis"]["durability"], "durable");

    let block = place.run(&["block", "30", "--json"]).with_code(0).json();
    assert_eq!((&block["height"], &block["tier"]), (&json!(30), &json!("fast")));
    let forgers = place.run(&["forgers", "--round", "1", "--json"]).with_code(0).json();
    assert_eq!((forgers["forgers"].as_array().unwrap().len(), &forgers["tier"]), (101, &json!("fast")));
    assert_eq!(place.dump("fast"), place.dump("slow"));
    place.run(&["verify"]).with_code(0);

    let file = place.write("more.jsonl", &blocks[30..32]);
    let pid = node.pid().to_string();
    for command in [vec!["replay", file.to_str().unwrap()], vec!["pop"], vec!["run"]] {
        place.run(&command).with_code(6).says(&pid).says("forebay run").says("since");
    }
    node.end(Signal::INT).with_code(0);
    assert_eq!(place.replay("more.jsonl", &blocks[30..32])["height"], 32);
}

#[test]
fn servers_outlive_a_killed_node_and_are_adopted_with_all_that_was_accepted() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    blocks[1..60].iter().for_each(|block| feed.send(&asking(block)));
    blocks[1..60].iter().for_each(|_| {
        assert_eq!(feed.receive()["accepted"], true);
    });
    let node_pid = node.pid();
    node.end(Signal::KILL);
    assert!(!is_alive(node_pid));
    let servers = place.server_pids().expect("both servers go on");

    // Reads need no node; they leave the servers alone.
    let block = place.run(&["block", "2", "--json"]).with_code(0).json();
    assert_eq!(block["tier"], "slow");
    let status = place.run(&["status", "--json"]).with_code(0).says("which was running already").json();
    let silence = status["redisSilence"].as_str().unwrap();
    assert!(silence.contains("left running by a node"), "{status}");
    assert_eq!(status["running"], false);
    assert_eq!(place.server_pids(), Some(servers));

    let node = place.start_node();
    assert_eq!(place.server_pids(), Some(servers), "adopted, not started");
    let mut feed = node.connect();
    assert_eq!(feed.ask(&asking(&blocks[60]))["height"], 61);
    node.end(Signal::TERM).with_code(0);
    place.assert_no_server();
    assert_eq!(place.replay("all.jsonl", &blocks[..70])["blocks"], 9);
}

#[test]
fn what_a_halted_node_said_is_not_told_as_if_it_were_of_now() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let status = || place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!(status()["nodeSilence"], serde_json::Value::Null);
    let pid = rustix::process::Pid::from_raw(node.pid()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    until("the silence is told", || {
        status()["nodeSilence"].as_str().is_some_and(|said| said.contains("s old: it stands still"))
    });
    let told = place.run(&["status"]).with_code(0).stdout;
    assert!(told.contains("s old") && told.contains("when it last said"), "{told}");
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    until("it speaks again", || status()["nodeSilence"].is_null());
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn a_second_signal_ends_at_once_and_nothing_is_lost() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let mut feed = node.connect();
    assert_eq!(feed.ask(&asking(&place.blocks()[1]))["accepted"], true);
    let (_, postgres) = place.server_pids().unwrap();
    // A PostgreSQL that does nothing holds the drain up.
    let signal = |pid: i32, signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    };
    let sessions = sessions_of(postgres);
    sessions.iter().for_each(|pid| signal(*pid, Signal::STOP));
    assert_eq!(feed.ask(&asking(&place.blocks()[2]))["accepted"], true);
    let pid = node.pid();
    signal(pid, Signal::TERM);
    crate::support::until("the first signal was seen", || !node.socket.exists());
    let ended = node.end(Signal::TERM);
    sessions.iter().for_each(|pid| signal(*pid, Signal::CONT));
    ended.with_code(143);
    assert_eq!(place.replay("blocks.jsonl", &place.blocks()[..3])["height"], 3);
}
