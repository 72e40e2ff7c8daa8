//! What is read back is what was given in, and what the ledger has.

use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::state::StateView;
use forebay_slow::{SlowError, SlowReader};

use crate::support::Database;
use crate::support::chain::{Chain, apply};

#[tokio::test]
async fn blocks_and_transactions_come_back_as_they_were_given() {
    let chain = Chain::first();
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=420), 1000).await;
    let reader = SlowReader::connect(&database.writer()).await.unwrap();
    let reads = reader.reads();

    assert_eq!(reads.block_rows(1..=420).await.unwrap(), chain.main);
    let block = &*chain.main[299].block;
    assert_eq!(reads.block_by_id(block.id).await.unwrap().as_ref(), Some(block));
    assert_eq!(reads.block_by_height(300).await.unwrap().as_ref(), Some(block));
    assert_eq!(reads.block_by_height(421).await.unwrap(), None);
    let sent =
        chain.main.iter().find_map(|row| row.block.transactions.iter().find(|t| !t.signatures.is_empty()));
    let (height, found) = reads.transaction(sent.unwrap().id).await.unwrap().unwrap();
    assert_eq!(&found, sent.unwrap());
    assert!(chain.main[height as usize - 1].block.transactions.contains(&found));
    assert_eq!(reads.transaction(TransactionId(5)).await.unwrap(), None);
}

#[tokio::test]
async fn a_snapshot_streams_the_ledgers_state() {
    let chain = Chain::second();
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=450), 1000).await;
    let state = &chain.states[449];
    let mut reader = SlowReader::connect(&database.writer()).await.unwrap();
    let snapshot = reader.snapshot().await.unwrap();
    assert_eq!(snapshot.reads().tip().await.unwrap().as_ref(), state.tip());
    // What is committed meanwhile is not seen.
    apply(&mut writer, &chain.appends(451..=460), 1000).await;

    let mut accounts: Vec<Account> = Vec::new();
    let take = async |chunk: Vec<Account>| {
        assert!(chunk.len() <= 64);
        accounts.extend(chunk);
        Ok::<_, SlowError>(())
    };
    snapshot.reads().accounts(64, take).await.unwrap();
    assert!(accounts.iter().eq(state.accounts()), "accounts differ, or their order");

    let mut ids = Vec::new();
    let take = async |chunk: Vec<_>| {
        ids.extend(chunk);
        Ok::<_, SlowError>(())
    };
    snapshot.reads().transaction_ids(100, take).await.unwrap();
    ids.sort_unstable();
    let mut given: Vec<_> = chain.main[..450]
        .iter()
        .flat_map(|row| row.block.transactions.iter().map(|t| (t.id, row.block.height)))
        .collect();
    given.sort_unstable();
    assert_eq!(ids, given);

    let counts = snapshot.reads().counts().await.unwrap();
    assert_eq!(counts.accounts as usize, accounts.len());
    assert_eq!(counts.delegates as usize, state.delegates().count());
    assert_eq!(counts.transactions as usize, ids.len());
    assert_eq!(counts.blocks, 450);
    assert_eq!(counts.votes as usize, accounts.iter().map(|account| account.votes.len()).sum::<usize>());
    let (blocks, transactions) = snapshot.reads().counted_rows().await.unwrap();
    assert_eq!((blocks, transactions), (counts.blocks, counts.transactions));
    let names = snapshot.reads().usernames().await.unwrap();
    assert_eq!(names.len(), state.delegates().count());
    for (name, address) in names {
        assert_eq!(state.account(address).unwrap().delegate.as_ref().unwrap().username, name);
    }
    let mut delegates: Vec<&Account> = state.delegates().collect();
    delegates.sort_unstable_by_key(|account| account.address);
    assert!(snapshot.reads().delegates().await.unwrap().iter().eq(delegates));
}

#[tokio::test]
async fn single_accounts_equal_the_ledgers() {
    let chain = Chain::first_up_to(150);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=150), 1000).await;
    let reader = SlowReader::connect(&database.writer()).await.unwrap();
    for account in chain.states[149].accounts() {
        assert_eq!(reader.reads().account(account.address).await.unwrap().as_ref(), Some(account));
    }
    assert_eq!(reader.reads().account(Address(77)).await.unwrap(), None);
}

#[tokio::test]
async fn the_running_round_equals_the_ledgers() {
    let chain = Chain::second();
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    let reader = SlowReader::connect(&database.writer()).await.unwrap();
    let mut height = 0;
    for stop in [1, 2, 100, 101, 102, 201, 202, 303, 310, 520] {
        apply(&mut writer, &chain.appends(height + 1..=stop), 1000).await;
        height = stop;
        let mut expected = chain.states[stop as usize - 1].round().unwrap().clone();
        let found = reader.reads().round_state(199).await.unwrap();
        if stop % 101 == 0 {
            // The list comes with the round's first block.
            assert!(found.forgers.is_empty());
            expected.forgers.clear();
        } else {
            assert_eq!(reader.reads().forgers(found.round).await.unwrap().as_ref(), Some(&found.forgers));
        }
        assert_eq!(found, expected, "height {stop}");
    }
    let two = reader.reads().round_state(2).await.unwrap();
    assert_eq!(two.closers.iter().map(|closer| closer.height).collect::<Vec<_>>(), [404, 505]);
}
