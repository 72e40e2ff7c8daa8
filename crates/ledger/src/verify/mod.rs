//! Whether a block may follow the tip (RULES 4): what the reference node refuses is refused, what it accepts is
//! accepted, surprises included.
//!
//! Two steps: [`check_block`] needs no state and runs on many cores ahead of the Writer; [`check_against`] compares with
//! the state as of the block's start. What depends on the state *within* the block is checked by
//! [`apply`](crate::apply::apply_block), which runs both.

mod signatures;
mod transaction;

use std::collections::{HashMap, HashSet};

use crate::block::{Block, payload};
use crate::crypto::Checker;
use crate::ids::hashing::IdHash;
use crate::ids::{Address, Height};
use crate::profile::NetworkProfile;
use crate::refusal::{Refusal, TransactionRefusal};
use crate::state::{Needs, RoundState, StateView, Tip};
use crate::transaction::{Asset, Transaction};

pub(crate) use transaction::{check_votes, group_signatures_needed};

/// A block that passed every check that needs no state: only [`check_block`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBlock(Block);

impl CheckedBlock {
    /// The block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.0
    }

    /// The block, no longer marked as checked.
    #[must_use]
    pub fn into_block(self) -> Block {
        self.0
    }
}

/// What a view must hold for [`check_against`] and `apply` of this block, besides all delegates. `closing`: the running
/// round, if the block closes it: whoever forged in it is paid then, and not all of them need be delegates (the genesis
/// block's generator is none).
#[must_use]
pub fn needs(block: &Block, closing: Option<&RoundState>) -> Needs {
    let mut accounts = vec![Address::of(&block.generator_public_key)];
    accounts
        .extend(closing.iter().flat_map(|round| &round.blocks).map(|forged| Address::of(&forged.generator)));
    let mut usernames = Vec::new();
    for transaction in &block.transactions {
        accounts.push(transaction.sender);
        accounts.extend(transaction.recipient);
        accounts.extend(transaction.requester_public_key.iter().map(Address::of));
        match &transaction.asset {
            Asset::Vote { votes } => accounts.extend(votes.iter().map(|entry| Address::of(&entry.delegate))),
            Asset::Multisignature { keys, .. } => accounts.extend(keys.iter().map(Address::of)),
            Asset::Delegate { username } => usernames.push(username.clone()),
            Asset::Transfer | Asset::SecondSignature { .. } => {}
        }
    }
    accounts.sort_unstable();
    accounts.dedup();
    usernames.sort_unstable();
    usernames.dedup();
    Needs { accounts, usernames, transactions: block.transactions.iter().map(|t| t.id).collect() }
}

/// Checks everything about a block that needs no state: version, counts, sums, payload, the generator's signature and
/// the first signature of each transaction (each singly, on all cores).
///
/// # Errors
/// The first [`Refusal`].
pub fn check_block(
    block: Block,
    profile: &NetworkProfile,
    checker: &Checker,
) -> Result<CheckedBlock, Refusal> {
    check_payload(&block, profile)?;
    check_sums(&block)?;
    signatures::check_stateless(&block, profile, checker)?;
    Ok(CheckedBlock(block))
}

fn check_payload(block: &Block, profile: &NetworkProfile) -> Result<(), Refusal> {
    if block.version != 0 {
        return Err(Refusal::Version(block.version));
    }
    let real = block.transactions.len();
    let max = profile.limits.transactions_per_block;
    if u32::try_from(real) != Ok(block.number_of_transactions) {
        return Err(Refusal::TransactionCount { header: block.number_of_transactions, real });
    }
    if block.number_of_transactions > max {
        return Err(Refusal::TooManyTransactions { found: real, max });
    }
    let mut ids = HashSet::with_capacity(real);
    if let Some(twice) = block.transactions.iter().find(|t| !ids.insert(t.id)) {
        return Err(Refusal::DuplicateTransaction(twice.id));
    }
    let (hash, length) = payload(&block.transactions);
    let found = u64::from(block.payload_length).max(length as u64);
    if found > u64::from(profile.limits.payload_bytes) {
        return Err(Refusal::PayloadLength { found, max: profile.limits.payload_bytes });
    }
    if hash != block.payload_hash {
        return Err(Refusal::PayloadHash);
    }
    Ok(())
}

