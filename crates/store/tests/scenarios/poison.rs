//! Row 7: what must not be taken: by the writer, by PostgreSQL, at a drain.

use forebay_fast::FastTier;
use forebay_slow::{BlockRow, SlowOperation, SlowReader, SlowWriter};
use forebay_store::StoreError;
use forebay_testkit::dump::everything;
use forebay_testkit::node::TestNode;

use crate::support::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn twice_out_of_order_and_on_the_wrong_parent_is_refused_by_writer_and_postgres() {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let mut ahead = stage.chain.clone();
    let (next, after_next) = (ahead.next_block().unwrap(), ahead.next_block().unwrap());
    let tip = stage.blocks[11].clone();
    stage.branch_off(10, "another");
    let other = stage.more(3);
    let admin = stage.bench.admin().await;
    let before = (node.fast_accounts().await, everything(&admin).await);

    // The writer: the same again is accepted already, the rest refused; nothing is changed.
    assert!(!node.apply(&tip).await.unwrap().is_new);
    assert_eq!(node.apply(&after_next).await.unwrap_err().kind(), "previous-block");
    assert_eq!(node.apply(&other[0]).await.unwrap_err().kind(), "other-branch");
    assert_eq!(node.apply(&other[2]).await.unwrap_err().kind(), "previous-block");
    assert!((node.fast_accounts().await, everything(&admin).await) == before);
    node.stop().await.unwrap();

    // PostgreSQL, told by somebody who holds the right epoch and position, as a broken writer would.
    let reader = SlowReader::connect(&stage.bench.options.postgres).await.unwrap();
    let tip_row = reader.reads().block_rows(tip.height..=tip.height).await.unwrap().remove(0);
    let position = reader.reads().position().await.unwrap();
    let before = everything(&admin).await;
    let row = |block| BlockRow { block: std::sync::Arc::new(block), ..tip_row.clone() };
    for (what, rows) in [
        ("the same twice", vec![tip_row.clone()]),
        ("out of order", vec![row(after_next.clone()), row(next.clone())]),
        ("after a gap", vec![row(after_next.clone())]),
        ("on another parent", vec![row(other[2].clone())]),
        ("beside the tip", vec![row(other[1].clone())]),
    ] {
        let mut writer = SlowWriter::connect(&stage.bench.options.postgres).await.unwrap();
        let operations: Vec<SlowOperation> = rows.into_iter().map(SlowOperation::Append).collect();
        let new_seq = position.seq + operations.len() as u64;
        let refused = writer.apply(position.epoch, position.seq, new_seq, &operations, 1).await.unwrap_err();
        assert_eq!(refused.kind(), forebay_slow::ErrorKind::Constraint, "{what}: {refused}");
        assert!(everything(&admin).await == before, "{what} left traces");
    }
}

/// A node that left six operations in the outbox, whose PostgreSQL is back.
async fn with_six_pending() -> Stage {
    let mut stage = Stage::new().await;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    stage.bench.servers.kill_postgres().await;
    stage.forward(&node, 6).await;
    assert_eq!(node.stop_now().await.unwrap().left_in_outbox, 6);
    stage.bench.servers.restart_postgres().await.unwrap();
    stage
}

type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

async fn outbox(stage: &Stage, tier: &FastTier) -> Entries {
    stage.redis(&["XRANGE", &tier.keys().outbox(), "-", "+"]).await
}

