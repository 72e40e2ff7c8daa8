//! The ledger against the reference node's data: one program for all, since each has to be linked.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod forgers;
mod hostile;
mod oracle;
mod power;
mod signatures;
