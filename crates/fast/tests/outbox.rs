//! The outbox: in order, checked, trimmed together with what only it refers to.

use forebay_fast::{Durable, FastErrorKind, Fence, Operation, OutboxEntry, OutboxRange, Position, Trim};
use forebay_ledger::ids::BlockId;

use crate::common::{Bench, EPOCH, next_position, oracle_chain, start_fence};

#[tokio::test]
async fn entries_and_bodies_come_back_in_order() {
    let Some(mut chain) = oracle_chain(103) else { return };
    let bench = Bench::ready().await;
    assert_eq!(bench.tier.outbox_range().await.unwrap(), None);
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let last = chain.applied.last().unwrap().clone();
    let changes = chain.state.pop(&last.block, last.undo.as_ref().unwrap()).unwrap();
    let pop = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
    bench.tier.take_back(&fence, &changes, &pop).await.unwrap();

    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let some = bench.tier.outbox_entries(after, 10).await.unwrap();
        let Some(newest) = some.last() else { break };
        after = Some(newest.position);
        entries.extend(some);
    }
    assert_eq!(entries.pop(), Some(pop));
    assert_eq!(entries.len(), 103);
    let first = Position { epoch: EPOCH, seq: 1 };
    let range = bench.tier.outbox_range().await.unwrap().unwrap();
    assert_eq!(range, OutboxRange { first, last: Position { epoch: EPOCH, seq: 104 }, entries: 104 });
    let mut transactions = 0;
    let mut ids = Vec::new();
    for ((entry, applied), forgers_of_round) in entries.iter().zip(&chain.applied).zip(&chain.forgers) {
        let Operation::Block { height, id, transactions_before, forgers, delegates_digest } =
            &entry.operation
        else {
            panic!("not a block: {entry:?}")
        };
        assert_eq!((*height, *id), (applied.block.height, applied.block.id));
        assert_eq!(*transactions_before, transactions);
        assert_eq!(forgers, forgers_of_round);
        assert_eq!(forgers.is_some(), [1, 102].contains(height));
        assert_eq!(delegates_digest.is_some(), [1, 101].contains(height));
        transactions += applied.block.transactions.len() as u64;
        ids.push(*id);
    }
    ids.push(BlockId(1));
    let bodies = bench.tier.blocks(&ids).await.unwrap();
    assert_eq!(bodies.last(), Some(&None));
    assert!(bodies.iter().flatten().eq(chain.applied.iter().map(|applied| &applied.block)));
}

#[tokio::test]
async fn a_changed_entry_or_body_is_noticed() {
    let Some(chain) = oracle_chain(4) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied {
        bench.apply(&mut fence, applied, None).await;
    }
    let outbox = bench.tier.keys().outbox();
    let raw: Vec<(String, Vec<String>)> = bench.command(&["XRANGE", &outbox, "7-2", "7-2"]).await;
    let fields = raw[0].1.clone();
    // The same fields under another id, one field changed, one missing.
    let mut changed = fields.clone();
    changed[3] = "9".to_owned();
    for (id, fields) in [("7-11", fields.clone()), ("7-12", changed), ("7-13", fields[2..].to_vec())] {
        let command: Vec<&str> =
            ["XADD", &outbox, id].into_iter().chain(fields.iter().map(String::as_str)).collect();
        let _: String = bench.command(&command).await;
        let error = bench.tier.outbox_entries(Some(Position { epoch: 7, seq: 10 }), 5).await.unwrap_err();
        assert_eq!(error.kind(), FastErrorKind::Corrupt);
        assert!(error.to_string().contains(id), "{error}");
        let _: i64 = bench.command(&["XDEL", &outbox, id]).await;
    }

    let block = &chain.applied[3].block;
    let key = bench.tier.keys().block(block.id);
    let other = bench.tier.keys().block(chain.applied[2].block.id);
    let _: i64 = bench.command(&["SETRANGE", &key, "40", "!"]).await;
    assert_eq!(bench.tier.blocks(&[block.id]).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    assert_eq!(bench.tier.block_at(4).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    let _: i64 = bench.command(&["COPY", &other, &key, "REPLACE"]).await;
    let error = bench.tier.blocks(&[block.id]).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Corrupt, "another block's body");
    assert!(error.to_string().contains(&key));
}

#[tokio::test]
async fn a_trim_removes_what_it_says_and_nothing_else() {
    let Some(chain) = oracle_chain(110) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let durable = Durable { position: Position { epoch: EPOCH, seq: 105 }, height: 105 };
    let before = bench.content().await;
    let trim = Trim {
        entries_through: Some(Position { epoch: EPOCH, seq: 100 }),
        bodies: chain.applied[..90].iter().map(|applied| applied.block.id).collect(),
        heights: (1..=90).collect(),
        undo_heights: (1..=95).collect(),
        rounds: vec![1],
        durable: Some(durable),
    };
    // Memory may be full; trimming is what frees it. Doing it twice is harmless.
    let _: () = bench.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    bench.tier.trim(EPOCH, &trim).await.unwrap();
    bench.tier.trim(EPOCH, &trim).await.unwrap();
    let range = bench.tier.outbox_range().await.unwrap().unwrap();
    assert_eq!((range.first.seq, range.last.seq, range.entries), (101, 110, 10));
    assert_eq!(bench.tier.head().await.unwrap().durable, Some(durable));
    assert_eq!(bench.tier.kept_blocks().await.unwrap().len(), 20);
    assert_eq!(bench.tier.block_at(90).await.unwrap().value, None);
    assert_eq!(bench.tier.block_at(91).await.unwrap().value.as_ref(), Some(&chain.applied[90].block));
    assert_eq!(bench.tier.forgers(1).await.unwrap().value, None);
    assert_eq!(bench.tier.forgers(2).await.unwrap().value, chain.forgers[101]);
    let mut expected = before;
    let keys = bench.tier.keys();
    trim.bodies.iter().for_each(|id| drop(expected.remove(&keys.block(*id))));
    (1..=95).for_each(|height| drop(expected.remove(&keys.undo(height))));
    expected.remove(&keys.forgers(1));
    let mut after = bench.content().await;
    for key in [keys.meta(), keys.heights()] {
        assert!(expected.remove(&key).is_some() && after.remove(&key).is_some());
    }
    assert_eq!(after, expected);

    // The outbox never takes an old position again, even when it is empty.
    let all = Trim { entries_through: Some(range.last), ..Trim::default() };
    bench.tier.trim(EPOCH, &all).await.unwrap();
    assert_eq!(bench.tier.outbox_range().await.unwrap(), None);
    let _: () = bench.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let meta = keys.meta();
    let _: i64 = bench.command(&["HSET", &meta, "seq", "50"]).await;
    let older = Fence { seq: 50, ..fence };
    let mut state = chain.state.clone();
    let last = chain.applied.last().unwrap();
    let changes = state.pop(&last.block, last.undo.as_ref().unwrap()).unwrap();
    let before = bench.dump().await;
    let pop = OutboxEntry::of_pop(next_position(&older), &changes).unwrap();
    let error = bench.tier.take_back(&older, &changes, &pop).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Conflict);
    assert_eq!(bench.dump().await, before);
}