/// Puts other entries in the place of all.
async fn rewrite(stage: &Stage, tier: &FastTier, entries: &Entries) {
    let client = redis::Client::open(stage.bench.options.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut pipeline = redis::pipe();
    pipeline.del(tier.keys().outbox()).ignore();
    for (id, fields) in entries {
        pipeline.xadd(tier.keys().outbox(), id, fields).ignore();
    }
    pipeline.query_async::<()>(&mut connection).await.unwrap();
}

async fn refused_start(stage: &Stage) -> StoreError {
    stage.bench.start().await.err().expect("it started over a poison entry")
}

/// The poison is entry 16 of 14 to 19: at height 16.
async fn assert_stands_before(stage: &Stage, tier: &FastTier, error: &StoreError, entries: &Entries) {
    let text = error.to_string();
    assert!(text.contains("1-16"), "its seq: {text}");
    assert!((13..16).contains(&stage.slow_seq().await), "nothing at or after it may be in PostgreSQL");
    let left = outbox(stage, tier).await;
    let later = |entries: &Entries| entries.iter().rev().take(3).cloned().collect::<Vec<_>>();
    assert_eq!(later(&left), later(entries), "later entries wait");
    // An operator who follows the remedy must not lose what waits.
    assert!(!error.remedy().contains("cleans Redis"), "{}", error.remedy());
}

async fn assert_drains(stage: &mut Stage) {
    let node = stage.bench.start().await.unwrap();
    assert_eq!(node.node.progress().durable.height, 19);
    stage.forward(&node, 4).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_outbox_entry_stops_the_drain_and_later_ones_wait() {
    let mut stage = with_six_pending().await;
    let tier = stage.bench.fast().await;
    let good = outbox(&stage, &tier).await;
    let at = good.iter().position(|(id, _)| id == "1-16").unwrap();
    let mut bad = good.clone();
    bad[at].1.iter_mut().find(|(name, _)| name == "height").unwrap().1 = b"17".to_vec();
    rewrite(&stage, &tier, &bad).await;
    let error = refused_start(&stage).await;
    assert!(error.to_string().contains("checksum"), "its cause: {error}");
    assert_stands_before(&stage, &tier, &error, &bad).await;
    rewrite(&stage, &tier, &good).await;
    assert_drains(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_what_is_durable_already_gives_nothing_up() {
    let mut stage = with_six_pending().await;
    let records = stage.bench.servers.data_dir().to_path_buf();
    stage.bench.options.rollback_dir = Some(records);
    let tier = stage.bench.fast().await;
    let mut entries = outbox(&stage, &tier).await;
    let at = entries.iter().position(|(id, _)| id == "1-9").unwrap();
    entries[at].1.iter_mut().find(|(name, _)| name == "height").unwrap().1 = b"17".to_vec();
    rewrite(&stage, &tier, &entries).await;
    assert_drains(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_outbox_entry_stops_the_drain() {
    let mut stage = with_six_pending().await;
    let tier = stage.bench.fast().await;
    let good = outbox(&stage, &tier).await;
    let bad: Entries = good.iter().filter(|(id, _)| id != "1-16").cloned().collect();
    rewrite(&stage, &tier, &bad).await;
    let error = refused_start(&stage).await;
    assert!(error.to_string().contains("not with 16"), "{error}");
    rewrite(&stage, &tier, &good).await;
    assert_drains(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_corrupt_body_stops_the_drain() {
    let mut stage = with_six_pending().await;
    let tier = stage.bench.fast().await;
    let entries = outbox(&stage, &tier).await;
    let key = tier.keys().block(stage.blocks[14].id);
    let body: Vec<u8> = stage.redis(&["GET", &key]).await;
    let client = redis::Client::open(stage.bench.options.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    stage.redis::<()>(&["DEL", &key]).await;
    let error = refused_start(&stage).await;
    assert!(error.to_string().contains("its body is missing"), "{error}");
    assert_stands_before(&stage, &tier, &error, &entries).await;
    let mut bad = body.clone();
    bad[40] ^= 1;
    redis::cmd("SET").arg(&key).arg(&bad).query_async::<()>(&mut connection).await.unwrap();
    let error = refused_start(&stage).await;
    assert!(error.to_string().contains(&key), "{error}");
    redis::cmd("SET").arg(&key).arg(&body).query_async::<()>(&mut connection).await.unwrap();
    assert_drains(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_format_in_redis_stops_the_start_and_changes_nothing() {
    let mut stage = with_six_pending().await;
    let tier = stage.bench.fast().await;
    let (meta, entries) = (tier.keys().meta(), outbox(&stage, &tier).await);
    let known: String = stage.redis(&["HGET", &meta, "format"]).await;
    stage.redis::<()>(&["HSET", &meta, "format", "99"]).await;
    let error = refused_start(&stage).await;
    assert!(error.to_string().contains("format is 99"), "{error}");
    let told = tier.counts().await.unwrap_err();
    assert!(told.to_string().contains("format is 99"), "{told}");
    assert_eq!((outbox(&stage, &tier).await, stage.slow_seq().await), (entries, 13));
    stage.redis::<()>(&["HSET", &meta, "format", &known]).await;
    assert_drains(&mut stage).await;
}

async fn node_over_poison(operations_max: usize) -> (Stage, TestNode) {
    let mut stage = Stage::new().await;
    stage.bench.options.limits.batch_operations_max = operations_max;
    let node = stage.bench.start().await.unwrap();
    stage.forward(&node, 12).await;
    node.settle().await;
    let poison = "alter table forebay.blocks add constraint poison check (height <> 16)";
    stage.bench.admin().await.batch_execute(poison).await.unwrap();
    (stage, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_postgres_refuses_stops_the_sync_with_its_seq_height_cause_and_remedy() {
    for operations_max in [1, 500] {
        let (mut stage, mut node) = node_over_poison(operations_max).await;
        let rival = stage.bench.admin().await;
        rival.batch_execute("begin; lock table forebay.blocks in share row exclusive mode").await.unwrap();
        stage.forward(&node, 6).await;
        rival.batch_execute("commit").await.unwrap();
        let error = node.running.ended().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), "poison", "{text}");
        for part in ["seq 16", "height 16", "poison", "23514"] {
            assert!(text.contains(part), "{part} in {text} ({operations_max} operations a batch)");
        }
        assert!(!error.remedy().is_empty());
        assert!(stage.slow_seq().await < 16);
        // Later ones wait, also over a start, until somebody mended it.
        let again = refused_start(&stage).await;
        assert!(again.to_string().contains("poison"), "{again}");
        rival.batch_execute("alter table forebay.blocks drop constraint poison").await.unwrap();
        assert_drains(&mut stage).await;
    }
}
