//! Private servers, by real processes: their life, what outlives what, and what a mistake is answered with.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixture;
mod in_use;
mod life;
mod mistakes;
mod other_process;
mod privacy;
