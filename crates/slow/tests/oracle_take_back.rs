//! Taking blocks back and applying the oracle's forks: exactly the state that the chain has at the height, and nothing of
//! the branch that is gone.

use std::collections::BTreeMap;

use forebay_slow::SlowOperation;

use crate::support::Database;
use crate::support::chain::{Chain, apply, dumped_heights, load_json, take_back};
use crate::support::dump::{Leftovers, differences, everything};

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
    // The same steps down in one batch, and in batches of seven, which end in the middle of a round.
    let down: Vec<SlowOperation> =
        (95..210).rev().map(|to_height| SlowOperation::TakeBack { to_height }).collect();
    for batch in [1000, 7] {
        apply(&mut writer, &chain.appends(96..=210), 1000).await;
        assert!(states[115] == everything(&admin).await, "up to 210 again");
        apply(&mut writer, &down, batch).await;
        assert!(states[0] == everything(&admin).await, "taken back to 95, {batch} at a time");
    }
}

/// Applies the main chain to its end, takes back to the fork's base, and stops at each dump of the fork: what differs.
async fn differences_of_the_fork(chain: &Chain, leftovers: &Leftovers) -> BTreeMap<u32, Vec<String>> {
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let base = chain.fork[0].block.height - 1;
    let top = chain.main.len() as u32;
    apply(&mut writer, &chain.appends(1..=top), 1000).await;
    let mut operations = vec![SlowOperation::TakeBack { to_height: base }];
    let mut height = base;
    let mut found = BTreeMap::new();
    for dumped in [403, 404, 405, 412] {
        operations.extend(chain.fork_appends(height + 1..=dumped));
        apply(&mut writer, &operations, 1000).await;
        operations.clear();
        height = dumped;
        let dump = load_json(&format!("{}/accounts-{dumped}-fork.json", chain.name));
        found.insert(dumped, differences(&admin, &dump, leftovers).await);
    }
    found
}

#[tokio::test]
async fn fork_of_the_chain_equals_its_dumps() {
    let leftovers = Leftovers { of_the_branch_taken_back: true, columns: &[] };
    let found = differences_of_the_fork(&Chain::first(), &leftovers).await;
    assert!(found.values().all(Vec::is_empty), "{found:#?}");
}

#[tokio::test]
async fn fork_of_the_second_generation_differs_by_the_two_undo_defects_only() {
    // RULES 12: vote and weight at 403, until the next round end; one delegate's missed rounds from then on.
    let leftovers = Leftovers { of_the_branch_taken_back: true, columns: &["vote", "votesWeight"] };
    let chain = Chain::second();
    let found = differences_of_the_fork(&chain, &leftovers).await;
    // genesisDelegate60.
    let one_delegate = "14955670016005933849R cmb: 1 here, 0 there";
    for (height, differences) in &found {
        assert_eq!(differences, &[one_delegate], "{height}");
    }
    let strict = Leftovers { of_the_branch_taken_back: true, columns: &[] };
    let found = differences_of_the_fork(&chain, &strict).await;
    for height in [404, 405, 412] {
        assert_eq!(found[&height], [one_delegate], "{height}");
    }
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

/// A walk of a few hundred steps that nobody planned: forward, back, over to the other branch, in batches of any size.
#[tokio::test]
async fn any_way_to_a_height_gives_the_same_state() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut random = Random(u64::from(seed));
    let chain = Chain::second();
    let base = chain.fork[0].block.height - 1;
    let fork_top = chain.fork.last().unwrap().block.height;
    let straight = Database::new(&chain.parameters()).await;
    let walked = Database::new(&chain.parameters()).await;
    let mut straight_writer = straight.writing().await;
    let mut writer = walked.writing().await;
    let (straight_admin, walked_admin) =
        (straight.client(&straight.admin()).await, walked.client(&walked.admin()).await);

    let (mut height, mut on_fork) = (0, false);
    let mut operations = Vec::new();
    for step in 0..120 {
        let top = if on_fork { fork_top } else { 520 };
        if height > 1 && random.below(3) == 0 {
            height -= random.below(height.min(130));
            operations.push(SlowOperation::TakeBack { to_height: height });
            on_fork = on_fork && height > base;
        } else {
            let to = (height + 1 + random.below(60)).min(top);
            let branches = height <= base && to > base && random.below(2) == 0;
            if branches {
                operations.extend(chain.appends(height + 1..=base));
                height = base;
                on_fork = true;
            }
            let to = if on_fork { to.min(fork_top) } else { to };
            operations.extend(if on_fork {
                chain.fork_appends(height + 1..=to)
            } else {
                chain.appends(height + 1..=to)
            });
            height = height.max(to);
        }
        if random.below(3) == 0 && !operations.is_empty() {
            let batch = 1 + random.below(200) as usize;
            apply(&mut writer, &operations, batch).await;
            operations.clear();
        }
        if step % 30 == 29 {
            apply(&mut writer, &operations, 1000).await;
            operations.clear();
            let position = straight_writer.position().await.unwrap();
            let mut way = Vec::new();
            if position.height > 0 {
                way.push(SlowOperation::TakeBack { to_height: 1 });
            }
            let shared = if on_fork { base } else { height };
            way.extend(chain.appends(if position.height > 0 { 2 } else { 1 }..=shared));
            if on_fork {
                way.extend(chain.fork_appends(base + 1..=height));
            }
            apply(&mut straight_writer, &way, 1000).await;
            assert!(
                everything(&straight_admin).await == everything(&walked_admin).await,
                "seed {seed}, step {step}, height {height}, fork {on_fork}"
            );
        }
    }
}

/// Numbers from a seed: no quality is asked of them.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(limit.max(1))) as u32
    }
}
