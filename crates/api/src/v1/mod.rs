//! Our own routes: blocks as they are, writes, events, where the tiers stand.

mod blocks;
mod events;
mod follower;
mod hub;
mod status;
mod write;

use crate::documents::{About, Routes};
use crate::parameters::Schema;

pub use hub::Hub;
pub use write::WritePolicy;

/// All of them.
pub fn routes() -> Routes {
    blocks::routes().merge(write::routes()).merge(events::routes()).merge(status::routes())
}

fn about(summary: &'static str, schema: &'static Schema) -> About {
    About { tag: "v1", summary, schema }
}
