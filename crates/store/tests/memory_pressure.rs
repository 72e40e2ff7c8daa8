//! Redis fills up under a running node: writers are slowed before it refuses, nothing is half done, and blocks can be taken
//! back.

use std::sync::Arc;
use std::time::Duration;

use forebay_fast::FastErrorKind;
use forebay_generator::{Chain, ChainOptions, Network, NetworkOptions};
use forebay_ledger::block::Block;
use forebay_servers::testing::TestOptions;
use forebay_store::StoreError;
use forebay_testkit::chain::NOW;
use forebay_testkit::node::{Bench, TestNode};

const PATIENCE: Duration = Duration::from_secs(30);

async fn bench() -> (Bench, Vec<Block>) {
    let network =
        Network::from_seed("pressure", &NetworkOptions { accounts: 50, ..NetworkOptions::default() })
            .unwrap();
    let network = Arc::new(network);
    let now_unix_seconds = network.profile.epoch_unix_seconds().unwrap() + NOW;
    let chain = Chain::new(Arc::clone(&network), ChainOptions::default(), now_unix_seconds).unwrap();
    let blocks: Vec<Block> = chain.take(40).map(|block| block.unwrap()).collect();
    let (profile, genesis) = (Arc::new(network.profile.clone()), Arc::new(network.genesis.clone()));
    let mut bench = Bench::with(TestOptions::default(), profile, genesis).await;
    bench.options.memory_planned_bytes = 12_345_678;
    (bench, blocks)
}

async fn set_maxmemory(bench: &Bench, bytes: u64) {
    let client = redis::Client::open(bench.options.redis_url.clone()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("maxmemory").arg(bytes);
    let _: () = command.query_async(&mut connection).await.unwrap();
}

async fn used(node: &TestNode) -> u64 {
    node.node.fast().memory_use().await.unwrap().0
}

/// Waits until the node knows that it is slowed, or that it is not.
async fn until_slowed(node: &TestNode, slowed: bool) {
    let mut progress = node.node.watch();
    let reached =
        progress.wait_for(|progress| progress.memory.is_slowed == slowed && progress.memory.used_bytes > 0);
    tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
}

#[tokio::test]
async fn writers_are_slowed_near_maxmemory_and_freed_when_there_is_room_again() {
    let (bench, blocks) = bench().await;
    let node = bench.start().await.unwrap();
    node.apply_all(&blocks[..5]).await;
    until_slowed(&node, false).await;
    assert_eq!(node.node.progress().memory.planned_bytes, 12_345_678);
    set_maxmemory(&bench, used(&node).await * 100 / 94).await;
    until_slowed(&node, true).await;
    node.apply_all(&blocks[5..8]).await;
    set_maxmemory(&bench, 1 << 30).await;
    until_slowed(&node, false).await;
    node.apply_all(&blocks[8..12]).await;
    node.stop().await.unwrap();
    assert!(bench.verify(true).await.findings.is_empty());
}

#[tokio::test]
async fn a_full_redis_refuses_blocks_whole_and_gives_them_back() {
    let (bench, blocks) = bench().await;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&blocks[..10]).await;
    node.settle().await;
    let before = node.fast_accounts().await;
    set_maxmemory(&bench, used(&node).await * 9 / 10).await;
    until_slowed(&node, true).await;
    let error = node.apply(&blocks[10]).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Fast(error) if error.kind() == FastErrorKind::OutOfMemory),
        "{error}"
    );
    assert_eq!(node.fast_accounts().await, before, "a refused block changes nothing");
    let height = node.node.progress().tip.unwrap().height;
    let back = node.take_back_to(height - 4).await;
    assert_eq!(back.height, height - 4);
    set_maxmemory(&bench, 0).await;
    until_slowed(&node, false).await;
    node.apply_all(&blocks[6..20]).await;
    node.stop().await.unwrap();
    assert!(bench.verify(true).await.findings.is_empty());
}
