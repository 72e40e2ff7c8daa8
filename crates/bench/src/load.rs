//! Loads: signed, checked blocks, and what the ledger makes of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay_generator::{Chain, ChainOptions, Mix, Network, NetworkOptions, Wallet};
use forebay_ledger::apply::{Applied, apply_block};
use forebay_ledger::block::{Block, payload};
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::keys::Signature;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::StateView;
use forebay_ledger::transaction::{Asset, Transaction};
use forebay_ledger::verify::{CheckedBlock, check_block};
use rayon::prelude::*;

use crate::error::BenchError;
use crate::options::{LoadKind, LoadSpec};

/// A block of a load.
pub(crate) struct Made {
    /// Its signatures were checked.
    pub(crate) checked: CheckedBlock,
    /// What the ledger makes of it, after the blocks before it.
    pub(crate) applied: Applied,
}

/// Blocks on top of a network's genesis block.
pub(crate) struct Load {
    pub(crate) spec: LoadSpec,
    pub(crate) block_size: u32,
    pub(crate) network: Arc<Network>,
    pub(crate) genesis: Applied,
    pub(crate) blocks: Vec<Made>,
}

impl Load {
    pub(crate) fn transactions(blocks: &[Made]) -> u64 {
        blocks.iter().map(|made| made.applied.block.transactions.len() as u64).sum()
    }

    /// The state after the genesis block.
    pub(crate) fn state(&self) -> Result<MemoryState, BenchError> {
        Ok(MemoryState::from_genesis(self.network.genesis.clone(), &self.network.profile)?.0)
    }

    /// Seconds since the network's epoch.
    pub(crate) fn now(&self) -> i64 {
        self.network.profile.network_time(unix_seconds())
    }
}

pub(crate) fn unix_seconds() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// Makes loads; networks are made once for each number of accounts.
pub(crate) struct Maker {
    networks: HashMap<u32, Arc<Network>>,
    transactions_per_block: u32,
}

impl Maker {
    /// `transactions_per_block`: the largest of all loads.
    pub(crate) fn new(transactions_per_block: u32) -> Self {
        Self { networks: HashMap::new(), transactions_per_block }
    }

    fn network(&mut self, accounts: u32) -> Result<Arc<Network>, BenchError> {
        if let Some(network) = self.networks.get(&accounts) {
            return Ok(Arc::clone(network));
        }
        let options = NetworkOptions {
            name: "bench".to_owned(),
            accounts,
            transactions_per_block: self.transactions_per_block.max(25),
            ..NetworkOptions::default()
        };
        let network = Arc::new(Network::from_seed("bench", &options)?);
        self.networks.insert(accounts, Arc::clone(&network));
        Ok(network)
    }

    /// Makes `count` blocks on all cores; a blocking call.
    pub(crate) fn make(&mut self, spec: LoadSpec, block_size: u32, count: usize) -> Result<Load, BenchError> {
        let network = self.network(spec.accounts)?;
        let (mut state, genesis) = MemoryState::from_genesis(network.genesis.clone(), &network.profile)?;
        let checker = Checker::default();
        let now = network.profile.network_time(unix_seconds());
        let mut source = Source::new(spec.kind, &network, block_size)?;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let block = source.next(&network, &state, block_size)?;
            let checked = check_block(block, &network.profile, &checker)?;
            let applied = apply_block(&state, checked.clone(), &network.profile, now, &checker)?;
            state.commit(&applied.changes).map_err(|error| BenchError::Other(error.to_string()))?;
            blocks.push(Made { checked, applied });
        }
        Ok(Load { spec, block_size, network, genesis, blocks })
    }
}

/// Where blocks come from.
enum Source {
    Transfers { kind: LoadKind, random: u64 },
    Chain(Box<Chain>),
}

