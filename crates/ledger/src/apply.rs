//! `apply` and `undo`: pure functions from a state view to a change set.
//!
//! `undo` of `apply` gives back exactly the state before. Where the reference node's rollback leaves traces (RULES 7)
//! there are none here: state is a function of the chain.

use std::collections::{HashMap, HashSet};

use crate::account::{Account, Delegate, Multisignature};
use crate::block::Block;
use crate::crypto::Checker;
use crate::ids::hashing::IdHash;
use crate::ids::{Address, Height};
use crate::keys::{Hash, PublicKey};
use crate::profile::NetworkProfile;
use crate::refusal::{Refusal, TransactionRefusal};
use crate::round;
use crate::state::{
    AccountChange, ChangeSet, RoundBlock, RoundChange, RoundCloser, RoundState, StateView, Tip, UndoRecord,
};
use crate::transaction::{Asset, Transaction};
use crate::verify::{self, CheckedBlock};

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

/// Why a block cannot be taken back with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// The record belongs to another block than the tip.
    #[error("the undo record belongs to block {record}, the tip is {tip}")]
    NotTheTip {
        /// Whose record it is.
        record: crate::ids::BlockId,
        /// The tip.
        tip: String,
    },
    /// The block that was given is not the one of the record.
    #[error("the undo record belongs to block {record}, but block {block} was given")]
    OtherBlock {
        /// Whose record it is.
        record: crate::ids::BlockId,
        /// What was given.
        block: crate::ids::BlockId,
    },
}

/// Takes the tip back: the change set whose application leaves the state exactly as it was before the block.
///
/// # Errors
/// [`UndoError`] when record, block and tip are not the same block.
pub fn undo(view: &impl StateView, block: &Block, record: &UndoRecord) -> Result<ChangeSet, UndoError> {
    let tip = view.tip();
    if tip.map(|tip| tip.id) != Some(record.block_id) {
        let tip = tip.map_or_else(|| "none".to_owned(), |tip| tip.id.to_string());
        return Err(UndoError::NotTheTip { record: record.block_id, tip });
    }
    if block.id != record.block_id {
        return Err(UndoError::OtherBlock { record: record.block_id, block: block.id });
    }
    let accounts = record
        .accounts
        .iter()
        .map(|(address, before)| AccountChange {
            address: *address,
            before: view.account(*address).cloned(),
            after: before.clone(),
        })
        .collect();
    let round = match &record.closed_round {
        Some(round) => RoundChange::Reopened(round.clone()),
        None => RoundChange::Retracted,
    };
    Ok(ChangeSet {
        tip_before: tip.copied(),
        tip_after: record.tip_before,
        accounts,
        transactions: block.transactions.iter().map(|t| t.id).collect(),
        usernames: record.usernames.clone(),
        round,
        undo: true,
        delegates_digest: None,
    })
}

fn tip_of(block: &Block, transactions_before: u64) -> Tip {
    Tip {
        height: block.height,
        id: block.id,
        timestamp: block.timestamp,
        transactions_total: transactions_before + block.transactions.len() as u64,
    }
}

/// An account that a block touches: as the view has it, and as it is so far.
struct Touched<'a> {
    before: Option<&'a Account>,
    now: Account,
}

/// The accounts that a block touches, on top of a view.
struct Working<'a, V> {
    view: &'a V,
    touched: HashMap<Address, Touched<'a>, IdHash>,
    usernames: Vec<(String, Address)>,
}

impl<'a, V: StateView> Working<'a, V> {
    /// `touches`: about how many accounts it will be.
    fn new(view: &'a V, touches: usize) -> Self {
        let touched = HashMap::with_capacity_and_hasher(touches, IdHash::default());
        Self { view, touched, usernames: Vec::new() }
    }

    /// The account, created if there is none.
    fn account(&mut self, address: Address) -> &mut Account {
        let view = self.view;
        let touched = self.touched.entry(address).or_insert_with(|| {
            let before = view.account(address);
            Touched { before, now: before.cloned().unwrap_or_else(|| Account::new(address)) }
        });
        &mut touched.now
    }

    fn current(&self, address: Address) -> Option<&Account> {
        self.touched.get(&address).map(|touched| &touched.now).or_else(|| self.view.account(address))
    }

    fn add_balance(&mut self, address: Address, amount: i64) -> Result<(), Refusal> {
        let account = self.account(address);
        account.balance = account.balance.checked_add(amount).ok_or(Refusal::Overflow("a balance"))?;
        Ok(())
    }

    fn set_public_key(&mut self, key: &PublicKey) -> Address {
        let address = Address::of(key);
        self.account(address).public_key.get_or_insert(*key);
        address
    }

