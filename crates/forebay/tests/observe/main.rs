//! Seeing inside: the listener, `top`, the log, and the files for Prometheus and Grafana.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod files;
mod http;
mod listener;
mod logs;
#[path = "../../src/observe/names.rs"]
mod names;
#[path = "../cli/support.rs"]
mod support;
#[path = "../operator/terminal.rs"]
mod terminal;
mod top;
