//! The scenarios of faults, one by one, on real servers: `docs/faults.md` says what must hold in each and which test
//! shows it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decisions;
mod forks;
mod hard_limit;
mod poison;
mod postgres_away;
mod postgres_older;
mod receipts;
mod records;
mod redis_full;
mod redis_lost;
mod redis_set_up_anew;
mod starting;
mod stopping;
mod support;
mod two_nodes;
