//! Taking blocks back and applying the oracle's forks: exactly the state that the chain has at the height, and nothing of
//! the branch that is gone.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;

use forebay_slow::SlowOperation;
use support::Database;
use support::chain::{Chain, apply, dumped_heights, load_json, take_back};
use support::dump::{Leftovers, differences, everything};

async fn down_through_every_dumped_height(chain: &Chain) {
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let mut on_the_way_up = BTreeMap::new();
    let mut height = 0;
    for dumped in dumped_heights(chain.name) {
        apply(&mut writer, &chain.appends(height + 1..=dumped), 1000).await;
        height = dumped;
        on_the_way_up.insert(dumped, everything(&admin).await);
    }
    let top = height;
    for (dumped, state) in on_the_way_up.iter().rev().skip(1) {
        take_back(&mut writer, *dumped).await;
        assert!(*state == everything(&admin).await, "{}: taken back to {dumped}", chain.name);
        let dump = load_json(&format!("{}/accounts-{dumped}.json", chain.name));
        let found = differences(&admin, &dump, &Leftovers::default()).await;
        assert!(found.is_empty(), "{} taken back to {dumped}: {found:#?}", chain.name);
    }
    apply(&mut writer, &chain.appends(2..=top), 50).await;
    assert!(on_the_way_up[&top] == everything(&admin).await, "{}: applied again", chain.name);
}

#[tokio::test]
async fn chain_taken_back_through_every_dumped_height() {
    down_through_every_dumped_height(&Chain::first()).await;
}

#[tokio::test]
async fn second_generation_taken_back_through_every_dumped_height() {
    down_through_every_dumped_height(&Chain::second()).await;
}

#[tokio::test]
async fn block_by_block_down_over_a_round_end_gives_every_state_of_the_way_up() {
    let chain = Chain::first_up_to(210);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=95), 1000).await;
    let mut states = vec![everything(&admin).await];
    for height in 96..=210 {
        apply(&mut writer, &chain.appends(height..=height), 1).await;
        states.push(everything(&admin).await);
    }
    for height in (95..210).rev() {
        take_back(&mut writer, height).await;
        assert!(states[height as usize - 95] == everything(&admin).await, "taken back to {height}");
    }
}

/// Applies the main chain to its end, takes back to the fork's base, and stops at each dump of the fork.
async fn fork_equals_its_dumps(chain: &Chain, leftovers: impl Fn(u32) -> Leftovers) {
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let base = chain.fork[0].block.height - 1;
    let top = chain.main.len() as u32;
    apply(&mut writer, &chain.appends(1..=top), 1000).await;
    let mut operations = vec![SlowOperation::TakeBack { to_height: base }];
    let mut height = base;
    for dumped in [403, 404, 405, 412] {
        operations.extend(chain.fork_appends(height + 1..=dumped));
        apply(&mut writer, &operations, 1000).await;
        operations.clear();
        height = dumped;
        let dump = load_json(&format!("{}/accounts-{dumped}-fork.json", chain.name));
        let found = differences(&admin, &dump, &leftovers(dumped)).await;
        assert!(found.is_empty(), "{} fork at {dumped}: {found:#?}", chain.name);
    }
}

#[tokio::test]
async fn fork_of_the_chain_equals_its_dumps() {
    let leftovers = |_| Leftovers { of_the_branch_taken_back: true, columns: &[] };
    fork_equals_its_dumps(&Chain::first(), leftovers).await;
}

#[tokio::test]
async fn fork_of_the_second_generation_differs_by_the_two_undo_defects_only() {
    // RULES 12: vote and weight at 403, until the next round end; one delegate's missed rounds from then on.
    let columns: fn(u32) -> &'static [&'static str] =
        |height| if height == 403 { &["vote", "votesWeight", "cmb"] } else { &["cmb"] };
    let leftovers = |height| Leftovers { of_the_branch_taken_back: true, columns: columns(height) };
    fork_equals_its_dumps(&Chain::second(), leftovers).await;
}

#[tokio::test]
async fn appending_and_taking_back_in_one_transaction_leaves_no_trace() {
    let chain = Chain::first();
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=390), 1000).await;
    let before = everything(&admin).await;
    let mut operations = chain.appends(391..=420);
    operations.push(SlowOperation::TakeBack { to_height: 390 });
    operations.extend(chain.fork_appends(391..=412));
    operations.push(SlowOperation::TakeBack { to_height: 390 });
    apply(&mut writer, &operations, 1000).await;
    assert!(before == everything(&admin).await);
}
