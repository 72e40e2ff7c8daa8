//! The rollback file: what a node writes when it gives up its unsynced tail, and what `replay` can give back to the chain.
//!
//! JSON Lines. The first line is a header, `{"rollback":{"chain":"rise-mainnet","genesis":"6044…","epoch":3,
//! "baseHeight":120,"baseId":"1722…"}}`: the chain stood at this base when the operations began. Each further line is an
//! operation as in a feed, in order.

use forebay_ledger::ids::Height;
use serde::{Deserialize, Serialize};

use crate::chain::Chain;

/// The one key of a header line.
pub const HEADER: &str = "rollback";

/// What stands under [`HEADER`]. More fields may come; they are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackHeader {
    /// The network's name.
    pub chain: String,
    /// The genesis block's id, decimal text.
    pub genesis: String,
    /// The epoch that accepted the operations.
    pub epoch: u64,
    /// Where the operations begin: the tip's height.
    pub base_height: Height,
    /// The tip's id, decimal text; null before the genesis block.
    pub base_id: Option<String>,
}

impl RollbackHeader {
    /// Why the operations cannot begin at this tip; `None` if they can.
    pub fn mismatch(&self, chain: &Chain, tip_height: Height, tip_id: &str) -> Option<String> {
        let genesis = chain.genesis.id.to_string();
        if self.chain != chain.profile.name || self.genesis != genesis {
            return Some(format!(
                "it belongs to network \"{}\" with genesis block {}, not to \"{}\" with {genesis}",
                self.chain, self.genesis, chain.profile.name
            ));
        }
        // A chain begins with its genesis block, which is then known when the operations come to it.
        let fits = match &self.base_id {
            None => tip_id == genesis,
            Some(base_id) => self.base_height == tip_height && base_id == tip_id,
        };
        if fits {
            return None;
        }
        Some(format!(
            "its operations begin at block {} at height {}, but the tip is {tip_id} at height {tip_height}",
            self.base_id.as_deref().unwrap_or("none"),
            self.base_height
        ))
    }
}
