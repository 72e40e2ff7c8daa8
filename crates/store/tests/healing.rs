//! A tier loses something under a running node; the guard stops a node that is too far behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forebay_store::{OnHardLimit, StoreError};
use forebay_testkit::chain::OracleChain;
use forebay_testkit::node::{Bench, TestNode};

async fn started(chain: &OracleChain) -> (Bench, TestNode) {
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    (bench, node)
}

async fn assert_complete(bench: &Bench, node: &TestNode, height: u32) {
    node.settle().await;
    let verified = bench.verify(true).await;
    assert_eq!((verified.findings, verified.height), (Vec::new(), height));
}

async fn flush_all(bench: &Bench) {
    let client = redis::Client::open(bench.options.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_between_blocks_loses_nothing() {
    let Some(chain) = OracleChain::first() else { return };
    let (bench, node) = started(&chain).await;
    for (index, chunk) in chain.blocks[..330].chunks(30).enumerate() {
        if index > 0 {
            flush_all(&bench).await;
        }
        node.apply_all(chunk).await;
    }
    assert_complete(&bench, &node, 331).await;
    flush_all(&bench).await;
    node.node.take_back_to(300).await.unwrap();
    assert_complete(&bench, &node, 300).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_with_a_tail_while_postgres_is_away_loses_nothing() {
    let Some(chain) = OracleChain::first() else { return };
    let (mut bench, node) = started(&chain).await;
    node.apply_all(&chain.blocks[..50]).await;
    node.settle().await;
    bench.servers.kill_postgres().await;
    node.apply_all(&chain.blocks[50..120]).await;
    node.node.take_back_to(110).await.unwrap();
    flush_all(&bench).await;
    // The next block waits for PostgreSQL: that is where Redis comes from.
    let next = node.apply(&chain.blocks[109]);
    let (accepted, ()) = tokio::join!(next, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.servers.restart_postgres().await.unwrap();
    });
    assert_eq!(accepted.unwrap().height, 111);
    assert_complete(&bench, &node, 111).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_restarted_empty_is_noticed_without_a_command() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits.takeover_after = Duration::from_secs(2);
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..40]).await;
    let epoch = node.node.progress().position.epoch;
    bench.servers.kill_redis().await;
    bench.servers.restart_redis().await.unwrap();
    // Nobody asks for anything: the heartbeat notices.
    let mut progress = node.node.watch();
    let healed = progress.wait_for(|p| p.position.epoch > epoch);
    tokio::time::timeout(Duration::from_secs(20), healed).await.expect("it was not noticed").unwrap();
    node.apply_all(&chain.blocks[40..60]).await;
    assert_complete(&bench, &node, 61).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_postgres_still_has_and_redis_took_back_is_not_known() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits.blocks_kept = 20;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..60]).await;
    node.settle().await;
    // PostgreSQL can be read, and not written to.
    let rival = bench.admin().await;
    rival.batch_execute("begin; lock table forebay.blocks in share row exclusive mode").await.unwrap();
    node.node.take_back_to(45).await.unwrap();
    let refused = node.apply(&chain.blocks[50]).await.unwrap_err();
    assert_eq!(refused.kind(), "previous-block", "{refused}");
    // What lies below is known, kept in Redis or not.
    for index in [43, 5] {
        assert!(!node.apply(&chain.blocks[index]).await.unwrap().is_new, "block {index}");
    }
    rival.batch_execute("commit").await.unwrap();
    node.apply_all(&chain.blocks[44..62]).await;
    assert_complete(&bench, &node, 63).await;
    node.stop().await.unwrap();
}

/// A copy of PostgreSQL's files, made while it does not run.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(to).status().unwrap().success());
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

async fn put_back(bench: &mut Bench, saved: &Path) {
    bench.servers.kill_postgres().await;
    let data = bench.servers.data_dir().join("postgres/data");
    copy(saved, &data);
    bench.servers.restart_postgres().await.unwrap();
}

