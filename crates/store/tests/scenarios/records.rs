//! Rollback files, as a test reads them and gives them back.

use std::path::{Path, PathBuf};

use forebay_ledger::json::block_from_value;
use forebay_testkit::node::{Bench, TestNode};
use serde_json::Value;

use crate::support::Stage;

/// Rollback files: those that stand, or those that were obeyed.
pub fn records(bench: &Bench, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.servers.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

pub fn standing(bench: &Bench) -> Vec<PathBuf> {
    records(bench, ".jsonl")
}

pub fn lines(record: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(record).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Gives a record's operations to the chain again, as `forebay replay` does.
pub async fn replay(stage: &Stage, node: &mut TestNode, record: &Path) {
    let lines = lines(record);
    let tip = node.node.progress().tip.unwrap();
    assert_eq!(lines[0]["rollback"]["baseHeight"], tip.height);
    assert_eq!(lines[0]["rollback"]["baseId"], tip.id.to_string());
    for line in &lines[1..] {
        if let Some(block) = line.get("block") {
            node.apply(&block_from_value(block, &stage.network.profile).unwrap()).await.unwrap();
        } else {
            let count = u32::try_from(line["count"].as_u64().unwrap()).unwrap();
            node.take_back_to(node.node.progress().tip.unwrap().height - count).await;
        }
    }
}
