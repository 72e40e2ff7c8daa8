//! The two tiers as one.
//!
//! The way of a block: [`Node::check`] (no state, all cores) → the loop in `node.rs` → `writer.rs` (verify against the
//! state, one atomic step in Redis: *accepted*) → `syncer.rs` (PostgreSQL: *durable*). The way back at a start:
//! `start.rs` (claim, drain) → `restore.rs` (clean, load, compare).
//!
//! What is promised: a block that was accepted is applied in Redis and stands in the outbox; the Syncer brings it to
//! PostgreSQL exactly once, in order. A refused block changes nothing in either tier.

mod account_cache;
mod awake;
mod drain;
mod entrusted;
mod error;
mod gap;
mod giving_up;
mod guard;
mod heal;
mod kept;
mod known_ids;
mod latency;
pub mod memory;
mod node;
mod options;
mod owner;
mod progress;
mod receipt;
mod resident;
mod restore;
mod retention;
mod rollback;
mod serve;
mod start;
mod syncer;
pub mod verify;
mod write_log;
mod writer;

pub use entrusted::{keeps_commits, lead_to_one_server};
pub use error::{Decision, StoreError, Tier, decide};
pub use guard::{Guard, Lag, Overrun, Verdict};
pub use latency::Quantiles;
pub use node::{Node, Running};
pub use options::{Limits, NodeOptions, OnHardLimit, Setup};
pub use owner::Stopped;
pub use progress::{Counts, InFlight, KeptInRedis, Pace, Phase, PhaseProgress, Progress};
pub use receipt::{Accepted, Durable, Profile};
pub use rollback::{Order as RollbackOrder, orders as rollback_orders};
pub use start::Observer;
pub use write_log::{AttemptOutcome, Failure, LoggedAttempt, WriteLog, WriteLogLimits};
