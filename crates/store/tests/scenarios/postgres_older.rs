//! Row 5: PostgreSQL comes back as it was before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use forebay_store::StoreError;
use forebay_testkit::node::TestNode;
use serde_json::Value;

use crate::records::{lines, records, replay, standing};
use crate::support::{PATIENCE, Stage, until};

/// The state of PostgreSQL's files now; it runs again when this returns.
async fn back_up(stage: &mut Stage) -> PathBuf {
    stage.bench.servers.servers().stop_postgres().await.unwrap();
    let kept = stage.keep("postgres/data");
    stage.bench.servers.restart_postgres().await.unwrap();
    kept
}

/// Each operation stands in the write log once, and none is missing.
async fn assert_no_gap(stage: &Stage) {
    let admin = stage.bench.admin().await;
    let sql = "select count(*), max(seq), (select seq from forebay.position) from forebay.operations";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let [count, max, position]: [i64; 3] = std::array::from_fn(|n| row.get(n));
    assert_eq!((count, max), (position, position));
}

/// It can be read, and not written to before it is promoted.
async fn put_back_as_a_standby(stage: &mut Stage, standby: &Path) {
    stage.bench.servers.kill_postgres().await;
    let order = standby.join("standby.signal");
    std::fs::write(&order, "").unwrap();
    let owned = Command::new("chown").arg("--reference").arg(standby).arg(&order).status().unwrap();
    assert!(owned.success());
    stage.put_back("postgres/data", standby);
    stage.bench.servers.restart_postgres().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_below_an_unsynced_tail_is_fed_both() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let backup = back_up(&mut stage).await;
    stage.forward(&node, 15).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    // What the backup lacks, and on top of it what no PostgreSQL ever had.
    stage.forward(&node, 9).await;
    stage.put_back("postgres/data", &backup);
    stage.bench.servers.restart_postgres().await.unwrap();
    stage.assert_complete(&node).await;
    assert_no_gap(&stage).await;
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_the_last_commits_is_waited_for_and_fed_again_once_it_is_promoted() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let standby = back_up(&mut stage).await;
    stage.forward(&node, 10).await;
    node.settle().await;
    put_back_as_a_standby(&mut stage, &standby).await;
    let admin = stage.bench.admin().await;
    let is_standby: bool = admin.query_one("select pg_is_in_recovery()", &[]).await.unwrap().get(0);
    assert!(is_standby);
    // It can be read, and lacks ten operations; it cannot be written to yet.
    stage.forward(&node, 3).await;
    until(&node, "the standby is noticed", |progress| {
        progress.last_error.as_ref().is_some_and(|error| error.contains("read-only"))
    })
    .await;
    stage.forward(&node, 1).await;
    admin.execute("select pg_promote()", &[]).await.unwrap();
    tokio::time::timeout(PATIENCE, stage.assert_complete(&node)).await.unwrap();
    assert_no_gap(&stage).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_postgres_could_be_fed_again_leaves_all_of_it_in_the_outbox() {
    let mut stage = Stage::new().await;
    stage.bench.options.limits.outbox_kept = 10;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let standby = back_up(&mut stage).await;
    // More than the outbox is sure to keep, not enough that it was trimmed by now.
    stage.forward(&node, 30).await;
    node.settle().await;
    put_back_as_a_standby(&mut stage, &standby).await;
    until(&node, "the standby is noticed", |progress| {
        progress.last_error.as_ref().is_some_and(|error| error.contains("cannot be fed yet"))
    })
    .await;
    let asked = Instant::now();
    node.node.stop(Duration::from_secs(2)).await;
    let ended = node.running.ended().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    assert_eq!(ended.left_in_outbox, 30, "not all of it is durable");
    stage.bench.admin().await.execute("select pg_promote()", &[]).await.unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().durable.height, 43);
    stage.assert_complete(&node).await;
    assert_no_gap(&stage).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_feeds_a_postgres_that_can_be_written_to_in_time() {
    let mut stage = Stage::new().await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let standby = back_up(&mut stage).await;
    stage.forward(&node, 30).await;
    node.settle().await;
    put_back_as_a_standby(&mut stage, &standby).await;
    until(&node, "the standby is noticed", |progress| {
        progress.last_error.as_ref().is_some_and(|error| error.contains("cannot be fed yet"))
    })
    .await;
    node.node.stop(PATIENCE).await;
    stage.bench.admin().await.execute("select pg_promote()", &[]).await.unwrap();
    let ended = node.running.ended().await.unwrap();
    assert_eq!((ended.durable.height, ended.left_in_outbox), (43, 0));
    assert_eq!(stage.slow_seq().await, 43);
    assert_no_gap(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_put_back_while_the_node_was_away_is_fed_from_the_outbox_at_the_start() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let backup = back_up(&mut stage).await;
    stage.forward(&node, 15).await;
    node.settle().await;
    node.stop().await.unwrap();
    stage.bench.servers.kill_postgres().await;
    stage.put_back("postgres/data", &backup);
    stage.bench.servers.restart_postgres().await.unwrap();
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().durable.height, 28);
    stage.forward(&node, 5).await;
    stage.assert_complete(&node).await;
    assert_no_gap(&stage).await;
    node.stop().await.unwrap();
}

/// A node whose outbox keeps five durable operations, and a backup of its PostgreSQL at height 13.
async fn forgetful(blocks_kept: u32) -> (Stage, TestNode, PathBuf) {
    let mut stage = Stage::new().await;
    stage.bench.options.rollback_dir = Some(stage.bench.servers.data_dir().to_path_buf());
    stage.bench.options.limits.outbox_kept = 5;
    stage.bench.options.limits.blocks_kept = blocks_kept;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let backup = back_up(&mut stage).await;
    (stage, node, backup)
}

async fn put_back(stage: &mut Stage, backup: &Path) {
    stage.bench.servers.kill_postgres().await;
    stage.put_back("postgres/data", backup);
    stage.bench.servers.restart_postgres().await.unwrap();
}

/// The record of a PostgreSQL that was put back to height 13.
#[track_caller]
fn record_of(stage: &Stage, error: &StoreError) -> Vec<Value> {
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    assert!(error.to_string().contains("goes back to height 13"), "{error}");
    let record = lines(&standing(&stage.bench)[0]);
    assert_eq!(record[0]["rollback"]["baseHeight"], 13);
    record
}

/// The next start goes back, and the record gives the chain all of it again.
async fn assert_replays(stage: &Stage) {
    let mut node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 13);
    replay(stage, &mut node, &records(&stage.bench, ".done")[0]).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_outbox_has_not_any_more_is_recorded_from_the_blocks_that_redis_keeps() {
    let (mut stage, mut node, backup) = forgetful(1000).await;
    stage.forward(&node, 100).await;
    node.settle().await;
    // The trim comes after the news that all is durable.
    while node.node.fast().outbox_range().await.unwrap().unwrap().first.seq <= 60 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put_back(&mut stage, &backup).await;
    let record = record_of(&stage, &node.running.ended().await.unwrap_err());
    assert_eq!(record[0]["rollback"]["missingSeqs"], Value::Null);
    assert_eq!(record.len(), 1 + 100);
    assert_replays(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_at_a_start_with_a_fork_behind_the_gap() {
    let (mut stage, mut node, backup) = forgetful(1000).await;
    stage.forward(&node, 100).await;
    node.settle().await;
    // The outbox has all of that; its oldest entry follows a block of the chain.
    node.take_back_to(112).await;
    stage.branch_off(112, "behind the gap");
    stage.forward(&node, 1).await;
    node.stop().await.unwrap();
    put_back(&mut stage, &backup).await;
    let record = record_of(&stage, &stage.bench.start().await.err().expect("it cannot be drained"));
    assert_eq!(record[0]["rollback"]["missingSeqs"], Value::Null);
    assert_eq!(record.len(), 1 + 100 + 1 + 1);
    assert_replays(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_which_blocks_were_taken_back_stays_named() {
    let (mut stage, mut node, backup) = forgetful(1000).await;
    stage.forward(&node, 10).await;
    node.take_back_to(20).await;
    stage.branch_off(20, "in the gap");
    stage.forward(&node, 100).await;
    node.settle().await;
    put_back(&mut stage, &backup).await;
    let record = record_of(&stage, &node.running.ended().await.unwrap_err());
    let first = node.node.fast().outbox_range().await.unwrap().unwrap().first.seq;
    let missing = &record[0]["rollback"]["missingSeqs"];
    assert_eq!((missing["from"].as_u64(), missing["to"].as_u64()), (Some(14), Some(first - 1)));
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 13);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_deeper_than_the_kept_blocks_is_filled_as_far_as_they_reach() {
    let (mut stage, mut node, backup) = forgetful(40).await;
    stage.forward(&node, 200).await;
    node.settle().await;
    put_back(&mut stage, &backup).await;
    let record = record_of(&stage, &node.running.ended().await.unwrap_err());
    let missing = &record[0]["rollback"]["missingSeqs"];
    let to = missing["to"].as_u64().unwrap();
    assert_eq!(missing["from"], 14);
    assert!((100..=173).contains(&to), "{missing}");
    assert_eq!(record.len() as u64, 1 + 213 - to);
    assert_eq!(record[1]["seq"], to + 1);
    stage.bench.start().await.unwrap().stop().await.unwrap();
}
