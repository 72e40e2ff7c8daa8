//! One transaction against the state as of the block's start. Signatures are checked elsewhere.

use std::collections::HashSet;

use crate::account::{Account, Multisignature};
use crate::ids::{Address, Height};
use crate::keys::PublicKey;
use crate::profile::NetworkProfile;
use crate::refusal::TransactionRefusal;
use crate::state::StateView;
use crate::transaction::{Asset, Transaction, VoteEntry};

use super::slot_of_moment;

/// What all transactions of a block are checked against.
pub(super) struct Context<'a, V> {
    pub(super) view: &'a V,
    pub(super) profile: &'a NetworkProfile,
    pub(super) height: Height,
    pub(super) now: i64,
}

impl<V: StateView> Context<'_, V> {
    /// `spent`: what the sender's earlier transactions of the block took. What it received in the block does not
    /// count (RULES 4).
    pub(super) fn check(&self, transaction: &Transaction, spent: i128) -> Result<(), TransactionRefusal> {
        let sender = self.check_sender(transaction)?;
        self.check_requester(transaction, sender)?;
        check_second_signature_presence(transaction, sender)?;
        self.check_common(transaction)?;
        if self.profile.exceptions.without_effect.contains(&transaction.id) {
            return Ok(());
        }
        self.check_balance(transaction, sender, spent)?;
        // A new group's rules come first: how many must sign it follows from its keys.
        if matches!(transaction.asset, Asset::Multisignature { .. }) {
            self.check_type(transaction, sender)?;
            return check_ready(transaction, sender.multisignature.as_ref());
        }
        check_ready(transaction, sender.multisignature.as_ref())?;
        self.check_type(transaction, sender)
    }

    fn check_type(&self, transaction: &Transaction, sender: &Account) -> Result<(), TransactionRefusal> {
        match &transaction.asset {
            Asset::Transfer => check_transfer(transaction),
            Asset::SecondSignature { .. } => {
                check_no_payment(transaction)?;
                sender.second_public_key.map_or(Ok(()), |_| Err(TransactionRefusal::SecondKeyExists))
            }
            Asset::Delegate { username } => {
                check_no_payment(transaction)?;
                self.check_delegate(sender, username)
            }
            Asset::Vote { votes } => self.check_vote(transaction, sender, votes),
            Asset::Multisignature { min, lifetime, keys } => {
                check_no_payment(transaction)?;
                self.check_group(transaction, *min, *lifetime, keys)
            }
        }
    }

    fn check_sender(&self, transaction: &Transaction) -> Result<&Account, TransactionRefusal> {
        if transaction.claimed_sender.is_some() {
            return Err(TransactionRefusal::SenderId);
        }
        if self.view.genesis_account() == Some(transaction.sender) {
            return Err(TransactionRefusal::GenesisSender);
        }
        let sender = self.view.account(transaction.sender).ok_or(TransactionRefusal::UnknownSender)?;
        match sender.public_key {
            Some(key) if key != transaction.sender_public_key => Err(TransactionRefusal::SenderKey),
            _ => Ok(sender),
        }
    }

    fn check_requester(&self, transaction: &Transaction, sender: &Account) -> Result<(), TransactionRefusal> {
        match (&transaction.requester_public_key, &sender.multisignature) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(TransactionRefusal::RequesterWithoutGroup),
            (Some(key), Some(group)) if group.members.contains(key) => Ok(()),
            (Some(_), Some(_)) => Err(TransactionRefusal::RequesterNotMember),
        }
    }

    fn check_common(&self, transaction: &Transaction) -> Result<(), TransactionRefusal> {
        let fees = self.profile.fees_at(self.height);
        let expected = match &transaction.asset {
            Asset::Transfer => fees.transfer,
            Asset::SecondSignature { .. } => fees.second_signature,
            Asset::Delegate { .. } => fees.delegate,
            Asset::Vote { .. } => fees.vote,
            Asset::Multisignature { .. } => fees.multisignature,
        };
        if transaction.fee != expected {
            return Err(TransactionRefusal::Fee { found: transaction.fee, expected });
        }
        if !(0..=self.profile.total_amount).contains(&transaction.amount) {
            return Err(TransactionRefusal::Amount(transaction.amount));
        }
        if i64::from(self.profile.slot(transaction.timestamp)) > slot_of_moment(self.now, self.profile) {
            return Err(TransactionRefusal::Timestamp(transaction.timestamp));
        }
        Ok(())
    }

    fn check_balance(
        &self,
        transaction: &Transaction,
        sender: &Account,
        spent: i128,
    ) -> Result<(), TransactionRefusal> {
        if self.profile.exceptions.balance_waived.contains(&transaction.id) {
            return Ok(());
        }
        let left = i128::from(sender.balance) - spent;
        let cost = i128::from(transaction.amount) + i128::from(transaction.fee);
        if cost > left {
            let shown = |n: i128| i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX });
            return Err(TransactionRefusal::Balance { balance: shown(left), cost: shown(cost) });
        }
        Ok(())
    }

    fn check_delegate(&self, sender: &Account, username: &str) -> Result<(), TransactionRefusal> {
        if sender.delegate.is_some() {
            return Err(TransactionRefusal::DelegateExists);
        }
        let wrong = |problem| {
            Err(TransactionRefusal::Username { name: username.chars().take(40).collect(), problem })
        };
        if username.is_empty() {
            return wrong("is empty");
        }
        if username.to_lowercase() != username {
            return wrong("is not lower case");
        }
        if username.len() > usize::from(self.profile.limits.username_letters) {
            return wrong("is too long");
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!@$&_.".contains(c);
        if !username.chars().all(allowed) {
            return wrong("has a letter outside of a-z, 0-9 and !@$&_.");
        }
        let suffix = self.profile.address_suffix.to_ascii_lowercase();
        let digits = username.strip_suffix(suffix).unwrap_or_default();
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return wrong("looks like an address");
        }
        if self.view.has_username(username) {
            return wrong("is taken");
        }
        Ok(())
    }

    fn check_vote(
        &self,
        transaction: &Transaction,
        sender: &Account,
        votes: &[VoteEntry],
    ) -> Result<(), TransactionRefusal> {
        // The amount may be above 0: it is burnt (RULES 4).
        if transaction.recipient != Some(transaction.sender) {
            return Err(TransactionRefusal::Recipient("a vote's recipient must be its sender"));
        }
        let max = self.profile.limits.entries_per_vote;
        if votes.is_empty() || u32::try_from(votes.len()).is_ok_and(|n| n > max) {
            return Err(TransactionRefusal::Votes(format!("{} votes; 1 to {max} are allowed", votes.len())));
        }
        let mut seen = HashSet::new();
        if !votes.iter().all(|entry| seen.insert(*entry)) {
            return Err(TransactionRefusal::Votes("an entry stands in the votes twice".to_owned()));
        }
        for entry in votes {
            let delegate = self.view.account(Address::of(&entry.delegate));
            if delegate.is_none_or(|a| a.delegate.is_none() || a.public_key != Some(entry.delegate)) {
                return Err(TransactionRefusal::Votes(format!("{} is not a delegate", entry.delegate)));
            }
        }
        check_votes(&sender.votes, votes, self.profile.limits.votes_per_account)
    }

    fn check_group(
        &self,
        transaction: &Transaction,
        min: u8,
        lifetime: u8,
        keys: &[PublicKey],
    ) -> Result<(), TransactionRefusal> {
        let limits = &self.profile.limits;
        let wrong = |problem: String| Err(TransactionRefusal::Group(problem));
        if keys.is_empty() || keys.len() > usize::from(limits.group_keys) {
            return wrong(format!("{} keys; 1 to {} are allowed", keys.len(), limits.group_keys));
        }
        if min < 1 || usize::from(min) > keys.len() {
            return wrong(format!("min is {min}; 1 to the number of keys, {}, is allowed", keys.len()));
        }
        if !(1..=limits.group_lifetime_hours).contains(&lifetime) {
            return wrong(format!("lifetime is {lifetime}; 1 to {} is allowed", limits.group_lifetime_hours));
        }
        if keys.contains(&transaction.sender_public_key) {
            return wrong("the group contains the sender".to_owned());
        }
        let mut seen = HashSet::new();
        match keys.iter().find(|key| !seen.insert(**key)) {
            Some(twice) => wrong(format!("key {twice} stands in the group twice")),
            None => Ok(()),
        }
    }
}

