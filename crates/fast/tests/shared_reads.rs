//! Single reads share calls, and nobody notices: each has its own answer, never one that is older than its question,
//! whoever else asks, gives up, or asks for what is damaged.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use forebay_fast::{FastErrorKind, FastOptions, FastTier, Fence, InChain, OutboxEntry, SharedCalls};
use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::StateView as _;
use forebay_servers::testing::{TestOptions, TestServers};
use futures_util::future::join_all;

use crate::common::{Bench, Chain, EPOCH, holder, next_position, oracle_chain, start_fence};

async fn at_its_end(height: usize) -> Option<(Bench, Chain)> {
    let chain = oracle_chain(height)?;
    let bench = Bench::ready().await;
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    Some((bench, chain))
}

fn since(tier: &FastTier, before: SharedCalls) -> SharedCalls {
    let now = tier.shared_calls();
    SharedCalls { reads: now.reads - before.reads, calls: now.calls - before.calls }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_together_share_calls_and_each_has_its_own_answer() {
    let Some((bench, chain)) = at_its_end(110).await else { return };
    let accounts: Vec<&Account> = chain.state.accounts().collect();
    let before = bench.tier.shared_calls();
    let found = join_all(accounts.iter().map(|account| bench.tier.account(account.address))).await;
    for (account, found) in accounts.iter().zip(found) {
        assert_eq!(found.unwrap().value.as_ref(), Some(*account));
    }
    // Delegates, and accounts with long records, are read twice.
    let seen = since(&bench.tier, before);
    assert!(seen.reads >= accounts.len() as u64, "{seen:?}");
    assert!(seen.calls * 8 < seen.reads, "{seen:?}");
    assert!(seen.calls >= seen.reads / 128, "a call is bounded: {seen:?}");

    // Different things at once, known and unknown.
    let blocks = join_all(chain.applied.iter().map(|applied| bench.tier.block(applied.block.id)));
    let unknown = join_all((1..50).map(|id| bench.tier.find_block(BlockId(id))));
    let strangers = join_all((1..50).map(|number| bench.tier.account(Address(u64::MAX - number))));
    let (blocks, unknown, strangers) = tokio::join!(blocks, unknown, strangers);
    for (applied, found) in chain.applied.iter().zip(blocks) {
        assert_eq!(found.unwrap().value.as_ref(), Some(&applied.block));
    }
    assert!(unknown.into_iter().all(|found| found.unwrap().value == InChain::NotKept));
    assert!(strangers.into_iter().all(|found| found.unwrap().value.is_none()));
}

#[tokio::test]
async fn a_read_alone_is_a_call_alone() {
    let Some((bench, chain)) = at_its_end(3).await else { return };
    let sender = chain.applied[1].block.generator_public_key;
    let before = bench.tier.shared_calls();
    for _ in 0..5 {
        bench.tier.in_chain(chain.applied[1].block.id, 2).await.unwrap();
    }
    assert_eq!(since(&bench.tier, before), SharedCalls { reads: 5, calls: 5 });
    assert!(bench.tier.account(Address::of(&sender)).await.unwrap().value.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_takes_nothing_from_the_others() {
    let Some((bench, chain)) = at_its_end(110).await else { return };
    let accounts: Vec<Account> = chain.state.accounts().cloned().collect();
    for round in 0..20 {
        let mut given_up: Vec<_> =
            accounts.iter().map(|account| Box::pin(bench.tier.account(account.address))).collect();
        // Some have only been asked, some may be on their way, when they are given up.
        for asked in given_up.iter_mut().skip(round % 3) {
            let _ = futures_util::poll!(asked.as_mut());
        }
        let others = join_all(accounts.iter().rev().map(|account| bench.tier.account(account.address)));
        let others = async {
            let given_up = given_up;
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            drop(given_up);
            others.await
        };
        let found =
            tokio::time::timeout(Duration::from_secs(30), others).await.expect("nobody is left waiting");
        for (account, found) in accounts.iter().rev().zip(found) {
            assert_eq!(found.unwrap().value.as_ref(), Some(account));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_is_told_to_those_who_asked_for_it_alone() {
    let Some((bench, chain)) = at_its_end(110).await else { return };
    let buckets = bench.tier.head().await.unwrap().buckets;
    let accounts: Vec<&Account> = chain.state.accounts().collect();
    let damaged = buckets.of_account(accounts[7].address);
    let key = bench.tier.keys().account_bucket(damaged);
    let _: String = bench.command(&["SET", &key, "text"]).await;
    let found = join_all(accounts.iter().map(|account| bench.tier.account(account.address))).await;
    for (account, found) in accounts.iter().zip(found) {
        if buckets.of_account(account.address) == damaged {
            assert_eq!(found.unwrap_err().kind(), FastErrorKind::Corrupt);
        } else {
            assert_eq!(found.unwrap().value.as_ref(), Some(*account));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_to_each_and_all_is_well_after_the_restore() {
    let bench = Bench::new().await;
    bench.tier.claim(None, EPOCH, &holder()).await.unwrap();
    bench.restore_empty().await;
    let ask = || join_all((0..300).map(|address| bench.tier.account(Address(address))));
    assert!(ask().await.into_iter().all(|found| found.unwrap().value.is_none()));
    bench.tier.begin_clean(EPOCH).await.unwrap();
    let refused = ask().await;
    assert!(refused.into_iter().all(|found| found.unwrap_err().kind() == FastErrorKind::NotReady));
    bench.restore_empty().await;
    assert!(ask().await.into_iter().all(|found| found.unwrap().value.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_follow_a_restore_that_spreads_keys_over_another_number_of_buckets() {
    let Some((bench, chain)) = at_its_end(5).await else { return };
    let reader = bench.another().await;
    let account = chain.state.accounts().next().unwrap();
    assert_eq!(reader.account(account.address).await.unwrap().value.as_ref(), Some(account));
    bench.tier.begin_clean(EPOCH).await.unwrap();
    bench.tier.clean(EPOCH, |_| {}).await.unwrap();
    let many = forebay_fast::Expected { accounts: 1_000_000, transactions: 10_000_000 };
    let restore = bench.tier.begin_restore(EPOCH, many).await.unwrap();
    let head = forebay_fast::RestoredHead {
        position: forebay_fast::Position { epoch: 0, seq: 0 },
        tip: None,
        genesis_account: None,
    };
    restore.finish(&head).await.unwrap();
    reader.forget_floor();
    let mut fence = start_fence();
    for (applied, forgers) in chain.applied.iter().zip(&chain.forgers) {
        bench.apply(&mut fence, applied, forgers.as_deref()).await;
    }
    let found = join_all(chain.state.accounts().map(|account| reader.account(account.address))).await;
    for (account, found) in chain.state.accounts().zip(found) {
        assert_eq!(found.unwrap().value.as_ref(), Some(account));
    }
}

/// A writer that goes up and down, and what was acknowledged of it.
struct History {
    chain: Chain,
    /// After each height; the first is of height 1.
    states: Vec<MemoryState>,
    /// The height after each operation; the place in it is the operation's number.
    heights: std::sync::Mutex<Vec<usize>>,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

impl History {
    fn begun(&self) -> usize {
        self.heights.lock().unwrap().len() - 1
    }

    fn height_after(&self, operation: usize) -> usize {
        self.heights.lock().unwrap()[operation]
    }
}

const LOWEST: usize = 60;

async fn go_up_and_down(bench: &Bench, history: &History, mut fence: Fence, operations: usize) {
    let mut goes_up = false;
    for number in 0..operations {
        let height = history.height_after(history.begun());
        goes_up = match height {
            LOWEST => true,
            _ if height == history.chain.applied.len() => false,
            _ if number % 7 == 0 => !goes_up,
            _ => goes_up,
        };
        let next = if goes_up { height + 1 } else { height - 1 };
        history.heights.lock().unwrap().push(next);
        if goes_up {
            bench
                .apply(&mut fence, &history.chain.applied[height], history.chain.forgers[height].as_deref())
                .await;
        } else {
            let top = &history.chain.applied[height - 1];
            let mut state = history.states[height - 1].clone();
            let changes = state.pop(&top.block, top.undo.as_ref().unwrap()).unwrap();
            let entry = OutboxEntry::of_pop(next_position(&fence), &changes).unwrap();
            bench.tier.take_back(&fence, &changes, &entry).await.unwrap();
            fence = Fence { seq: fence.seq + 1, tip: Some(changes.tip_after.id), ..fence };
        }
        history.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    history.is_over.store(true, Ordering::SeqCst);
}

/// Asks again and again; each answer must be that of an operation which was not over before the question, and had begun
/// before the answer.
async fn ask_on(tier: FastTier, history: Arc<History>, reader: usize) -> usize {
    let accounts: Vec<Address> = history.states[LOWEST].accounts().map(|account| account.address).collect();
    let mut asked = 0;
    while !history.is_over.load(Ordering::SeqCst) {
        asked += 1;
        let number = asked * 31 + reader * 7;
        let first = history.acknowledged.load(Ordering::SeqCst);
        let wanted = 50 + number % (history.chain.applied.len() - 50);
        let block = &history.chain.applied[wanted].block;
        let (at, fits): (_, Box<dyn Fn(usize) -> bool>) = if asked % 3 == 0 {
            let address = accounts[number % accounts.len()];
            let found = tier.account(address).await.unwrap();
            let states = &history.states;
            (found.at, Box::new(move |height| states[height - 1].account(address) == found.value.as_ref()))
        } else if let Some(transaction) = block.transactions.first().filter(|_| asked % 3 == 1) {
            let found = tier.transaction(transaction.id).await.unwrap();
            let is_there = found.value.is_some();
            if let Some(located) = found.value {
                let there = located.found.unwrap();
                assert_eq!(
                    (located.height, there.block, &there.transaction),
                    (block.height, block.id, transaction)
                );
                let before = history.states[wanted - 1].tip().unwrap().transactions_total;
                assert_eq!(there.transactions_before, Some(before));
            }
            (found.at, Box::new(move |height| is_there == (block.height as usize <= height)))
        } else {
            let found = tier.block(block.id).await.unwrap();
            assert!(found.value.is_none() || found.value.as_ref() == Some(block));
            (found.at, Box::new(move |height| found.value.is_some() == (block.height as usize <= height)))
        };
        let operation = usize::try_from(at.position.seq).unwrap() - LOWEST;
        assert!((first..=history.begun()).contains(&operation), "{operation} after {first}");
        let height = history.height_after(operation);
        assert_eq!(at.height as usize, height);
        assert!(fits(height), "reader {reader}, question {asked}, operation {operation}, height {height}");
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_older_than_its_question_while_blocks_come_and_are_taken_back() {
    let Some(chain) = oracle_chain(100) else { return };
    let bench = Bench::ready().await;
    let (mut fence, mut state, mut states) = (start_fence(), MemoryState::new(), Vec::new());
    for (number, (applied, forgers)) in chain.applied.iter().zip(&chain.forgers).enumerate() {
        state.commit(&applied.changes).unwrap();
        states.push(state.clone());
        if number < LOWEST {
            bench.apply(&mut fence, applied, forgers.as_deref()).await;
        }
    }
    let history = Arc::new(History {
        chain,
        states,
        heights: vec![LOWEST].into(),
        acknowledged: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    // Through a connection of their own, as the API has one.
    let tier = bench.another().await;
    let readers: Vec<_> =
        (0..24).map(|reader| tokio::spawn(ask_on(tier.clone(), Arc::clone(&history), reader))).collect();
    go_up_and_down(&bench, &history, fence, 600).await;
    let mut asked = 0;
    for reader in readers {
        asked += reader.await.unwrap();
    }
    let shared = tier.shared_calls();
    assert!(asked > 500 && shared.calls < shared.reads, "{asked} {shared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_after_a_restart_of_redis_and_say_why_not_before() {
    let mut servers =
        TestServers::with(TestOptions { postgres: false, ..TestOptions::default() }).await.unwrap();
    let options = FastOptions {
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        ..FastOptions::default()
    };
    let tier = FastTier::connect(&servers.redis().redis_url(), "test", options).await.unwrap();
    let ready = async |tier: &FastTier, epoch| {
        tier.claim(None, epoch, &holder()).await.unwrap();
        tier.begin_clean(epoch).await.unwrap();
        tier.clean(epoch, |_| {}).await.unwrap();
        let expected = forebay_fast::Expected { accounts: 0, transactions: 0 };
        let restore = tier.begin_restore(epoch, expected).await.unwrap();
        let position = forebay_fast::Position { epoch: 0, seq: 0 };
        let head = forebay_fast::RestoredHead { position, tip: None, genesis_account: None };
        restore.finish(&head).await.unwrap();
    };
    ready(&tier, 1).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..16)
        .map(|reader| {
            let (tier, is_over) = (tier.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut kinds = HashSet::new();
                while !is_over.load(Ordering::SeqCst) {
                    match tier.account(Address(reader)).await {
                        Ok(found) => assert_eq!(found.value, None),
                        Err(error) => drop(kinds.insert(error.kind())),
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                kinds
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        servers.kill_redis().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        servers.restart_redis().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // It is empty: nothing is read from it before it is restored.
        ready(&tier, 1).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        let kinds = reader.await.unwrap();
        assert!(
            kinds.is_subset(&HashSet::from([FastErrorKind::Unavailable, FastErrorKind::NotReady])),
            "{kinds:?}"
        );
        assert!(!kinds.is_empty());
    }
    assert_eq!(tier.account(Address(1)).await.unwrap().value, None);
}
