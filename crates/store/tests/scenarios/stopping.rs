//! A stop while a tier is away or lost something: it keeps to its time, and what was accepted is durable, in the outbox or
//! in a rollback file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::{Phase, StoreError};
use forebay_testkit::chain::NOW;
use forebay_testkit::node::TestNode;

use crate::records::{lines, records, replay, standing};
use crate::support::{PATIENCE, Stage, until, until_true};

/// The time to drain of most stops here.
const DRAIN: Duration = Duration::from_secs(2);
/// What a stop may take beyond it on a busy machine. The guard, and PostgreSQL, would take minutes.
const MARGIN: Duration = Duration::from_secs(8);

async fn stage_with(redis_profile: RedisProfile) -> Stage {
    let mut stage = Stage::with(TestOptions { redis_profile, ..TestOptions::default() }).await;
    stage.bench.options.rollback_dir = Some(stage.bench.servers.data_dir().to_path_buf());
    stage
}

/// Twenty operations are durable, nine more are accepted while PostgreSQL is away: six blocks, one taken back, two on
/// another branch.
async fn with_a_tail(stage: &mut Stage) -> TestNode {
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 19).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 6).await;
    node.take_back_to(25).await;
    stage.branch_off(25, "with PostgreSQL away");
    stage.forward(&node, 2).await;
    node
}

/// The same, and Redis is emptied; the node heals it, which needs PostgreSQL.
async fn while_healing(stage: &mut Stage) -> TestNode {
    let node = with_a_tail(stage).await;
    stage.redis::<()>(&["FLUSHALL"]).await;
    until(&node, "the loss is noticed", |progress| progress.phase == Phase::Restore).await;
    node
}

/// How a stop ended, and how long that took.
async fn stopped(node: &mut TestNode) -> (Result<forebay_store::Stopped, StoreError>, Duration) {
    let asked = Instant::now();
    node.node.stop(DRAIN).await;
    let ended = tokio::time::timeout(PATIENCE, node.running.ended()).await.expect("the stop hangs");
    (ended, asked.elapsed())
}

