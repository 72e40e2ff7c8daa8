//! The transaction index page by page: everything once, at the point in history that it belongs to.

use forebay_fast::{FastErrorKind, FastTier, OutboxEntry, Position};
use forebay_ledger::ids::{Height, TransactionId};

use crate::common::{Bench, Chain, EPOCH, holder, next_position, oracle_chain, start_fence};

/// All pages, and the positions that they were read at.
async fn pages(tier: &FastTier, buckets_max: u64) -> (Vec<(TransactionId, Height)>, Vec<Position>) {
    let (mut all, mut positions, mut next) = (Vec::new(), Vec::new(), Some(0));
    while let Some(bucket) = next {
        let page = tier.transactions_page(bucket, buckets_max).await.unwrap();
        all.extend(page.value.transactions);
        positions.push(page.at.position);
        next = page.value.next_bucket;
    }
    all.sort_unstable();
    (all, positions)
}

fn of_chain(chain: &Chain, height_max: usize) -> Vec<(TransactionId, Height)> {
    let blocks = chain.applied[..height_max].iter().map(|applied| &applied.block);
    let mut all: Vec<_> =
        blocks.flat_map(|block| block.transactions.iter().map(|t| (t.id, block.height))).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn pages_of_any_size_hold_every_transaction_once() {
    let Some(chain) = oracle_chain(60) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let expected = of_chain(&chain, 60);
    assert!(expected.len() > 300, "{}", expected.len());
    let at = Position { epoch: EPOCH, seq: 60 };
    for (buckets_max, pages_expected) in [(u64::MAX, 1), (1 << 14, 1), (5000, 4), (1 << 12, 4)] {
        let (all, positions) = pages(&bench.tier, buckets_max).await;
        assert!(all == expected, "pages of {buckets_max} buckets");
        assert_eq!(positions, vec![at; pages_expected]);
    }
    // Page sizes of none are one bucket; a page after the last is empty.
    let one = bench.tier.transactions_page(7, 0).await.unwrap().value;
    assert_eq!(one.next_bucket, Some(8));
    assert!(one.transactions.iter().all(|(id, _)| id.0 % (1 << 14) == 7));
    let after = bench.tier.transactions_page(1 << 14, 100).await.unwrap().value;
    assert_eq!((after.transactions, after.next_bucket), (Vec::new(), None));
}

#[tokio::test]
async fn a_block_taken_back_leaves_the_index_and_the_point_moves_on() {
    let Some(mut chain) = oracle_chain(40) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let last = &chain.applied[39];
    let changes = chain.state.pop(&last.block, last.undo.as_ref().unwrap()).unwrap();
    let entry = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
    bench.tier.take_back(&fence, &changes, &entry).await.unwrap();
    let (all, positions) = pages(&bench.tier, u64::MAX).await;
    assert!(all == of_chain(&chain, 39) && all != of_chain(&chain, 40));
    assert_eq!(positions, [Position { epoch: EPOCH, seq: 41 }]);
}

#[tokio::test]
async fn an_index_that_is_not_ready_or_not_ours_is_an_error() {
    let bench = Bench::new().await;
    let not_ready = bench.tier.transactions_page(0, 10).await.unwrap_err();
    assert_eq!(not_ready.kind(), FastErrorKind::NotReady);
    bench.tier.claim(None, EPOCH, &holder()).await.unwrap();
    bench.restore_empty().await;
    let bucket = bench.tier.keys().transaction_bucket(3);
    let _: i64 = bench.command(&["HSET", &bucket, "short", "1"]).await;
    assert_eq!(bench.tier.transactions_page(0, 3).await.unwrap().value.transactions, []);
    let corrupt = bench.tier.transactions_page(3, 1).await.unwrap_err();
    assert_eq!(corrupt.kind(), FastErrorKind::Corrupt, "{corrupt}");
    assert!(corrupt.to_string().contains(&bucket), "{corrupt}");
}
