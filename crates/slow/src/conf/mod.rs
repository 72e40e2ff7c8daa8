//! The configuration of a PostgreSQL that holds a chain: its text with reasons, and what a live server does differently.
//!
//! One list of settings is both. What can lose a commit that was answered has the grade [`Grade::Stop`].

mod check;
mod settings;

pub use check::{Finding, check, refusals};
pub use settings::{Expect, Grade, PostgresConf, Section, Setting};