/// Additions not voted for yet, removals voted for, and no more votes than allowed in the end.
pub(crate) fn check_votes(
    current: &[Address],
    entries: &[VoteEntry],
    votes_max: u32,
) -> Result<(), TransactionRefusal> {
    let mut total = current.len();
    for entry in entries {
        let voted = current.contains(&Address::of(&entry.delegate));
        match (entry.add, voted) {
            (true, true) => {
                return Err(TransactionRefusal::Votes(format!("already voted for {}", entry.delegate)));
            }
            (false, false) => {
                return Err(TransactionRefusal::Votes(format!("has not voted for {}", entry.delegate)));
            }
            (true, false) => total += 1,
            (false, true) => total -= 1,
        }
    }
    if u32::try_from(total).map_or(true, |total| total > votes_max) {
        return Err(TransactionRefusal::Votes(format!("{total} votes in the end; {votes_max} are allowed")));
    }
    Ok(())
}

fn check_second_signature_presence(
    transaction: &Transaction,
    sender: &Account,
) -> Result<(), TransactionRefusal> {
    match (sender.second_public_key, transaction.second_signature) {
        (Some(_), None) => Err(TransactionRefusal::SecondSignatureMissing),
        (None, Some(_)) => Err(TransactionRefusal::SecondSignatureNotEnabled),
        _ => Ok(()),
    }
}

