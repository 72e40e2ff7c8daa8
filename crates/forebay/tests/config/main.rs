//! Settings, on the binary: the schema, what is shown, what is refused, and that no secret is shown.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod checked;
mod documented;
mod secrets;
#[path = "../cli/support.rs"]
mod support;
