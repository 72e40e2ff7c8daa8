//! The fast tier on real servers: one program for all, since each has to be linked.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod codecs;
mod common;
mod conf_check;
mod conf_file;
mod index_pages;
mod memory;
mod outbox;
mod ownership;
mod readers;
mod restore;
mod shared_reads;
mod steps;
mod tls;
