//! A network of its own: profile, genesis block, and everybody's secrets.

use std::collections::HashMap;

use forebay_ledger::block::{Block, payload};
use forebay_ledger::crypto::KeyPair;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::keys::{PublicKey, Signature};
use forebay_ledger::profile::{GenerationTwo, NetworkProfile};
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};
use rayon::prelude::*;

use crate::error::GenerateError;

/// What a network looks like. The rest (fees, rewards, limits) is as on the development network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Its short name: lower-case letters, digits, `-`.
    pub name: String,
    /// Forgers a round, and blocks a round.
    pub delegates: u32,
    /// Delegates registered in the genesis block beyond those. The second generation needs some: it leaves out who
    /// closed the previous round and who missed too many.
    pub standby_delegates: u32,
    /// Accounts with a balance that are no delegates in the genesis block.
    pub accounts: u32,
    /// The most transactions that a block may have.
    pub transactions_per_block: u32,
    /// Length of a slot, seconds.
    pub block_time_seconds: u32,
    /// When forger lists of the second generation begin; `None`: never.
    pub generation_two: Option<GenerationTwoOptions>,
}

/// The second generation in a generated network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationTwoOptions {
    /// The first round with it, 2 or later.
    pub first_round: u32,
    /// A delegate that missed more rounds in a row is not listed.
    pub missed_in_a_row_max: u32,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            name: "generated".to_owned(),
            delegates: 101,
            standby_delegates: 20,
            accounts: 1_000,
            transactions_per_block: 25,
            block_time_seconds: 30,
            generation_two: None,
        }
    }
}

/// Somebody on the network, with the secrets.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// The passphrase of the first key.
    pub passphrase: String,
    /// The first key.
    pub key: KeyPair,
    /// Its address.
    pub address: Address,
    /// The delegate's name that it has from the genesis block on.
    pub username: Option<String>,
}

impl Wallet {
    fn new(passphrase: String, username: Option<String>) -> Self {
        let key = KeyPair::from_passphrase(&passphrase);
        let address = Address::of(&key.public_key());
        Self { passphrase, key, address, username }
    }

    /// The passphrase of the key that it registers as its second one, once it does.
    #[must_use]
    pub fn second_passphrase(&self) -> String {
        format!("{} second", self.passphrase)
    }
}

/// A network: the rules, the genesis block, and who takes part.
#[derive(Debug, Clone)]
pub struct Network {
    /// The rules; [`NetworkProfile::to_toml`] gives the file.
    pub profile: NetworkProfile,
    /// The first block. Its id is that of its own bytes, and its signatures are valid, though nobody checks them.
    pub genesis: Block,
    /// Who gave away the supply. It cannot send on the chain.
    pub genesis_wallet: Wallet,
    /// The delegates of the genesis block, then the accounts.
    pub wallets: Vec<Wallet>,
    by_key: HashMap<PublicKey, usize>,
}

impl Network {
    /// Makes a network; the same seed and options give the same bytes. Keys are made on all cores.
    ///
    /// # Errors
    /// [`GenerateError::Options`] or [`GenerateError::Profile`] for options that no network can have.
    pub fn from_seed(seed: &str, options: &NetworkOptions) -> Result<Self, GenerateError> {
        let profile = profile(options)?;
        let delegates = options.delegates.saturating_add(options.standby_delegates);
        let passphrase = |who: &str, n: u32| format!("{} {seed} {who} {n}", options.name);
        let genesis_wallet = Wallet::new(format!("{} {seed} genesis", options.name), None);
        let delegate_wallets = (0..delegates)
            .into_par_iter()
            .map(|n| Wallet::new(passphrase("delegate", n), Some(format!("genesis.{n}"))));
        let account_wallets =
            (0..options.accounts).into_par_iter().map(|n| Wallet::new(passphrase("account", n), None));
        let wallets: Vec<Wallet> = delegate_wallets.chain(account_wallets).collect();
        let genesis = genesis_block(&profile, &genesis_wallet, &wallets)?;
        let by_key = wallets.iter().enumerate().map(|(n, wallet)| (wallet.key.public_key(), n)).collect();
        Ok(Self { profile, genesis, genesis_wallet, wallets, by_key })
    }

    /// Whose key it is, among [`Network::wallets`].
    #[must_use]
    pub fn wallet_of(&self, key: &PublicKey) -> Option<&Wallet> {
        self.by_key.get(key).and_then(|index| self.wallets.get(*index))
    }
}

