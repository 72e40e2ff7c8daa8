//! Row 2, continued: Redis is started again with other settings under a running node.

use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::Profile;
use forebay_testkit::node::TestNode;

use crate::support::{Stage, until};

/// A node with some durable blocks on a Redis that keeps everything.
async fn durable() -> (Stage, TestNode) {
    let durable = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut stage = Stage::with(durable).await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 10).await;
    node.settle().await;
    (stage, node)
}

/// Kills Redis and starts it with its settings, but for these.
async fn restart_redis_with(stage: &mut Stage, settings: &str) {
    stage.bench.servers.kill_redis().await;
    let conf = stage.bench.servers.data_dir().join("redis/redis.conf");
    let conf = std::fs::read_to_string(conf).unwrap();
    // The last word counts.
    let servers = stage.bench.servers.servers().with_redis_conf(format!("{conf}\n{settings}\n"));
    servers.start_redis().await.unwrap();
    // Adopted: the next kill is this one's.
    stage.bench.servers.restart_redis().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_with_another_profile_is_named_in_the_receipts() {
    let (mut stage, node) = durable().await;
    let block = stage.more(1).remove(0);
    assert_eq!(node.apply(&block).await.unwrap().profile, Profile::Durable);
    node.settle().await;
    restart_redis_with(&mut stage, "appendonly no").await;
    let block = stage.more(1).remove(0);
    let accepted = node.apply(&block).await.unwrap();
    assert_eq!((accepted.profile, accepted.is_new), (Profile::Volatile, true));
    until(&node, "the profile is shown", |progress| progress.profile == Profile::Volatile).await;
    stage.assert_complete(&node).await;
    // And back, with an older copy on disk: what the next answer promises is what it can keep.
    node.settle().await;
    restart_redis_with(&mut stage, "appendonly yes\nappendfsync always").await;
    let block = stage.more(1).remove(0);
    assert_eq!(node.apply(&block).await.unwrap().profile, Profile::Durable);
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_with_an_eviction_policy_stops_the_node_with_the_remedy() {
    let (mut stage, mut node) = durable().await;
    restart_redis_with(&mut stage, "maxmemory-policy allkeys-lru").await;
    // Nobody asks for anything: the heartbeat notices.
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "stopped", "{error}");
    for part in ["other settings", "allkeys-lru", "set it to noeviction"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    // Put right, the next start has everything.
    restart_redis_with(&mut stage, "maxmemory-policy noeviction").await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 3).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}
