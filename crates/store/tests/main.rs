//! Both tiers as one: one program for all, since each has to be linked. `scenarios` is another.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod healing;
mod memory_machine;
mod memory_plan;
mod memory_pressure;
mod older_copies;
mod oracle_two_tiers;
mod random_chains;
mod same_state;
mod sent_ahead;
mod verify_finds;