    /// What must hold in the state *within* the block (RULES 4): a group registered earlier in the block is asked for
    /// its signatures already, registrations and votes of one account do not repeat.
    fn check_in_block(
        &self,
        transaction: &Transaction,
        profile: &NetworkProfile,
    ) -> Result<(), TransactionRefusal> {
        if profile.exceptions.verification_skipped.contains(&transaction.id) {
            return Ok(());
        }
        let sender = self.current(transaction.sender).ok_or(TransactionRefusal::UnknownSender)?;
        let before = self.view.account(transaction.sender);
        match &transaction.asset {
            Asset::SecondSignature { .. } if sender.second_public_key.is_some() => {
                return Err(TransactionRefusal::SecondKeyExists);
            }
            Asset::Delegate { .. } if sender.delegate.is_some() => {
                return Err(TransactionRefusal::DelegateExists);
            }
            Asset::Vote { votes } => {
                verify::check_votes(&sender.votes, votes, profile.limits.votes_per_account)?
            }
            Asset::Multisignature { .. }
                if sender.multisignature.as_ref() != before.and_then(|a| a.multisignature.as_ref()) =>
            {
                return Err(TransactionRefusal::Group(
                    "a second registration of this account in the block".into(),
                ));
            }
            _ => {}
        }
        let found = transaction.signatures.len();
        let (needed, _) = verify::group_signatures_needed(transaction, sender.multisignature.as_ref());
        if found < needed { Err(TransactionRefusal::NotReady { found, needed }) } else { Ok(()) }
    }

    fn apply_transaction(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
        let cost = transaction.cost().ok_or(Refusal::Overflow("amount and fee"))?;
        // Its address was computed from its key when it was read.
        let sender = transaction.sender;
        self.account(sender).public_key.get_or_insert(transaction.sender_public_key);
        self.add_balance(sender, cost.checked_neg().ok_or(Refusal::Overflow("amount and fee"))?)?;
        match &transaction.asset {
            Asset::Transfer => {
                if let Some(recipient) = transaction.recipient {
                    self.add_balance(recipient, transaction.amount)?;
                }
            }
            Asset::SecondSignature { public_key } => {
                self.account(sender).second_public_key = Some(*public_key)
            }
            Asset::Delegate { username } => {
                self.account(sender).delegate = Some(Delegate {
                    username: username.clone(),
                    vote: 0,
                    votes_weight: 0,
                    missed_in_a_row: 0,
                    voters_balance: 0,
                    voters_share: 0,
                });
                self.usernames.push((username.clone(), sender));
            }
            Asset::Vote { votes } => {
                let chosen = &mut self.account(sender).votes;
                for entry in votes.iter().filter(|entry| !entry.add) {
                    let delegate = Address::of(&entry.delegate);
                    chosen.retain(|voted| *voted != delegate);
                }
                chosen
                    .extend(votes.iter().filter(|entry| entry.add).map(|entry| Address::of(&entry.delegate)));
                chosen.sort_unstable();
                chosen.dedup();
            }
            Asset::Multisignature { min, lifetime, keys } => {
                let mut members = keys.clone();
                members.sort_unstable();
                members.dedup();
                for key in &members {
                    self.set_public_key(key);
                }
                self.account(sender).multisignature =
                    Some(Multisignature { min: *min, lifetime: *lifetime, members });
            }
        }
        Ok(())
    }

    fn count_produced(&mut self, generator: &PublicKey) -> Result<(), Refusal> {
        let forging = &mut self.account(Address::of(generator)).forging;
        forging.produced_blocks =
            forging.produced_blocks.checked_add(1).ok_or(Refusal::Overflow("a block count"))?;
        Ok(())
    }

    fn close_round(
        &mut self,
        profile: &NetworkProfile,
        block: &Block,
        running: &RoundState,
        blocks: &[RoundBlock],
    ) -> Result<(RoundState, Hash), Refusal> {
        self.count_missed(profile, block.height, &running.forgers, blocks)?;
        for payment in round::payments(blocks, profile.delegates)? {
            let earned =
                payment.fees.checked_add(payment.reward).ok_or(Refusal::Overflow("a round's payment"))?;
            let address = Address::of(&payment.generator);
            if self.current(address).is_none() {
                return Err(Refusal::IncompleteView(format!("the forger {}", address.0)));
            }
            self.add_balance(address, earned)?;
            let account = self.account(address);
            let sums = account
                .forging
                .fees
                .checked_add(payment.fees)
                .zip(account.forging.rewards.checked_add(payment.reward));
            (account.forging.fees, account.forging.rewards) = sums.ok_or(Refusal::Overflow("earned fees"))?;
            if let Some(delegate) = &mut account.delegate {
                delegate.missed_in_a_row = 0;
            }
        }
        self.settle_tallies()?;
        self.weigh_all();
        let closing = RoundCloser { height: block.height, generator: block.generator_public_key };
        Ok(self.open_next(profile, &closing, block, &running.closers))
    }