fn check_sums(block: &Block) -> Result<(), Refusal> {
    let amount: i128 = block.transactions.iter().map(|t| i128::from(t.amount)).sum();
    if amount != i128::from(block.total_amount) {
        return Err(Refusal::TotalAmount { header: block.total_amount, real: amount });
    }
    let fee: i128 = block.transactions.iter().map(|t| i128::from(t.fee)).sum();
    if fee != i128::from(block.total_fee) {
        return Err(Refusal::TotalFee { header: block.total_fee, real: fee });
    }
    Ok(())
}

/// Checks a block against the state as of its start. `now` is in seconds since the network's epoch.
///
/// # Errors
/// The first [`Refusal`].
pub fn check_against(
    view: &impl StateView,
    checked: &CheckedBlock,
    profile: &NetworkProfile,
    now: i64,
    checker: &Checker,
) -> Result<(), Refusal> {
    let block = checked.block();
    let tip = view.tip().ok_or(Refusal::NoGenesis)?;
    let height = check_position(block, tip, profile)?;
    check_slot(view, block, height, tip, profile, now)?;
    if let Some(known) = block.transactions.iter().find(|t| view.has_transaction(t.id)) {
        return Err(Refusal::AlreadyConfirmed(known.id));
    }
    let context = transaction::Context { view, profile, height, now };
    let mut spent: HashMap<Address, i128, IdHash> =
        HashMap::with_capacity_and_hasher(block.transactions.len(), IdHash::default());
    for (index, transaction) in block.transactions.iter().enumerate() {
        if profile.exceptions.verification_skipped.contains(&transaction.id) {
            continue;
        }
        context
            .check(transaction, spent.get(&transaction.sender).copied().unwrap_or(0))
            .map_err(|reason| at(index, transaction, reason))?;
        *spent.entry(transaction.sender).or_default() +=
            i128::from(transaction.amount) + i128::from(transaction.fee);
    }
    signatures::check_with_state(view, block, profile, checker)
}

pub(crate) fn at(index: usize, transaction: &Transaction, reason: TransactionRefusal) -> Refusal {
    Refusal::Transaction { index, id: transaction.id, reason }
}

fn check_position(block: &Block, tip: &Tip, profile: &NetworkProfile) -> Result<Height, Refusal> {
    let Some(previous) = block.previous_block else {
        return Err(Refusal::SecondGenesis { genesis: tip.id });
    };
    if previous != tip.id {
        return Err(Refusal::PreviousBlock { found: previous, tip: tip.id, tip_height: tip.height });
    }
    let height = tip.height.checked_add(1).ok_or(Refusal::Overflow("the height"))?;
    let expected = profile.reward(height);
    if block.reward != expected {
        return Err(Refusal::Reward { found: block.reward, expected, height });
    }
    Ok(height)
}

/// Seconds that a block's slot may begin ahead of the clock (RULES 4).
const AHEAD_SECONDS_MAX: i64 = 2;

fn check_slot(
    view: &impl StateView,
    block: &Block,
    height: Height,
    tip: &Tip,
    profile: &NetworkProfile,
    now: i64,
) -> Result<(), Refusal> {
    let (slot, tip_slot) = (profile.slot(block.timestamp), profile.slot(tip.timestamp));
    if slot <= tip_slot {
        return Err(Refusal::SlotNotAfterTip { slot, tip_slot });
    }
    let now_slot = slot_of_moment(now + AHEAD_SECONDS_MAX, profile);
    if i64::from(slot) > now_slot {
        return Err(Refusal::SlotInFuture { slot, now_slot });
    }
    let round = view.round().ok_or(Refusal::NoGenesis)?;
    let expected =
        usize::try_from(slot % profile.delegates).ok().and_then(|at| round.forgers.get(at)).copied();
    let found = block.generator_public_key;
    let excepted = profile.exceptions.wrong_slot.iter().any(|e| e.height == height && e.generator == found);
    if expected == Some(found) || excepted {
        Ok(())
    } else {
        Err(Refusal::WrongForger { slot, expected, found })
    }
}

fn slot_of_moment(seconds: i64, profile: &NetworkProfile) -> i64 {
    seconds.div_euclid(i64::from(profile.block_time_seconds.max(1)))
}
