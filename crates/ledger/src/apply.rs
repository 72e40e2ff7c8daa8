//! `apply` and `undo`: pure functions from a state view to a change set.
//!
//! `undo` of `apply` gives back exactly the state before. Where the reference node's rollback leaves traces (RULES 7)
//! there are none here: state is a function of the chain.

mod round_end;
mod undo;
mod working;

use std::collections::HashSet;

use crate::block::Block;
use crate::crypto::Checker;
use crate::profile::NetworkProfile;
use crate::refusal::Refusal;
use crate::state::{ChangeSet, RoundBlock, RoundChange, StateView, Tip, UndoRecord};
use crate::transaction::{Asset, Transaction};
use crate::verify::{self, CheckedBlock};

pub use undo::{UndoError, undo};
use working::Working;

/// What applying a block gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The block with its height set from its position.
    pub block: Block,
    /// What changes.
    pub changes: ChangeSet,
    /// What takes the block back; `None` for the genesis block, which cannot be taken back.
    pub undo: Option<UndoRecord>,
}

/// Verifies a block against the state and applies it. `now` is in seconds since the network's epoch.
///
/// # Errors
/// A [`Refusal`]; nothing was changed, since nothing is ever changed here.
pub fn apply_block(
    view: &impl StateView,
    checked: CheckedBlock,
    profile: &NetworkProfile,
    now: i64,
    checker: &Checker,
) -> Result<Applied, Refusal> {
    verify::check_against(view, &checked, profile, now, checker)?;
    let tip = *view.tip().ok_or(Refusal::NoGenesis)?;
    let running = view.round().ok_or(Refusal::NoGenesis)?;
    let mut block = checked.into_block();
    block.height = tip.height.checked_add(1).ok_or(Refusal::Overflow("the height"))?;

    let mut working = Working::new(view, 2 * block.transactions.len() + 1);
    for (index, transaction) in block.transactions.iter().enumerate() {
        if profile.exceptions.without_effect.contains(&transaction.id) {
            continue;
        }
        working
            .check_in_block(transaction, profile)
            .map_err(|reason| verify::at(index, transaction, reason))?;
        working.apply_transaction(transaction)?;
    }
    working.count_produced(&block.generator_public_key)?;
    let appended =
        RoundBlock { generator: block.generator_public_key, fees: block.total_fee, reward: block.reward };
    let mut digest = None;
    let mut closed_round = None;
    let round = if profile.closes_round(block.height) {
        closed_round = Some(Box::new(running.clone()));
        let mut blocks = running.blocks.clone();
        blocks.push(appended);
        let (next, sum) = working.close_round(profile, &block, running, &blocks)?;
        digest = Some(sum);
        RoundChange::Closed { previous: Some(Box::new(running.clone())), next: Box::new(next) }
    } else {
        working.settle_tallies()?;
        RoundChange::Appended(appended)
    };
    let (accounts, usernames) = working.finish();
    let undo = UndoRecord {
        block_id: block.id,
        tip_before: tip,
        accounts: accounts.iter().map(|change| (change.address, change.before.clone())).collect(),
        usernames: usernames.clone(),
        closed_round,
    };
    let changes = ChangeSet {
        tip_before: Some(tip),
        tip_after: tip_of(&block, tip.transactions_total),
        accounts,
        transactions: block.transactions.iter().map(|t| t.id).collect(),
        usernames,
        round,
        undo: false,
        delegates_digest: digest,
    };
    Ok(Applied { block, changes, undo: Some(undo) })
}

/// Applies a genesis block to an empty state. Nothing of it is verified but its shape (RULES 1 and 3): the operator's
/// word makes it the genesis block.
///
/// # Errors
/// [`Refusal::NotGenesis`] when it follows another block or does not stand at height 1; an overflow.
pub fn apply_genesis(
    view: &impl StateView,
    block: Block,
    profile: &NetworkProfile,
) -> Result<Applied, Refusal> {
    if let Some(tip) = view.tip() {
        return Err(Refusal::SecondGenesis { genesis: tip.id });
    }
    if block.previous_block.is_some() || block.height != 1 {
        let found =
            format!("height {}, previousBlock {:?}", block.height, block.previous_block.map(|id| id.0));
        return Err(Refusal::NotGenesis(format!("it needs height 1 and no previousBlock, but has {found}")));
    }
    if usize::try_from(block.number_of_transactions) != Ok(block.transactions.len()) {
        return Err(Refusal::TransactionCount {
            header: block.number_of_transactions,
            real: block.transactions.len(),
        });
    }
    let mut ids = HashSet::new();
    if let Some(twice) = block.transactions.iter().find(|t| !ids.insert(t.id)) {
        return Err(Refusal::DuplicateTransaction(twice.id));
    }
    let mut working = Working::new(view, block.transactions.len());
    let (votes, others): (Vec<&Transaction>, Vec<&Transaction>) =
        block.transactions.iter().partition(|t| matches!(t.asset, Asset::Vote { .. }));
    for transaction in others.into_iter().chain(votes) {
        working.apply_transaction(transaction)?;
    }
    // A genesis block whose generator sent nothing would leave the account without a row.
    working.set_public_key(&block.generator_public_key);
    working.count_produced(&block.generator_public_key)?;
    let (next, digest) = working.close_genesis(profile, &block)?;
    let (accounts, usernames) = working.finish();
    let changes = ChangeSet {
        tip_before: None,
        tip_after: tip_of(&block, 0),
        accounts,
        transactions: block.transactions.iter().map(|t| t.id).collect(),
        usernames,
        round: RoundChange::Closed { previous: None, next: Box::new(next) },
        undo: false,
        delegates_digest: Some(digest),
    };
    Ok(Applied { block, changes, undo: None })
}
fn tip_of(block: &Block, transactions_before: u64) -> Tip {
    Tip {
        height: block.height,
        id: block.id,
        timestamp: block.timestamp,
        transactions_total: transactions_before + block.transactions.len() as u64,
    }
}
