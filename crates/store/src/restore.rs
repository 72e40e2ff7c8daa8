//! Redis from PostgreSQL: clean our keys, load everything, compare, and let readers and writer in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_failpoint::reach;
use forebay_fast::{Expected, FastTier, Position, RestoredHead};
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::round::forger_list;
use forebay_ledger::state::{RoundState, Tip};
use forebay_slow::SlowReader;
use tokio_postgres::Config;

use crate::account_cache::AccountCache;
use crate::error::StoreError;
use crate::kept::{KeptOperations, block_of};
use crate::known_ids::KnownIds;
use crate::memory::{Chain, census_of_genesis};
use crate::options::Limits;
use crate::progress::{Phase, PhaseProgress};
use crate::resident::Resident;

/// Rows that travel from COPY to Redis at once: some megabytes.
const ROWS_A_CHUNK: usize = 20_000;
/// Blocks that travel at once: full ones have some 5 KB each on the known networks.
const BLOCKS_A_CHUNK: u32 = 100;

/// What a restore leaves behind in the node.
pub(crate) struct Restored {
    pub(crate) resident: Resident,
    pub(crate) kept: Vec<(Height, BlockId)>,
    /// The entries of the outbox that are there again, with the blocks that they brought.
    pub(crate) outbox: Vec<(Position, Option<BlockId>)>,
    pub(crate) seq: u64,
}

pub(crate) struct RestoreFrom<'a> {
    pub(crate) fast: &'a FastTier,
    pub(crate) postgres: &'a Config,
    pub(crate) profile: &'a NetworkProfile,
    pub(crate) limits: &'a Limits,
    pub(crate) genesis: &'a Block,
    pub(crate) epoch: u64,
    /// What PostgreSQL is known to have.
    pub(crate) seq: u64,
    /// The newest operations up to there, as Redis had them before.
    pub(crate) carried: Arc<KeptOperations>,
}

impl RestoreFrom<'_> {
    /// Cleans and restores. Until it returns, readers and steps are refused; when it fails, they stay refused.
    pub(crate) async fn run(&self, observe: &(dyn Fn(PhaseProgress) + Sync)) -> Result<Restored, StoreError> {
        let at = |phase, done, total| observe(PhaseProgress::new(phase, done, total));
        let mut reader = SlowReader::connect(self.postgres).await?;
        let snapshot = reader.snapshot().await?;
        let reads = || snapshot.reads();
        let slow = reads().position().await?;
        // Before anything is removed: a PostgreSQL that went back meanwhile would take the outbox with it.
        if (slow.epoch, slow.seq) != (self.epoch, self.seq) {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL is at epoch {} operation {}, not at epoch {} operation {}: it was put back to an older state, or \
                 another node took over",
                slow.epoch, slow.seq, self.epoch, self.seq
            )));
        }
        let tip = reads().tip().await?;
        let counts = reads().counts().await?;
        let known = KeptOperations::of_postgres(reads(), self.seq, self.limits.outbox_kept).await?;
        let operations =
            if known.entries.len() > self.carried.entries.len() { &known } else { self.carried.as_ref() };

        at(Phase::Clean, 0, None);
        reach("restore.before_clean");
        self.fast.begin_clean(self.epoch).await?;
        reach("restore.cleaning");
        self.fast.clean(self.epoch, |keys| at(Phase::Clean, keys, None)).await?;

        reach("restore.cleaned");
        let total = counts.accounts + counts.transactions;
        at(Phase::Restore, 0, Some(total));
        // An empty chain begins with what its genesis block brings.
        let chain = Chain { profile: self.profile, genesis: self.genesis };
        let soon = if tip.is_some() { counts } else { census_of_genesis(chain).counts };
        let expected = Expected { accounts: soon.accounts, transactions: soon.transactions };
        let mut restore = self.fast.begin_restore(self.epoch, expected).await?;
        let mut loaded = Loaded::of(AccountCache::new(self.limits.accounts_cached_bytes_max));
        reads()
            .accounts(ROWS_A_CHUNK, async |accounts: Vec<Account>| -> Result<(), StoreError> {
                restore.load_accounts(&accounts).await?;
                loaded.add(accounts);
                at(Phase::Restore, loaded.accounts, Some(total));
                Ok(())
            })
            .await?;
        let mut done = loaded.accounts;
        let mut known_ids = KnownIds::with_capacity(counts.transactions);
        reads()
            .transaction_ids(ROWS_A_CHUNK, async |ids: Vec<_>| -> Result<(), StoreError> {
                restore.load_transactions(&ids).await?;
                ids.iter().for_each(|(id, _)| known_ids.insert(*id));
                done += ids.len() as u64;
                at(Phase::Restore, done, Some(total));
                Ok(())
            })
            .await?;
        reach("restore.loaded_rows");
        let mut kept = Vec::new();
        let mut round = None;
        if let Some(tip) = tip {
            let mut from = tip.height.saturating_sub(self.limits.blocks_kept.saturating_sub(1)).max(1);
            while from <= tip.height {
                let to = from.saturating_add(BLOCKS_A_CHUNK - 1).min(tip.height);
                let blocks = reads().blocks(from..=to).await?;
                restore.load_blocks(&blocks).await?;
                kept.extend(blocks.iter().map(|block| (block.height, block.id)));
                from = to + 1;
            }
            let closers_max = self.profile.generation_two.map_or(1, |two| two.pool);
            let mut running = reads().round_state(closers_max).await?;
            let is_kept: HashSet<BlockId> = kept.iter().map(|(_, id)| *id).collect();
            let others = operations.blocks.iter().filter(|block| !is_kept.contains(&block.id));
            restore.load_bodies(others.map(Arc::as_ref)).await?;
            restore.load_outbox(&operations.entries).await?;
            self.complete(&mut running, &tip, &loaded);
            restore.load_round(&running).await?;
            round = Some(running);
        }

        at(Phase::Check, 0, None);
        loaded.check(counts.accounts)?;
        let position = Position { epoch: self.epoch, seq: slow.seq };
        if tip.map(|tip| tip.id) != slow.block_id {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL's newest block is {}, its position says {}",
                shown(tip.map(|tip| tip.id)),
                shown(slow.block_id)
            )));
        }
        reach("restore.before_finish");
        let genesis_account = tip.map(|_| Address::of(&self.genesis.generator_public_key));
        restore.finish(&RestoredHead { position, tip, genesis_account }).await?;
        let resident = Resident {
            tip,
            round,
            genesis_account,
            delegates: loaded.delegates,
            accounts: loaded.at_hand,
            known_ids: Some(known_ids),
        };
        let outbox = operations.entries.iter().map(|entry| (entry.position, block_of(entry))).collect();
        Ok(Restored { resident, kept, outbox, seq: slow.seq })
    }

    /// The list of a round whose first block is not there yet is computed: SQL does not know it (DESIGN).
    fn complete(&self, round: &mut RoundState, tip: &Tip, loaded: &Loaded) {
        if round.forgers.is_empty() {
            let first_height = tip.height + 1;
            let delegates = loaded.delegates.values();
            round.forgers = forger_list(self.profile, first_height, tip.id, &round.closers, delegates);
        }
    }
}

