//! The transactions of one block: chosen one after another, signed on all cores.
//!
//! Choices look at the state as of the block's start, as verification does (RULES 4), and keep count of what the block
//! itself has used up: what senders spent, and which accounts registered something.

use std::collections::{HashMap, HashSet};

use forebay_ledger::account::{Account, Multisignature};
use forebay_ledger::crypto::KeyPair;
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::keys::{PublicKey, Signature};
use forebay_ledger::memory::MemoryState;
use forebay_ledger::profile::FeeSchedule;
use forebay_ledger::state::StateView;
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};
use rayon::prelude::*;

use crate::chain::ChainOptions;
use crate::mix::Kind;
use crate::network::{Network, Wallet};
use crate::random::Random;

/// How often a choice that cannot be carried out is made anew.
const ATTEMPTS: usize = 8;
/// Members of a generated group at most.
const GROUP_MEMBERS_MAX: u64 = 4;
/// The largest amount of a generated transfer: small against any balance, so that chains can be long.
const AMOUNT_MAX: i64 = 10_000_000_000;

/// What a block's transactions are chosen from.
pub(crate) struct Composer<'a> {
    network: &'a Network,
    state: &'a MemoryState,
    options: &'a ChainOptions,
    random: Random,
    timestamp: u32,
    fees: FeeSchedule,
    delegates: Vec<PublicKey>,
    spent: HashMap<Address, i64>,
    /// Accounts that did something in this block that they can do once a block: type and address.
    done: HashSet<(u8, Address)>,
    /// Sender, recipient, amount and timestamp of transfers: equal ones would have equal ids.
    seen: HashSet<(Address, Address, i64, u32)>,
}

/// A transaction that waits for its signatures.
struct Draft<'a> {
    transaction: Transaction,
    first: &'a KeyPair,
    second: Option<&'a Wallet>,
    group: Vec<&'a KeyPair>,
}

impl<'a> Composer<'a> {
    pub(crate) fn new(
        network: &'a Network,
        state: &'a MemoryState,
        options: &'a ChainOptions,
        random: Random,
        timestamp: u32,
    ) -> Self {
        let height = state.tip().map_or(1, |tip| tip.height.saturating_add(1));
        let delegates = if options.mix.votes > 0 {
            state.delegates().filter_map(|account| account.public_key).collect()
        } else {
            Vec::new()
        };
        Self {
            network,
            state,
            options,
            random,
            timestamp,
            fees: network.profile.fees_at(height),
            delegates,
            spent: HashMap::new(),
            done: HashSet::new(),
            seen: HashSet::new(),
        }
    }

    /// Up to `count` signed transactions; fewer when senders run out of money.
    pub(crate) fn compose(mut self, count: u32) -> Vec<Transaction> {
        let drafts: Vec<Draft<'a>> = (0..count).map_while(|_| self.next_draft()).collect();
        drafts.into_par_iter().map(Draft::sign).collect()
    }

