//! A block is one atomic step: all of it or nothing, and back again without a trace.

use forebay_fast::{
    AccountRecord, FastError, FastErrorKind, Fence, Operation, OutboxEntry, Position, RankedBy, RewindTarget,
    State, Trim,
};
use forebay_ledger::account::Account;
use forebay_ledger::apply::Applied;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::{Needs, StateView};
use forebay_ledger::verify::needs;
use futures_util::future::join_all;

use crate::common::{Bench, EPOCH, holder, next_entry, next_position, oracle_chain, start_fence};

/// Redis says the same as the ledger's own state, whatever is asked.
async fn assert_same_state(bench: &Bench, state: &MemoryState) {
    let tier = &bench.tier;
    let head = tier.head().await.unwrap();
    assert_eq!(head.tip.as_ref(), state.tip());
    let accounts = tier.all_accounts().await.unwrap().unwrap();
    assert!(accounts.value.iter().eq(state.accounts()), "accounts at height {}", accounts.at.height);
    assert_eq!(head.accounts as usize, accounts.value.len());
    assert_eq!(tier.round_state().await.unwrap().value.as_ref(), state.round());
    let mut delegates = tier.all_delegates().await.unwrap().value;
    delegates.sort_by_key(|account| account.address);
    assert!(delegates.iter().eq(state.delegates()));
    let ranked = |key: fn(&Account) -> i64| {
        let mut ranked: Vec<Account> = state.delegates().cloned().collect();
        ranked.sort_by_key(|account| (std::cmp::Reverse(key(account)), account.public_key));
        ranked
    };
    let by_vote = ranked(|account| account.delegate.as_ref().unwrap().vote);
    assert_eq!(tier.delegates_ranked(RankedBy::Vote, 0, u32::MAX).await.unwrap().value, by_vote);
    let by_weight = ranked(|account| account.delegate.as_ref().unwrap().votes_weight);
    assert_eq!(tier.delegates_ranked(RankedBy::VotesWeight, 0, u32::MAX).await.unwrap().value, by_weight);
    assert_eq!(tier.delegates_ranked(RankedBy::Vote, 3, 5).await.unwrap().value, by_vote[3..8]);
}

#[tokio::test]
async fn the_reference_chain_gives_the_ledgers_state_and_taking_back_leaves_no_trace() {
    let Some(chain) = oracle_chain(310) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    let mut state = MemoryState::new();
    let mut before = Vec::new();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        let wanted = needs(&applied.block, None);
        if state.tip().is_some() {
            assert_needs(&bench, &state, &wanted).await;
        }
        if applied.block.height > 195 {
            before.push(bench.content().await);
        }
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
        state.commit(&applied.changes).unwrap();
        if [1, 2, 101, 202, 203, 310].contains(&applied.block.height) {
            assert_same_state(&bench, &state).await;
        }
    }
    assert_eq!(bench.tier.head().await.unwrap().genesis_account, chain.state.genesis_account());
    // All the way back over two round ends.
    for applied in chain.applied.iter().rev().take_while(|applied| applied.block.height > 195) {
        let height = applied.block.height;
        let record = bench.tier.undo_record(height).await.unwrap().unwrap();
        assert_eq!(Some(&record), applied.undo.as_ref());
        let block = bench.tier.block_at(height).await.unwrap().value.unwrap();
        assert_eq!(block, applied.block);
        let changes = state.pop(&block, &record).unwrap();
        let entry = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
        bench.tier.take_back(&fence, &changes, &entry).await.unwrap();
        fence = Fence { seq: fence.seq + 1, tip: Some(changes.tip_after.id), ..fence };
        let mut after = bench.content().await;
        // The body stays for the outbox; nothing else does.
        let body = bench.tier.keys().block(block.id);
        assert!(after.remove(&body).is_some());
        let mut expected = before.pop().unwrap();
        for later in chain.applied.iter().filter(|later| later.block.height > height) {
            assert!(after.remove(&bench.tier.keys().block(later.block.id)).is_some());
        }
        expected.remove(&body);
        assert_eq!(after, expected, "after taking back height {height}");
        assert_eq!(bench.tier.block(block.id).await.unwrap().value, None, "not part of the chain any more");
    }
    assert_same_state(&bench, &state).await;
}

