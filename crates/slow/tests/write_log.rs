//! The write log: what was committed stands in it, operation by operation, and nothing else.

use std::time::{Duration, SystemTime};

use forebay_ledger::ids::Height;
use forebay_slow::{
    BlockRow, LoggedOperation, OperationFilter, OperationKind, SlowOperation, SlowReader, SlowWriter,
};

use crate::support::Database;
use crate::support::chain::{Chain, apply};

const ALL: OperationFilter =
    OperationFilter { from_seq: None, to_seq: None, height: None, since: None, kind: None, limit: u32::MAX };

async fn logged(database: &Database, filter: OperationFilter) -> Vec<LoggedOperation> {
    let reader = SlowReader::connect(&database.writer()).await.unwrap();
    reader.reads().operations(filter).await.unwrap()
}

/// What an operation with these blocks, ascending, is logged as; times and batches are not compared.
fn entry(seq: u64, kind: OperationKind, blocks: &[BlockRow], logged: &LoggedOperation) -> LoggedOperation {
    let (first, last) = (&blocks[0].block, &blocks[blocks.len() - 1].block);
    LoggedOperation {
        epoch: 1,
        seq,
        kind,
        from_height: first.height,
        to_height: last.height,
        first_id: first.id,
        last_id: last.id,
        blocks: blocks.len() as u64,
        transactions: blocks.iter().map(|row| row.block.transactions.len() as u64).sum(),
        ..logged.clone()
    }
}

async fn apply_at(writer: &mut SlowWriter, operations: &[SlowOperation], attempt: u32) {
    let seq = writer.position().await.unwrap().seq;
    writer.apply(1, seq, seq + operations.len() as u64, operations, attempt).await.unwrap();
}

#[tokio::test]
async fn each_operation_has_an_entry_of_its_own_whatever_the_batches() {
    let chain = Chain::first();
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    let started = SystemTime::now();
    apply(&mut writer, &chain.appends(1..=60), 7).await;
    apply_at(&mut writer, &chain.appends(61..=420), 1).await;
    // Over two round ends in one operation, twice in a row, then forward again: all in one transaction.
    let back = |to_height: Height| SlowOperation::TakeBack { to_height };
    let mut mixed = vec![back(410), back(150), back(149)];
    mixed.extend(chain.appends(150..=204));
    mixed.push(back(199));
    apply_at(&mut writer, &mixed, 3).await;

    let log = logged(&database, ALL).await;
    let rows = |from: usize, to: usize| &chain.main[from - 1..to];
    let mut expected: Vec<(OperationKind, &[BlockRow])> =
        (1..=420).map(|height| (OperationKind::Append, rows(height, height))).collect();
    expected.push((OperationKind::TakeBack, rows(411, 420)));
    expected.push((OperationKind::TakeBack, rows(151, 410)));
    expected.push((OperationKind::TakeBack, rows(150, 150)));
    expected.extend((150..=204).map(|height| (OperationKind::Append, rows(height, height))));
    expected.push((OperationKind::TakeBack, rows(200, 204)));
    assert_eq!(log.len(), expected.len());
    for (index, (entry_here, (kind, blocks))) in log.iter().zip(expected).enumerate() {
        assert_eq!(*entry_here, entry(index as u64 + 1, kind, blocks, entry_here));
        let (batch_seq, attempt) = match entry_here.seq {
            seq @ 1..=60 => ((seq.div_ceil(7) * 7).min(60), 1),
            61..=420 => (420, 1),
            _ => (479, 3),
        };
        assert_eq!((entry_here.batch_seq, entry_here.attempt), (batch_seq, attempt), "{entry_here:?}");
        assert!(entry_here.started_at > started - Duration::from_secs(60), "{entry_here:?}");
        assert!(entry_here.duration > Duration::ZERO && entry_here.duration < Duration::from_secs(60));
    }
    assert_eq!(writer.position().await.unwrap().seq, 479);
}

