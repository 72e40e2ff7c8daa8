//! Clients of RISE from the registry, unchanged: every call of theirs that reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Place;
use crate::{Serving, TOKEN};

/// Node.js and npm are needed for this test alone (`scripts/setup` installs them).
fn has_node() -> bool {
    let answers =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    let there = answers("node") && answers("npm");
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(there || !in_ci, "node and npm are missing; with CI=true that is a failure");
    if !there {
        eprintln!("SKIPPED the clients' test: node and npm are not here");
    }
    there
}

/// The clients in a folder of their own; nothing of them runs at the installation.
fn install(place: &Place) -> PathBuf {
    let folder = place.path("clients");
    fs::create_dir_all(&folder).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/clients");
    for file in ["package.json", "read_all.js"] {
        fs::copy(ours.join(file), folder.join(file)).unwrap();
    }
    let arguments =
        ["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
    let installed = Command::new("npm").args(arguments).current_dir(&folder).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    folder
}

#[test]
fn clients_of_the_registry_read_everything_that_they_can() {
    let Some(place) = Place::new() else { return };
    if !has_node() {
        return;
    }
    let folder = install(&place);
    let node = Serving::node(&place);
    let blocks: Vec<Value> =
        place.blocks().iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let given =
        node.client.post(format!("{}/v1/blocks?wait=durable", node.url)).bearer_auth(TOKEN).json(&blocks);
    assert_eq!(given.send().unwrap().json::<Value>().unwrap()["durable"], true);

    let ran = Command::new("node").arg("read_all.js").arg(&node.url).current_dir(&folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut calls: BTreeMap<(String, String), Value> = BTreeMap::new();
    for line in String::from_utf8(ran.stdout).unwrap().lines() {
        let told: Value = serde_json::from_str(line).unwrap();
        let name = |field: &str| told[field].as_str().unwrap().to_owned();
        calls.insert((name("client"), name("call")), told);
    }
    assert_eq!(calls.len(), 2 * 42);
    // What the reference node does not know either, or has none of.
    let without = [
        "peers.getByIPPort",
        "transactions.getUnconfirmedTransaction",
        "accounts.getAccount unknown",
        "dapps.getCategories",
    ];
    for ((client, call), told) in &calls {
        let works = told["answer"]["success"] == true;
        assert_eq!(works, !without.contains(&call.as_str()), "{client} {call}: {told}");
    }
    for client in ["dpos-api-wrapper", "risejs"] {
        let answer = |call: &str| &calls[&(client.to_owned(), call.to_owned())]["answer"];
        assert_eq!(answer("blocks.getHeight")["height"], 420);
        assert_eq!(answer("transport.getHeight")["height"], 420);
        assert_eq!(answer("accounts.getBalance")["balance"], "142536917");
        assert_eq!(answer("accounts.getDelegates")["delegates"][0]["username"], "ora_del_1");
        assert_eq!(answer("delegates.getByUsername")["delegate"]["rank"], 1);
        assert_eq!(answer("delegates.getList")["delegates"].as_array().unwrap().len(), 7);
        assert_eq!(answer("delegates.getNextForgers")["delegates"].as_array().unwrap().len(), 5);
        assert_eq!(answer("blocks.getBlock")["block"]["height"], 7);
        assert_eq!(answer("blocks.getBlocks")["blocks"][2]["height"], 3);
        assert_eq!(answer("transactions.count")["confirmed"], 2757);
        assert_eq!(answer("transactions.get")["transaction"]["signatures"].as_array().unwrap().len(), 3);
        assert_eq!(answer("multiSignatures.getAccounts")["accounts"][0]["address"], "7471670409168284376R");
        assert_eq!(answer("signatures.getSecondSignatureFee")["fee"], json!(500_000_000));
        let unknown = &calls[&(client.to_owned(), "accounts.getAccount unknown".to_owned())];
        assert!(unknown.to_string().contains("Account not found"), "{unknown}");
    }
    node.end();
}
