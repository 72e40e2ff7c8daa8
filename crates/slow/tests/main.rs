//! The slow tier on real servers: one program for all, since each has to be linked.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conf_check;
mod exceptions;
mod grants;
mod list_plans;
mod oracle_chain;
mod oracle_take_back;
mod reading;
mod refusals;
mod round_end;
mod sessions;
mod sql_examples;
mod support;
mod views;
mod write_log;