#[tokio::test]
async fn what_was_not_committed_is_not_in_the_log() {
    let chain = Chain::first_up_to(110);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=90), 100).await;
    let mut operations = chain.appends(91..=110);
    if let SlowOperation::Append(row) = &mut operations[19] {
        row.transactions_before += 1;
    }
    writer.apply(1, 90, 110, &operations, 1).await.unwrap_err();
    assert_eq!(logged(&database, ALL).await.len(), 90);
}

#[tokio::test]
async fn a_take_back_to_the_tip_changes_nothing_and_the_next_operations_keep_their_places() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    let mut operations = chain.appends(1..=5);
    operations.push(SlowOperation::TakeBack { to_height: 5 });
    operations.extend(chain.appends(6..=6));
    apply_at(&mut writer, &operations, 1).await;
    let seqs: Vec<(u64, Height)> =
        logged(&database, ALL).await.iter().map(|entry| (entry.seq, entry.to_height)).collect();
    assert_eq!(seqs, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 6)]);
}

#[tokio::test]
async fn take_backs_that_follow_one_another_are_told_apart() {
    let chain = Chain::first_up_to(230);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=230), 100).await;
    let back = |to_height: Height| SlowOperation::TakeBack { to_height };
    // One by one, by more, over two ends of a round, and some that go nowhere: first, between, last.
    let mut operations =
        vec![back(230), back(229), back(228), back(228), back(205), back(100), back(99), back(99)];
    operations.extend(chain.appends(100..=101));
    operations.extend([back(101), back(101)]);
    apply_at(&mut writer, &operations, 1).await;
    // Again, with each in a batch of its own: the same heights, ids and numbers.
    apply(&mut writer, &chain.appends(102..=230), 100).await;
    for operation in &operations {
        apply_at(&mut writer, std::slice::from_ref(operation), 1).await;
    }

    let log = logged(&database, ALL).await;
    let what = |from: u64| -> Vec<_> {
        log.iter()
            .filter(|entry| (from..from + 12).contains(&entry.seq))
            .map(|entry| {
                let ids = (entry.first_id, entry.last_id);
                (entry.seq - from, entry.from_height, entry.to_height, ids, entry.transactions)
            })
            .collect()
    };
    let together = what(231);
    assert_eq!(together, what(231 + 12 + 129));
    let heights: Vec<_> = together.iter().map(|(seq, from, to, ..)| (*seq, *from, *to)).collect();
    let expected = [
        (1, 230, 230),
        (2, 229, 229),
        (4, 206, 228),
        (5, 101, 205),
        (6, 100, 100),
        (8, 100, 100),
        (9, 101, 101),
    ];
    assert_eq!(heights, expected);
    assert_eq!(writer.position().await.unwrap().seq, 231 + 12 + 129 + 11);
}

#[tokio::test]
async fn a_run_of_take_backs_does_not_go_up_again() {
    let chain = Chain::first_up_to(20);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=20), 20).await;
    let operations = [12, 15].map(|to_height| SlowOperation::TakeBack { to_height });
    let refused = writer.apply(1, 20, 22, &operations, 1).await.unwrap_err();
    assert!(refused.to_string().contains("the tip is at height 12"), "{refused}");
    let position = SlowWriter::connect(&database.writer()).await.unwrap().position().await.unwrap();
    assert_eq!((position.seq, position.height), (20, 20));
}