async fn assert_needs(bench: &Bench, state: &MemoryState, needs: &Needs) {
    let loaded = bench.tier.read_needs(needs).await.unwrap().value;
    let expected: Vec<Account> = needs.accounts.iter().filter_map(|a| state.account(*a).cloned()).collect();
    assert_eq!(loaded.accounts, expected);
    assert_eq!(
        loaded.usernames,
        needs.usernames.iter().filter(|n| state.has_username(n)).cloned().collect::<Vec<_>>()
    );
    assert_eq!(
        loaded.transactions.len(),
        needs.transactions.iter().filter(|id| state.has_transaction(**id)).count()
    );
}

#[tokio::test]
async fn a_step_with_a_wrong_epoch_seq_tip_or_state_changes_no_byte() {
    let Some(chain) = oracle_chain(12) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied[..11] {
        bench.apply(&mut fence, applied, None).await;
    }
    let next = &chain.applied[11];
    let attempt = |fence: Fence, entry: OutboxEntry| {
        let tier = bench.tier.clone();
        async move {
            tier.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry)
                .await
                .unwrap_err()
                .kind()
        }
    };
    let before = bench.dump().await;

    let other_epoch = Fence { epoch: EPOCH + 1, ..fence };
    assert_eq!(attempt(other_epoch, next_entry(&other_epoch, next, None)).await, FastErrorKind::Fenced);
    let older = Fence { seq: fence.seq - 1, ..fence };
    assert_eq!(attempt(older, next_entry(&older, next, None)).await, FastErrorKind::Conflict);
    // The right tip is the change set's; make Redis' another one by a block that the writer does not know of.
    let older_block = &chain.applied[9];
    let wrong_tip = Fence { tip: older_block.changes.tip_before.map(|tip| tip.id), ..fence };
    let stale = bench
        .tier
        .apply(
            &wrong_tip,
            &older_block.changes,
            older_block.undo.as_ref(),
            &older_block.block,
            &next_entry(&wrong_tip, older_block, None),
        )
        .await;
    assert_eq!(stale.unwrap_err().kind(), FastErrorKind::Conflict);
    // An entry that the outbox already has.
    let mut taken = next_entry(&fence, next, None);
    taken.position.seq = fence.seq;
    assert_eq!(attempt(fence, taken).await, FastErrorKind::Defect);
    assert_eq!(bench.dump().await, before);

    bench
        .tier
        .rewind(&fence, fence.seq + 1, RewindTarget { height: 1, id: chain.applied[0].block.id })
        .await
        .unwrap();
    let rewinding = Fence { seq: fence.seq + 1, ..fence };
    let before = bench.dump().await;
    assert_eq!(attempt(rewinding, next_entry(&rewinding, next, None)).await, FastErrorKind::NotReady);
    assert_eq!(bench.dump().await, before);
    assert_eq!(bench.tier.head().await.unwrap().state, State::Rewinding);
    let last = bench.tier.outbox_entries(None, 1000).await.unwrap().pop().unwrap();
    assert_eq!(last.operation, Operation::Rewind { height: 1, tip: chain.applied[0].block.id });

    bench.tier.begin_clean(EPOCH).await.unwrap();
    let before = bench.dump().await;
    assert_eq!(attempt(rewinding, next_entry(&rewinding, next, None)).await, FastErrorKind::NotReady);
    bench.tier.release(EPOCH).await.unwrap();
    let seen = bench.tier.owner().await.unwrap();
    bench.tier.claim(seen.as_ref(), EPOCH + 1, &holder()).await.unwrap();
    assert_eq!(attempt(rewinding, next_entry(&rewinding, next, None)).await, FastErrorKind::Fenced);
    let mut after = bench.dump().await;
    for key in [bench.tier.keys().owner(), bench.tier.keys().fence()] {
        after.insert(key.clone(), before[&key].clone());
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn with_full_memory_a_step_is_refused_whole_and_taking_back_works() {
    let Some(mut chain) = oracle_chain(30) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for applied in &chain.applied[..29] {
        bench.apply(&mut fence, applied, None).await;
    }
    let next = chain.applied.pop().unwrap();
    let last = chain.applied.pop().unwrap();
    let _: () = bench.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let before = bench.dump().await;
    let entry = next_entry(&fence, &next, None);
    let error =
        bench.tier.apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::OutOfMemory);
    assert_eq!(bench.dump().await, before);

    chain.state.pop(&next.block, next.undo.as_ref().unwrap()).unwrap();
    let changes = chain.state.pop(&last.block, last.undo.as_ref().unwrap()).unwrap();
    let entry = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
    bench.tier.take_back(&fence, &changes, &entry).await.unwrap();
    bench.tier.heartbeat(EPOCH).await.unwrap();
    assert_eq!(bench.tier.head().await.unwrap().tip, Some(changes.tip_after));

    let _: () = bench.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let mut fence = Fence { seq: fence.seq + 1, tip: Some(changes.tip_after.id), ..fence };
    bench.apply(&mut fence, &last, None).await;
    bench.apply(&mut fence, &next, None).await;
}

