//! A signed chain on top of a network's genesis block, block after block.

use std::collections::VecDeque;
use std::sync::Arc;

use forebay_ledger::block::{Block, payload};
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::keys::Signature;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::refusal::Refusal;
use forebay_ledger::state::{StateView, Tip, UndoRecord};
use forebay_ledger::transaction::Transaction;

use crate::compose::Composer;
use crate::error::GenerateError;
use crate::mix::Mix;
use crate::network::{Network, Wallet};
use crate::random::Random;

/// What a chain looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainOptions {
    /// What its choices follow from, together with the network, the height and the block before.
    pub seed: String,
    /// Which transactions.
    pub mix: Mix,
    /// Transactions of a block at least.
    pub transactions_min: u32,
    /// Transactions of a block at most, as many as the network allows.
    pub transactions_max: u32,
    /// How many of 100 slots their forger misses; at most 90.
    pub skipped_slots_percent: u8,
    /// How many of 100 transfers go to an address that nobody used before.
    pub fresh_recipients_percent: u8,
    /// How many of 100 transactions of a group's account a member asks for (`requesterPublicKey`).
    pub requester_percent: u8,
    /// No block stands before this slot. The default, 1, follows the genesis block.
    pub first_slot: u32,
    /// How many of the newest blocks [`Chain::pop`] can take back.
    pub undo_blocks_max: usize,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self {
            seed: "chain".to_owned(),
            mix: Mix::default(),
            transactions_min: 25,
            transactions_max: 25,
            skipped_slots_percent: 0,
            fresh_recipients_percent: 5,
            requester_percent: 25,
            first_slot: 1,
            undo_blocks_max: 303,
        }
    }
}

/// A chain that grows: an endless iterator of valid, signed blocks, starting with the one after the genesis block.
///
/// A block is a function of network, options and the block before it. So the blocks after [`Chain::pop`] are the same
/// again, unless [`Chain::set_options`] gives another seed: that makes a fork. A clone goes on by itself.
#[derive(Debug, Clone)]
pub struct Chain {
    network: Arc<Network>,
    options: ChainOptions,
    /// Seconds since the network's epoch; no block stands after it.
    now: i64,
    state: MemoryState,
    newest: VecDeque<(Block, UndoRecord)>,
    checker: Arc<Checker>,
}

impl Chain {
    /// A chain that consists of the genesis block. `now_unix_seconds` is the moment that the chain must end before:
    /// blocks in the future are refused everywhere. It has no influence on the blocks.
    ///
    /// # Errors
    /// [`GenerateError::Options`]; [`GenerateError::Refused`] for a network that was changed by hand.
    pub fn new(
        network: Arc<Network>,
        options: ChainOptions,
        now_unix_seconds: i64,
    ) -> Result<Self, GenerateError> {
        check(&options, &network)?;
        let (state, _) = MemoryState::from_genesis(network.genesis.clone(), &network.profile)
            .map_err(|refusal| refused(1, refusal))?;
        let now = network.profile.network_time(now_unix_seconds);
        Ok(Self { network, options, now, state, newest: VecDeque::new(), checker: Arc::default() })
    }