fn shown(id: Option<BlockId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// What passed by on its way to Redis.
struct Loaded {
    accounts: u64,
    at_hand: AccountCache,
    delegates: HashMap<Address, Account>,
    /// Per delegate: sum of its voters' balances, sum of their shares.
    tallies: HashMap<Address, (i128, i128)>,
}

impl Loaded {
    fn of(at_hand: AccountCache) -> Self {
        Self { accounts: 0, at_hand, delegates: HashMap::new(), tallies: HashMap::new() }
    }

    fn add(&mut self, accounts: Vec<Account>) {
        self.accounts += accounts.len() as u64;
        for account in accounts {
            let votes = i128::try_from(account.votes.len()).unwrap_or(i128::MAX);
            for delegate in &account.votes {
                let (balance, share) = self.tallies.entry(*delegate).or_default();
                *balance += i128::from(account.balance);
                *share += i128::from(account.balance).div_euclid(votes);
            }
            if account.delegate.is_some() {
                self.delegates.insert(account.address, account);
            } else if self.at_hand.has_room() {
                self.at_hand.insert(account);
            }
        }
    }

    /// Counts and sums: every delegate's running sums must be those of its voters.
    fn check(&self, accounts: u64) -> Result<(), StoreError> {
        if self.accounts != accounts {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL counts {accounts} accounts, {} were read",
                self.accounts
            )));
        }
        for (address, account) in &self.delegates {
            let Some(delegate) = &account.delegate else { continue };
            let (balance, share) = self.tallies.get(address).copied().unwrap_or_default();
            if (balance, share) != (delegate.voters_balance.into(), delegate.voters_share.into()) {
                return Err(StoreError::Disagreement(format!(
                    "delegate {} has running sums of {} and {}, but its voters' balances sum up to {balance} and {share}: \
                     PostgreSQL was changed by another program",
                    delegate.username, delegate.voters_balance, delegate.voters_share
                )));
            }
        }
        match self.tallies.keys().find(|address| !self.delegates.contains_key(address)) {
            Some(address) => Err(StoreError::Disagreement(format!(
                "there are votes for {}, which is no delegate",
                address.0
            ))),
            None => Ok(()),
        }
    }
}
