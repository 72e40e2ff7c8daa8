//! Row 10: the hard limits, to the letter of promise 7. What the guard's stop writes and the next start does with
//! PostgreSQL away is in `healing.rs`; the guard alone, second by second, in `guard.rs`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_generator::{Chain, ChainOptions, Network, NetworkOptions};
use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::{OnHardLimit, StoreError};
use forebay_testkit::node::Bench;
use forebay_testkit::node::TestNode;
use std::sync::Arc;

use crate::support::{Stage, until};

fn orders(bench: &Bench) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.servers.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect()
}

async fn stage_with_short_patience(on_hard_limit: OnHardLimit) -> Stage {
    let durable = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut stage = Stage::with(durable).await;
    stage.bench.options.rollback_dir = Some(stage.bench.servers.data_dir().to_path_buf());
    stage.bench.options.on_hard_limit = on_hard_limit;
    stage.bench.options.limits.no_progress_max = Duration::from_secs(2);
    stage
}

/// A node with twenty durable operations loses both servers after it accepted seven more.
async fn both_away(on_hard_limit: OnHardLimit) -> (Stage, StoreError) {
    let mut stage = stage_with_short_patience(on_hard_limit).await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 19).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 7).await;
    stage.bench.servers.kill_redis().await;
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    stage.bench.servers.restart_redis().await.unwrap();
    stage.bench.servers.restart_postgres().await.unwrap();
    (stage, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_too_the_order_is_written_from_memory_and_obeyed() {
    let (mut stage, error) = both_away(OnHardLimit::Rollback).await;
    for part in [
        "no progress for",
        "limit 2 s",
        "7 operations",
        "the oldest for",
        "last error",
        "goes back to height 20",
    ] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    let order = orders(&stage.bench).pop().expect("an order");
    assert_eq!(std::fs::read_to_string(&order).unwrap().lines().count(), 1 + 7);
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 20);
    assert_eq!(orders(&stage.bench), Vec::<PathBuf>::new());
    stage.branch_off(20, "after the rollback");
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_too_and_keep_the_next_start_drains() {
    let (mut stage, error) = both_away(OnHardLimit::Keep).await;
    assert!(error.to_string().contains("the next start drains"), "{error}");
    assert_eq!(orders(&stage.bench), Vec::<PathBuf>::new());
    let node = stage.bench.start().await.unwrap();
    stage.assert_complete(&node).await;
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_at_both_servers_absence_gets_an_answer_and_no_order_is_forgotten() {
    let mut stage = stage_with_short_patience(OnHardLimit::Rollback).await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 19).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 7).await;
    stage.bench.servers.kill_redis().await;
    // This block waits for Redis; the guard must see the time pass meanwhile.
    let next = stage.chain.clone().next_block().unwrap();
    let (asked, ()) = tokio::join!(node.apply(&next), async { node_ended(&node).await });
    asked.unwrap_err();
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    assert_eq!(orders(&stage.bench).len(), 1);
}

async fn node_ended(node: &TestNode) {
    until(node, "it ends", |progress| progress.phase == forebay_store::Phase::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_with_postgres_away_leaves_a_record_even_with_keep() {
    let mut stage = stage_with_short_patience(OnHardLimit::Keep).await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 19).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 7).await;
    stage.redis::<()>(&["FLUSHALL"]).await;
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    // The node's memory was the only place left: what goes with it is recorded.
    let record = orders(&stage.bench).pop().expect("a record");
    assert_eq!(std::fs::read_to_string(&record).unwrap().lines().count(), 1 + 7);
    stage.bench.servers.restart_postgres().await.unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 20);
    stage.branch_off(20, "after the rollback");
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_stops_a_deep_take_back_keeps_its_word_and_the_order_has_what_waited() {
    let mut stage = stage_with_short_patience(OnHardLimit::Rollback).await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 29).await;
    // Undo records do not survive a restart.
    node.stop().await.unwrap();
    let mut node = stage.bench.start().await.unwrap();
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 4).await;
    // Beyond the undo records: it waits for PostgreSQL.
    let refused = node.node.take_back_to(5).await.unwrap_err();
    assert_eq!(refused.kind(), "too-far-behind", "{refused}");
    let ended = node.running.ended().await.unwrap_err();
    assert_eq!(ended.kind(), "too-far-behind", "{ended}");
    let order = orders(&stage.bench).pop().expect("an order");
    assert_eq!(std::fs::read_to_string(order).unwrap().lines().count(), 1 + 4);
    stage.bench.servers.restart_postgres().await.unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 30);
    stage.branch_off(30, "after the rollback");
    stage.forward(&node, 3).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_bytes_the_writer_waits_too_and_goes_on() {
    let mut stage = Stage::new().await;
    stage.bench.options.limits.lag_bytes_max = 6_000;
    let node = stage.bench.start().await.unwrap();
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    let blocks = stage.more(40);
    let mut accepted = 0;
    let accepting = async {
        for block in &blocks {
            node.apply(block).await.unwrap();
            accepted += 1;
        }
    };
    let mut accepting = Box::pin(accepting);
    tokio::select! {
        () = &mut accepting => panic!("it went on beyond the limit"),
        () = until(&node, "the limit is reached", |progress| progress.lag_bytes >= 6_000) => {}
    }
    // One operation may reach over it, none may follow.
    let lag = node.node.progress().lag_operations;
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut accepting).await;
    assert!(waited.is_err());
    assert_eq!(node.node.progress().lag_operations, lag);
    stage.bench.servers.restart_postgres().await.unwrap();
    accepting.await;
    assert_eq!(accepted, 40);
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

/// A chain whose slots are one second, and whose newest block is of a moment ago.
async fn live_stage() -> (Bench, Chain, i64) {
    let network = NetworkOptions {
        name: "live".to_owned(),
        delegates: 7,
        standby_delegates: 4,
        accounts: 10,
        block_time_seconds: 1,
        ..NetworkOptions::default()
    };
    let network = Arc::new(Network::from_seed("live", &network).unwrap());
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let unix = i64::try_from(unix).unwrap();
    let now = network.profile.network_time(unix);
    let options = ChainOptions {
        transactions_min: 0,
        transactions_max: 2,
        first_slot: u32::try_from(now - 60).unwrap(),
        ..ChainOptions::default()
    };
    let chain = Chain::new(Arc::clone(&network), options, unix).unwrap();
    let profile = Arc::new(network.profile.clone());
    (Bench::new(profile, Arc::new(network.genesis.clone())).await, chain, now)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_chain_at_the_limit_for_the_grace_time_ends_and_goes_back() {
    let (mut bench, mut chain, now) = live_stage().await;
    bench.options.limits.lag_blocks_max = 5;
    bench.options.limits.grace = Duration::from_secs(1);
    bench.options.rollback_dir = Some(bench.servers.data_dir().to_path_buf());
    let mut node = bench.start().await.unwrap();
    node.settle().await;
    bench.servers.kill_postgres().await;
    for _ in 0..5 {
        let block = node.node.check(chain.next_block().unwrap()).unwrap();
        node.node.apply(block, now).await.unwrap();
    }
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    for part in ["5 operations or more", "limit 1 s", "the oldest for", "goes back to height 1"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert_eq!(orders(&bench).len(), 1);
    bench.servers.restart_postgres().await.unwrap();
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 1);
    node.stop().await.unwrap();
}