    /// The state at the tip.
    #[must_use]
    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// The tip's height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.state.tip().map_or(0, |tip| tip.height)
    }

    /// Whose chain it is.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Other options from the next block on.
    ///
    /// # Errors
    /// [`GenerateError::Options`]; the old ones stay then.
    pub fn set_options(&mut self, options: ChainOptions) -> Result<(), GenerateError> {
        check(&options, &self.network)?;
        self.options = options;
        Ok(())
    }

    /// Makes the next block. The ledger has verified and applied it when this returns.
    ///
    /// # Errors
    /// [`GenerateError`]; the chain is unchanged then.
    pub fn next_block(&mut self) -> Result<Block, GenerateError> {
        let tip = *self.state.tip().ok_or_else(|| refused(1, Refusal::NoGenesis))?;
        let height = tip.height.saturating_add(1);
        let mut random =
            Random::of(&[self.options.seed.as_bytes(), &height.to_le_bytes(), &tip.id.0.to_le_bytes()]);
        let (forger, timestamp) = self.next_slot(&tip, &mut random)?;
        let spread = self.options.transactions_max - self.options.transactions_min + 1;
        let count = self.options.transactions_min
            + u32::try_from(random.below(u64::from(spread))).unwrap_or_default();
        let transactions =
            Composer::new(&self.network, &self.state, &self.options, random, timestamp).compose(count);
        let block = self.seal(forger, timestamp, &tip, transactions);
        let applied = self
            .state
            .push(block, &self.network.profile, self.now, &self.checker)
            .map_err(|refusal| refused(height, refusal))?;
        if let Some(undo) = applied.undo {
            self.newest.push_back((applied.block.clone(), undo));
        }
        while self.newest.len() > self.options.undo_blocks_max {
            self.newest.pop_front();
        }
        Ok(applied.block)
    }

    /// Takes the newest block back and returns it. The state is exactly as before it.
    ///
    /// # Errors
    /// [`GenerateError::NothingToTakeBack`] at the genesis block and beyond `undo_blocks_max`.
    pub fn pop(&mut self) -> Result<Block, GenerateError> {
        let (block, undo) = self.newest.pop_back().ok_or(GenerateError::NothingToTakeBack)?;
        self.state.pop(&block, &undo)?;
        Ok(block)
    }

    /// The next slot whose forger does not miss it.
    fn next_slot(&self, tip: &Tip, random: &mut Random) -> Result<(&Wallet, u32), GenerateError> {
        let profile = &self.network.profile;
        let height = tip.height.saturating_add(1);
        let forgers = self.state.round().map(|round| round.forgers.as_slice()).unwrap_or_default();
        let first = profile.slot(tip.timestamp).saturating_add(1).max(self.options.first_slot);
        // Within so many rounds of slots somebody forges, however many are missed.
        let last = first.saturating_add(profile.delegates.saturating_mul(SLOT_ROUNDS_MAX));
        for slot in first..last {
            let timestamp = slot.saturating_mul(profile.block_time_seconds);
            if i64::from(timestamp) > self.now {
                return Err(GenerateError::Future { height });
            }
            let place = usize::try_from(slot % profile.delegates).unwrap_or_default();
            let forger = forgers.get(place).and_then(|key| self.network.wallet_of(key));
            if let Some(forger) = forger
                && !random.percent(self.options.skipped_slots_percent)
            {
                return Ok((forger, timestamp));
            }
        }
        Err(GenerateError::NoForger { height })
    }

    fn seal(&self, forger: &Wallet, timestamp: u32, tip: &Tip, transactions: Vec<Transaction>) -> Block {
        let height = tip.height.saturating_add(1);
        let (payload_hash, payload_length) = payload(&transactions);
        let sum = |part: fn(&Transaction) -> i64| transactions.iter().map(part).fold(0, i64::saturating_add);
        let mut block = Block {
            id: BlockId(0),
            height,
            version: 0,
            timestamp,
            previous_block: Some(tip.id),
            number_of_transactions: u32::try_from(transactions.len()).unwrap_or(u32::MAX),
            total_amount: sum(|t| t.amount),
            total_fee: sum(|t| t.fee),
            reward: self.network.profile.reward(height),
            payload_length: u32::try_from(payload_length).unwrap_or(u32::MAX),
            payload_hash,
            generator_public_key: forger.key.public_key(),
            block_signature: Signature([0; 64]),
            transactions,
        };
        block.block_signature = forger.key.sign(&block.signature_hash());
        block.id = block.computed_id();
        block
    }
}

/// With 90 of 100 slots missed, the odds that nobody forges in 20 rounds of 2 delegates or more are below 2%; of 101,
/// 10^-92.
const SLOT_ROUNDS_MAX: u32 = 20;

impl Iterator for Chain {
    type Item = Result<Block, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_block())
    }
}

fn refused(height: Height, refusal: Refusal) -> GenerateError {
    GenerateError::Refused { height, refusal: Box::new(refusal) }
}

fn check(options: &ChainOptions, network: &Network) -> Result<(), GenerateError> {
    let wrong = |what: String| Err(GenerateError::Options(what));
    let max = network.profile.limits.transactions_per_block;
    if options.transactions_min > options.transactions_max || options.transactions_max > max {
        return wrong(format!(
            "transactions a block: {} to {}; the network allows up to {max}",
            options.transactions_min, options.transactions_max
        ));
    }
    if options.skipped_slots_percent > 90 {
        return wrong(format!("skipped_slots_percent: {} is more than 90", options.skipped_slots_percent));
    }
    if network.wallets.is_empty() {
        return wrong("a chain needs somebody who forges".to_owned());
    }
    Ok(())
}
