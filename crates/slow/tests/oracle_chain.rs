//! The chain that the reference node produced, through the triggers: the same state at every height it dumped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::Database;
use support::chain::{Chain, apply, load_json};
use support::dump::{Leftovers, differences};

/// Heights of the plain dumps of a chain, ascending.
fn dumped_heights(name: &str) -> Vec<u32> {
    let mut heights: Vec<u32> = std::fs::read_dir(support::chain::oracle().join(name))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("accounts-")?.strip_suffix(".json")?.parse().ok()
        })
        .collect();
    heights.sort_unstable();
    heights
}

async fn every_dumped_height(chain: &Chain, batch: usize) {
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let mut height = 0;
    for dumped in dumped_heights(chain.name) {
        apply(&mut writer, &chain.appends(height + 1..=dumped), batch).await;
        height = dumped;
        let dump = load_json(&format!("{}/accounts-{height}.json", chain.name));
        let found = differences(&admin, &dump, &Leftovers::default()).await;
        assert!(found.is_empty(), "{} height {height}, batch {batch}: {found:#?}", chain.name);
    }
}

#[tokio::test]
async fn chain_equals_every_dump_block_by_block() {
    every_dumped_height(&Chain::first(), 1).await;
}
