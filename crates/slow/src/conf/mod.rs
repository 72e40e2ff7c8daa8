//! The configuration of a PostgreSQL that holds a chain: its text with reasons, and what a live server does differently.
//!
//! One list of settings is both. What can lose a commit that was answered has the grade [`Grade::Stop`].

mod check;
mod settings;

pub use check::{check, refusals};
pub use forebay_conf::{Expect, Finding, Grade, Section, Setting};
pub use settings::PostgresConf;
