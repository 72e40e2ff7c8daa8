//! Clean and restore: the loaded chain is the chain, and goes on.

use forebay_fast::{Expected, FastErrorKind, Fence, Position, RestoredHead, State};
use forebay_ledger::account::{Account, Delegate};
use forebay_ledger::ids::{Address, Height, TransactionId};
use forebay_ledger::keys::PublicKey;
use forebay_ledger::state::StateView;

use crate::common::{Bench, Chain, EPOCH, oracle_chain, start_fence};

fn transactions(chain: &Chain) -> Vec<(TransactionId, Height)> {
    let of_block = |applied: &forebay_ledger::apply::Applied| {
        let height = applied.block.height;
        applied.block.transactions.iter().map(move |t| (t.id, height)).collect::<Vec<_>>()
    };
    chain.applied.iter().flat_map(of_block).collect()
}

fn restored_head(chain: &Chain, seq: u64) -> RestoredHead {
    RestoredHead {
        position: Position { epoch: EPOCH, seq },
        tip: chain.state.tip().copied(),
        genesis_account: chain.state.genesis_account(),
    }
}

#[tokio::test]
async fn a_restored_chain_is_the_same_as_one_applied_block_by_block() {
    let Some(chain) = oracle_chain(150) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let mut applied = bench.content().await;

    bench.tier.begin_clean(EPOCH).await.unwrap();
    bench.tier.clean(EPOCH, |_| {}).await.unwrap();
    let expected = Expected { accounts: 1, transactions: 1 };
    let mut restore = bench.tier.begin_restore(EPOCH, expected).await.unwrap();
    let refused = bench.tier.all_delegates().await.unwrap_err();
    assert_eq!(refused.kind(), FastErrorKind::NotReady);
    assert!(refused.to_string().contains("restoring"));
    let accounts: Vec<Account> = chain.state.accounts().cloned().collect();
    for chunk in accounts.chunks(37) {
        restore.load_accounts(chunk).await.unwrap();
    }
    for chunk in transactions(&chain).chunks(100) {
        restore.load_transactions(chunk).await.unwrap();
    }
    let blocks: Vec<_> = chain.applied.iter().map(|applied| applied.block.clone()).collect();
    restore.load_blocks(&blocks).await.unwrap();
    let records: Vec<_> =
        chain.applied.iter().filter_map(|a| Some((a.block.height, a.undo.clone()?))).collect();
    restore.load_undo_records(&records).await.unwrap();
    restore.load_round(chain.state.round().unwrap()).await.unwrap();
    restore.load_forgers(1, chain.forgers[0].as_ref().unwrap()).await.unwrap();
    restore.finish(&restored_head(&chain, fence.seq)).await.unwrap();

    let mut restored = bench.content().await;
    let meta = bench.tier.keys().meta();
    assert!(applied.remove(&meta).is_some() && restored.remove(&meta).is_some());
    assert_eq!(restored, applied);
    let head = bench.tier.head().await.unwrap();
    assert_eq!((head.state, head.accounts as usize), (State::Ready, accounts.len()));
    assert_eq!(head.fence(EPOCH), fence);
}

#[tokio::test]
async fn nothing_expires_and_buckets_stay_compact_beside_long_records() {
    let Some(chain) = oracle_chain(150) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let (mut buckets, mut long) = (0, 0);
    for key in bench.keys().await {
        assert_eq!(bench.command::<i64>(&["PTTL", &key]).await, -1, "{key}");
        if key.starts_with("{test}:a:") || key.starts_with("{test}:t:") {
            assert_eq!(bench.command::<String>(&["OBJECT", "ENCODING", &key]).await, "listpack", "{key}");
            buckets += 1;
        }
        long += u32::from(key.starts_with("{test}:x:"));
    }
    assert!(buckets > 100 && long > 3, "{buckets} buckets, {long} long records");
}

#[tokio::test]
async fn a_missing_or_doubled_row_is_noticed_before_readers_are_let_in() {
    let Some(chain) = oracle_chain(20) else { return };
    let bench = Bench::ready().await;
    let accounts: Vec<Account> = chain.state.accounts().cloned().collect();
    let ids = transactions(&chain);
    for (rows, ids) in [(&accounts[..], &ids[1..]), (&accounts[..], &[&ids[..], &ids[..1]].concat())] {
        bench.tier.begin_clean(EPOCH).await.unwrap();
        bench.tier.clean(EPOCH, |_| {}).await.unwrap();
        let expected = Expected { accounts: 1, transactions: 1 };
        let mut restore = bench.tier.begin_restore(EPOCH, expected).await.unwrap();
        restore.load_accounts(rows).await.unwrap();
        restore.load_transactions(ids).await.unwrap();
        restore.load_round(chain.state.round().unwrap()).await.unwrap();
        let error = restore.finish(&restored_head(&chain, 20)).await.unwrap_err();
        assert_eq!(error.kind(), FastErrorKind::Corrupt, "{error}");
        assert_eq!(bench.tier.head().await.unwrap().state, State::Restoring);
    }
}

