//! Shared fixtures of the tests: servers, oracle data, checkers. For tests only: it panics where they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod chain;
pub mod dump;
pub mod node;
pub mod oracle;
pub mod proxy;
pub mod rows;
