//! One owner: every change checks the epoch in the same atomic call.

use forebay_fast::{Expected, FastErrorKind, Position, RestoredHead, State, Trim};

use crate::common::{Bench, EPOCH, holder, next_entry, oracle_chain, start_fence};

#[tokio::test]
async fn of_two_that_claim_at_once_exactly_one_wins() {
    let bench = Bench::new().await;
    let (one, two) = (bench.another().await, bench.another().await);
    let mut seen = None;
    for epoch in 1..=100u64 {
        let holder = holder();
        let (a, b) =
            tokio::join!(one.claim(seen.as_ref(), epoch, &holder), two.claim(seen.as_ref(), epoch, &holder));
        assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1, "epoch {epoch}");
        assert_eq!(a.err().or(b.err()).unwrap().kind(), FastErrorKind::Fenced);
        seen = one.owner().await.unwrap();
        assert_eq!(seen.as_ref().unwrap().epoch, epoch);
    }
}

#[tokio::test]
async fn an_owner_whose_heart_beats_is_not_taken_over() {
    let bench = Bench::new().await;
    assert_eq!(bench.tier.owner().await.unwrap(), None);
    bench.tier.claim(None, 9, &holder()).await.unwrap();
    let seen = bench.tier.owner().await.unwrap().unwrap();
    assert_eq!((seen.epoch, seen.heartbeat, seen.released, seen.holder.clone()), (9, 0, false, holder()));
    bench.tier.heartbeat(9).await.unwrap();
    let refused = bench.tier.claim(Some(&seen), 10, &holder()).await.unwrap_err();
    assert_eq!(refused.kind(), FastErrorKind::Fenced);
    let seen = bench.tier.owner().await.unwrap().unwrap();
    assert_eq!(seen.heartbeat, 1);
    // An epoch only grows, also past another number of digits.
    assert!(bench.tier.claim(Some(&seen), 9, &holder()).await.is_err());
    assert!(bench.tier.claim(Some(&seen), 8, &holder()).await.is_err());
    bench.tier.claim(Some(&seen), 10, &holder()).await.unwrap();
    assert_eq!(bench.tier.heartbeat(9).await.unwrap_err().kind(), FastErrorKind::Fenced);
    assert_eq!(bench.tier.release(9).await.unwrap_err().kind(), FastErrorKind::Fenced);
    bench.tier.release(10).await.unwrap();
    assert!(bench.tier.owner().await.unwrap().unwrap().released);
    assert_eq!(bench.tier.heartbeat(10).await.unwrap_err().kind(), FastErrorKind::Fenced);
}

#[tokio::test]
async fn a_node_that_lost_its_epoch_cannot_change_or_delete_a_byte() {
    let Some(chain) = oracle_chain(5) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied[..4] {
        bench.apply(&mut fence, applied, None).await;
    }
    let old = bench.another().await;
    old.begin_clean(EPOCH).await.unwrap();
    let mut restore = old.begin_restore(EPOCH, Expected { accounts: 1, transactions: 1 }).await.unwrap();
    let seen = bench.tier.owner().await.unwrap();
    bench.tier.claim(seen.as_ref(), EPOCH + 1, &holder()).await.unwrap();

    let before = bench.dump().await;
    let next = &chain.applied[4];
    let entry = next_entry(&fence, next, None);
    let state = &chain.state;
    let accounts: Vec<_> = state.accounts().cloned().collect();
    let all = Trim {
        entries_through: Some(Position { epoch: u64::MAX, seq: u64::MAX }),
        bodies: chain.applied.iter().map(|applied| applied.block.id).collect(),
        heights: (1..10).collect(),
        undo_heights: (1..10).collect(),
        rounds: vec![1, 2],
        durable: None,
    };
    let head = RestoredHead { position: Position { epoch: 1, seq: 1 }, tip: None, genesis_account: None };
    restore.load_transactions(&[(forebay_ledger::ids::TransactionId(1), 1)]).await.unwrap();
    let results = [
        old.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry).await,
        old.trim(EPOCH, &all).await,
        old.begin_clean(EPOCH).await,
        old.clean(EPOCH, |_| {}).await.map(|_| ()),
        restore.load_accounts(&accounts).await.and(restore.write_waiting().await),
        restore.write_waiting().await,
        restore.load_blocks(std::slice::from_ref(&next.block)).await,
        old.begin_restore(EPOCH, Expected { accounts: 1, transactions: 1 }).await.map(|_| ()),
        old.heartbeat(EPOCH).await,
        old.release(EPOCH).await,
    ];
    for (at, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), FastErrorKind::Fenced, "call {at}");
    }
    let empty = old.begin_restore(EPOCH, Expected { accounts: 0, transactions: 0 }).await;
    assert!(empty.is_err());
    assert!(restore.finish(&head).await.is_err());
    assert_eq!(bench.dump().await, before);
}

#[tokio::test]
async fn an_emptied_redis_refuses_the_owner_too() {
    let bench = Bench::ready().await;
    let _: () = bench.command(&["FLUSHALL"]).await;
    assert_eq!(bench.tier.heartbeat(EPOCH).await.unwrap_err().kind(), FastErrorKind::Fenced);
    assert_eq!(bench.tier.begin_clean(EPOCH).await.unwrap_err().kind(), FastErrorKind::Fenced);
    assert_eq!(bench.tier.head().await.unwrap().state, State::Empty);
    assert!(bench.keys().await.is_empty());
}

#[tokio::test]
async fn foreign_keys_survive_a_clean() {
    let Some(chain) = oracle_chain(5) else { return };
    let bench = Bench::ready().await;
    let foreign = [
        "test",
        "{test}",
        "{test}x:1",
        "{tes}:a:1",
        "{test2}:meta",
        "x{test}:a:1",
        "{Test}:a:1",
        "session:1",
    ];
    for key in foreign {
        let _: () = bench.command(&["SET", key, "theirs"]).await;
    }
    let mut fence = start_fence();
    for applied in &chain.applied {
        bench.apply(&mut fence, applied, None).await;
    }
    bench.tier.begin_clean(EPOCH).await.unwrap();
    assert_eq!(bench.tier.outbox_range().await.unwrap(), None);
    let mut seen = 0;
    let cleaned = bench.tier.clean(EPOCH, |removed| seen = removed).await.unwrap();
    assert!(cleaned.keys > 100 && cleaned.keys == seen);
    let mut expected: Vec<String> = foreign.iter().map(ToString::to_string).collect();
    let keys = bench.tier.keys();
    expected.extend([keys.owner(), keys.meta(), keys.fence()]);
    expected.sort();
    assert_eq!(bench.keys().await, expected);
    for key in foreign {
        assert_eq!(bench.command::<String>(&["GET", key]).await, "theirs");
    }
}
