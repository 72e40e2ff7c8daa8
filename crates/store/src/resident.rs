//! What the Writer keeps in memory between blocks: the tip, the running round and all delegates.
//!
//! It is the only one that writes, so what it keeps cannot be stale: an epoch that was lost makes the next step fail.
//! Bounded by the number of delegates, each of which paid for its registration.

use std::collections::{HashMap, HashSet};

use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::state::{ChangeSet, Needs, RoundChange, RoundState, StateView, Tip};

/// The part of the state that every block needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resident {
    pub(crate) tip: Option<Tip>,
    pub(crate) round: Option<RoundState>,
    pub(crate) genesis_account: Option<Address>,
    pub(crate) delegates: HashMap<Address, Account>,
}

impl Resident {
    /// What of a block's needs has to be read.
    pub(crate) fn missing(&self, mut needs: Needs) -> Needs {
        needs.accounts.retain(|address| !self.delegates.contains_key(address));
        needs
    }

    /// Follows a step that Redis has done.
    pub(crate) fn follow(&mut self, changes: &ChangeSet) {
        for change in &changes.accounts {
            match change.after.as_ref().filter(|account| account.delegate.is_some()) {
                Some(account) => {
                    self.delegates.insert(change.address, account.clone());
                }
                None => {
                    self.delegates.remove(&change.address);
                }
            }
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
}

/// The state as one block sees it: the resident part and what was read for the block.
pub(crate) struct BlockView<'a> {
    pub(crate) resident: &'a Resident,
    pub(crate) accounts: HashMap<Address, Account>,
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
        self.resident.delegates.get(&address).or_else(|| self.accounts.get(&address))
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
