//! What the triggers refuse, whoever inserts; and that a refusal leaves everything as it was.

use std::sync::Arc;

use forebay_ledger::block::Block;
use forebay_ledger::ids::BlockId;
use forebay_ledger::keys::Hash;
use forebay_slow::{BlockRow, ErrorKind, SlowOperation};
use tokio_postgres::Client;

use crate::support::Database;
use crate::support::chain::{Chain, apply};
use crate::support::dump::everything;

fn changed(row: &BlockRow, change: impl FnOnce(&mut Block)) -> BlockRow {
    let mut block = (*row.block).clone();
    change(&mut block);
    BlockRow { block: Arc::new(block), ..row.clone() }
}

/// Each way to spoil the row of a height, with the code that refuses it.
fn spoiled(chain: &Chain, height: u32) -> Vec<(&'static str, &'static str, BlockRow)> {
    let row = &chain.main[height as usize - 1];
    let mut rows = vec![
        ("previous block", "FB002", changed(row, |b| b.previous_block = Some(BlockId(7)))),
        ("a gap", "FB002", changed(row, |b| b.height += 1)),
        ("number of transactions", "FB003", changed(row, |b| b.number_of_transactions += 1)),
        ("a transaction less", "FB003", changed(row, |b| b.transactions.truncate(b.transactions.len() - 1))),
        ("total fee", "FB003", changed(row, |b| b.total_fee += 1)),
        ("total amount", "FB003", changed(row, |b| b.total_amount += 1)),
        ("another forger's slot", "FB004", changed(row, |b| b.timestamp += 30)),
        (
            "more than the sender has",
            "FB005",
            changed(row, |b| {
                let paid =
                    b.transactions.iter_mut().find(|t| t.recipient.is_some_and(|to| to != t.sender)).unwrap();
                paid.amount += 1_000_000_000_000_000;
                b.total_amount += 1_000_000_000_000_000;
            }),
        ),
        (
            "transactions before it",
            "FB002",
            BlockRow { transactions_before: row.transactions_before + 1, ..row.clone() },
        ),
        (
            "a transaction of the chain again",
            "23505",
            changed(row, |b| {
                b.transactions[0] = chain.main[1].block.transactions[0].clone();
            }),
        ),
    ];
    if row.delegates_digest.is_some() {
        rows.push(("no digest", "FB004", BlockRow { delegates_digest: None, ..row.clone() }));
        rows.push((
            "another digest",
            "FB001",
            BlockRow { delegates_digest: Some(Hash([9; 32])), ..row.clone() },
        ));
    } else {
        rows.push(("a digest", "FB004", BlockRow { delegates_digest: Some(Hash([9; 32])), ..row.clone() }));
    }
    let mut swapped = row.clone();
    match &mut swapped.forgers {
        Some(list) => list.rotate_left(1),
        None => swapped.forgers = chain.main[0].forgers.clone(),
    }
    rows.push(("a forger list that is not the round's", "FB004", swapped));
    rows
}

#[tokio::test]
async fn spoiled_blocks_are_refused_and_leave_everything_as_it_was() {
    let chain = Chain::first_up_to(203);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let mut height = 0;
    // In the middle of a round, at its end, at its start.
    for tip in [149, 201, 202] {
        apply(&mut writer, &chain.appends(height + 1..=tip), 1000).await;
        height = tip;
        let before = everything(&admin).await;
        let position = writer.position().await.unwrap();
        for (what, code, row) in spoiled(&chain, tip + 1) {
            let operation = [SlowOperation::Append(row)];
            let applied = writer.apply(1, position.seq, position.seq + 1, &operation, 1).await;
            let refused = applied.expect_err(what);
            assert_eq!(refused.sqlstate(), Some(code), "{what} at {}: {refused}", tip + 1);
            let kind = if code == "FB001" { ErrorKind::DigestMismatch } else { ErrorKind::Constraint };
            assert_eq!(refused.kind(), kind, "{what}");
            assert_eq!(writer.position().await.unwrap(), position, "{what}");
            assert!(before == everything(&admin).await, "{what} at {} left traces", tip + 1);
        }
    }
    // The same rows unspoiled are taken.
    apply(&mut writer, &chain.appends(203..=203), 1).await;
}

