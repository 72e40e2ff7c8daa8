//! Readers: an answer with its point in history, or an error; never something from an empty or older store.

use std::time::Duration;

use forebay_fast::{
    FastErrorKind, FastOptions, FastTier, Fence, InChain, OutboxEntry, Position, RankedBy, encode_block,
};
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::state::Needs;
use forebay_servers::testing::{TestOptions, TestServers};

use crate::common::{Bench, EPOCH, next_entry, next_position, oracle_chain, start_fence};

async fn every_read(tier: &FastTier) -> Vec<FastErrorKind> {
    let needs = Needs { accounts: vec![Address(1)], ..Needs::default() };
    let results = [
        tier.account(Address(1)).await.map(|_| ()),
        tier.accounts(0, 10).await.map(|_| ()),
        tier.all_accounts().await.map(|_| ()),
        tier.block(BlockId(1)).await.map(|_| ()),
        tier.block_at(1).await.map(|_| ()),
        tier.transaction(TransactionId(1)).await.map(|_| ()),
        tier.delegates_ranked(RankedBy::Vote, 0, 10).await.map(|_| ()),
        tier.delegates_ranked(RankedBy::Vote, 0, 0).await.map(|_| ()),
        tier.forgers(1).await.map(|_| ()),
        tier.counts().await.map(|_| ()),
        tier.all_delegates().await.map(|_| ()),
        tier.round_state().await.map(|_| ()),
        tier.read_needs(&needs).await.map(|_| ()),
    ];
    results.into_iter().map(|result| result.unwrap_err().kind()).collect()
}

#[tokio::test]
async fn no_read_is_answered_unless_the_chain_is_ready() {
    let bench = Bench::new().await;
    assert_eq!(every_read(&bench.tier).await, [FastErrorKind::NotReady; 13], "empty");
    bench.tier.claim(None, EPOCH, &crate::common::holder()).await.unwrap();
    bench.restore_empty().await;
    assert_eq!(bench.tier.account(Address(1)).await.unwrap().value, None);
    assert_eq!(bench.tier.round_state().await.unwrap().value, None);
    bench.tier.begin_clean(EPOCH).await.unwrap();
    // This connection read before and knows the old buckets.
    assert_eq!(every_read(&bench.tier).await, [FastErrorKind::NotReady; 13], "cleaning");
}

#[tokio::test]
async fn no_read_is_answered_from_a_redis_that_forgot_what_it_acknowledged() {
    let Some(chain) = oracle_chain(5) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied[..3] {
        bench.apply(&mut fence, applied, None).await;
    }
    let meta = bench.tier.keys().meta();
    let old: Vec<u8> = bench.command(&["DUMP", &meta]).await;
    bench.apply(&mut fence, &chain.applied[3], None).await;
    assert_eq!(bench.tier.block_at(4).await.unwrap().at.position, Position { epoch: EPOCH, seq: 4 });
    let mut put_back = redis::cmd("RESTORE");
    put_back.arg(&meta).arg(0).arg(old).arg("REPLACE");
    put_back.exec_async(&mut bench.raw.clone()).await.unwrap();
    assert_eq!(every_read(&bench.tier).await, [FastErrorKind::Stale; 13]);
    let next = &chain.applied[4];
    let entry = next_entry(&fence, next, None);
    let error =
        bench.tier.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Conflict);
    bench.tier.forget_floor();
    assert_eq!(bench.tier.counts().await.unwrap().at.height, 3);
}

#[tokio::test]
async fn single_reads_find_what_the_chain_has() {
    let Some(chain) = oracle_chain(110) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    for account in chain.state.accounts() {
        let found = bench.tier.account(account.address).await.unwrap();
        assert_eq!(found.value.as_ref(), Some(account));
        assert_eq!((found.at.height, found.at.position.seq), (110, 110));
    }
    for applied in &chain.applied {
        assert_eq!(bench.tier.block(applied.block.id).await.unwrap().value.as_ref(), Some(&applied.block));
        for transaction in &applied.block.transactions {
            let located = bench.tier.transaction(transaction.id).await.unwrap().value.unwrap();
            assert_eq!(located.height, applied.block.height);
            let found = located.found.unwrap();
            assert_eq!((found.block, &found.transaction), (applied.block.id, transaction));
            assert_eq!(found.of, applied.block.transactions.len());
            assert_eq!(&applied.block.transactions[found.index], transaction);
        }
    }
    assert_eq!(bench.tier.block(BlockId(1)).await.unwrap().value, None);
    assert_eq!(bench.tier.block_at(111).await.unwrap().value, None);
    assert_eq!(bench.tier.forgers(2).await.unwrap().value, chain.forgers[101]);
    assert_eq!(bench.tier.forgers(9).await.unwrap().value, None);
}

