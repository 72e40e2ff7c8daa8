//! The operator's side, on the binary: memory before a start, the servers' configuration, backups.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod backups;
mod certificates;
mod configuration;
mod low_memory;
mod plan;
mod progress;
#[path = "../cli/support.rs"]
mod support;
mod terminal;