#[tokio::test]
async fn a_digest_mismatch_shows_both_values() {
    let chain = Chain::first_up_to(1);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    let row = BlockRow { delegates_digest: Some(Hash([9; 32])), ..chain.main[0].clone() };
    let refused = writer.apply(1, 0, 1, &[SlowOperation::Append(row)], 1).await.unwrap_err().to_string();
    assert!(refused.contains(&chain.main[0].delegates_digest.unwrap().to_string()), "{refused}");
    assert!(refused.contains(&Hash([9; 32]).to_string()), "{refused}");
}

/// Runs statements in one transaction; gives the code that refused them, the COMMIT included.
async fn refused_with(client: &Client, statements: &str) -> String {
    let error = client.batch_execute(&format!("begin; {statements}; commit")).await.unwrap_err();
    client.batch_execute("rollback").await.unwrap();
    error.code().unwrap_or_else(|| panic!("{error}")).code().to_owned()
}

#[tokio::test]
async fn rows_that_are_written_past_the_program_are_refused_too() {
    let chain = Chain::first_up_to(205);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=205), 1000).await;
    admin
        .batch_execute(
            "create temp table kept_blocks as select * from forebay.blocks where height > 200; \
             create temp table kept_transactions as select * from forebay.transactions where height > 200",
        )
        .await
        .unwrap();
    let before = everything(&admin).await;
    let moved = |height: u32| {
        format!(
            "update forebay.position set seq = seq + 1, height = {height}, \
             block_id = (select id from kept_blocks where height = {height})"
        )
    };

    let unmoved = "delete from forebay.blocks where height = 205";
    assert_eq!(refused_with(&admin, unmoved).await, "FB007");
    let crossing = format!("{}; delete from forebay.blocks where height > 201", moved(201));
    assert_eq!(refused_with(&admin, &crossing).await, "FB002");
    let hole = format!("{}; delete from forebay.blocks where height = 204", moved(205));
    assert_eq!(refused_with(&admin, &hole).await, "FB002");
    let under_the_tip = format!("{}; delete from forebay.transactions where height = 205", moved(205));
    assert_eq!(refused_with(&admin, &under_the_tip).await, "FB008");
    let orphans = format!("{}; delete from forebay.blocks where height = 205", moved(204));
    assert_eq!(refused_with(&admin, &orphans).await, "FB008");
    let other_tip = format!("{}; select 1", moved(204));
    assert_eq!(refused_with(&admin, &other_tip).await, "FB007");
    assert_eq!(
        refused_with(&admin, "update forebay.blocks set reward = 1 where height = 205").await,
        "FB002"
    );
    assert_eq!(refused_with(&admin, "truncate forebay.transactions").await, "FB002");
    assert!(before == everything(&admin).await);

    crate::support::chain::take_back(&mut writer, 200).await;
    let crossing = format!(
        "{}; insert into forebay.transactions select * from kept_transactions; \
         insert into forebay.blocks select * from kept_blocks",
        moved(205)
    );
    assert_eq!(refused_with(&admin, &crossing).await, "FB002");
    let without_block =
        format!("{}; insert into forebay.transactions select * from kept_transactions", moved(201));
    assert!(["FB007", "FB008"].contains(&refused_with(&admin, &without_block).await.as_str()));
}

#[tokio::test]
async fn the_genesis_block_stays_and_another_one_is_refused() {
    let chain = Chain::first_up_to(3);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let other = changed(&chain.main[0], |b| b.id = BlockId(4));
    let refused = writer.apply(1, 0, 1, &[SlowOperation::Append(other)], 1).await.unwrap_err();
    assert_eq!(refused.sqlstate(), Some("FB002"), "{refused}");
    apply(&mut writer, &chain.appends(1..=3), 1000).await;
    let refused = writer.apply(1, 3, 4, &[SlowOperation::TakeBack { to_height: 0 }], 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse, "{refused}");
    let all = "update forebay.position set seq = seq + 2, height = 0, block_id = null; delete from forebay.blocks where height > 1; \
        delete from forebay.blocks";
    assert_eq!(refused_with(&admin, all).await, "FB002");
}