fn check_transfer(transaction: &Transaction) -> Result<(), TransactionRefusal> {
    if transaction.recipient.is_none() {
        return Err(TransactionRefusal::Recipient("the recipient is missing"));
    }
    if transaction.amount <= 0 {
        return Err(TransactionRefusal::Amount(transaction.amount));
    }
    Ok(())
}

fn check_no_payment(transaction: &Transaction) -> Result<(), TransactionRefusal> {
    if transaction.recipient.is_some() {
        return Err(TransactionRefusal::Recipient("this type has no recipient"));
    }
    if transaction.amount != 0 {
        return Err(TransactionRefusal::Amount(transaction.amount));
    }
    Ok(())
}

/// How many of a group must sign, at least and at most, given the sender's group (RULES 4).
pub(crate) fn group_signatures_needed(
    transaction: &Transaction,
    group: Option<&Multisignature>,
) -> (usize, Option<usize>) {
    match (&transaction.asset, group) {
        (Asset::Multisignature { keys, .. }, None) => (keys.len(), Some(keys.len())),
        (Asset::Multisignature { keys, .. }, Some(old)) => {
            let kept = keys.iter().filter(|key| old.members.contains(key)).count();
            ((keys.len() + usize::from(old.min)).saturating_sub(kept), None)
        }
        (_, None) => (0, None),
        (_, Some(group)) => (usize::from(group.min), None),
    }
}

fn check_ready(transaction: &Transaction, group: Option<&Multisignature>) -> Result<(), TransactionRefusal> {
    let found = transaction.signatures.len();
    let (needed, most) = group_signatures_needed(transaction, group);
    if found < needed || most.is_some_and(|most| found > most) {
        return Err(TransactionRefusal::NotReady { found, needed });
    }
    Ok(())
}
