//! Row 2: Redis stopped, flushed, replaced; replies cut; a reader during all that.

use std::time::Duration;

use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::Phase;
use forebay_testkit::proxy::Direction;

use crate::support::{Reader, Stage, signal, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn redis_stopped_and_resumed_holds_callers_up_and_loses_nothing() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 10).await;
    let reader = Reader::start(&node);
    let redis = stage.bench.servers.redis().pid();
    let blocks = stage.more(6);
    for chunk in blocks.chunks(3) {
        reader.acknowledged(&node);
        signal(redis, "STOP");
        // Longer than a successor would wait: heartbeats are missing meanwhile.
        let resumed = async {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            signal(redis, "CONT");
        };
        tokio::join!(node.apply_all(chunk), resumed);
    }
    reader.acknowledged(&node);
    stage.assert_complete(&node).await;
    assert!(reader.end().await.answers > 0);
    assert_eq!(node.node.progress().position.epoch, 1, "away is not lost");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_silent_is_told_of_without_a_caller() {
    let stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    let redis = stage.bench.servers.redis().pid();
    signal(redis, "STOP");
    until(&node, "the silence is told", |progress| {
        progress.redis_error.is_some() && progress.last_error == progress.redis_error
    })
    .await;
    signal(redis, "CONT");
    until(&node, "and its end", |progress| progress.redis_error.is_none() && progress.last_error.is_none())
        .await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_replaced_by_an_older_copy_is_neither_read_nor_written_and_gets_the_tail_again() {
    let durable = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut stage = Stage::with(durable).await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 15).await;
    node.settle().await;
    stage.bench.servers.servers().stop_redis().await.unwrap();
    let older = stage.keep("redis");
    stage.bench.servers.restart_redis().await.unwrap();
    stage.forward(&node, 10).await;
    stage.bench.servers.kill_postgres().await;
    // A tail that is in the newer Redis and in the node's memory only.
    stage.forward(&node, 9).await;
    let reader = Reader::start(&node);
    reader.acknowledged(&node);
    stage.bench.servers.kill_redis().await;
    stage.put_back("redis", &older);
    stage.bench.servers.restart_redis().await.unwrap();
    stage.bench.servers.restart_postgres().await.unwrap();
    stage.forward(&node, 5).await;
    reader.acknowledged(&node);
    stage.assert_complete(&node).await;
    let read = reader.end().await;
    assert!(read.answers > 0 && read.errors > 0, "{} answers, {} errors", read.answers, read.errors);
    assert!(node.node.progress().position.epoch > 1);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_started_again_with_everything_goes_on_in_its_epoch() {
    let durable = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut stage = Stage::with(durable).await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 10).await;
    let reader = Reader::start(&node);
    for _ in 0..3 {
        reader.acknowledged(&node);
        stage.bench.servers.kill_redis().await;
        let blocks = stage.more(4);
        let (restarted, ()) = tokio::join!(stage.bench.servers.restart_redis(), node.apply_all(&blocks));
        restarted.unwrap();
    }
    reader.acknowledged(&node);
    stage.assert_complete(&node).await;
    assert!(reader.end().await.answers > 0);
    assert_eq!(node.node.progress().position.epoch, 1, "all of it was there");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_flushed_redis_is_told_and_waits_for_the_restore() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 20).await;
    let reader = Reader::start(&node);
    reader.acknowledged(&node);
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 5).await;
    stage.redis::<()>(&["FLUSHALL"]).await;
    // Nobody asks for anything: the heartbeat notices, and the restore waits for PostgreSQL.
    until(&node, "the loss is noticed", |progress| progress.phase == Phase::Restore).await;
    let told = node.node.fast().counts().await.unwrap_err();
    assert!(told.to_string().contains("not ready"), "{told}");
    stage.bench.servers.restart_postgres().await.unwrap();
    stage.forward(&node, 5).await;
    reader.acknowledged(&node);
    until(&node, "Redis is back", |progress| progress.phase == Phase::Ready).await;
    stage.assert_complete(&node).await;
    let read = reader.end().await;
    assert!(read.answers > 0 && read.errors > 0);
    node.stop().await.unwrap();
}