#[tokio::test]
async fn a_server_that_lost_the_functions_gets_them_again_and_the_step_is_done_once() {
    let Some(chain) = oracle_chain(3) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    bench.apply(&mut fence, &chain.applied[0], None).await;
    let _: () = bench.command(&["FUNCTION", "FLUSH"]).await;
    bench.apply(&mut fence, &chain.applied[1], None).await;
    let head = bench.tier.head().await.unwrap();
    assert_eq!((head.position.seq, head.tip.map(|tip| tip.id)), (fence.seq, fence.tip));
    assert_eq!(bench.tier.outbox_range().await.unwrap().unwrap().entries, 2);
}

#[tokio::test]
async fn a_key_destroyed_by_another_program_is_told_and_nobody_reads_on() {
    let Some(chain) = oracle_chain(12) else { return };
    let next = &chain.applied[11];
    // A record that lives elsewhere does not change its bucket.
    let is_inline = |account: &_| matches!(AccountRecord::of(account), AccountRecord::Inline(_));
    let inline = next.changes.accounts.iter().find(|change| change.after.as_ref().is_some_and(is_inline));
    let touched = inline.unwrap().address;
    for destroyed in ["bucket", "round"] {
        let bench = Bench::ready().await;
        let mut fence = start_fence();
        for applied in &chain.applied[..11] {
            bench.apply(&mut fence, applied, None).await;
        }
        let keys = bench.tier.keys();
        let buckets = bench.tier.head().await.unwrap().buckets;
        let key = match destroyed {
            "bucket" => keys.account_bucket(buckets.of_account(touched)),
            _ => keys.round_blocks(),
        };
        let _: () = bench.command(&["SET", &key, "theirs"]).await;
        let entry = next_entry(&fence, next, None);
        let error = bench
            .tier
            .apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), FastErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
        let head = bench.tier.head().await.unwrap();
        assert_eq!(head.state, State::Damaged);
        let read = bench.tier.counts().await.unwrap_err();
        assert_eq!(read.kind(), FastErrorKind::NotReady, "{read}");
        // What was accepted before is still in the outbox, for the slow tier.
        let entries = bench.tier.outbox_entries(None, 100).await.unwrap();
        let accepted: Vec<_> = entries.iter().map(|entry| entry.position.seq).take(11).collect();
        assert_eq!(accepted, (1..=11).collect::<Vec<u64>>());
        let error = bench
            .tier
            .apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), FastErrorKind::NotReady, "{error}");
        bench.tier.begin_clean(EPOCH).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_that_may_not_open_transactions_writes_nothing() {
    let Some(chain) = oracle_chain(3) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    bench.apply(&mut fence, &chain.applied[0], None).await;
    let next = &chain.applied[1];
    for refused in ["multi", "watch", "fcall_ro", "exec", "hset", "xadd"] {
        // A trim ends the transaction that the last step left open.
        bench.tier.trim(EPOCH, &Trim::default()).await.unwrap();
        let before = bench.dump().await;
        let _: () = bench.command(&["ACL", "SETUSER", "default", &format!("-{refused}")]).await;
        let entry = next_entry(&fence, next, None);
        let error = bench
            .tier
            .apply(&fence, &next.changes, next.undo.as_ref(), &next.block, &entry)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), FastErrorKind::Misconfigured, "without {refused}: {error}");
        let _: () = bench.command(&["ACL", "SETUSER", "default", "+@all"]).await;
        assert_eq!(bench.dump().await, before, "without {refused}");
    }
    bench.apply(&mut fence, next, None).await;
    bench.apply(&mut fence, &chain.applied[2], None).await;
}