impl Source {
    fn new(kind: LoadKind, network: &Arc<Network>, block_size: u32) -> Result<Self, BenchError> {
        if kind != LoadKind::Mixed {
            return Ok(Self::Transfers { kind, random: 0x0f0e_ba01 });
        }
        let options = ChainOptions {
            mix: Mix::all_types(),
            transactions_min: block_size,
            transactions_max: block_size,
            undo_blocks_max: 0,
            ..ChainOptions::default()
        };
        Ok(Self::Chain(Box::new(Chain::new(Arc::clone(network), options, unix_seconds())?)))
    }

    fn next(&mut self, network: &Network, state: &MemoryState, block_size: u32) -> Result<Block, BenchError> {
        match self {
            Self::Chain(chain) => Ok(chain.next_block()?),
            Self::Transfers { kind, random } => transfers(*kind, random, network, state, block_size),
        }
    }
}

/// A block of transfers.
fn transfers(
    kind: LoadKind,
    random: &mut u64,
    network: &Network,
    state: &MemoryState,
    block_size: u32,
) -> Result<Block, BenchError> {
    let profile = &network.profile;
    let no_forger = || BenchError::Other("nobody can forge the next block of the load".to_owned());
    let (tip, round) = state.tip().zip(state.round()).ok_or_else(no_forger)?;
    let slot = profile.slot(tip.timestamp) + 1;
    let timestamp = slot * profile.block_time_seconds;
    let place = usize::try_from(slot % profile.delegates).unwrap_or_default();
    let forger = round.forgers.get(place).and_then(|key| network.wallet_of(key)).ok_or_else(no_forger)?;
    let accounts = network.wallets.len();
    let mut pick = || {
        *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ (mixed >> 31)) % accounts.max(1) as u64).unwrap_or_default()
    };
    let parties: Vec<(usize, usize)> = (0..usize::try_from(block_size).unwrap_or_default())
        .map(|index| if kind == LoadKind::SelfSends { (index, index) } else { (pick(), pick()) })
        .collect();
    let fee = profile.fees_at(tip.height + 1).transfer;
    let transactions: Vec<Transaction> = parties
        .into_par_iter()
        .enumerate()
        .filter_map(|(index, (from, to))| {
            let (sender, recipient) = network.wallets.get(from).zip(network.wallets.get(to))?;
            // The amount tells transfers of one pair and second apart.
            let amount = 1 + i64::try_from(index).ok()?;
            Some(transfer(sender, recipient.address, amount, fee, timestamp))
        })
        .collect();
    let (payload_hash, payload_length) = payload(&transactions);
    let mut block = Block {
        id: BlockId(0),
        height: tip.height + 1,
        version: 0,
        timestamp,
        previous_block: Some(tip.id),
        number_of_transactions: u32::try_from(transactions.len()).unwrap_or(u32::MAX),
        total_amount: transactions.iter().map(|t| t.amount).sum(),
        total_fee: transactions.iter().map(|t| t.fee).sum(),
        reward: profile.reward(tip.height + 1),
        payload_length: u32::try_from(payload_length).unwrap_or(u32::MAX),
        payload_hash,
        generator_public_key: forger.key.public_key(),
        block_signature: Signature([0; 64]),
        transactions,
    };
    block.block_signature = forger.key.sign(&block.signature_hash());
    block.id = block.computed_id();
    Ok(block)
}

fn transfer(sender: &Wallet, recipient: Address, amount: i64, fee: i64, timestamp: u32) -> Transaction {
    let mut transaction = Transaction {
        id: TransactionId(0),
        timestamp,
        sender_public_key: sender.key.public_key(),
        sender: sender.address,
        claimed_sender: None,
        requester_public_key: None,
        recipient: Some(recipient),
        amount,
        fee,
        signature: Signature([0; 64]),
        second_signature: None,
        signatures: Vec::new(),
        asset: Asset::Transfer,
    };
    transaction.signature = sender.key.sign(&transaction.first_signature_hash());
    transaction.id = transaction.computed_id();
    transaction
}
