//! Random chains with all types of transactions, forks, take-backs over round ends and restarts: Redis, PostgreSQL, the
//! generator's own state and the state derived from scratch are the same.
//!
//! More cases: `PROPTEST_CASES=100 cargo test -p forebay-store random_chains`. A failure prints the smallest plan
//! that fails; proptest keeps its seed.

use std::sync::Arc;

use forebay_generator::{Chain, ChainOptions, GenerationTwoOptions, Mix, Network, NetworkOptions};
use forebay_ledger::account::Account;
use forebay_store::Limits;
use forebay_testkit::chain::NOW;
use forebay_testkit::node::{Bench, TestNode};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    /// Blocks forward.
    Forward(u8),
    /// Blocks back, by Redis' undo records or by a rewind.
    Back(u8),
    /// From here on another branch grows.
    Fork(u8),
    /// PostgreSQL catches up.
    Settle,
    /// The node stops (draining or not) and starts again.
    Restart { drain: bool },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u8..25).prop_map(Act::Forward),
        2 => (1u8..30).prop_map(Act::Back),
        2 => any::<u8>().prop_map(Act::Fork),
        1 => Just(Act::Settle),
        1 => any::<bool>().prop_map(|drain| Act::Restart { drain }),
    ]
}

#[derive(Debug, Clone)]
struct Plan {
    seed: u32,
    second_generation: bool,
    /// With few of them, lists of the second generation are shorter than a round.
    standby_delegates: u32,
    undo_kept: u32,
    batch: usize,
    acts: Vec<Act>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let batch = prop_oneof![Just(1usize), Just(3), Just(500)];
    let delegates = (any::<bool>(), 0u32..7);
    (any::<u32>(), delegates, 0u32..40, batch, proptest::collection::vec(act(), 4..10)).prop_map(
        |(seed, (second_generation, standby_delegates), undo_kept, batch, acts)| Plan {
            seed,
            second_generation,
            standby_delegates,
            undo_kept,
            batch,
            acts,
        },
    )
}

fn options(seed: &str) -> ChainOptions {
    ChainOptions {
        seed: seed.to_owned(),
        mix: Mix::all_types(),
        transactions_min: 0,
        transactions_max: 12,
        skipped_slots_percent: 10,
        ..ChainOptions::default()
    }
}

async fn run(plan: Plan) {
    let two = GenerationTwoOptions { first_round: 3, missed_in_a_row_max: 1 };
    let network = NetworkOptions {
        name: "random".to_owned(),
        delegates: 7,
        standby_delegates: plan.standby_delegates,
        accounts: 40,
        generation_two: plan.second_generation.then_some(two),
        ..NetworkOptions::default()
    };
    let network = Arc::new(Network::from_seed(&plan.seed.to_string(), &network).unwrap());
    let profile = Arc::new(network.profile.clone());
    let now_unix_seconds = profile.epoch_unix_seconds().unwrap() + NOW;
    let mut chain = Chain::new(Arc::clone(&network), options("main"), now_unix_seconds).unwrap();
    let mut bench = Bench::new(profile, Arc::new(network.genesis.clone())).await;
    bench.options.limits =
        Limits { undo_kept: plan.undo_kept, batch_operations_max: plan.batch, ..Limits::default() };
    let mut node = bench.start().await.unwrap();
    for act in &plan.acts {
        match act {
            Act::Forward(count) => {
                for _ in 0..*count {
                    node.apply(&chain.next_block().unwrap()).await.unwrap();
                }
            }
            Act::Back(count) => {
                let to = chain.height().saturating_sub(u32::from(*count)).max(1);
                while chain.height() > to {
                    chain.pop().unwrap();
                }
                assert_eq!(node.take_back_to(to).await.height, to);
            }
            Act::Fork(branch) => chain.set_options(options(&format!("branch {branch}"))).unwrap(),
            Act::Settle => node.settle().await,
            Act::Restart { drain } => {
                let stopped = if *drain { node.stop().await } else { node.stop_now().await };
                assert!(!drain || stopped.unwrap().left_in_outbox == 0);
                node = bench.start().await.unwrap();
            }
        }
    }
    check(&bench, &node, &chain).await;
    node.stop().await.unwrap();
}

async fn check(bench: &Bench, node: &TestNode, chain: &Chain) {
    node.settle().await;
    let expected: Vec<Account> = chain.state().accounts().cloned().collect();
    let fast = node.fast_accounts().await;
    let wrong = fast.iter().zip(&expected).find(|(ours, theirs)| ours != theirs);
    assert!(wrong.is_none() && fast.len() == expected.len(), "Redis and the generator differ: {wrong:?}");
    let verified = bench.verify(true).await;
    assert_eq!(verified.findings, []);
    assert_eq!(verified.height, chain.height());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_fewer_forgers_than_a_round_has_slots_is_one_in_both_tiers() {
    let acts =
        vec![Act::Forward(60), Act::Settle, Act::Back(20), Act::Restart { drain: false }, Act::Forward(30)];
    run(Plan { seed: 1, second_generation: true, standby_delegates: 0, undo_kept: 9, batch: 3, acts }).await;
}

proptest! {
    // A slice that fits into every run; more by PROPTEST_CASES.
    #![proptest_config(ProptestConfig { max_shrink_iters: 30, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
    ) })]

    #[test]
    fn random_chains_give_one_state_in_both_tiers_and_from_scratch(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(run(plan));
    }
}