#[tokio::test]
async fn a_writer_that_knew_the_old_buckets_writes_into_the_new_ones() {
    let Some(chain) = oracle_chain(30) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied[..29] {
        bench.apply(&mut fence, applied, None).await;
    }
    // Another connection restores with far more buckets; this one has not looked since.
    let other = bench.another().await;
    other.begin_clean(EPOCH).await.unwrap();
    other.clean(EPOCH, |_| {}).await.unwrap();
    let expected = Expected { accounts: 1_000_000, transactions: 5_000_000 };
    let mut restore = other.begin_restore(EPOCH, expected).await.unwrap();
    let mut before = chain.state.clone();
    let next = &chain.applied[29];
    before.pop(&next.block, next.undo.as_ref().unwrap()).unwrap();
    restore.load_accounts(&before.accounts().cloned().collect::<Vec<_>>()).await.unwrap();
    let ids: Vec<_> = transactions(&chain).into_iter().filter(|(_, height)| *height < 30).collect();
    restore.load_transactions(&ids).await.unwrap();
    restore.load_round(before.round().unwrap()).await.unwrap();
    let head = RestoredHead { tip: before.tip().copied(), ..restored_head(&chain, fence.seq) };
    restore.finish(&head).await.unwrap();

    bench.apply(&mut fence, next, None).await;
    let accounts = other.all_accounts().await.unwrap().unwrap().value;
    assert!(accounts.iter().eq(chain.state.accounts()));
    for (id, height) in transactions(&chain) {
        assert_eq!(bench.tier.transaction(id).await.unwrap().value.unwrap().height, height);
    }
}

/// Many rows, several chunks in flight, two delegates of one name far apart, and votes that no double can tell apart.
#[tokio::test]
async fn large_loads_keep_names_rankings_and_counts() {
    let bench = Bench::new().await;
    bench.tier.claim(None, EPOCH, &crate::common::holder()).await.unwrap();
    bench.tier.begin_clean(EPOCH).await.unwrap();
    let count = 30_000u64;
    let mut restore =
        bench.tier.begin_restore(EPOCH, Expected { accounts: count, transactions: 2 * count }).await.unwrap();
    let account = |n: u64| Account { balance: n as i64, ..Account::new(Address(n * 600_000_007)) };
    let delegate = |n: u64, vote: i64, username: &str| {
        let key = PublicKey([n as u8; 32]);
        Account {
            public_key: Some(key),
            delegate: Some(Delegate {
                username: username.to_owned(),
                vote,
                votes_weight: vote.wrapping_neg(),
                missed_in_a_row: 0,
                voters_balance: 0,
                voters_share: 0,
            }),
            ..Account::new(Address::of(&key))
        }
    };
    let big = 1i64 << 53;
    let votes = [big + 1, big, big + 2, i64::MAX, i64::MIN, 0, -1, big, i64::MAX - 1];
    let delegates: Vec<Account> = votes
        .iter()
        .enumerate()
        .map(|(n, vote)| delegate(n as u64, *vote, if n % 8 == 0 { "twin" } else { "single" }))
        .collect();
    restore.load_accounts(&delegates[..1]).await.unwrap();
    restore.load_accounts(&(0..count).map(account).collect::<Vec<_>>()).await.unwrap();
    restore.load_accounts(&delegates[1..]).await.unwrap();
    let ids: Vec<_> = (0..2 * count).map(|n| (TransactionId(n * 300_000_007), (n / 25) as u32)).collect();
    restore.load_transactions(&ids).await.unwrap();
    let tip = forebay_ledger::state::Tip {
        height: 2400,
        id: forebay_ledger::ids::BlockId(5),
        timestamp: 9,
        transactions_total: 2 * count,
    };
    let head =
        RestoredHead { position: Position { epoch: 3, seq: 2400 }, tip: Some(tip), genesis_account: None };
    restore.finish(&head).await.unwrap();

    let all = bench.tier.all_accounts().await.unwrap().unwrap();
    assert_eq!(all.value.len() as u64, count + 9);
    assert_eq!((all.at.position, all.at.height), (head.position, 2400));
    let ranked = bench.tier.delegates_ranked(forebay_fast::RankedBy::Vote, 0, 100).await.unwrap().value;
    let order: Vec<i64> = ranked.iter().map(|a| a.delegate.as_ref().unwrap().vote).collect();
    assert_eq!(order, [i64::MAX, i64::MAX - 1, big + 2, big + 1, big, big, 0, -1, i64::MIN]);
    assert!(ranked[4].public_key < ranked[5].public_key);
    let names = bench.tier.keys().names();
    let twins: Vec<u8> = bench.command(&["HGET", &names, "twin"]).await;
    assert_eq!(twins.len(), 16);
    let counts = bench.tier.counts().await.unwrap().value;
    assert_eq!((counts.accounts, counts.delegates, counts.transactions), (count + 9, 9, 2 * count));
    let located = bench.tier.transaction(ids[777].0).await.unwrap().value.unwrap();
    assert_eq!((located.height, located.found), (ids[777].1, None));
    assert_eq!(bench.tier.transaction(TransactionId(1)).await.unwrap().value, None);
    let fence = Fence { epoch: EPOCH, seq: 2400, tip: Some(tip.id) };
    assert_eq!(bench.tier.head().await.unwrap().fence(EPOCH), fence);
}
