//! What is installed and how it is run: units, scripts, completions, the facts of a build.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod facts;
mod scripts;
#[path = "../cli/support.rs"]
mod support;
mod systemd;
mod units;
