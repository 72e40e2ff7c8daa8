//! What a network's exceptions allow, and only that.

use std::sync::Arc;

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::profile::WrongSlot;
use forebay_ledger::state::StateView;
use forebay_ledger::transaction::Asset;
use forebay_slow::setup::ChainParameters;
use forebay_slow::{BlockRow, SlowError, SlowOperation, SlowReader};

use crate::support::Database;
use crate::support::chain::{Chain, apply, take_back};
use crate::support::dump::everything;

async fn accounts(database: &Database) -> Vec<Account> {
    let reader = SlowReader::connect(&database.writer()).await.unwrap();
    let mut all = Vec::new();
    let take = async |chunk| {
        all.extend::<Vec<Account>>(chunk);
        Ok::<_, SlowError>(())
    };
    reader.reads().accounts(1000, take).await.unwrap();
    all
}

#[tokio::test]
async fn a_vote_without_effect_changes_nothing_and_its_undo_neither() {
    let plain = Chain::first();
    let vote = plain.main[405..420]
        .iter()
        .flat_map(|row| &row.block.transactions)
        .find(|t| matches!(t.asset, Asset::Vote { .. }))
        .unwrap();
    let mut profile = plain.profile.clone();
    profile.exceptions.without_effect = vec![vote.id];
    let chain = Chain::with_profile("chain", profile, 420);
    assert_ne!(chain.states[419].account(vote.sender), plain.states[419].account(vote.sender));

    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=405), 1000).await;
    let before = everything(&admin).await;
    apply(&mut writer, &chain.appends(406..=420), 1000).await;
    assert!(accounts(&database).await.iter().eq(chain.states[419].accounts()));
    take_back(&mut writer, 405).await;
    assert!(before == everything(&admin).await);
}

fn changed(row: &BlockRow, change: impl FnOnce(&mut Block)) -> SlowOperation {
    let mut block = (*row.block).clone();
    change(&mut block);
    SlowOperation::Append(BlockRow { block: Arc::new(block), ..row.clone() })
}

#[tokio::test]
async fn a_listed_block_may_stand_in_another_slot_and_a_listed_account_below_zero() {
    let mut chain = Chain::first_up_to(50);
    let payment =
        chain.main[49].block.transactions.iter().position(|t| t.recipient.is_some_and(|to| to != t.sender));
    let overdrawn = |row: &BlockRow| {
        changed(row, |block| {
            block.timestamp += 30;
            block.transactions[payment.unwrap()].amount += 1_000_000_000_000_000;
            block.total_amount += 1_000_000_000_000_000;
        })
    };
    let operation = overdrawn(&chain.main[49]);
    let sender = chain.main[49].block.transactions[payment.unwrap()].sender;
    let slot = WrongSlot { height: 50, generator: chain.main[49].block.generator_public_key };

    for (wrong_slot, negative, code) in
        [(false, true, Some("FB004")), (true, false, Some("FB005")), (true, true, None)]
    {
        let exceptions = &mut chain.profile.exceptions;
        exceptions.wrong_slot = if wrong_slot { vec![slot.clone()] } else { Vec::new() };
        exceptions.may_be_negative = if negative { vec![sender.with_suffix('R')] } else { Vec::new() };
        let database = Database::new(&ChainParameters::new(&chain.profile, &chain.main[0].block)).await;
        let mut writer = database.writing().await;
        apply(&mut writer, &chain.appends(1..=49), 1000).await;
        let applied = writer.apply(1, 49, 50, std::slice::from_ref(&operation), 1).await;
        assert_eq!(applied.as_ref().err().and_then(SlowError::sqlstate), code, "{applied:?}");
    }
}
