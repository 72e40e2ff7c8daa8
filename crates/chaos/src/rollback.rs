//! Rollback files: what a node gave up, on the record.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// The ids of all blocks in the rollback files of a run, taken or not.
///
/// # Errors
/// A file cannot be read.
pub fn recorded_blocks(root: &Path) -> anyhow::Result<HashSet<String>> {
    let mut ids = HashSet::new();
    for file in rollback_files(root) {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        for line in text.lines() {
            let value: Value =
                serde_json::from_str(line).with_context(|| format!("a line of {}", file.display()))?;
            let id = value.pointer("/block/id").or_else(|| value.pointer("/block/blockId"));
            ids.extend(id.and_then(Value::as_str).map(str::to_owned));
        }
    }
    Ok(ids)
}

/// `rollback-<epoch>-<seq>.jsonl` below the nodes' directories, whatever mark was added to the name.
fn rollback_files(root: &Path) -> Vec<PathBuf> {
    let directories = [root.join("node-0"), root.join("node-1")];
    let entries =
        directories.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("rollback-") && name.contains(".jsonl") && !name.ends_with(".tmp")
    });
    files.collect()
}
