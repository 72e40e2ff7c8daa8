use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Place, RunningNode, asking};

#[test]
fn beside_a_terminal_every_line_of_a_node_is_an_object_with_its_block_or_batch() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node_with(&[("RUST_LOG", "warn,forebay=info,forebay_store=debug")]);
    let mut feed = node.connect();
    for (index, block) in blocks[1..4].iter().enumerate() {
        assert_eq!(feed.ask(&asking(block))["accepted"], true);
        feed.ask(&json!({"op": "await", "height": index + 2}).to_string());
    }
    let ended = node.end(Signal::TERM).with_code(0);
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let with = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"] == message && line["span"].is_object()).collect()
    };
    let block: Value = serde_json::from_str(&blocks[3]).unwrap();
    let accepted = with("accepted");
    let last = accepted.last().unwrap();
    assert_eq!((&last["span"]["name"], &last["span"]["id"]), (&json!("block"), &block["id"]), "{last}");
    assert_eq!(last["height"], 4);
    let durable = with("durable");
    let last = durable.last().unwrap();
    assert_eq!((&last["span"]["name"], &last["span"]["to_seq"]), (&json!("batch"), &json!(4)), "{last}");
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with("ready: ")))
    );
}

#[test]
fn risks_that_are_taken_are_warnings() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..5]);
    let socket = place.path("feed.sock");
    let child = place
        .command(&["run", "--accept-low-memory", "--redis-profile", "volatile", "--feed"])
        .arg(&socket)
        // No plan fits into that, and this chain does.
        .env("FOREBAY_REDIS_MEMORY_BYTES_MAX", "12000000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = RunningNode::ready(child, socket).end(Signal::TERM).with_code(0);
    for risk in ["this Redis keeps not everything on disk", "starting all the same"] {
        let line = ended.stderr.lines().find(|line| line.contains(risk)).unwrap_or_else(|| {
            panic!("\"{risk}\" is not in:\n{}", ended.stderr);
        });
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "WARN", "{line}");
    }
}
