//! A tier is replaced by an older copy of itself at a moment that leaves little to go by: right after a start, a heal or
//! a rewind, before a start, or after another node took over.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::OnHardLimit;
use forebay_testkit::chain::OracleChain;
use forebay_testkit::node::{Bench, TestNode};

const POSTGRES: &str = "postgres/data";
const REDIS: &str = "redis";

async fn bench(chain: &OracleChain) -> Bench {
    Bench::new(chain.profile.clone(), chain.genesis.clone()).await
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(to).status().unwrap().success());
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// PostgreSQL's files as they are now; it runs again when this returns.
async fn save_postgres(bench: &mut Bench) -> PathBuf {
    bench.servers.servers().stop_postgres().await.unwrap();
    let saved = bench.servers.data_dir().join("saved");
    copy(&bench.servers.data_dir().join(POSTGRES), &saved);
    bench.servers.restart_postgres().await.unwrap();
    saved
}

async fn put_postgres_back(bench: &mut Bench, saved: &Path) {
    bench.servers.kill_postgres().await;
    copy(saved, &bench.servers.data_dir().join(POSTGRES));
    bench.servers.restart_postgres().await.unwrap();
}

/// It is noticed without a command, and what PostgreSQL lacks is there again.
async fn assert_fed_again(bench: &Bench, node: &TestNode, epoch: u64, height: u32) {
    let mut progress = node.node.watch();
    let fed = progress.wait_for(|p| p.position.epoch > epoch && p.lag_operations == 0);
    tokio::time::timeout(Duration::from_secs(20), fed).await.expect("it was not noticed").unwrap();
    let verified = bench.verify(true).await;
    assert_eq!((verified.findings, verified.height), (Vec::new(), height));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_durable_before_a_start_is_fed_again_take_backs_too() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = bench(&chain).await;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..40]).await;
    node.settle().await;
    let saved = save_postgres(&mut bench).await;
    node.apply_all(&chain.blocks[40..110]).await;
    node.take_back_to(105).await;
    node.apply_all(&chain.blocks[104..120]).await;
    node.stop().await.unwrap();
    let node = bench.start().await.unwrap();
    let epoch = node.node.progress().position.epoch;
    put_postgres_back(&mut bench, &saved).await;
    assert_fed_again(&bench, &node, epoch, 121).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_durable_before_redis_lost_everything_is_fed_again() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = bench(&chain).await;
    bench.options.limits.takeover_after = Duration::from_secs(2);
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..95]).await;
    node.settle().await;
    let saved = save_postgres(&mut bench).await;
    node.apply_all(&chain.blocks[95..130]).await;
    node.settle().await;
    bench.servers.kill_redis().await;
    bench.servers.restart_redis().await.unwrap();
    node.apply_all(&chain.blocks[130..140]).await;
    node.settle().await;
    let epoch = node.node.progress().position.epoch;
    assert!(epoch > 1, "Redis came back empty and was healed");
    put_postgres_back(&mut bench, &saved).await;
    assert_fed_again(&bench, &node, epoch, 141).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_durable_before_a_rewind_is_fed_again_and_the_rewind() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = bench(&chain).await;
    bench.options.limits.undo_kept = 5;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..90]).await;
    node.settle().await;
    let saved = save_postgres(&mut bench).await;
    for block in &chain.blocks[90..150] {
        node.apply(block).await.unwrap();
    }
    node.settle().await;
    // Deeper than the undo records, and below where the copy was made.
    node.take_back_to(70).await;
    node.apply_all(&chain.blocks[69..75]).await;
    node.settle().await;
    let epoch = node.node.progress().position.epoch;
    put_postgres_back(&mut bench, &saved).await;
    assert_fed_again(&bench, &node, epoch, 76).await;
    node.apply_all(&chain.blocks[75..80]).await;
    node.settle().await;
    assert_eq!(bench.verify(true).await.findings, Vec::new());
    node.stop().await.unwrap();
}

