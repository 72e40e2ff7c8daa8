//! Rollback files: what a node gave up, on the record.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_ledger::ids::Height;
use serde_json::Value;

/// What all rollback files of a run say, carried out or not.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Ids of the blocks that were given up.
    pub blocks: HashSet<String>,
    /// How many files there are.
    pub files: usize,
    /// Heights that were gone back to.
    pub base_heights: HashSet<Height>,
}

impl Recorded {
    /// Reads them all.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of_run(root: &Path) -> anyhow::Result<Self> {
        let mut recorded = Self::default();
        for file in rollback_files(root) {
            recorded.files += 1;
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            for line in text.lines() {
                let value: Value =
                    serde_json::from_str(line).with_context(|| format!("a line of {}", file.display()))?;
                let id = value.pointer("/block/id").and_then(Value::as_str);
                recorded.blocks.extend(id.map(str::to_owned));
                let base = value.pointer("/rollback/baseHeight").and_then(Value::as_u64);
                recorded.base_heights.extend(base.and_then(|height| Height::try_from(height).ok()));
            }
        }
        Ok(recorded)
    }
}

/// `rollback-<epoch>-<seq>.jsonl` below the nodes' directories, whatever mark was added to the name.
fn rollback_files(root: &Path) -> Vec<PathBuf> {
    let directories = [root.join("node-0"), root.join("node-1")];
    let entries =
        directories.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("rollback-") && name.contains(".jsonl") && !name.ends_with(".draft")
    });
    files.collect()
}