    /// The genesis block ends "round 1" too (RULES 3): everyone on the list missed it. The list of round 1 follows from
    /// the votes in the genesis block, and its generator opens round 1's blocks.
    fn close_genesis(
        &mut self,
        profile: &NetworkProfile,
        block: &Block,
    ) -> Result<(RoundState, Hash), Refusal> {
        self.settle_tallies()?;
        self.weigh_all();
        let delegates = self.all_delegates();
        let forgers = round::forger_list(profile, 2, block.id, &[], delegates.values().copied());
        drop(delegates);
        let first =
            RoundBlock { generator: block.generator_public_key, fees: block.total_fee, reward: block.reward };
        self.count_missed(profile, block.height, &forgers, &[first])?;
        let digest = round::delegates_digest(self.all_delegates().into_values());
        Ok((RoundState { round: 1, forgers, blocks: vec![first], closers: Vec::new() }, digest))
    }

    fn count_missed(
        &mut self,
        profile: &NetworkProfile,
        height: Height,
        forgers: &[PublicKey],
        blocks: &[RoundBlock],
    ) -> Result<(), Refusal> {
        let counts_in_a_row = profile.is_generation_two(height);
        for key in round::outsiders(forgers, blocks) {
            let account = self.account(Address::of(&key));
            let missed = account.forging.missed_blocks.checked_add(1);
            account.forging.missed_blocks = missed.ok_or(Refusal::Overflow("missed rounds"))?;
            if let Some(delegate) = &mut account.delegate {
                delegate.missed_in_a_row = if counts_in_a_row { delegate.missed_in_a_row + 1 } else { 0 };
            }
        }
        Ok(())
    }

    /// Carries what happened to voters' balances and votes over to their delegates' running sums.
    fn settle_tallies(&mut self) -> Result<(), Refusal> {
        let mut deltas: HashMap<Address, (i128, i128), IdHash> = HashMap::default();
        for Touched { before, now } in self.touched.values() {
            if before.is_some_and(|b| b.balance == now.balance && b.votes == now.votes) {
                continue;
            }
            if let Some(before) = before {
                contribute(&mut deltas, before, -1);
            }
            contribute(&mut deltas, now, 1);
        }
        for (delegate, (balance, share)) in deltas.into_iter().filter(|(_, delta)| *delta != (0, 0)) {
            if self.current(delegate).is_none() {
                return Err(Refusal::IncompleteView(format!("delegate {}", delegate.0)));
            }
            if let Some(tally) = &mut self.account(delegate).delegate {
                let sums = add(tally.voters_balance, balance).zip(add(tally.voters_share, share));
                (tally.voters_balance, tally.voters_share) =
                    sums.ok_or(Refusal::Overflow("a sum of votes"))?;
            }
        }
        Ok(())
    }

    fn weigh_all(&mut self) {
        let weighed: Vec<Account> = self
            .all_delegates()
            .into_values()
            .map(|account| {
                let mut weighed = account.clone();
                round::weigh(&mut weighed);
                weighed
            })
            .collect();
        for account in weighed {
            let address = account.address;
            *self.account(address) = account;
        }
    }

    fn open_next(
        &self,
        profile: &NetworkProfile,
        closing: &RoundCloser,
        block: &Block,
        closers: &[RoundCloser],
    ) -> (RoundState, Hash) {
        let delegates = self.all_delegates();
        let next = round::next_round(profile, closing, block.id, closers, delegates.values().copied());
        (next, round::delegates_digest(delegates.into_values()))
    }

    /// Every delegate as the block leaves it.
    fn all_delegates(&self) -> HashMap<Address, &Account> {
        let mut all: HashMap<Address, &Account> = self.view.delegates().map(|a| (a.address, a)).collect();
        let touched = self.touched.values().map(|touched| &touched.now);
        all.extend(touched.filter(|a| a.delegate.is_some()).map(|a| (a.address, a)));
        all
    }

    fn finish(self) -> (Vec<AccountChange>, Vec<(String, Address)>) {
        let mut changes: Vec<AccountChange> = self
            .touched
            .into_iter()
            .filter(|(_, touched)| touched.before != Some(&touched.now))
            .map(|(address, Touched { before, now })| AccountChange {
                address,
                before: before.cloned(),
                after: Some(now),
            })
            .collect();
        changes.sort_unstable_by_key(|change| change.address);
        (changes, self.usernames)
    }
}

fn contribute(deltas: &mut HashMap<Address, (i128, i128), IdHash>, voter: &Account, sign: i128) {
    let votes = i128::try_from(voter.votes.len()).unwrap_or(i128::MAX);
    for delegate in &voter.votes {
        let (balance, share) = deltas.entry(*delegate).or_default();
        *balance += sign * i128::from(voter.balance);
        *share += sign * i128::from(voter.balance).div_euclid(votes);
    }
}

fn add(sum: i64, delta: i128) -> Option<i64> {
    i64::try_from(i128::from(sum) + delta).ok()
}
