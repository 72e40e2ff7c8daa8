//! What the Writer keeps in memory between blocks: the tip, the running round, all delegates, accounts as far as there
//! is room, and which transaction ids are certainly new.
//!
//! It is the only one that writes, so what it keeps cannot be stale: an epoch that was lost makes the next step fail, and
//! a restore replaces all of it. Bounded by the number of delegates, each of which paid for its registration, by the
//! account cache's limit, and by six bytes a transaction; the memory plan counts them.
//!
//! It follows a step when it is sent, and goes back when the step was not done.

use std::collections::{HashMap, HashSet};

use forebay_ledger::account::Account;
use forebay_ledger::ids::hashing::IdHash;
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::state::{ChangeSet, Needs, RoundChange, RoundState, StateView, Tip};
use forebay_slow::Counts;

use crate::account_cache::{self, AccountCache};
use crate::known_ids::{self, KnownIds};
use crate::options::Limits;

/// What a node remembers of a chain of this size, at most, bytes; the delegates' few are in its own need.
pub(crate) fn bytes_max(counts: &Counts, limits: &Limits) -> u64 {
    account_cache::bytes_max(counts.accounts, limits.accounts_cached_bytes_max)
        + known_ids::bytes(counts.transactions)
}

/// The part of the state that every block needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resident {
    pub(crate) tip: Option<Tip>,
    pub(crate) round: Option<RoundState>,
    pub(crate) genesis_account: Option<Address>,
    pub(crate) delegates: HashMap<Address, Account>,
    pub(crate) accounts: AccountCache,
    /// `None`: not known, so all ids are looked up.
    pub(crate) known_ids: Option<KnownIds>,
}

impl Resident {
    /// What of a block's needs has to be read.
    pub(crate) fn missing(&self, mut needs: Needs) -> Needs {
        needs
            .accounts
            .retain(|address| !self.delegates.contains_key(address) && self.accounts.get(*address).is_none());
        if let Some(known) = &self.known_ids {
            needs.transactions.retain(|id| known.may_have(*id));
        }
        needs
    }

    /// Follows a step.
    pub(crate) fn follow(&mut self, changes: &ChangeSet) {
        for change in &changes.accounts {
            self.set(change.address, change.after.as_ref());
        }
        if let Some(known) = self.known_ids.as_mut().filter(|_| !changes.undo) {
            changes.transactions.iter().for_each(|id| known.insert(*id));
        }
        match (&changes.round, &mut self.round) {
            (RoundChange::Appended(block), Some(round)) => round.blocks.push(*block),
            (RoundChange::Retracted, Some(round)) => {
                round.blocks.pop();
            }
            (RoundChange::Closed { next: round, .. } | RoundChange::Reopened(round), _) => {
                self.round = Some((**round).clone());
            }
            (RoundChange::Appended(_) | RoundChange::Retracted, None) => {}
        }
        self.tip = Some(changes.tip_after);
    }

    /// Goes back to before a block's step, which was the last one followed. Its ids stay known: they are looked up then.
    pub(crate) fn go_back(&mut self, changes: &ChangeSet) {
        for change in &changes.accounts {
            self.set(change.address, change.before.as_ref());
        }
        match (&changes.round, &mut self.round) {
            (RoundChange::Appended(_), Some(round)) => {
                round.blocks.pop();
            }
            (RoundChange::Closed { previous, .. }, _) => {
                self.round = previous.as_deref().cloned();
            }
            _ => {}
        }
        self.tip = changes.tip_before;
    }

    fn set(&mut self, address: Address, account: Option<&Account>) {
        match account {
            Some(account) if account.delegate.is_some() => {
                self.delegates.insert(address, account.clone());
                self.accounts.remove(address);
            }
            Some(account) => {
                self.delegates.remove(&address);
                self.accounts.insert(account.clone());
            }
            None => {
                self.delegates.remove(&address);
                self.accounts.remove(address);
            }
        }
    }
}

/// The state as one block sees it: the resident part and what was read for the block.
pub(crate) struct BlockView<'a> {
    pub(crate) resident: &'a Resident,
    pub(crate) accounts: HashMap<Address, Account, IdHash>,
    pub(crate) usernames: HashSet<String>,
    pub(crate) transactions: HashSet<TransactionId>,
}

impl StateView for BlockView<'_> {
    fn tip(&self) -> Option<&Tip> {
        self.resident.tip.as_ref()
    }

    fn round(&self) -> Option<&RoundState> {
        self.resident.round.as_ref()
    }

    fn genesis_account(&self) -> Option<Address> {
        self.resident.genesis_account
    }

    fn account(&self, address: Address) -> Option<&Account> {
        let resident = self.resident;
        resident
            .accounts
            .get(address)
            .or_else(|| resident.delegates.get(&address))
            .or_else(|| self.accounts.get(&address))
    }

    fn delegates(&self) -> Box<dyn Iterator<Item = &Account> + '_> {
        Box::new(self.resident.delegates.values())
    }

    fn has_username(&self, username: &str) -> bool {
        self.usernames.contains(username)
    }

    fn has_transaction(&self, id: TransactionId) -> bool {
        self.transactions.contains(&id)
    }
}
