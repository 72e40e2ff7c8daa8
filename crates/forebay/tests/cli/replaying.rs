use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use forebay_testkit::rows::rows_of_dump;
use serde_json::{Value, json};

use crate::support::{Place, lines_of};

/// The reference node's dump in the form of ours, by address as a number.
fn expected(dump: &Value) -> BTreeMap<u64, Value> {
    rows_of_dump(dump)
        .into_iter()
        .map(|(address, mut row)| {
            row["address"] = Value::from(address.as_str());
            (address.trim_end_matches('R').parse().unwrap(), row)
        })
        .collect()
}

fn dumped(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_reference_chain_gives_the_reference_state_in_both_tiers_and_a_second_replay_skips_all() {
    let Some(place) = Place::new() else { return };
    let summary = place.replay("blocks.jsonl", &place.blocks());
    assert_eq!(summary["height"], 420);
    assert_eq!(summary["durableHeight"], 420);
    assert_eq!(summary["blocks"], 419);
    assert_eq!(summary["transactions"], 2454);
    assert_eq!(summary["blockId"], "5268732757010699426");
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);

    let text = std::fs::read_to_string(place.oracle.join("accounts-420.json")).unwrap();
    let reference: Vec<Value> = expected(&serde_json::from_str(&text).unwrap()).into_values().collect();
    let (fast, slow) = (place.dump("fast"), place.dump("slow"));
    assert_eq!(dumped(&slow), reference);
    assert_eq!(fast, slow, "both tiers, byte by byte");

    // Only the data directory is named: it remembers network and genesis block.
    let file = place.oracle.join("blocks.jsonl");
    let again = place.run(&["replay", file.to_str().unwrap(), "--json"]).with_code(0).json();
    assert_eq!(
        (&again["blocks"], &again["knownBlocks"], &again["height"]),
        (&json!(0), &json!(420), &json!(420))
    );
    assert_eq!(place.dump("slow"), slow);

    let verified = place.run(&["verify", "--deep", "--json"]).with_code(0).json();
    assert_eq!((&verified["ok"], &verified["findings"]), (&json!(true), &json!([])));
    assert_eq!((&verified["height"], &verified["accounts"]), (&json!(420), &json!(619)));
    place.assert_no_server();
}

#[test]
fn the_second_generation_works_from_a_profile_file() {
    let Some(oracle) = forebay_testkit::oracle::oracle_dir() else { return };
    let place = Place::with_oracle(oracle.join("chain-v2"));
    let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/chain-v2.toml");
    let (file, genesis) = (place.oracle.join("blocks.jsonl"), place.oracle.join("genesis.json"));
    let arguments = [
        "replay",
        file.to_str().unwrap(),
        "--network",
        profile,
        "--genesis",
        genesis.to_str().unwrap(),
        "--json",
    ];
    assert_eq!(place.run(&arguments).with_code(0).json()["durableHeight"], 520);
    let text = std::fs::read_to_string(place.oracle.join("accounts-520.json")).unwrap();
    let reference: Vec<Value> = expected(&serde_json::from_str(&text).unwrap()).into_values().collect();
    assert_eq!(dumped(&place.dump("slow")), reference);
    assert_eq!(dumped(&place.dump("fast")), reference);
}

#[test]
fn a_corrupt_line_is_refused_by_its_number_and_what_came_before_stays() {
    let Some(place) = Place::new() else { return };
    let mut lines = place.blocks()[..20].to_vec();
    let mut block: Value = serde_json::from_str(&lines[14]).unwrap();
    let id = block["id"].as_str().unwrap().to_owned();
    block["reward"] = json!(7);
    lines[14] = block.to_string();
    let file = place.write("tampered.jsonl", &lines);
    let ended = place.run_here(&["replay", file.to_str().unwrap(), "--json"]).with_code(1);
    let summary = ended.json();
    assert_eq!((&summary["height"], &summary["durableHeight"]), (&json!(14), &json!(14)));
    assert_eq!(summary["error"]["kind"], "block-signature");
    // Another content has another id; the height is where it would have stood.
    let ended = ended.says("tampered.jsonl, line 15").says("height 15").says("block-signature");
    assert!(!ended.stderr.contains(&id), "{}", ended.stderr);

    lines[14] = "{\"half\":".to_owned();
    let file = place.write("half.jsonl", &lines);
    place.run(&["replay", file.to_str().unwrap()]).with_code(1).says("half.jsonl, line 15").says("not JSON");
    assert_eq!(place.run(&["status", "--json"]).with_code(0).json()["slow"]["height"], 14);

    // The rest goes on from there.
    assert_eq!(place.replay("right.jsonl", &place.blocks()[..20])["height"], 20);
}

