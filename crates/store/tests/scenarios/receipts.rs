//! What a caller is told, and when: accepted, already accepted, durable.

use std::time::{Duration, Instant};

use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::Profile;
use forebay_testkit::node::TestNode;

use crate::support::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_names_its_profile_and_can_be_awaited_until_durable() {
    for (redis, profile) in
        [(RedisProfile::Durable, Profile::Durable), (RedisProfile::Volatile, Profile::Volatile)]
    {
        let mut stage = Stage::with(TestOptions { redis_profile: redis, ..TestOptions::default() }).await;
        let node = stage.bench.start().await.unwrap();
        let blocks = stage.more(9);
        let mut last = None;
        for block in &blocks {
            let accepted = node.apply(block).await.unwrap();
            assert_eq!((accepted.profile, accepted.height, accepted.id), (profile, block.height, block.id));
            last = Some(accepted);
        }
        let last = last.unwrap();
        let durable = node.node.until_durable(last.position).await.unwrap();
        assert_eq!(
            (durable.seq, durable.height, durable.id),
            (last.position.seq, last.height, Some(last.id))
        );
        assert!(stage.slow_seq().await >= last.position.seq, "durable is in PostgreSQL");
        // The same blocks again, old and new: accepted already, nothing is done.
        for block in [&blocks[0], &blocks[8]] {
            let again = node.apply(block).await.unwrap();
            assert_eq!((again.is_new, again.height, again.id), (false, block.height, block.id));
            assert_eq!((again.position, again.profile), (last.position, profile));
        }
        assert_eq!(node.node.progress().profile, profile);
        node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_awaits_a_receipt_is_told_when_the_node_ends_before() {
    let mut stage = Stage::new().await;
    stage.bench.options.limits.no_progress_max = Duration::from_secs(1);
    let mut node: TestNode = stage.bench.start().await.unwrap();
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 3).await;
    let position = node.node.progress().position;
    let (waited, ended) = tokio::join!(node.node.until_durable(position), node.running.ended());
    assert_eq!(waited.unwrap_err().kind(), "stopped");
    assert_eq!(ended.unwrap_err().kind(), "too-far-behind");
}

/// The issue's own bound for a block at the tip, with idle servers.
const DURABLE_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn at_the_tip_each_block_is_durable_within_a_second() {
    let flushed =
        TestOptions { redis_profile: RedisProfile::Durable, postgres_fsync: true, ..TestOptions::default() };
    let mut stage = Stage::with(flushed).await;
    let node = stage.bench.start().await.unwrap();
    let blocks = stage.more(100);
    let mut waits = Vec::new();
    for block in &blocks {
        let accepted = node.apply(block).await.unwrap();
        let since = Instant::now();
        node.node.until_durable(accepted.position).await.unwrap();
        waits.push(since.elapsed());
    }
    waits.sort();
    println!(
        "durable after the acceptance: median {:?}, p99 {:?}, longest {:?}",
        waits[50], waits[98], waits[99]
    );
    assert!(waits[98] < DURABLE_WITHIN, "{waits:?}");
    // Each was sent at once, alone: nothing waited for company.
    let admin = stage.bench.admin().await;
    let sql = "select count(*) from forebay.operations where seq > 1 and batch_seq = seq";
    let alone: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(alone, 100);
    node.stop().await.unwrap();
}
