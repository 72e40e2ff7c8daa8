//! The accounts that a block touches while it is applied, and what each transaction does to them.

use std::collections::HashMap;

use crate::account::{Account, Delegate, Multisignature};
use crate::ids::Address;
use crate::ids::hashing::IdHash;
use crate::keys::PublicKey;
use crate::profile::NetworkProfile;
use crate::refusal::{Refusal, TransactionRefusal};
use crate::state::{AccountChange, StateView};
use crate::transaction::{Asset, Transaction};
use crate::verify;

/// An account that a block touches: as the view has it, and as it is so far.
pub(super) struct Touched<'a> {
    pub(super) before: Option<&'a Account>,
    pub(super) now: Account,
}

/// The accounts that a block touches, on top of a view.
pub(super) struct Working<'a, V> {
    pub(super) view: &'a V,
    pub(super) touched: HashMap<Address, Touched<'a>, IdHash>,
    usernames: Vec<(String, Address)>,
}

impl<'a, V: StateView> Working<'a, V> {
    /// `touches`: about how many accounts it will be.
    pub(super) fn new(view: &'a V, touches: usize) -> Self {
        let touched = HashMap::with_capacity_and_hasher(touches, IdHash::default());
        Self { view, touched, usernames: Vec::new() }
    }

    /// The account, created if there is none.
    pub(super) fn account(&mut self, address: Address) -> &mut Account {
        let view = self.view;
        let touched = self.touched.entry(address).or_insert_with(|| {
            let before = view.account(address);
            Touched { before, now: before.cloned().unwrap_or_else(|| Account::new(address)) }
        });
        &mut touched.now
    }

    pub(super) fn current(&self, address: Address) -> Option<&Account> {
        self.touched.get(&address).map(|touched| &touched.now).or_else(|| self.view.account(address))
    }

    pub(super) fn add_balance(&mut self, address: Address, amount: i64) -> Result<(), Refusal> {
        let account = self.account(address);
        account.balance = account.balance.checked_add(amount).ok_or(Refusal::Overflow("a balance"))?;
        Ok(())
    }

    pub(super) fn set_public_key(&mut self, key: &PublicKey) -> Address {
        let address = Address::of(key);
        self.account(address).public_key.get_or_insert(*key);
        address
    }

    /// What must hold in the state *within* the block (RULES 4): a group registered earlier in the block is asked for
    /// its signatures already, registrations and votes of one account do not repeat.
    pub(super) fn check_in_block(
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

    pub(super) fn apply_transaction(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
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

    pub(super) fn count_produced(&mut self, generator: &PublicKey) -> Result<(), Refusal> {
        let forging = &mut self.account(Address::of(generator)).forging;
        forging.produced_blocks =
            forging.produced_blocks.checked_add(1).ok_or(Refusal::Overflow("a block count"))?;
        Ok(())
    }

    pub(super) fn finish(self) -> (Vec<AccountChange>, Vec<(String, Address)>) {
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
