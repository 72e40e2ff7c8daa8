//! A wall clock of the node's own, if libfaketime is installed. Its monotonic clock stays the machine's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::node::NodePlan;

/// Where Debian puts it. Its variant for programs of many threads is the one for us.
const DIRECTORIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib64/faketime",
    "/usr/lib/faketime",
];

/// The library that is loaded before the program; `None`: not installed.
pub fn find_library() -> Option<PathBuf> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join("libfaketimeMT.so.1"))
        .find(|path| path.exists())
}

/// Sets the node's wall clock so many seconds off, at once.
///
/// # Errors
/// The file cannot be written.
pub fn set(nodes: &NodePlan, offset_seconds: i64) -> anyhow::Result<()> {
    let file = nodes.clock_file();
    let beside = file.with_extension("new");
    fs::write(&beside, format!("{offset_seconds:+}\n")).context("setting the clock")?;
    fs::rename(beside, file).context("setting the clock")
}