/// Connections end after so many more bytes: in the middle of a length, of a read, of a step's answer.
const CUTS_BYTES: [u64; 12] = [0, 1, 3, 7, 12, 40, 90, 150, 300, 600, 1200, 2500];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cut_in_the_middle_is_done_once_and_the_same_again_is_already_accepted() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("cut").await;
    let mut node = start(&options).await.unwrap();
    stage.forward(&node, 3).await;
    let reader = Reader::start(&node);
    for (index, (direction, bytes)) in [Direction::ToClient, Direction::ToServer]
        .into_iter()
        .flat_map(|direction| CUTS_BYTES.map(|bytes| (direction, bytes)))
        .enumerate()
    {
        let block = stage.more(1).remove(0);
        let seq = node.node.progress().position.seq;
        proxies.redis.cut_after(direction, bytes);
        let accepted = node.apply(&block).await.unwrap();
        assert_eq!((accepted.is_new, accepted.position.seq), (true, seq + 1), "{direction:?} {bytes}");
        let again = node.apply(&block).await.unwrap();
        assert_eq!((again.is_new, again.position, again.id), (false, accepted.position, block.id));
        reader.acknowledged(&node);
        if index % 3 == 2 {
            let tip = stage.chain.height();
            stage.branch_off(tip - 1, &format!("after {index}"));
            proxies.redis.cut_after(direction, bytes);
            assert_eq!(node.take_back_to(tip - 1).await.position.seq, seq + 2, "{direction:?} {bytes}");
        }
    }
    stage.assert_complete(&node).await;
    assert!(reader.end().await.answers > 0);
    assert_eq!(node.node.progress().position.epoch, 1, "a cut connection is no loss");
    node.stop().await.unwrap();
}

/// A step's answer is shorter.
const ANSWER_BYTES_MAX: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_done_although_its_reply_was_lost_is_not_done_again() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("cut").await;
    let mut node = start(&options).await.unwrap();
    stage.forward(&node, 20).await;
    stage.go_on_with_empty_blocks();
    let seq_before = node.node.progress().position.seq;
    // Forward, the step's reply is the only one; its first byte is lost, or a later one.
    for bytes in 0..ANSWER_BYTES_MAX {
        node.settle().await;
        proxies.redis.cut_after(Direction::ToClient, bytes);
        stage.forward(&node, 1).await;
        proxies.redis.heal();
    }
    // Back, it is the last one: how many bytes come before it is measured.
    node.settle().await;
    let passed = proxies.redis.passed_bytes(Direction::ToClient);
    node.take_back_to(stage.chain.height() - 1).await;
    let length = proxies.redis.passed_bytes(Direction::ToClient) - passed;
    for lost in 1..ANSWER_BYTES_MAX - 2 {
        let height = stage.chain.height() - 1 - u32::try_from(lost).unwrap();
        proxies.redis.cut_after(Direction::ToClient, length - lost);
        assert_eq!(node.take_back_to(height).await.height, height);
        proxies.redis.heal();
    }
    stage.branch_off(stage.chain.height() + 2 - u32::try_from(ANSWER_BYTES_MAX).unwrap(), "after the cuts");
    assert_eq!(node.node.progress().position.seq, seq_before + 2 * ANSWER_BYTES_MAX - 2);
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    assert_eq!(node.node.progress().position.epoch, 1);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_program_destroys_is_noticed_by_the_step_that_writes_it_and_restored() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    // A tail, so that there is something to lose.
    stage.forward(&node, 4).await;
    let reader = Reader::start(&node);
    reader.acknowledged(&node);
    let key = node.node.fast().keys().round_blocks();
    let _: () = stage.redis(&["SET", &key, "theirs"]).await;
    let blocks = stage.more(8);
    let (restarted, ()) = tokio::join!(stage.bench.servers.restart_postgres(), node.apply_all(&blocks));
    restarted.unwrap();
    reader.acknowledged(&node);
    stage.assert_complete(&node).await;
    reader.end().await;
    let progress = node.node.progress();
    assert!(progress.position.epoch > 1 && progress.counts.redis_restores == 1, "{:?}", progress.counts);
    node.stop().await.unwrap();
}
