//! The program as others see it: the real binary, real private servers, real files.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod falling_behind;
mod feeding;
mod generating;
mod holding;
mod logging;
mod mistakes;
mod reading;
mod replaying;
mod support;
mod your_servers;
