use serde_json::{Value, json};

use crate::support::Place;

#[test]
fn without_a_node_postgres_answers_alone_says_so_and_is_stopped() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..150]);
    let reference: Value = serde_json::from_str(&blocks[99]).unwrap();

    let shown = place.run(&["block", "100", "--json"]).with_code(0).says("PostgreSQL alone");
    let block = shown.json();
    assert_eq!((&block["id"], &block["tier"]), (&reference["id"], &json!("slow")));
    assert_eq!(block["blockSignature"], reference["blockSignature"]);
    let same = place.run(&["block", reference["id"].as_str().unwrap(), "--json"]).with_code(0).json();
    assert_eq!(same, block);
    place.assert_no_server();

    let transaction = &reference["transactions"][0];
    let id = transaction["id"].as_str().unwrap();
    let shown = place.run(&["transaction", id, "--json"]).with_code(0).json();
    for field in ["id", "type", "amount", "fee", "senderId", "recipientId", "signature", "timestamp"] {
        assert_eq!(shown[field], transaction[field], "{field}");
    }
    assert_eq!((&shown["height"], &shown["confirmations"]), (&json!(100), &json!(51)));

    let sender = transaction["senderId"].as_str().unwrap();
    let account = place.run(&["account", sender, "--json"]).with_code(0).json();
    let dump = place.dump("slow");
    let line = dump.lines().find(|line| line.contains(&format!("\"address\":\"{sender}\""))).unwrap();
    let dumped: Value = serde_json::from_str(line).unwrap();
    for (field, value) in dumped.as_object().unwrap() {
        assert_eq!(&account[field], value, "{field}");
    }
    place.run(&["account", sender]).with_code(0);

    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(place.oracle.join("manifest.json")).unwrap()).unwrap();
    for round in ["1", "2"] {
        let shown = place.run(&["forgers", "--round", round, "--json"]).with_code(0).json();
        assert_eq!(
            shown["forgers"],
            manifest["delegateLists"][format!("main-round-{round}")],
            "round {round}"
        );
    }
    let ranked = place.run(&["delegates", "--limit", "2", "--offset", "1", "--json"]).with_code(0).json();
    let ranks: Vec<_> = ranked["delegates"].as_array().unwrap().iter().map(|d| d["rank"].clone()).collect();
    assert_eq!(ranks, [json!(2), json!(3)]);
    let status = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!((&status["running"], &status["slow"]["height"]), (&json!(false), &json!(150)));
    place.assert_no_server();
}

#[test]
fn what_the_chain_does_not_have_is_told_plainly() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks()[..10]);
    for (command, says) in [
        (vec!["block", "11"], "no block with id 11"),
        (vec!["block", "11", "--height"], "no block at height 11"),
        (vec!["block", "3", "--id"], "no block with id 3"),
        (vec!["block", "x"], "not a block id or height"),
        (vec!["account", "5R"], "does not know account 5R"),
        (vec!["account", "5"], "suffix"),
        (vec!["transaction", "99"], "no transaction 99"),
        (vec!["forgers", "--round", "3"], "round 3 has not begun"),
    ] {
        let ended = place.run(&command).with_code(1).says(says);
        assert_eq!(ended.stdout, "");
    }
    let error = place.run(&["account", "5R", "--json"]).with_code(1).json();
    assert_eq!(error["error"]["kind"], "not-found");
}

#[test]
fn readers_at_the_same_time_share_the_server_and_the_last_one_stops_it() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks()[..10]);
    let place = &place;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=6)
            .map(|height: u32| {
                (height, scope.spawn(move || place.run(&["block", &height.to_string(), "--json"])))
            })
            .collect();
        for (height, reader) in readers {
            assert_eq!(reader.join().unwrap().with_code(0).json()["height"], height);
        }
    });
    place.assert_no_server();
    // A writer that comes while a reader is stopping the server waits for it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| place.run(&["block", "1"]));
        let writer = scope.spawn(|| place.run(&["pop"]));
        reader.join().unwrap().with_code(0);
        writer.join().unwrap().with_code(0);
    });
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 9);
    place.assert_no_server();
}

#[test]
fn whoever_reads_our_output_may_stop_reading() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks()[..10]);
    for tier in ["fast", "slow"] {
        let mut child = place
            .command(&["dump", "accounts", "--tier", tier])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        place.assert_no_server();
    }
}
