//! The HTTP API as its callers see it: one program for all, since each has to be linked.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod documents;
mod faults;
mod following;
mod hostile;
mod listening;
mod oracle_answers;
mod support;
mod under_load;
mod writing;
