//! The routes of the reference node: `/api/…`, with its parameters, limits, defaults, orders and texts.

mod accounts;
mod blocks;
mod delegates;
mod fees;
mod node;
mod transactions;

use crate::documents::{About, Routes};
use crate::parameters::Schema;

/// All of them.
pub fn routes() -> Routes {
    accounts::routes()
        .merge(blocks::routes())
        .merge(delegates::routes())
        .merge(transactions::routes())
        .merge(fees::routes())
        .merge(node::routes())
}

fn about(tag: &'static str, summary: &'static str, schema: &'static Schema) -> About {
    About { tag, summary, schema }
}