#[tokio::test]
async fn a_trim_and_heartbeats_between_steps_hold_nothing_up() {
    let Some(chain) = oracle_chain(60) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    bench.apply(&mut fence, &chain.applied[0], None).await;
    let mut fences = vec![fence];
    for step in &chain.applied[1..60] {
        let before = fences[fences.len() - 1];
        fences.push(Fence { seq: before.seq + 1, tip: Some(step.block.id), ..before });
    }
    let trims = async {
        for seq in 1..=40 {
            let trim = Trim { entries_through: Some(Position { epoch: EPOCH, seq }), ..Trim::default() };
            bench.tier.trim(EPOCH, &trim).await.unwrap();
            bench.tier.heartbeat(EPOCH).await.unwrap();
        }
    };
    let (answers, ()) = tokio::join!(sent_together(&bench, &fences, &chain.applied[1..60]), trims);
    answers.into_iter().for_each(|answer| answer.unwrap());
    let head = bench.tier.head().await.unwrap();
    assert_eq!((head.position.seq, head.tip.map(|tip| tip.id)), (60, Some(chain.applied[59].block.id)));
    let range = bench.tier.outbox_range().await.unwrap().unwrap();
    assert_eq!((range.last.seq, range.entries), (60, 20));
}

/// Sends all steps before the first is answered.
async fn sent_together(bench: &Bench, fences: &[Fence], steps: &[Applied]) -> Vec<Result<(), FastError>> {
    let calls = fences.iter().zip(steps).map(async |(fence, step)| {
        let entry = next_entry(fence, step, None);
        bench.tier.apply(fence, &step.changes, step.undo.as_ref(), &step.block, &entry).await
    });
    join_all(calls).await
}

#[tokio::test]
async fn of_steps_sent_together_none_is_done_after_one_that_was_not() {
    let Some(chain) = oracle_chain(6) else { return };
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    bench.apply(&mut fence, &chain.applied[0], None).await;
    let mut fences = vec![fence];
    for step in &chain.applied[1..5] {
        let before = fences[fences.len() - 1];
        fences.push(Fence { seq: before.seq + 1, tip: Some(step.block.id), ..before });
    }
    let before = bench.dump().await;
    // The first of them is not sent at all.
    for answer in sent_together(&bench, &fences[1..], &chain.applied[2..6]).await {
        assert_eq!(answer.unwrap_err().kind(), FastErrorKind::Conflict);
    }
    assert_eq!(bench.dump().await, before);
    // Another node takes the chain: none of those that were sent before is done.
    let owner = bench.tier.owner().await.unwrap();
    bench.tier.claim(owner.as_ref(), EPOCH + 1, &holder()).await.unwrap();
    let before = bench.dump().await;
    for answer in sent_together(&bench, &fences, &chain.applied[1..6]).await {
        assert_eq!(answer.unwrap_err().kind(), FastErrorKind::Fenced);
    }
    assert_eq!(bench.dump().await, before);
}