#[tokio::test]
async fn a_body_is_read_once_and_whether_the_chain_has_the_block_is_asked_each_time() {
    let Some(chain) = oracle_chain(110) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let top = chain.applied.last().unwrap();
    let with_some =
        chain.applied.iter().rev().find(|applied| !applied.block.transactions.is_empty()).unwrap();
    let (block, transaction) = (&with_some.block, &with_some.block.transactions[0]);

    // A damaged body is told, and not kept.
    let key = bench.tier.keys().block(block.id);
    let body: Vec<u8> = bench.command(&["GET", &key]).await;
    let _: i64 = bench.command(&["SETRANGE", &key, "40", "damaged"]).await;
    assert_eq!(bench.tier.transaction(transaction.id).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    assert_eq!(bench.tier.block(block.id).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    let another = bench.tier.keys().block(chain.applied[0].block.id);
    let _: i64 = bench.command(&["COPY", &another, &key, "REPLACE"]).await;
    assert_eq!(bench.tier.transaction(transaction.id).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    assert_eq!(bench.tier.kept_bodies().blocks, 0);
    let _: i64 = bench.command(&["DEL", &key]).await;
    let mut raw = redis::cmd("SET");
    raw.arg(&key).arg(&body);
    let _: String = raw.query_async(&mut bench.raw.clone()).await.unwrap();

    // Once read it is not read again.
    let reads = async || {
        let statistics: String = bench.command(&["INFO", "commandstats"]).await;
        let line =
            statistics.lines().find(|line| line.starts_with("cmdstat_get:")).unwrap_or_default().to_owned();
        line.split(['=', ',']).nth(1).map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let found = bench.tier.transaction(transaction.id).await.unwrap().value.unwrap().found.unwrap();
    assert_eq!((found.block, &found.transaction), (block.id, transaction));
    let kept = bench.tier.kept_bodies();
    assert!(kept.blocks == 1 && kept.bytes > body.len() && kept.bytes < body.len() + 400, "{kept:?}");
    let before = reads().await;
    assert_eq!(
        bench.tier.transaction(transaction.id).await.unwrap().value.unwrap().found.as_ref(),
        Some(&found)
    );
    assert_eq!(bench.tier.block(block.id).await.unwrap().value.as_ref(), Some(block));
    assert_eq!(bench.tier.block_at(block.height).await.unwrap().value.as_ref(), Some(block));
    assert_eq!(reads().await, before);

    // The same block with other signatures of a group has the same id: what is there now is answered.
    let mut again = block.clone();
    let signature = again.transactions[0].signature;
    again.transactions[0].signatures.push(signature);
    let mut raw = redis::cmd("SET");
    raw.arg(&key).arg(encode_block(&again));
    let _: String = raw.query_async(&mut bench.raw.clone()).await.unwrap();
    assert_eq!(bench.tier.block(block.id).await.unwrap().value.as_ref(), Some(&again));
    let now = bench.tier.transaction(transaction.id).await.unwrap().value.unwrap().found.unwrap();
    assert_eq!(now.transaction, again.transactions[0]);
    assert_eq!(bench.tier.block_at(block.height).await.unwrap().value.as_ref(), Some(&again));

    // One that is gone is not answered from memory.
    let _: i64 = bench.command(&["DEL", &key]).await;
    assert_eq!(bench.tier.transaction(transaction.id).await.unwrap_err().kind(), FastErrorKind::Corrupt);
    assert_eq!(bench.tier.find_block(block.id).await.unwrap().value, InChain::NotKept);

    // What is kept says nothing about the chain.
    assert!(bench.tier.block(top.block.id).await.unwrap().value.is_some());
    let mut state = chain.state.clone();
    let changes = state.pop(&top.block, top.undo.as_ref().unwrap()).unwrap();
    let entry = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
    bench.tier.take_back(&fence, &changes, &entry).await.unwrap();
    assert_eq!(bench.tier.find_block(top.block.id).await.unwrap().value, InChain::No);
    for gone in &top.block.transactions {
        assert_eq!(bench.tier.transaction(gone.id).await.unwrap().value, None);
    }
}

#[tokio::test]
async fn kept_bodies_stay_within_their_limit_and_none_are_kept_without_one() {
    let Some(chain) = oracle_chain(110) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let url = bench.servers.redis().redis_url();
    for bodies_bytes_max in [0, 4000] {
        let options = FastOptions { bodies_bytes_max, ..FastOptions::default() };
        let tier = FastTier::connect(&url, "test", options).await.unwrap();
        for applied in &chain.applied {
            assert_eq!(tier.block(applied.block.id).await.unwrap().value.as_ref(), Some(&applied.block));
            let kept = tier.kept_bodies();
            assert!(kept.bytes <= bodies_bytes_max && kept.bytes_max == bodies_bytes_max, "{kept:?}");
        }
        assert_eq!(tier.kept_bodies().blocks > 0, bodies_bytes_max > 0);
    }
}

#[tokio::test]
async fn a_missing_record_behind_a_marker_is_noticed() {
    let Some(chain) = oracle_chain(2) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    bench.apply(&mut fence, &chain.applied[0], None).await;
    let delegates = bench.tier.keys().delegates();
    let _: i64 = bench.command(&["DEL", &delegates]).await;
    assert_eq!(bench.tier.all_accounts().await.unwrap_err().kind(), FastErrorKind::Corrupt);
    let ranked = bench.tier.delegates_ranked(RankedBy::Vote, 0, 1).await;
    assert_eq!(ranked.unwrap_err().kind(), FastErrorKind::Corrupt);
}

#[tokio::test]
async fn a_step_without_an_answer_has_an_unknown_outcome_and_cannot_happen_later() {
    let Some(chain) = oracle_chain(5) else { return };
    let bench = Bench::ready().await;
    let options = FastOptions {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(2),
        ..FastOptions::default()
    };
    let url = bench.servers.redis().redis_url();
    let tier = FastTier::connect(&url, "test", options).await.unwrap();
    let mut fence = start_fence();
    for applied in &chain.applied[..2] {
        bench.apply(&mut fence, applied, None).await;
    }
    // The last one by the same client: it has a transaction open since, so that the next step is sent whole.
    let last = &chain.applied[2];
    let entry = next_entry(&fence, last, None);
    tier.apply(&fence, &last.changes, last.undo.as_ref(), &last.block, &entry).await.unwrap();
    let fence = Fence { seq: fence.seq + 1, tip: Some(last.block.id), ..fence };
    let pid = rustix::process::Pid::from_raw(bench.servers.redis().pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let next = &chain.applied[3];
    let entry = next_entry(&fence, next, None);
    let result = tier.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert_eq!(result.unwrap_err().kind(), FastErrorKind::OutcomeUnknown);
    // The new connection ends the old one first, so what it reads is the last word about the old one's step.
    let head = tier.head().await.unwrap();
    let done = head.tip.unwrap().id == next.block.id;
    assert_eq!(head.position.seq, if done { 4 } else { 3 });
    let again = tier.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry).await;
    assert_eq!(again.is_ok(), !done);
    assert_eq!(tier.head().await.unwrap().position.seq, 4);
}

#[tokio::test]
async fn a_redis_that_went_away_is_unavailable_and_comes_back_known_as_another_run() {
    let mut servers =
        TestServers::with(TestOptions { postgres: false, ..TestOptions::default() }).await.unwrap();
    let url = servers.redis().redis_url();
    let tier = FastTier::connect(&url, "test", FastOptions::default()).await.unwrap();
    tier.claim(None, 1, &crate::common::holder()).await.unwrap();
    let before = tier.server_facts().await.unwrap();
    assert!(before.problems().is_empty(), "{:?}", before.problems());
    assert_eq!(before.listpack_value_bytes_max, Some(64));
    servers.kill_redis().await;
    let error = tier.head().await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("read the head") || error.to_string().contains("connect"), "{error}");
    servers.restart_redis().await.unwrap();
    assert_ne!(tier.server_facts().await.unwrap().run_id, before.run_id);
    // The functions went with the old run; they are loaded again unasked.
    assert_eq!(tier.heartbeat(1).await.unwrap_err().kind(), FastErrorKind::Fenced);
    let _: () = redis::cmd("FUNCTION")
        .arg("FLUSH")
        .query_async(&mut redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap())
        .await
        .unwrap();
    assert_eq!(tier.heartbeat(1).await.unwrap_err().kind(), FastErrorKind::Fenced);
}

#[tokio::test]
async fn a_wrong_address_is_unavailable_and_a_wrong_policy_a_problem() {
    let options = FastOptions {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        ..FastOptions::default()
    };
    let error = FastTier::connect("unix:///nowhere/redis.sock", "test", options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Unavailable, "{error}");
    let error = FastTier::connect("http://localhost", "test", options).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Misconfigured, "{error}");
    let bench = Bench::new().await;
    let _: () = bench.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert_eq!(bench.tier.server_facts().await.unwrap().problems().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_not_polled_while_it_connects_holds_nobody_up_for_ever() {
    use rustix::process::{Pid, Signal, kill_process};

    let bench = Bench::ready().await;
    let limit = Duration::from_millis(1500);
    let options = FastOptions { connect_timeout: limit, response_timeout: limit, ..FastOptions::default() };
    let tier = FastTier::connect(&bench.servers.redis().redis_url(), "test", options).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(bench.servers.redis().pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // The connection is given up, since what it answers later belongs to nobody.
    assert_eq!(tier.head().await.unwrap_err().kind(), FastErrorKind::Unavailable);
    assert!(!tier.is_connected());
    let mut left_alone = Box::pin(tier.head());
    assert!(futures_util::poll!(left_alone.as_mut()).is_pending(), "it is connecting");
    let error = tokio::time::timeout(Duration::from_secs(30), tier.head()).await.expect("no wait for ever");
    assert_eq!(error.unwrap_err().kind(), FastErrorKind::Unavailable);
    kill_process(pid, Signal::CONT).unwrap();
    // As soon as somebody goes on with it, both come through.
    let _ = left_alone.await;
    assert!(tier.head().await.is_ok());
}
