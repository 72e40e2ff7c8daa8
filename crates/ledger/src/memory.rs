//! A whole state in memory: for tests, the generator, checkers, and deriving the state again from block 1.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::account::Account;
use crate::apply::{Applied, UndoError, apply_block, apply_genesis, undo};
use crate::block::Block;
use crate::crypto::Checker;
use crate::ids::{Address, TransactionId};
use crate::profile::NetworkProfile;
use crate::refusal::Refusal;
use crate::round::delegates_digest;
use crate::state::{ChangeSet, RoundChange, RoundState, StateView, Tip, UndoRecord};
use crate::verify::check_block;

/// The state of a chain at its tip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    tip: Option<Tip>,
    round: Option<RoundState>,
    genesis_account: Option<Address>,
    accounts: BTreeMap<Address, Account>,
    delegates: BTreeMap<Address, ()>,
    usernames: HashMap<String, usize>,
    transactions: HashSet<TransactionId>,
}

/// A change set that does not start at the state's tip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change starts at {change}, the state is at {state}")]
pub struct WrongTip {
    change: String,
    state: String,
}

impl MemoryState {
    /// The state before the genesis block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state after the genesis block, and what it changed.
    ///
    /// # Errors
    /// See [`apply_genesis`].
    pub fn from_genesis(block: Block, profile: &NetworkProfile) -> Result<(Self, Applied), Refusal> {
        let mut state = Self::new();
        let applied = apply_genesis(&state, block, profile)?;
        state.genesis_account = Some(Address::of(&applied.block.generator_public_key));
        state.write(&applied.changes);
        Ok((state, applied))
    }

    /// Verifies and applies a block to this state.
    ///
    /// # Errors
    /// The [`Refusal`]; the state is unchanged then.
    pub fn push(
        &mut self,
        block: Block,
        profile: &NetworkProfile,
        now: i64,
        checker: &Checker,
    ) -> Result<Applied, Refusal> {
        let checked = check_block(block, profile, checker)?;
        let applied = apply_block(self, checked, profile, now, checker)?;
        self.write(&applied.changes);
        Ok(applied)
    }

    /// Takes the tip back.
    ///
    /// # Errors
    /// See [`undo`]; the state is unchanged then.
    pub fn pop(&mut self, block: &Block, record: &UndoRecord) -> Result<ChangeSet, UndoError> {
        let changes = undo(self, block, record)?;
        self.write(&changes);
        Ok(changes)
    }

    /// Writes a change set that was made for this very state.
    ///
    /// # Errors
    /// [`WrongTip`]; the state is unchanged then.
    pub fn commit(&mut self, changes: &ChangeSet) -> Result<(), WrongTip> {
        if changes.tip_before != self.tip {
            let shown = |tip: Option<Tip>| {
                tip.map_or_else(|| "nothing".to_owned(), |t| format!("{} ({})", t.height, t.id))
            };
            return Err(WrongTip { change: shown(changes.tip_before), state: shown(self.tip) });
        }
        self.write(changes);
        Ok(())
    }

    fn write(&mut self, changes: &ChangeSet) {
        for change in &changes.accounts {
            match &change.after {
                Some(account) => {
                    if account.delegate.is_some() {
                        self.delegates.insert(change.address, ());
                    } else {
                        self.delegates.remove(&change.address);
                    }
                    self.accounts.insert(change.address, account.clone());
                }
                None => {
                    self.accounts.remove(&change.address);
                    self.delegates.remove(&change.address);
                }
            }
        }
        for (name, _) in &changes.usernames {
            let count = self.usernames.entry(name.clone()).or_default();
            *count = if changes.undo { count.saturating_sub(1) } else { *count + 1 };
            if *count == 0 {
                self.usernames.remove(name);
            }
        }
        for id in &changes.transactions {
            if changes.undo {
                self.transactions.remove(id);
            } else {
                self.transactions.insert(*id);
            }
        }
        match &changes.round {
            RoundChange::Appended(block) => {
                if let Some(round) = &mut self.round {
                    round.blocks.push(*block);
                }
            }
            RoundChange::Retracted => {
                if let Some(round) = &mut self.round {
                    round.blocks.pop();
                }
            }
            RoundChange::Closed { next, .. } => self.round = Some((**next).clone()),
            RoundChange::Reopened(round) => self.round = Some((**round).clone()),
        }
        self.tip = Some(changes.tip_after);
    }

    /// All accounts, ascending by address.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// See [`delegates_digest`].
    #[must_use]
    pub fn delegates_digest(&self) -> crate::keys::Hash {
        delegates_digest(self.delegates())
    }
}

impl StateView for MemoryState {
    fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    fn round(&self) -> Option<&RoundState> {
        self.round.as_ref()
    }

    fn genesis_account(&self) -> Option<Address> {
        self.genesis_account
    }

    fn account(&self, address: Address) -> Option<&Account> {
        self.accounts.get(&address)
    }

    fn delegates(&self) -> Box<dyn Iterator<Item = &Account> + '_> {
        Box::new(self.delegates.keys().filter_map(|address| self.accounts.get(address)))
    }

    fn has_username(&self, username: &str) -> bool {
        self.usernames.contains_key(username)
    }

    fn has_transaction(&self, id: TransactionId) -> bool {
        self.transactions.contains(&id)
    }
}
