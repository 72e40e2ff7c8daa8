//! Recovery at a start: its phases in order, and a start that breaks in the middle of anything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_fast::Keys;
use forebay_generator::{Network, NetworkOptions};
use forebay_store::{Node, Phase, PhaseProgress, StoreError};
use forebay_testkit::node::{Bench, TestNode};
use forebay_testkit::proxy::Direction;

use crate::support::{ROUND, Stage, start, start_watched, through};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_tells_its_phases_in_their_order_and_how_far_they_are() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 20).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 6).await;
    node.stop_now().await.unwrap();
    stage.bench.servers.restart_postgres().await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let observe = {
        let told = Arc::clone(&told);
        move |progress| told.lock().unwrap().push(progress)
    };
    let node = start_watched(&stage.bench.options, Arc::new(observe)).await.unwrap();
    let told = told.lock().unwrap().clone();
    let mut phases: Vec<Phase> = told.iter().map(|progress| progress.phase).collect();
    phases.dedup();
    use Phase::{Check, Claim, Clean, Drain, Ready, Restore, Setup};
    assert_eq!(phases, [Setup, Claim, Drain, Clean, Restore, Check, Ready]);
    let last = |phase| told.iter().rev().find(|progress| progress.phase == phase).unwrap();
    assert_eq!((last(Drain).done, last(Drain).total), (6, Some(6)));
    assert_eq!(Some(last(Restore).done), last(Restore).total);
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_and_a_migration_that_break_anywhere_are_survived_by_starting_again() {
    let mut stage = Stage::new().await;
    let (proxies, mut options) = stage.proxied("breaking").await;
    let folder = stage.bench.servers.data_dir().join("breaking");
    let setup = options.setup.as_mut().unwrap();
    setup.admin = through(&setup.admin, &folder);
    options.connect_timeout = Some(Duration::from_millis(1));
    // The setup's own connections break after so many more bytes, each time later, until one start goes through.
    let (mut bytes, mut broken) = (500, 0);
    let node = loop {
        proxies.postgres.cut_after(Direction::ToServer, bytes);
        match start(&options).await {
            Ok(node) => break node,
            Err(error) => {
                assert_ne!(error.kind(), "disagreement", "{error}");
                broken += 1;
            }
        }
        bytes += bytes / 4;
    };
    proxies.postgres.heal();
    assert!(broken > 10, "{broken} starts broke");
    stage.forward(&node, 10).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_breaks_between_any_two_calls_is_survived_by_starting_again() {
    let mut stage = Stage::new().await;
    let (proxies, mut options) = stage.proxied("breaking").await;
    options.connect_timeout = Some(Duration::from_secs(10));
    let mut node: TestNode = start(&options).await.unwrap();
    for (index, bytes) in [300, 900, 2_000, 4_000, 8_000, 16_000, 30_000, 60_000].into_iter().enumerate() {
        stage.forward(&node, 8).await;
        node.stop_now().await.unwrap();
        let (proxy, direction) = match index % 4 {
            0 => (&proxies.redis, Direction::ToServer),
            1 => (&proxies.postgres, Direction::ToClient),
            2 => (&proxies.redis, Direction::ToClient),
            _ => (&proxies.postgres, Direction::ToServer),
        };
        proxy.cut_after(direction, bytes);
        node = loop {
            match Node::start(options.clone(), Arc::new(|_| ())).await {
                Ok((node, running)) => break TestNode { node, running },
                // Most are borne by the start itself.
                Err(error) => assert_ne!(error.kind(), "disagreement", "{error}"),
            }
        };
        proxies.redis.heal();
        proxies.postgres.heal();
        assert_eq!(node.node.progress().tip.unwrap().height, stage.chain.height(), "{bytes}");
    }
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_does_not_flush_is_refused_before_anything_is_done() {
    // Tests' servers do not.
    let stage = Stage::new().await;
    let mut options = stage.bench.options.clone();
    options.postgres_may_forget = false;
    let Err(error) = start(&options).await else { panic!("it started") };
    assert!(matches!(error, StoreError::Configuration { .. }), "{error}");
    assert!(error.to_string().contains("fsync is off, not on"), "{error}");
    assert!(error.remedy().contains("alter system set fsync = 'on'"), "{}", error.remedy());
    let made = "select from pg_roles where rolname = 'forebay_owner'";
    assert!(stage.bench.admin().await.query_opt(made, &[]).await.unwrap().is_none());
    assert_eq!(stage.redis::<u64>(&["DBSIZE"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_whose_redis_goes_away_over_the_genesis_block_asks_what_became_of_it() {
    let stage = Stage::new().await;
    let (proxies, options) = stage.proxied("away").await;
    let proxies = Arc::new(proxies);
    let outbox = Keys::new(&options.profile.name).unwrap().outbox();
    let slow_answers = {
        let proxies = Arc::clone(&proxies);
        move |progress: PhaseProgress| {
            if progress.phase == Phase::Check {
                proxies.redis.set_delay(Direction::ToClient, Duration::from_millis(300));
            }
        }
    };
    let starting = start_watched(&options, Arc::new(slow_answers));
    let breaking = async {
        // The step is done, and its answer is on its way.
        while stage.redis::<u64>(&["XLEN", &outbox]).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxies.redis.refuse();
        proxies.redis.cut();
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxies.redis.heal();
    };
    let (node, ()) = tokio::join!(starting, breaking);
    let node = node.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 1);
    assert_eq!(stage.redis::<u64>(&["XLEN", &outbox]).await, 1);
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_has_as_many_accounts_at_hand_as_it_may() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 20).await;
    node.stop().await.unwrap();
    let delegates = stage.replayed().iter().filter(|account| account.delegate.is_some()).count();
    let others = (stage.replayed().len() - delegates) as u64;
    let node = stage.bench.start().await.unwrap();
    let all = node.node.progress().accounts_cached_bytes;
    assert!(all >= others * 320, "{all} bytes for {others} accounts");
    stage.forward(&node, 10).await;
    node.stop().await.unwrap();
    // Five accounts in each of two generations; groups weigh more.
    let limit = 5 * 2 * 320;
    stage.bench.options.limits.accounts_cached_bytes_max = limit;
    let node = stage.bench.start().await.unwrap();
    let some = node.node.progress().accounts_cached_bytes;
    assert!(some > 0 && some < all && some <= limit, "{some} bytes of {all}");
    stage.forward(&node, 10).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_chain_has_buckets_for_what_its_genesis_block_brings() {
    // More than the least number of buckets, 4,096, is made for.
    let network = NetworkOptions { accounts: 140_000, delegates: ROUND, ..NetworkOptions::default() };
    let network = Network::from_seed("large", &network).unwrap();
    let bench = Bench::new(Arc::new(network.profile.clone()), Arc::new(network.genesis.clone())).await;
    let first = bench.start().await.unwrap();
    let buckets = first.node.fast().head().await.unwrap().buckets;
    first.stop().await.unwrap();
    let accounts = bench.slow_accounts().await.len() as u64;
    assert!((4_097..=accounts.div_ceil(32)).contains(&buckets.accounts), "{buckets:?} for {accounts}");
    // A restore counts the same.
    let second = bench.start().await.unwrap();
    let restored = second.node.fast().head().await.unwrap().buckets;
    assert!(restored.accounts.abs_diff(buckets.accounts) <= 1, "{buckets:?}, then {restored:?}");
    second.stop().await.unwrap();
}
