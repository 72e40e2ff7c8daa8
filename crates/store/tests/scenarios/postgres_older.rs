//! Row 5: PostgreSQL comes back as it was before.

use std::path::PathBuf;
use std::process::Command;

use crate::support::Stage;
use crate::support::{PATIENCE, until};

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
    stage.bench.servers.kill_postgres().await;
    let order = standby.join("standby.signal");
    std::fs::write(&order, "").unwrap();
    let owned = Command::new("chown").arg("--reference").arg(&standby).arg(&order).status().unwrap();
    assert!(owned.success());
    stage.put_back("postgres/data", &standby);
    stage.bench.servers.restart_postgres().await.unwrap();
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
