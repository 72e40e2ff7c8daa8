//! Shared fixtures of the tests: servers, oracle data, workloads, checkers.

pub mod oracle;
