//! The slow tier: PostgreSQL, the ultimate source of truth and the place for SQL.
//!
//! Code inserts into and deletes from two tables only, blocks and transactions, by binary COPY and range deletes, from
//! one place ([`SlowWriter`]). Accounts, votes, delegates, groups and rounds follow by statement-level triggers that
//! derive them set by set, and undo them exactly when blocks are taken back. Forger lists are not computed here: the
//! ledger's list comes with the first block of a round, and its digest of all delegates with the last.
//!
//! Every operation is in the write log, by trigger and in the same transaction ([`Reads::operations`]).
//!
//! What is durable: when [`SlowWriter::apply`] returns, its operations are committed and flushed.

pub mod conf;
pub mod error;
pub mod lists;
pub mod rows;
pub mod setup;

mod census;
mod columns;
mod connection;
mod copy_in;
mod reader;
mod restore;
mod segments;
mod session;
mod tls;
mod write_log;
mod writer;

pub use census::{Census, Growth};
pub use connection::open_session;
pub use error::{ErrorKind, SlowError};
pub use reader::{Counts, Reads, SlowReader, Snapshot};
pub use rows::{BlockRow, Position, SlowOperation};
pub use session::WriterOptions;
pub use write_log::{LoggedOperation, OperationFilter, OperationKind};
pub use writer::{Committed, SlowWriter};