#[track_caller]
fn assert_in_time(took: Duration) {
    assert!(took < DRAIN + MARGIN, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_redis_is_healed_without_postgres_keeps_its_time_and_records_the_tail() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = while_healing(&mut stage).await;
    let (ended, took) = stopped(&mut node).await;
    assert_in_time(took);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    for part in ["lacks 9 operations", "Redis lost them", "goes back to height 20", "rollback-1-20.jsonl"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    let record = standing(&stage.bench).pop().expect("a record");
    assert_eq!(lines(&record).len(), 1 + 9);
    stage.bench.servers.restart_postgres().await.unwrap();
    let mut node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 20);
    assert_eq!(standing(&stage.bench), Vec::<PathBuf>::new(), "it was obeyed");
    let done = records(&stage.bench, ".jsonl.done").pop().expect("the record stays");
    replay(&stage, &mut node, &done).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_for_the_healing_is_told_of_the_stop() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = while_healing(&mut stage).await;
    let next = node.node.check(stage.chain.clone().next_block().unwrap()).unwrap();
    let (waiting, beside) = (node.node.clone(), node.node.clone());
    let asked = tokio::spawn(async move { waiting.apply(next, NOW).await });
    until_true("the caller waits", async || beside.commands_waiting().0 > 0).await;
    let (ended, took) = stopped(&mut node).await;
    assert_in_time(took);
    assert_eq!(ended.unwrap_err().kind(), "too-far-behind");
    drop(node);
    assert_eq!(asked.await.unwrap().unwrap_err().kind(), "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_there_before_the_drain_and_withdrawn_when_postgres_comes_back_in_time() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = while_healing(&mut stage).await;
    node.node.stop(PATIENCE).await;
    // Whoever kills the process from here on loses nothing unrecorded.
    until_true("the record is written", async || standing(&stage.bench).len() == 1).await;
    assert_eq!(lines(&standing(&stage.bench)[0]).len(), 1 + 9);
    stage.bench.servers.restart_postgres().await.unwrap();
    let ended = node.running.ended().await.unwrap();
    assert_eq!((ended.durable.height, ended.left_in_outbox), (27, 0));
    assert_eq!(records(&stage.bench, "rollback-1-20.jsonl"), Vec::<PathBuf>::new());
    assert_eq!(records(&stage.bench, ".done"), Vec::<PathBuf>::new());
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 27);
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_written_ahead_takes_nothing_from_postgres_that_the_drain_brought_there() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = while_healing(&mut stage).await;
    node.node.stop(PATIENCE).await;
    until_true("the record is written", async || standing(&stage.bench).len() == 1).await;
    let order = standing(&stage.bench).remove(0);
    let kept = std::fs::read(&order).unwrap();
    stage.bench.servers.restart_postgres().await.unwrap();
    node.running.ended().await.unwrap();
    // As if the process had been killed after the drain, right before it withdrew the order.
    std::fs::write(&order, kept).unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 27);
    assert_eq!(standing(&stage.bench), Vec::<PathBuf>::new());
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_loses_the_state_while_a_stop_drains_leaves_a_record() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = with_a_tail(&mut stage).await;
    let asked = Instant::now();
    node.node.stop(DRAIN).await;
    until(&node, "the drain goes on", |progress| progress.phase == Phase::Stopping).await;
    stage.redis::<()>(&["FLUSHALL"]).await;
    let error = node.running.ended().await.unwrap_err();
    assert_in_time(asked.elapsed());
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    assert!(error.to_string().contains("Redis lost them"), "{error}");
    assert_eq!(lines(&standing(&stage.bench)[0]).len(), 1 + 9);
    stage.bench.servers.restart_postgres().await.unwrap();
    let mut node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 20);
    replay(&stage, &mut node, &records(&stage.bench, ".done")[0]).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_at_the_end_of_the_drain_stays_in_the_outbox_and_the_next_start_drains() {
    for redis_profile in [RedisProfile::Durable, RedisProfile::Volatile] {
        let mut stage = stage_with(redis_profile).await;
        let mut node = with_a_tail(&mut stage).await;
        let (ended, took) = stopped(&mut node).await;
        assert_in_time(took);
        let ended = ended.unwrap();
        assert_eq!((ended.durable.height, ended.left_in_outbox), (20, 9));
        assert_eq!(standing(&stage.bench), Vec::<PathBuf>::new());
        stage.bench.servers.restart_postgres().await.unwrap();
        let node = stage.bench.start().await.unwrap();
        assert_eq!(node.node.progress().tip.unwrap().height, 27);
        stage.assert_complete(&node).await;
        node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_came_back_empty_and_is_not_trusted_yet_is_known_to_lack_the_tail() {
    let mut stage = stage_with(RedisProfile::Volatile).await;
    let mut node = with_a_tail(&mut stage).await;
    // Another run: it is not used before PostgreSQL was asked, which is away.
    stage.bench.servers.kill_redis().await;
    stage.bench.servers.restart_redis().await.unwrap();
    let (ended, took) = stopped(&mut node).await;
    assert_in_time(took);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    assert_eq!(lines(&standing(&stage.bench)[0]).len(), 1 + 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_came_back_with_everything_and_is_not_trusted_yet_keeps_the_tail() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let mut node = with_a_tail(&mut stage).await;
    stage.bench.servers.kill_redis().await;
    stage.bench.servers.restart_redis().await.unwrap();
    let (ended, took) = stopped(&mut node).await;
    assert_in_time(took);
    assert_eq!(ended.unwrap().left_in_outbox, 9);
    assert_eq!(standing(&stage.bench), Vec::<PathBuf>::new());
    stage.bench.servers.restart_postgres().await.unwrap();
    let node = stage.bench.start().await.unwrap();
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_a_deep_take_back_that_waits_for_postgres_keeps_its_time() {
    let mut stage = stage_with(RedisProfile::Durable).await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 29).await;
    // Undo records do not survive a restart.
    node.stop().await.unwrap();
    let mut node = stage.bench.start().await.unwrap();
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 4).await;
    let (beside, next) = (node.node.clone(), stage.chain.clone().next_block().unwrap());
    let next = beside.check(next).unwrap();
    let mut asked = Box::pin(beside.take_back_to(5));
    let mut behind = Box::pin(beside.apply(next, NOW));
    // Both are handed over; the second waits as long as the first is being done.
    assert!(tokio::time::timeout(Duration::ZERO, &mut asked).await.is_err());
    assert!(tokio::time::timeout(Duration::ZERO, &mut behind).await.is_err());
    until_true("the take-back is under way", async || beside.commands_waiting().0 == 1).await;
    let (ended, took) = stopped(&mut node).await;
    assert_in_time(took);
    assert_eq!(ended.unwrap().left_in_outbox, 4);
    assert_eq!(asked.await.unwrap_err().kind(), "stopped");
    assert_eq!(behind.await.unwrap_err().kind(), "stopped");
    stage.bench.servers.restart_postgres().await.unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 34, "nothing was taken back");
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}