/// A node that was stopped, and a PostgreSQL put back further than its outbox reaches.
async fn out_of_reach(chain: &OracleChain) -> Bench {
    let mut bench = bench(chain).await;
    bench.options.rollback_dir = Some(bench.servers.data_dir().to_path_buf());
    bench.options.limits.outbox_kept = 5;
    // Too few to fill the gap that the outbox leaves.
    bench.options.limits.blocks_kept = 20;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..20]).await;
    node.settle().await;
    let saved = save_postgres(&mut bench).await;
    for block in &chain.blocks[20..220] {
        node.apply(block).await.unwrap();
    }
    node.stop().await.unwrap();
    put_postgres_back(&mut bench, &saved).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_reach_at_a_start_is_recorded_and_the_next_start_goes_back() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = out_of_reach(&chain).await;
    let error = bench.start().await.err().expect("it cannot be drained");
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    for part in ["operation 21 (height 21)", "put back to an older state", "goes back to height 21"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let record = bench.servers.data_dir().join("rollback-2-21.jsonl");
    let text = std::fs::read_to_string(record).unwrap();
    assert!(text.contains(r#""missingSeqs":{"from":22,"#), "{}", text.lines().next().unwrap());
    assert!(text.lines().count() > 5, "what the outbox still has is recorded");
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 21);
    node.apply_all(&chain.blocks[20..30]).await;
    node.settle().await;
    assert_eq!(bench.verify(true).await.findings, Vec::new());
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keep_nothing_is_given_up_and_the_start_says_what_to_do() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = out_of_reach(&chain).await;
    bench.options.on_hard_limit = OnHardLimit::Keep;
    for _ in 0..2 {
        let error = bench.start().await.err().expect("it cannot be drained");
        assert!(error.to_string().contains("restore a newer copy"), "{error}");
    }
    let orders = std::fs::read_dir(bench.servers.data_dir())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("rollback-"));
    assert_eq!(orders.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_redis_does_not_give_the_chain_back_to_a_node_that_lost_it() {
    let Some(chain) = OracleChain::first() else { return };
    let test = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut bench = Bench::with(test, chain.profile.clone(), chain.genesis.clone()).await;
    // Nobody's heartbeat tells: the first node sleeps through everything.
    bench.options.limits.takeover_after = Duration::from_secs(3600);
    let first = bench.start().await.unwrap();
    first.apply_all(&chain.blocks[..30]).await;
    first.settle().await;
    bench.servers.kill_redis().await;
    let (files, saved) = (bench.servers.data_dir().join(REDIS), bench.servers.data_dir().join("redis-saved"));
    copy(&files, &saved);
    bench.servers.restart_redis().await.unwrap();
    let second = bench.start().await.unwrap();
    second.apply_all(&chain.blocks[30..40]).await;
    second.settle().await;
    // The copy says that the first node holds the chain, at its very last block.
    bench.servers.kill_redis().await;
    copy(&saved, &files);
    bench.servers.restart_redis().await.unwrap();
    let refused = first.apply(&chain.blocks[30]).await.unwrap_err();
    // On a slow machine the question to an idle PostgreSQL has ended the node before.
    assert!(["held", "stopped"].contains(&refused.kind()), "{refused}");
    let mut first = first;
    assert_eq!(first.running.ended().await.unwrap_err().kind(), "held");
    // The holder notices what became of Redis, and goes on.
    second.apply_all(&chain.blocks[40..50]).await;
    second.settle().await;
    let verified = bench.verify(true).await;
    assert_eq!((verified.findings, verified.height), (Vec::new(), 51));
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_redis_is_not_used_before_postgres_can_tell_whose_it_is() {
    let Some(chain) = OracleChain::first() else { return };
    let test = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut bench = Bench::with(test, chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits.redis_away_max = Duration::from_secs(2);
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..20]).await;
    node.settle().await;
    bench.servers.kill_postgres().await;
    node.apply_all(&chain.blocks[20..25]).await;
    bench.servers.kill_redis().await;
    bench.servers.restart_redis().await.unwrap();
    // The caller waits, is told at last, and the node goes on.
    let told = node.apply(&chain.blocks[25]).await.unwrap_err();
    assert!(told.to_string().contains("PostgreSQL is asked first who holds the chain"), "{told}");
    assert!(node.node.fast().counts().await.is_err(), "nothing is read from it either");
    bench.servers.restart_postgres().await.unwrap();
    node.apply_all(&chain.blocks[25..40]).await;
    node.settle().await;
    let verified = bench.verify(true).await;
    assert_eq!((verified.findings, verified.height), (Vec::new(), 41));
    node.stop().await.unwrap();
}
