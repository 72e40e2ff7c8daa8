//! Row 4: PostgreSQL dies in the middle of a batch, falls silent, is locked, is full.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay_testkit::proxy::{Direction, Flow};
use tokio_postgres::Client;

use crate::support::{PATIENCE, Stage, start, until, until_true};

/// Waits until the node's session waits for a lock of the rival's.
async fn until_it_waits(rival: &Client) {
    until_true("the node waits for a lock", async || {
        let waiting = "select from pg_stat_activity where application_name = 'forebay writer' and wait_event_type = 'Lock'";
        !rival.query(waiting, &[]).await.unwrap().is_empty()
    })
    .await;
}

/// Operations of the write log: each once, none missing.
async fn assert_each_operation_once(stage: &Stage) {
    let admin = stage.bench.admin().await;
    let row = admin
        .query_one("select count(*), count(distinct seq), min(seq), max(seq) from forebay.operations", &[])
        .await
        .unwrap();
    let [count, distinct, min, max]: [i64; 4] = std::array::from_fn(|n| row.get(n));
    assert_eq!((count, distinct, min), (max, max, 1));
    assert_eq!(u64::try_from(max).unwrap(), stage.slow_seq().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_in_the_middle_of_a_batch_gets_it_again_whole() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 5).await;
    node.settle().await;
    let durable = stage.slow_seq().await;
    let rival = stage.bench.admin().await;
    rival.batch_execute("begin; lock table forebay.accounts in share mode").await.unwrap();
    stage.forward(&node, 12).await;
    // The position has moved and rows are there, in a transaction that nobody else sees.
    until_it_waits(&rival).await;
    assert_eq!(stage.slow_seq().await, durable);
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 5).await;
    until(&node, "the failure is told", |progress| progress.retries > 0 && progress.last_error.is_some())
        .await;
    assert_eq!(node.node.progress().lag_operations, 17);
    stage.bench.servers.restart_postgres().await.unwrap();
    stage.assert_complete(&node).await;
    assert_each_operation_once(&stage).await;
    assert_eq!(node.node.progress().last_error, None);
    node.stop().await.unwrap();
}

/// Makes COMMIT wait for a lock that the test holds.
const SLOW_COMMIT: &str = "create function public.wait_at_commit() returns trigger language plpgsql security definer as $$ \
     begin perform pg_advisory_xact_lock(4711); return null; end $$; \
     create constraint trigger zz_wait after update on forebay.position deferrable initially deferred \
     for each row execute function public.wait_at_commit(); select pg_advisory_lock(4711)";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_asked_for_and_not_done_twice() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("lost").await;
    let node = start(&options).await.unwrap();
    stage.forward(&node, 4).await;
    node.settle().await;
    let rival = stage.bench.admin().await;
    rival.batch_execute(SLOW_COMMIT).await.unwrap();
    stage.forward(&node, 1).await;
    until_it_waits(&rival).await;
    proxies.postgres.set_flow(Direction::ToClient, Flow::Swallow);
    rival.batch_execute("select pg_advisory_unlock(4711)").await.unwrap();
    let accepted = node.node.progress().position;
    until_true("it is committed", async || stage.slow_seq().await == accepted.seq).await;
    assert_eq!(node.node.progress().durable.seq, accepted.seq - 1, "the answer has not come");
    // What was swallowed is gone, and so is the connection.
    proxies.postgres.heal();
    let durable = tokio::time::timeout(PATIENCE, node.node.until_durable(accepted)).await.unwrap().unwrap();
    assert_eq!((durable.seq, node.node.progress().retries), (accepted.seq, 1));
    stage.forward(&node, 2).await;
    stage.assert_complete(&node).await;
    assert_each_operation_once(&stage).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_victim_of_a_deadlock_does_its_batch_again() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 5).await;
    node.settle().await;
    let rival = stage.bench.admin().await;
    // Rows in the reverse order: accounts, then the position. The rival's own check comes late, so that the node is the one
    // that finds the deadlock.
    rival
        .batch_execute("set deadlock_timeout = '1min'; begin; select from forebay.accounts for update")
        .await
        .unwrap();
    stage.forward(&node, 3).await;
    until_it_waits(&rival).await;
    let position = rival.batch_execute("select from forebay.position for update");
    tokio::time::timeout(PATIENCE, position).await.expect("the node did not give way").unwrap();
    until(&node, "the deadlock is told", |progress| {
        progress.last_error.as_ref().is_some_and(|error| error.contains("deadlock"))
    })
    .await;
    rival.batch_execute("commit").await.unwrap();
    stage.assert_complete(&node).await;
    assert_each_operation_once(&stage).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_locked_for_long_is_told_and_writing_resumes_by_itself() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 5).await;
    node.settle().await;
    let administrator = stage.bench.admin().await;
    administrator.batch_execute("begin; lock table forebay.blocks in access exclusive mode").await.unwrap();
    stage.forward(&node, 8).await;
    assert_eq!(node.node.progress().lag_operations, 8);
    // Longer than `lock_timeout`.
    until(&node, "the lock is told", |progress| {
        progress
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("lock timeout") && error.contains("pg_locks"))
    })
    .await;
    stage.forward(&node, 2).await;
    administrator.batch_execute("rollback").await.unwrap();
    stage.assert_complete(&node).await;
    assert_eq!(node.node.progress().last_error, None);
    node.stop().await.unwrap();
}