async fn save(bench: &mut Bench) -> std::path::PathBuf {
    bench.servers.servers().stop_postgres().await.unwrap();
    let (data, saved) =
        (bench.servers.data_dir().join("postgres/data"), bench.servers.data_dir().join("saved"));
    copy(&data, &saved);
    bench.servers.restart_postgres().await.unwrap();
    saved
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_put_back_to_an_older_state_is_noticed_and_fed_again() {
    let Some(chain) = OracleChain::first() else { return };
    let (mut bench, node) = started(&chain).await;
    node.apply_all(&chain.blocks[..50]).await;
    node.settle().await;
    let saved = save(&mut bench).await;
    node.apply_all(&chain.blocks[50..150]).await;
    node.node.take_back_to(140).await.unwrap();
    node.settle().await;
    put_back(&mut bench, &saved).await;
    // At once: without a new block.
    let mut progress = node.node.watch();
    let noticed = progress.wait_for(|p| p.position.epoch > 1);
    tokio::time::timeout(Duration::from_secs(20), noticed).await.expect("it was not noticed").unwrap();
    node.apply_all(&chain.blocks[139..200]).await;
    assert_complete(&bench, &node, 201).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_put_back_further_than_the_outbox_reaches_ends_with_a_record() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let records = bench.servers.data_dir().to_path_buf();
    bench.options.rollback_dir = Some(records.clone());
    bench.options.limits.outbox_kept = 5;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..20]).await;
    node.settle().await;
    let saved = save(&mut bench).await;
    for block in &chain.blocks[20..220] {
        node.apply(block).await.unwrap();
    }
    node.settle().await;
    put_back(&mut bench, &saved).await;
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    assert!(error.to_string().contains("put back to operation 21"), "{error}");
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 21);
    node.apply_all(&chain.blocks[20..30]).await;
    assert_complete(&bench, &node, 31).await;
    node.stop().await.unwrap();
}

struct HardLimit {
    chain: OracleChain,
    bench: Bench,
}

/// A node whose PostgreSQL went away for good after 31 blocks, and which accepted 20 more operations.
async fn at_the_hard_limit(
    on_hard_limit: OnHardLimit,
    with_directory: bool,
) -> Option<(HardLimit, StoreError)> {
    let chain = OracleChain::first()?;
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.on_hard_limit = on_hard_limit;
    bench.options.rollback_dir =
        Some(if with_directory { bench.servers.data_dir().to_path_buf() } else { "/nowhere/at/all".into() });
    bench.options.limits.no_progress_max = Duration::from_secs(2);
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..30]).await;
    node.settle().await;
    bench.servers.kill_postgres().await;
    node.apply_all(&chain.blocks[30..48]).await;
    node.node.take_back_to(47).await.unwrap();
    let error = node.running.ended().await.unwrap_err();
    assert_eq!(error.kind(), "too-far-behind", "{error}");
    bench.servers.restart_postgres().await.unwrap();
    Some((HardLimit { chain, bench }, error))
}

fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("rollback-")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guards_stop_writes_order_and_record_and_the_next_start_goes_back() {
    let Some((HardLimit { chain, bench }, error)) = at_the_hard_limit(OnHardLimit::Rollback, true).await
    else {
        return;
    };
    let text = error.to_string();
    for part in
        ["no progress for", "limit 2 s", "20 operations", "goes back to height 31", "rollback-1-31.jsonl"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(files(bench.servers.data_dir()), ["rollback-1-31.jsonl"]);
    let record = std::fs::read_to_string(bench.servers.data_dir().join("rollback-1-31.jsonl")).unwrap();
    assert_eq!(record.lines().count(), 1 + 20);
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 31);
    assert_eq!(files(bench.servers.data_dir()), ["rollback-1-31.jsonl.done"]);
    node.apply_all(&chain.blocks[30..60]).await;
    assert_complete(&bench, &node, 61).await;
    node.stop().await.unwrap();
    // Done is done.
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 61);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keep_the_next_start_drains() {
    let Some((HardLimit { bench, .. }, error)) = at_the_hard_limit(OnHardLimit::Keep, true).await else {
        return;
    };
    assert!(error.to_string().contains("the next start drains"), "{error}");
    assert_eq!(files(bench.servers.data_dir()), Vec::<String>::new());
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 47);
    assert_complete(&bench, &node, 47).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_file_that_cannot_be_written_is_no_order() {
    let Some((HardLimit { bench, .. }, error)) = at_the_hard_limit(OnHardLimit::Rollback, false).await else {
        return;
    };
    assert!(error.to_string().contains("no order and the next start drains"), "{error}");
    let node = bench.start().await.unwrap();
    assert_eq!(node.node.progress().tip.unwrap().height, 47);
    assert_complete(&bench, &node, 47).await;
    node.stop().await.unwrap();
}
