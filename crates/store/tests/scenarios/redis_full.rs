//! Row 3: Redis at `maxmemory`, or unable to write its own files.

use std::os::unix::fs::PermissionsExt as _;

use forebay_fast::FastTier;
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_store::{Phase, StoreError};
use forebay_testkit::dump::everything;
use forebay_testkit::node::TestNode;

use crate::support::{Stage, until, until_true};

async fn maxmemory(stage: &Stage, bytes: &str) {
    stage.redis::<()>(&["CONFIG", "SET", "maxmemory", bytes]).await;
}

/// Everything that a step would change, in both tiers.
async fn traces(stage: &Stage, node: &TestNode) -> (Vec<Account>, String, String) {
    let fast: &FastTier = node.node.fast();
    let head = format!("{:?} {:?}", fast.head().await.unwrap(), fast.outbox_range().await.unwrap());
    (node.fast_accounts().await, head, everything(&stage.bench.admin().await).await)
}

async fn refused(node: &TestNode, block: &Block) -> StoreError {
    let error = node.apply(block).await.unwrap_err();
    assert_eq!(error.kind(), "redis", "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn at_maxmemory_a_block_is_refused_whole_taking_back_works_and_writing_resumes() {
    let mut stage = Stage::new().await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 20).await;
    node.settle().await;
    maxmemory(&stage, "1").await;
    let before = traces(&stage, &node).await;
    let next = stage.chain.clone().next_block().unwrap();
    let error = refused(&node, &next).await;
    assert!(error.to_string().contains("memory is full"), "{error}");
    assert!(error.remedy().contains("maxmemory"), "{}", error.remedy());
    assert!(traces(&stage, &node).await == before, "the refused block left traces");
    // Back over a round's end, with memory as full as before.
    stage.branch_off(12, "after the memory was full");
    assert_eq!(node.take_back_to(12).await.height, 12);
    stage.assert_complete(&node).await;
    let next = stage.chain.clone().next_block().unwrap();
    refused(&node, &next).await;
    maxmemory(&stage, "0").await;
    stage.forward(&node, 12).await;
    stage.assert_complete(&node).await;
    assert_eq!(node.node.progress().position.epoch, 1, "full is not lost");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_without_enough_memory_waits_for_it() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 20).await;
    maxmemory(&stage, "1").await;
    stage.redis::<()>(&["FLUSHALL"]).await;
    until(&node, "the loss is noticed", |progress| progress.phase == Phase::Restore).await;
    let refused = stage.redis::<String>(&["INFO", "errorstats"]).await;
    until_true("Redis refuses the restore's rows", async || {
        stage.redis::<String>(&["INFO", "errorstats"]).await.contains("errorstat_OOM")
    })
    .await;
    assert!(!refused.is_empty());
    maxmemory(&stage, "0").await;
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_write_its_files_refuses_blocks_and_writing_resumes() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 10).await;
    node.settle().await;
    let folder = stage.bench.servers.data_dir().join("redis");
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    let saved = async |status: &str| {
        until_true(status, async || {
            // One that is under way is told as an error of this command.
            let client = redis::Client::open(stage.bench.servers.redis().redis_url()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let _ = redis::cmd("BGSAVE").query_async::<String>(&mut connection).await;
            let info: String = stage.redis(&["INFO", "persistence"]).await;
            info.contains(&format!("rdb_last_bgsave_status:{status}"))
                && info.contains("rdb_bgsave_in_progress:0")
        })
        .await;
    };
    stage.redis::<()>(&["CONFIG", "SET", "save", "3600 1"]).await;
    let before = std::fs::metadata(&folder).unwrap().permissions().mode();
    mode(0o555);
    saved("err").await;
    let block = stage.chain.clone().next_block().unwrap();
    let error = refused(&node, &block).await;
    assert!(error.remedy().contains("disk"), "{error}; {}", error.remedy());
    mode(before);
    saved("ok").await;
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}