    fn next_draft(&mut self) -> Option<Draft<'a>> {
        let kind = self.options.mix.choose(&mut self.random);
        (0..ATTEMPTS)
            .find_map(|_| self.draft(kind))
            .or_else(|| (0..ATTEMPTS * 8).find_map(|_| self.draft(Kind::Transfer)))
    }

    fn draft(&mut self, kind: Kind) -> Option<Draft<'a>> {
        match kind {
            Kind::Transfer => self.transfer(1),
            Kind::GroupTransfer => self.transfer(GROUP_CANDIDATES),
            Kind::SecondSignature => self.second_signature(),
            Kind::Delegate => self.delegate(),
            Kind::Vote => self.vote(),
            Kind::Multisignature => self.multisignature(),
        }
    }

    fn transfer(&mut self, candidates: usize) -> Option<Draft<'a>> {
        let (wallet, account) = self.sender(candidates)?;
        if candidates == GROUP_CANDIDATES && account.multisignature.is_none() {
            return None;
        }
        let recipient = if self.random.percent(self.options.fresh_recipients_percent) {
            Address(self.random.next_u64())
        } else {
            self.random.pick(&self.network.wallets)?.address
        };
        let most = self.available(account).checked_sub(self.fees.transfer)?.min(AMOUNT_MAX);
        let amount = 1 + i64::try_from(self.random.below(u64::try_from(most).ok()?)).ok()?;
        let draft = self.finish(wallet, account, Asset::Transfer, Some(recipient), amount)?;
        let fresh = self.seen.insert((wallet.address, recipient, amount, draft.transaction.timestamp));
        fresh.then_some(draft)
    }

    fn second_signature(&mut self) -> Option<Draft<'a>> {
        let (wallet, account) = self.sender(SECOND_KEY_CANDIDATES)?;
        if account.second_public_key.is_some() {
            return None;
        }
        let public_key = KeyPair::from_passphrase(&wallet.second_passphrase()).public_key();
        self.finish(wallet, account, Asset::SecondSignature { public_key }, None, 0)
    }

    fn delegate(&mut self) -> Option<Draft<'a>> {
        let (wallet, account) = self.sender(DELEGATE_CANDIDATES)?;
        if account.delegate.is_some() {
            return None;
        }
        let username = format!("d{:x}", wallet.address.0);
        self.finish(wallet, account, Asset::Delegate { username }, None, 0)
    }

    /// A first vote, a changed one, or one taken back; now and then with an amount, which is burnt (RULES 4).
    fn vote(&mut self) -> Option<Draft<'a>> {
        let (wallet, account) = self.sender(1)?;
        let chosen = *self.random.pick(&self.delegates)?;
        let current = account.votes.first().map(|address| self.state.account(*address)?.public_key);
        let votes = match current {
            None => vec![VoteEntry { add: true, delegate: chosen }],
            Some(delegate) => {
                let removed = VoteEntry { add: false, delegate: delegate? };
                let entries = self.network.profile.limits.entries_per_vote;
                match self.random.below(3) {
                    0 => vec![removed],
                    _ if removed.delegate == chosen || entries < 2 => vec![removed],
                    1 => vec![removed, VoteEntry { add: true, delegate: chosen }],
                    _ => vec![VoteEntry { add: true, delegate: chosen }, removed],
                }
            }
        };
        let burnt = if self.random.below(16) == 0 { 1 + self.random.below(1_000) } else { 0 };
        let amount = i64::try_from(burnt).ok()?;
        self.finish(wallet, account, Asset::Vote { votes }, Some(wallet.address), amount)
    }

    fn multisignature(&mut self) -> Option<Draft<'a>> {
        let (wallet, account) = self.sender(GROUP_CANDIDATES)?;
        let limits = &self.network.profile.limits;
        let size = 1 + self.random.below(GROUP_MEMBERS_MAX.min(u64::from(limits.group_keys)));
        let mut keys: Vec<PublicKey> = Vec::new();
        for _ in 0..size {
            let member = self.random.pick(&self.network.wallets)?.key.public_key();
            if member != wallet.key.public_key() && !keys.contains(&member) {
                keys.push(member);
            }
        }
        let min = u8::try_from(1 + self.random.below(keys.len() as u64)).ok()?;
        let lifetime = u8::try_from(1 + self.random.below(u64::from(limits.group_lifetime_hours))).ok()?;
        if keys.is_empty() {
            return None;
        }
        self.finish(wallet, account, Asset::Multisignature { min, lifetime, keys }, None, 0)
    }

    /// A sender among every `candidates`-th wallet, one that may still send in this block.
    fn sender(&mut self, candidates: usize) -> Option<(&'a Wallet, &'a Account)> {
        let network = self.network;
        let state = self.state;
        let places = network.wallets.len().div_ceil(candidates.max(1));
        let wallet = network.wallets.get(self.random.index(places) * candidates)?;
        let group = Asset::Multisignature { min: 0, lifetime: 0, keys: Vec::new() }.type_number();
        if self.done.contains(&(group, wallet.address)) {
            return None;
        }
        Some((wallet, state.account(wallet.address)?))
    }

    fn available(&self, account: &Account) -> i64 {
        account.balance - self.spent.get(&account.address).copied().unwrap_or(0)
    }

    /// Adds fee, time and signers, and takes note of what it uses up; `None` if the sender cannot do it (any more).
    fn finish(
        &mut self,
        wallet: &'a Wallet,
        account: &'a Account,
        asset: Asset,
        recipient: Option<Address>,
        amount: i64,
    ) -> Option<Draft<'a>> {
        let type_number = asset.type_number();
        if type_number != 0 && self.done.contains(&(type_number, wallet.address)) {
            return None;
        }
        let fee = self.fee(&asset);
        let cost = amount.checked_add(fee).filter(|cost| *cost <= self.available(account))?;
        let (first, requester_public_key, group) = self.signers(wallet, account, &asset)?;
        // Any second of the block's slot and the one before: no earlier than the previous block's.
        let age = self.random.below(u64::from(self.network.profile.block_time_seconds));
        let transaction = Transaction {
            id: TransactionId(0),
            timestamp: self.timestamp - u32::try_from(age).ok()?.min(self.timestamp),
            sender_public_key: wallet.key.public_key(),
            sender: wallet.address,
            claimed_sender: None,
            requester_public_key,
            recipient,
            amount,
            fee,
            signature: Signature([0; 64]),
            second_signature: None,
            signatures: Vec::new(),
            asset,
        };
        *self.spent.entry(wallet.address).or_default() += cost;
        if type_number != 0 {
            self.done.insert((type_number, wallet.address));
        }
        let second = account.second_public_key.is_some().then_some(wallet);
        Some(Draft { transaction, first, second, group })
    }

    fn fee(&self, asset: &Asset) -> i64 {
        match asset {
            Asset::Transfer => self.fees.transfer,
            Asset::SecondSignature { .. } => self.fees.second_signature,
            Asset::Delegate { .. } => self.fees.delegate,
            Asset::Vote { .. } => self.fees.vote,
            Asset::Multisignature { .. } => self.fees.multisignature,
        }
    }

    /// Who signs: first signature, requester if it is one, and the group.
    fn signers(
        &mut self,
        wallet: &'a Wallet,
        account: &Account,
        asset: &Asset,
    ) -> Option<(&'a KeyPair, Option<PublicKey>, Vec<&'a KeyPair>)> {
        match (asset, &account.multisignature) {
            (Asset::Multisignature { keys, .. }, old) => {
                let old_members =
                    old.iter().flat_map(|group| &group.members).filter(|key| !keys.contains(key));
                let members: Vec<PublicKey> = keys.iter().chain(old_members).copied().collect();
                Some((&wallet.key, None, self.keys_of(&members)?))
            }
            (_, None) => Some((&wallet.key, None, Vec::new())),
            (_, Some(group)) => {
                let willing = self.willing(group);
                let members = self.keys_of(&willing)?;
                if self.random.percent(self.options.requester_percent) {
                    let requester = self.network.wallet_of(self.random.pick(&group.members)?)?;
                    Some((&requester.key, Some(requester.key.public_key()), members))
                } else {
                    Some((&wallet.key, None, members))
                }
            }
        }
    }

    /// Members that sign: at least as many as it takes, in any order.
    fn willing(&mut self, group: &Multisignature) -> Vec<PublicKey> {
        let mut members = group.members.clone();
        let needed = usize::from(group.min).min(members.len());
        for place in (1..members.len()).rev() {
            members.swap(place, self.random.index(place + 1));
        }
        members.truncate(needed + self.random.index(members.len() - needed + 1));
        members
    }

    fn keys_of(&self, members: &[PublicKey]) -> Option<Vec<&'a KeyPair>> {
        let network = self.network;
        members.iter().map(|key| network.wallet_of(key).map(|wallet| &wallet.key)).collect()
    }
}

/// Every so many-th wallet registers a second key, a delegate, or a group: coprime, so that all combinations occur, and
/// sparse, so that plain accounts remain.
const SECOND_KEY_CANDIDATES: usize = 4;
const DELEGATE_CANDIDATES: usize = 3;
const GROUP_CANDIDATES: usize = 5;

impl Draft<'_> {
    fn sign(self) -> Transaction {
        let mut transaction = self.transaction;
        transaction.signature = self.first.sign(&transaction.first_signature_hash());
        if let Some(wallet) = self.second {
            let key = KeyPair::from_passphrase(&wallet.second_passphrase());
            transaction.second_signature = Some(key.sign(&transaction.second_signature_hash()));
        }
        let hash = transaction.group_signature_hash();
        transaction.signatures = self.group.iter().map(|key| key.sign(&hash)).collect();
        transaction.id = transaction.computed_id();
        transaction
    }
}