/// A disk of one megabyte; `None` where we may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Fills it up, or makes room again.
    fn fill(&self, is_full: bool) {
        let ballast = self.0.join("ballast");
        if is_full {
            let written = std::fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
            assert_eq!(written.kind(), std::io::ErrorKind::StorageFull);
        } else {
            std::fs::remove_file(ballast).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn give(folder: &Path, like: &Path) {
    let status = Command::new("chown").arg("--reference").arg(like).arg(folder).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgres_raises_the_alarm_and_writing_resumes_when_there_is_room() {
    let mut stage = Stage::new().await;
    let Some(disk) = SmallDisk::mount(stage.bench.servers.data_dir().join("small")) else {
        eprintln!("SKIPPED a full disk: only root may mount a small one");
        return;
    };
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 5).await;
    node.settle().await;
    let table_space = disk.0.join("space");
    std::fs::create_dir(&table_space).unwrap();
    give(&table_space, &stage.bench.servers.data_dir().join("postgres/data"));
    let admin = stage.bench.admin().await;
    let create = format!("create tablespace small location '{}'", table_space.display());
    admin.batch_execute(&create).await.unwrap();
    admin.batch_execute("alter table forebay.transactions set tablespace small").await.unwrap();
    disk.fill(true);
    stage.forward(&node, 60).await;
    until(&node, "the full disk is told", |progress| {
        progress
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("(53100)") && error.contains("disk space"))
    })
    .await;
    assert!(node.node.progress().lag_operations > 0);
    // Writers go on within the limits.
    stage.forward(&node, 3).await;
    disk.fill(false);
    stage.assert_complete(&node).await;
    assert_each_operation_once(&stage).await;
    drop(disk);
    node.stop_now().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_silent_is_told_of_long_before_the_limit() {
    let mut stage = Stage::new().await;
    let (proxies, mut options) = stage.proxied("silent").await;
    options.limits.durable_within = Duration::from_millis(100);
    let node = start(&options).await.unwrap();
    stage.forward(&node, 2).await;
    node.settle().await;
    proxies.postgres.set_flow(Direction::ToClient, Flow::Stall);
    stage.forward(&node, 1).await;
    until(&node, "the silence is told", |progress| {
        progress.postgres_error.as_ref().is_some_and(|error| error.contains("has not answered"))
    })
    .await;
    let progress = node.node.progress();
    assert_eq!(
        (progress.last_error.is_some(), progress.counts.postgres_failures),
        (true, 0),
        "no attempt failed"
    );
    proxies.postgres.heal();
    stage.assert_complete(&node).await;
    assert_eq!(node.node.progress().postgres_error, None);
    node.stop().await.unwrap();
}