/// The rules, checked as if they had been read from a file.
fn profile(options: &NetworkOptions) -> Result<NetworkProfile, GenerateError> {
    let wrong = |what: &str| Err(GenerateError::Options(what.to_owned()));
    if options.delegates.checked_add(options.standby_delegates).is_none_or(|sum| sum > 10_000) {
        return wrong("delegates and standby_delegates: at most 10000 together");
    }
    if options.accounts > 5_000_000 {
        return wrong("accounts: at most 5000000");
    }
    let mut profile = NetworkProfile::built_in("rise-devnet")?;
    profile.name.clone_from(&options.name);
    profile.delegates = options.delegates;
    profile.block_time_seconds = options.block_time_seconds;
    profile.limits.transactions_per_block = options.transactions_per_block;
    let payload = options.transactions_per_block.saturating_mul(TRANSACTION_BYTES_MAX);
    profile.limits.payload_bytes = profile.limits.payload_bytes.max(payload);
    profile.generation_two = match options.generation_two {
        None => None,
        Some(two) if two.first_round < 2 || two.first_round > 1_000_000 => {
            return wrong("generation_two.first_round: 2 to 1000000");
        }
        Some(two) => Some(GenerationTwo {
            first_height: (two.first_round - 1) * options.delegates + 1,
            missed_in_a_row_max: two.missed_in_a_row_max,
            pool: options.delegates.saturating_mul(2).saturating_sub(3).max(options.delegates),
        }),
    };
    Ok(NetworkProfile::from_toml(&profile.to_toml()?)?)
}

/// The largest transaction, a group of 15 keys, has fewer.
const TRANSACTION_BYTES_MAX: u32 = 1_280;

/// Transfers of the whole supply to everybody, then registrations, then each delegate's vote for itself (RULES 3).
fn genesis_block(
    profile: &NetworkProfile,
    giver: &Wallet,
    wallets: &[Wallet],
) -> Result<Block, GenerateError> {
    let mut drafts: Vec<(&Wallet, Transaction)> = Vec::new();
    for (wallet, amount) in wallets.iter().zip(amounts(profile.total_amount, wallets)?) {
        drafts.push((giver, draft(giver, Some(wallet.address), amount, Asset::Transfer)));
    }
    let delegates = || wallets.iter().filter_map(|wallet| Some((wallet, wallet.username.clone()?)));
    for (wallet, username) in delegates() {
        drafts.push((wallet, draft(wallet, None, 0, Asset::Delegate { username })));
    }
    for (wallet, _) in delegates() {
        let votes = vec![VoteEntry { add: true, delegate: wallet.key.public_key() }];
        drafts.push((wallet, draft(wallet, Some(wallet.address), 0, Asset::Vote { votes })));
    }
    let transactions: Vec<Transaction> = drafts
        .into_par_iter()
        .map(|(signer, mut transaction)| {
            transaction.signature = signer.key.sign(&transaction.first_signature_hash());
            transaction.id = transaction.computed_id();
            transaction
        })
        .collect();
    let (payload_hash, payload_length) = payload(&transactions);
    let too_large = |_| GenerateError::Options("the genesis block is too large: fewer accounts".to_owned());
    let mut block = Block {
        id: BlockId(0),
        height: 1,
        version: 0,
        timestamp: 0,
        previous_block: None,
        number_of_transactions: u32::try_from(transactions.len()).map_err(too_large)?,
        total_amount: profile.total_amount,
        total_fee: 0,
        reward: 0,
        payload_length: u32::try_from(payload_length).map_err(too_large)?,
        payload_hash,
        generator_public_key: giver.key.public_key(),
        block_signature: Signature([0; 64]),
        transactions,
    };
    block.block_signature = giver.key.sign(&block.signature_hash());
    block.id = block.computed_id();
    Ok(block)
}

/// How much everybody gets: half of the supply for the delegates, a little more for each earlier one, so that their votes
/// differ; the other half for the accounts in equal parts; what remains for the first delegate.
fn amounts(total: i64, wallets: &[Wallet]) -> Result<Vec<i64>, GenerateError> {
    let count =
        |is_delegate: bool| wallets.iter().filter(|w| w.username.is_some() == is_delegate).count() as i64;
    let (delegates, accounts) = (count(true).max(1), count(false).max(1));
    // The n-th of D delegates gets (2D - n) parts of a sum of about 3/2 D^2.
    let part = total / 2 / (delegates * (3 * delegates + 1) / 2);
    let mut amounts: Vec<i64> = (0..)
        .zip(wallets)
        .map(|(n, wallet)| match wallet.username {
            Some(_) => part * (2 * delegates - n),
            None => total / 2 / accounts,
        })
        .collect();
    let rest = total - amounts.iter().sum::<i64>();
    match amounts.first_mut() {
        Some(first) if rest >= 0 => *first += rest,
        _ => return Err(GenerateError::Options("the supply does not suffice for everybody".to_owned())),
    }
    Ok(amounts)
}

/// A genesis transaction without its signature; its fee is 0.
fn draft(sender: &Wallet, recipient: Option<Address>, amount: i64, asset: Asset) -> Transaction {
    Transaction {
        id: TransactionId(0),
        timestamp: 0,
        sender_public_key: sender.key.public_key(),
        sender: sender.address,
        claimed_sender: None,
        requester_public_key: None,
        recipient,
        amount,
        fee: 0,
        signature: Signature([0; 64]),
        second_signature: None,
        signatures: Vec::new(),
        asset,
    }
}
