//! The API of the program: the reference node's answers from a running node, from a restarted one, and from a process of its
//! own that was there before the node and stays when it goes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod clients;
mod fuzzing;
#[path = "../../../api/tests/support/oracle_answers.rs"]
mod oracle_answers;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use oracle_answers::{Known, OracleAnswer};
use reqwest::blocking::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Place, until};

const TOKEN: &str = "of this test alone";

/// A process that serves the API.
struct Serving {
    child: Option<Child>,
    url: String,
    client: Client,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let url = ready["listen"][0].as_str().unwrap().to_owned();
        Self { child: Some(child), url, client: Client::new() }
    }

    fn node(place: &Place) -> Self {
        Self::node_with(place, &[])
    }

    fn node_with(place: &Place, settings: &[(&str, &str)]) -> Self {
        let genesis = place.oracle.join("genesis.json");
        let mut command =
            place.command(&["run", "--json", "--listen", "127.0.0.1:0", "--network", "rise-devnet"]);
        command
            .arg("--genesis")
            .arg(genesis)
            .env("FOREBAY_API__WRITE_TOKEN", TOKEN)
            .envs(settings.iter().copied());
        Self::start(command)
    }

    fn alone(place: &Place) -> Self {
        Self::start(place.command(&["api", "--json", "--listen", "127.0.0.1:0"]))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send().unwrap();
        let status = response.status().as_u16();
        let text = response.text().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn end(mut self) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// What is not the reference node's.
    fn differences(&self, name: &str, answers: &[OracleAnswer], known: &Known) -> Vec<String> {
        let differs = |expected: &OracleAnswer| {
            let (status, body) = self.get(&expected.path);
            oracle_answers::difference(expected, status, &body, known, false)
        };
        answers.iter().filter_map(differs).map(|what| format!("{name}: {what}")).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_node_its_restart_and_a_process_beside_it_answer_as_the_reference_node() {
    let (Some(place), Some(answers)) = (Place::new(), oracle_answers::load()) else { return };
    let known = Known::of(&answers);
    let mut found = Vec::new();

    let node = Serving::node(&place);
    let alone = Serving::alone(&place);
    let blocks: Vec<Value> =
        place.blocks().iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    for some in blocks.chunks(100) {
        let given = node.client.post(format!("{}/v1/blocks?wait=durable", node.url));
        let answer: Value = given.bearer_auth(TOKEN).json(some).send().unwrap().json().unwrap();
        assert_eq!((&answer["success"], &answer["durable"]), (&json!(true), &json!(true)), "{answer}");
    }
    found.extend(node.differences("running", &answers, &known));
    found.extend(alone.differences("beside it", &answers, &known));

    // With the node, its private servers end: nobody can answer, and says so.
    node.end();
    let (status, body) = alone.get("/api/blocks/getHeight");
    assert_eq!((status, &body["success"]), (503, &json!(false)), "{body}");
    assert!(body["reason"].is_string() && body["error"].is_string(), "{body}");
    let (status, body) = alone.get("/api/transactions");
    assert_eq!((status, &body["reason"]), (503, &json!("postgres-away")), "{body}");
    // What no tier is asked for is answered all the same.
    assert_eq!(alone.get("/api/blocks/getNethash").0, 200);
    assert_eq!(alone.get("/v1/status").1["fast"]["available"], false);

    let node = Serving::node(&place);
    found.extend(node.differences("restarted", &answers, &known));
    // The process beside it was not restarted, and finds the servers again.
    until("both tiers answer again", || {
        alone.get("/api/blocks/getHeight").0 == 200 && alone.get("/api/delegates/count").0 == 200
    });
    found.extend(alone.differences("after the restart", &answers, &known));
    node.end();
    alone.end();
    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
}

/// Asks an API again and again until it is told to stop; what was neither right nor a plain 503.
fn ask_all_the_time(url: &str, stop: &AtomicBool) -> (u64, Vec<String>) {
    let client = Client::new();
    let (mut right, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        for (path, field, expected) in [
            ("/api/accounts/getBalance?address=1R", "balance", json!("31988272805")),
            ("/api/blocks/getHeight", "height", json!(420)),
            ("/api/transactions?limit=1", "count", json!(2757)),
        ] {
            let answer = client.get(format!("{url}{path}")).send().unwrap();
            let status = answer.status().as_u16();
            let body: Value = answer.json().unwrap();
            match status {
                200 if body[field] == expected => right += 1,
                503 if body["reason"].is_string() => {}
                _ => wrong.push(format!("{path}: {status} {body}")),
            }
        }
    }
    (right, wrong)
}

#[test]
fn while_the_node_restarts_or_is_killed_answers_are_right_or_503() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks", &place.blocks());
    let alone = Serving::alone(&place);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..2).map(|_| scope.spawn(|| ask_all_the_time(&alone.url, &stop))).collect();
        let answers =
            || alone.get("/api/blocks/getHeight").0 == 200 && alone.get("/api/transactions").0 == 200;
        for is_killed in [false, true, false] {
            let node = Serving::node(&place);
            until("both tiers answer", answers);
            if is_killed {
                // Its servers survive it, and go on answering.
                drop(node);
                assert!(answers());
            } else {
                node.end();
            }
        }
        stop.store(true, Ordering::SeqCst);
        for one in asking {
            let (right, wrong) = one.join().unwrap();
            assert!(right > 100, "{right}");
            assert!(
                wrong.is_empty(),
                "{} wrong: {:?}",
                wrong.len(),
                wrong.iter().take(5).collect::<Vec<_>>()
            );
        }
    });
    alone.end();
}

#[test]
fn what_cannot_be_listened_on_is_known_before_anything_is_started() {
    let Some(place) = Place::new() else { return };
    let genesis = place.oracle.join("genesis.json");
    let genesis = genesis.to_str().unwrap();
    for listen in ["nowhere", "unix:/nowhere/at/all.sock", "203.0.113.1:1"] {
        place
            .run(&["run", "--network", "rise-devnet", "--genesis", genesis, "--listen", listen])
            .with_code(3)
            .says(listen.trim_start_matches("unix:"));
    }
    assert!(place.server_pids().is_none());
    place.run(&["api", "--listen", "127.0.0.1:0"]).with_code(3).says("network");
}