#[tokio::test]
async fn filters_narrow_and_the_newest_are_shown_first_of_all() {
    let chain = Chain::first_up_to(20);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=20), 5).await;
    apply_at(&mut writer, &[SlowOperation::TakeBack { to_height: 12 }], 2).await;
    let middle = logged(&database, OperationFilter { from_seq: Some(20), ..ALL }).await[0].started_at;
    apply(&mut writer, &chain.appends(13..=14), 5).await;

    let seqs = async |filter| -> Vec<u64> {
        logged(&database, filter).await.iter().map(|entry| entry.seq).collect()
    };
    assert_eq!(seqs(OperationFilter { from_seq: Some(3), to_seq: Some(5), ..ALL }).await, [3, 4, 5]);
    assert_eq!(seqs(OperationFilter { height: Some(13), ..ALL }).await, [13, 21, 22]);
    assert_eq!(seqs(OperationFilter { kind: Some(OperationKind::TakeBack), ..ALL }).await, [21]);
    assert_eq!(seqs(OperationFilter { since: Some(middle), ..ALL }).await, [16, 17, 18, 19, 20, 21, 22, 23]);
    assert_eq!(seqs(OperationFilter { limit: 3, ..ALL }).await, [21, 22, 23]);
    assert_eq!(seqs(OperationFilter::default()).await.len(), 23);

    let reader = database.client(&database.reader()).await;
    let row = reader
        .query_one(
            "select operation, from_height, to_height, blocks, attempt, first_block_id, duration_ms > 0 \
             from forebay_log.operations where seq = 21",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "take-back");
    assert_eq!((row.get::<_, i32>(1), row.get::<_, i32>(2), row.get::<_, i32>(3)), (13, 20, 8));
    assert_eq!(row.get::<_, i32>(4), 2);
    assert_eq!(row.get::<_, String>(5), chain.main[12].block.id.to_string());
    assert!(row.get::<_, bool>(6));
}

#[tokio::test]
async fn the_log_keeps_the_newest_operations_only() {
    let chain = Chain::first_up_to(80);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=50), 50).await;
    // 49,950 operations more, so that the next ones pass 50,000.
    admin
        .batch_execute(
            "set session_replication_role = replica; \
             update forebay.write_log_limits set operations_max = 1000; \
             insert into forebay.operations select (jsonb_populate_record(o, \
                 jsonb_build_object('seq', n, 'batch_seq', n))).* \
             from forebay.operations o, generate_series(51, 49990) n where o.seq = 50; \
             update forebay.position set seq = 49990; reset session_replication_role",
        )
        .await
        .unwrap();
    let kept = async || {
        let row = admin.query_one("select min(seq), max(seq) from forebay.operations", &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    apply(&mut writer, &chain.appends(51..=55), 5).await;
    assert_eq!(kept().await, (1, 49_995));
    // So many at a time: no COMMIT is held up.
    apply(&mut writer, &chain.appends(56..=60), 5).await;
    assert_eq!(kept().await, (20_001, 50_000));
    for (seq, height, oldest) in [(50_999, 61, 40_001), (51_999, 62, 51_001)] {
        let moved = format!(
            "update forebay.position set seq = {seq}; insert into forebay.operations \
             select (jsonb_populate_record(o, jsonb_build_object('seq', n, 'batch_seq', n))).* \
             from forebay.operations o, generate_series((select max(seq) + 1 from forebay.operations), {seq}) n \
             where o.seq = (select max(seq) from forebay.operations)"
        );
        admin.execute("set session_replication_role = replica", &[]).await.unwrap();
        admin.batch_execute(&moved).await.unwrap();
        admin.execute("reset session_replication_role", &[]).await.unwrap();
        apply(&mut writer, &chain.appends(height..=height), 1).await;
        assert_eq!(kept().await, (oldest, seq + 1));
    }
}

#[tokio::test]
async fn more_operations_than_the_position_moved_are_refused() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=10), 10).await;
    let admin = database.client(&database.admin()).await;
    let statements = "begin; update forebay.position set seq = seq + 1, height = 8, \
         block_id = (select id from forebay.blocks where height = 8); \
         delete from forebay.blocks where height = 10; delete from forebay.transactions where height = 10; \
         delete from forebay.blocks where height = 9; delete from forebay.transactions where height = 9; commit";
    let refused = admin.batch_execute(statements).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "FB007", "{refused}");
}
