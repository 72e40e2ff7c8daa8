//! The scenarios of faults that need the whole program: its processes, its signals, its words. The others are in the
//! tests of `store`; `docs/faults.md` lists all.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The other binary of tests uses the rest.
#![allow(dead_code)]

mod killing;
mod listed;
#[path = "../cli/support.rs"]
mod support;
mod taking_over;
mod waiting;
mod yours;