#[test]
fn another_genesis_block_and_another_branch_are_refused() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks()[..395]);
    let fork = place.oracle.join("fork-blocks.jsonl");
    place
        .run(&["replay", fork.to_str().unwrap()])
        .with_code(1)
        .says("fork-blocks.jsonl, line 1")
        .says("other-branch")
        .says("forebay pop");
    let mut genesis: Value = serde_json::from_str(&place.blocks()[0]).unwrap();
    genesis["id"] = json!("12345");
    let file = place.write("genesis.jsonl", &[genesis.to_string()]);
    place.run(&["replay", file.to_str().unwrap()]).with_code(1).says("second-genesis");
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 395);
}

#[test]
fn blocks_taken_back_and_a_fork_give_the_state_of_the_fork_alone() {
    let Some(place) = Place::new() else { return };
    let Some(straight) = Place::new() else { return };
    let (blocks, fork) = (place.blocks(), lines_of(&place.oracle.join("fork-blocks.jsonl")));
    place.replay("blocks.jsonl", &blocks);
    let popped = place.run(&["pop", "--count", "15", "--json"]).with_code(0).json();
    assert_eq!((&popped["height"], &popped["durableHeight"]), (&json!(405), &json!(405)));
    let popped = place.run(&["pop", "--to-height", "395", "--json"]).with_code(0).json();
    assert_eq!(popped["blocksTakenBack"], 10);

    // The rest by operations in a file: back to the fork's root, then along the fork.
    let mut lines = vec![json!({"op": "pop", "count": 5}).to_string()];
    lines.extend(fork.iter().map(|block| crate::support::asking(block)));
    lines.push(json!({"op": "await", "height": 400}).to_string());
    let summary = place.replay("operations.jsonl", &lines);
    assert_eq!((&summary["height"], &summary["blocksTakenBack"]), (&json!(412), &json!(5)));

    let mut lines = blocks[..390].to_vec();
    lines.extend(fork);
    straight.replay("blocks.jsonl", &lines);
    assert_eq!(place.dump("slow"), straight.dump("slow"));
    assert_eq!(place.dump("fast"), straight.dump("fast"));
}

#[test]
fn a_deep_pop_reaches_below_the_undo_records() {
    let Some(place) = Place::new() else { return };
    let Some(straight) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks());
    place.run(&["pop", "--to-height", "24"]).with_code(0);
    straight.replay("blocks.jsonl", &straight.blocks()[..24]);
    assert_eq!(place.dump("fast"), straight.dump("fast"));
    assert_eq!(place.dump("slow"), straight.dump("slow"));
    place.run(&["pop", "--count", "24"]).with_code(1).says("genesis");
    place.run(&["pop", "--to-height", "25"]).with_code(1).says("24");
    place.run(&["pop", "--count", "0"]).with_code(2);
    assert_eq!(place.replay("again.jsonl", &place.blocks())["blocks"], 396);
}

#[test]
fn a_rollback_file_needs_its_base() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..20]);
    let field = |line: &str, name: &str| serde_json::from_str::<Value>(line).unwrap()[name].clone();
    let header = |height: u32, id: Value| {
        let genesis = field(&blocks[0], "id");
        json!({"rollback": {"chain": "rise-devnet", "genesis": genesis, "epoch": 1, "baseHeight": height, "baseId": id}})
            .to_string()
    };
    let operations = |header: String| {
        let mut lines = vec![header];
        lines.extend(blocks[20..25].iter().map(|block| crate::support::asking(block)));
        lines
    };
    let file = place.write("early.jsonl", &operations(header(19, field(&blocks[18], "id"))));
    place.run(&["replay", file.to_str().unwrap()]).with_code(1).says("early.jsonl, line 1").says("height 19");
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 20);
    assert_eq!(place.replay("fits.jsonl", &operations(header(20, field(&blocks[19], "id"))))["height"], 25);
    let late = place.write("late.jsonl", &[blocks[25].clone(), header(26, field(&blocks[25], "id"))]);
    place.run(&["replay", late.to_str().unwrap()]).with_code(1).says("late.jsonl, line 2");
    assert_eq!(place.run(&["status", "--json"]).json()["slow"]["height"], 26);
}

#[test]
fn stdin_is_replayed_as_it_comes() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..5]);
    let mut child = place
        .command(&["replay", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\n", blocks[5]).as_bytes()).unwrap();
    stdin.flush().unwrap();
    // The input stays open: what is here is applied without waiting for more.
    crate::support::until("the line is applied", || {
        let status = place.run(&["status", "--json", "-q"]);
        status.code == Some(0) && status.json()["slow"]["height"] == 6
    });
    stdin.write_all(blocks[6].as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["height"], 7);
}

#[test]
fn an_interrupted_replay_keeps_what_was_accepted_and_says_so() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("blocks.jsonl", &blocks[..2]);
    let mut child = place
        .command(&["replay", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\n", blocks[2]).as_bytes()).unwrap();
    crate::support::until("the line is applied", || {
        let status = place.run(&["status", "--json", "-q"]);
        status.code == Some(0) && status.json()["slow"]["height"] == 3
    });
    // The input stays open.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["durableHeight"], &summary["error"]["kind"]), (&json!(3), &json!("interrupted")));
    place.assert_no_server();
}
