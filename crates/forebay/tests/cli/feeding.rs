use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Place, asking, ends_by};

#[test]
fn a_socket_answers_each_line_in_order_and_goes_on_after_errors() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut feed = node.connect();
    // Many lines at once, before any answer is read.
    blocks[1..40].iter().for_each(|block| feed.send(&asking(block)));
    feed.send("nonsense");
    feed.send(&json!({"op": "await", "height": 40}).to_string());
    for (block, height) in blocks[1..40].iter().zip(2..) {
        let (block, answer): (Value, Value) = (serde_json::from_str(block).unwrap(), feed.receive());
        assert_eq!((&answer["id"], &answer["height"]), (&block["id"], &json!(height)), "{answer}");
        assert_eq!((&answer["accepted"], &answer["seq"]), (&json!(true), &json!(height)));
        assert!(answer["durable"].is_boolean() && answer["epoch"].is_u64());
    }
    assert_eq!(feed.receive()["error"]["kind"], "malformed");
    let awaited = feed.receive();
    assert_eq!((&awaited["height"], &awaited["durable"]), (&json!(40), &json!(true)));

    // A second connection, while the first stays.
    let mut other = node.connect();
    let popped = other.ask(r#"{"op":"pop","count":2}"#);
    assert_eq!((&popped["height"], &popped["accepted"]), (&json!(38), &json!(true)));
    assert_eq!(feed.ask(&asking(&blocks[45]))["error"]["kind"], "previous-block");
    assert_eq!(feed.ask(r#"{"op":"pop","count":38}"#)["error"]["kind"], "request");
    assert_eq!(feed.ask(r#"{"op":"await","height":39}"#)["error"]["kind"], "request");
    let known = feed.ask(&asking(&blocks[10]));
    assert_eq!(
        (&known["known"], &known["height"], &known["durable"]),
        (&json!(true), &json!(11), &json!(true))
    );
    assert_eq!(other.ask(&asking(&blocks[38]))["height"], 39);

    let socket = node.socket.clone();
    node.end(Signal::TERM).with_code(0).says("stopped at height 39");
    assert!(!socket.exists());
    place.assert_no_server();
    assert_eq!(place.run(&["status", "--json"]).with_code(0).json()["slow"]["height"], 39);
}

#[test]
fn stdin_is_answered_on_stdout_and_its_end_stops_the_node_in_order() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..3]);
    let mut child = place
        .command(&["run", "--feed", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = blocks[3..8].iter().map(|block| asking(block) + "\n").collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let heights: Vec<_> = answers.iter().map(|answer| answer["height"].as_u64().unwrap()).collect();
    assert_eq!(heights, [4, 5, 6, 7, 8], "answers and nothing else on stdout");
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 8);
}

#[test]
fn a_signal_stops_a_node_whose_stdin_stays_open() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..3]);
    for (signal, block) in [(Signal::TERM, &blocks[3]), (Signal::INT, &blocks[4])] {
        let mut child = place
            .command(&["run", "--feed", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        writeln!(child.stdin.as_mut().unwrap(), "{}", asking(block)).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains("\"accepted\":true"), "{answer}");
        // It waits for the next line.
        ends_by(signal, child).with_code(0).says("all of it durable");
        place.assert_no_server();
    }
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 5);
}

#[test]
fn a_line_that_is_too_long_is_told_and_the_connection_goes_on() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let mut feed = node.connect();
    feed.send(&"x".repeat((16 << 20) + 1));
    assert_eq!(feed.receive()["error"]["kind"], "line-too-long");
    assert_eq!(feed.ask(&asking(&place.blocks()[1]))["height"], 2);
    node.end(Signal::INT).with_code(0);
}
