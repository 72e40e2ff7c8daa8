//! The memory plan: what Redis needs before anything is loaded into it, and whether the machine has that much.
//!
//! [`take_census`] asks PostgreSQL, [`Machine`] the system, [`MemoryPlan`] is the sum of both. Pure but for the asking: who
//! is to be asked when it does not suffice is the caller's business. While a node runs, `pressure.rs` compares what is
//! used with what there is.

mod census;
mod machine;
mod measure;
mod plan;
pub(crate) mod pressure;

pub use census::{Chain, census_of_genesis, take_census, take_census_told};
pub use machine::{Cgroup, Machine};
pub use measure::measure;
pub use plan::{Bound, MemoryPlan, Part, PlanInputs, RedisMemory};
pub use pressure::{MemoryUse, Pressure};
