//! Preparing a database: roles, migrations, the code schema, the chain's row. Safe to run at every start and again after
//! a crash at any point.

mod identity;
mod migrate;
mod parameters;
mod roles;

pub use identity::{Identity, identity};
pub use migrate::migrate;
pub use parameters::ChainParameters;
pub use roles::{Names, Passwords, prepare};

/// A name as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
