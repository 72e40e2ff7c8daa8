//! `forebay memory`: its figures, and what Redis really uses.

use serde_json::Value;

use crate::support::{Place, RunningNode};

/// A generated network's directory: ten thousand accounts, and some blocks.
fn generated() -> Place {
    let place = Place::with_oracle(std::path::PathBuf::new());
    let net = place.path("net").display().to_string();
    place
        .run(&["generate", "--out", &net, "--accounts", "10000", "--blocks", "30", "--name", "memory", "-q"])
        .with_code(0);
    let (profile, genesis) = (format!("{net}/profile.toml"), format!("{net}/genesis.json"));
    place
        .run(&["replay", &format!("{net}/blocks.jsonl"), "--network", &profile, "--genesis", &genesis, "-q"])
        .with_code(0);
    place
}

fn start(place: &Place) -> RunningNode {
    let socket = place.path("feed.sock");
    let child = place
        .command(&["run", "--feed", socket.to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    RunningNode::ready(child, socket)
}

fn memory(place: &Place, arguments: &[&str]) -> Value {
    let mut all = vec!["memory", "--json"];
    all.extend(arguments);
    place.run(&all).with_code(0).json()
}

#[track_caller]
fn bytes(plan: &Value, name: &str) -> u64 {
    plan[name].as_u64().unwrap_or_else(|| panic!("{name} in {plan}"))
}

#[test]
fn the_plan_is_within_a_tenth_of_what_a_node_s_redis_uses_after_its_start() {
    let place = generated();
    let before = memory(&place, &[]);
    let node = start(&place);
    let beside = memory(&place, &[]);
    let status = place.run(&["status", "--json"]).with_code(0).json();
    let used = status["redis"]["memoryBytesUsed"].as_u64().unwrap();
    for plan in [&before, &beside] {
        let planned = bytes(plan, "neededBytes");
        assert!(planned.abs_diff(used) * 10 <= used, "planned {planned}, used {used}");
    }
    // Planned before this Redis ran, so without its own word on what it takes when it is empty.
    let told = bytes(&status["node"], "memoryPlannedBytes");
    assert!(told.abs_diff(bytes(&beside, "neededBytes")) < 100_000, "{told} {beside}");
    node.end(rustix::process::Signal::TERM).with_code(0);

    let measured = memory(&place, &["--measure"]);
    let planned = bytes(&measured, "neededBytes");
    assert!(planned.abs_diff(used) * 10 <= used, "measured {planned}, used {used}");
    assert!(place.data_dir().join("memory-measured.json").exists());
    assert_eq!(memory(&place, &[])["neededBytes"], measured["neededBytes"], "it is remembered");
    place.assert_no_server();
    place.run(&["verify"]).with_code(0);
}

#[test]
fn the_figures_are_whole_and_consistent() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..60]);
    let plan = memory(&place, &["--horizon", "365"]);
    let (at_limit, available) = (bytes(&plan, "neededAtLimitBytes"), bytes(&plan, "availableBytes"));
    assert_eq!(plan["sufficient"], at_limit <= available);
    let parts = plan["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| bytes(part, "bytes")).sum();
    assert_eq!(sum, bytes(&plan, "neededBytes"));
    assert_eq!(parts.iter().map(|part| bytes(part, "atLimitBytes")).sum::<u64>(), at_limit);
    assert!(parts.iter().any(|part| part["name"] == "accounts" && bytes(part, "bytes") > 0));
    let horizon = bytes(&plan, "neededAtHorizonBytes");
    assert!(horizon > bytes(&plan, "neededBytes"), "{plan}");
    assert_eq!(memory(&place, &["--horizon", "0"])["neededAtHorizonBytes"], plan["neededBytes"]);
    let table = place.run(&["memory"]).with_code(0).stdout;
    for text in ["transaction index", "at the limits", "used_memory of Redis", "It suffices."] {
        assert!(table.contains(text), "{text}:\n{table}");
    }
}

#[test]
fn before_the_first_start_the_genesis_block_is_planned() {
    let Some(place) = Place::new() else { return };
    let genesis = place.oracle.join("genesis.json");
    let arguments = ["--network", "rise-devnet", "--genesis", genesis.to_str().unwrap()];
    let plan = memory(&place, &arguments);
    assert!(bytes(&plan["counts"], "accounts") > 100, "{plan}");
    place.assert_no_server();
}

#[test]
fn too_little_has_its_own_exit_code() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..3]);
    let output = place
        .command(&["memory", "--json"])
        .env("FOREBAY_REDIS_MEMORY_BYTES_MAX", "9000000")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(9));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["sufficient"], false);
    assert_eq!(plan["bounds"][0]["name"], "maxmemory");
}

#[test]
fn a_horizon_is_a_hundred_years_at_most() {
    let place = generated();
    for days in ["36501", "4294967295", "4294967296", "99999999999999999999", "-1", "soon"] {
        let refused = place.run(&["memory", "--horizon", days]).with_code(2);
        assert!(refused.stderr.contains(days), "{days}: {}", refused.stderr);
    }
    let refused = place.run(&["memory", "--horizon", "36501"]).with_code(2);
    assert!(refused.stderr.contains("36500"), "the bound is told: {}", refused.stderr);
    let far = memory(&place, &["--horizon", "36500"]);
    assert!(
        bytes(&far, "neededAtHorizonBytes") >= bytes(&memory(&place, &[]), "neededAtHorizonBytes"),
        "{far}"
    );
}
