//! A seeded supervisor over real processes: it breaks the node, Redis and PostgreSQL under load, and checks that nothing
//! accepted is lost, nothing is done twice, and everything goes on once the faults are over.
//!
//! Not shipped. `make soak DURATION=60s SEED=1` runs it; the seed decides the plan.

mod check;
mod clock;
mod driver;
mod faults;
mod feed;
mod history;
pub mod kind;
pub mod left_behind;
mod load;
mod node;
pub mod plan;
mod process;
mod random;
pub mod report;
mod rollback;
mod servers;
pub mod supervisor;
mod together;
mod watch;
