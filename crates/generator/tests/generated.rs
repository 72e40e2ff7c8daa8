//! Generated networks and chains: the same from the same seed, and valid for a ledger that starts from the files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use forebay_generator::{
    Chain, ChainOptions, GenerateError, GenerationTwoOptions, Mix, Network, NetworkOptions, files,
};
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::json::parse_block;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::state::StateView;
use forebay_ledger::transaction::Asset;
use proptest::prelude::*;

/// The 1st of January 2026.
const NOW: i64 = 1_767_225_600;

fn small() -> NetworkOptions {
    NetworkOptions {
        name: "small".to_owned(),
        delegates: 11,
        standby_delegates: 6,
        accounts: 60,
        ..NetworkOptions::default()
    }
}

fn second_generation() -> NetworkOptions {
    let two = GenerationTwoOptions { first_round: 3, missed_in_a_row_max: 1 };
    NetworkOptions { generation_two: Some(two), ..small() }
}

fn network(options: &NetworkOptions) -> Arc<Network> {
    Arc::new(Network::from_seed("seed", options).unwrap())
}

fn all_types() -> ChainOptions {
    ChainOptions {
        mix: Mix::all_types(),
        transactions_min: 0,
        skipped_slots_percent: 10,
        ..ChainOptions::default()
    }
}

/// Everything as bytes, as `forebay generate` writes it.
fn as_files(network: &Network, blocks: &[Block]) -> [Vec<u8>; 4] {
    let mut files = [const { Vec::new() }; 4];
    files::write_profile(&mut files[0], network).unwrap();
    files::write_genesis(&mut files[1], network).unwrap();
    files::write_secrets(&mut files[2], network).unwrap();
    for block in blocks {
        files::write_block(&mut files[3], block, &network.profile).unwrap();
    }
    files
}

/// The state that a ledger comes to which knows nothing but the files.
fn replay(files: &[Vec<u8>; 4]) -> MemoryState {
    let text = |n: usize| std::str::from_utf8(&files[n]).unwrap();
    let profile = NetworkProfile::from_toml(text(0)).unwrap();
    let genesis = parse_block(text(1), &profile).unwrap();
    assert_eq!(genesis.id, genesis.computed_id());
    let (mut state, _) = MemoryState::from_genesis(genesis, &profile).unwrap();
    let checker = Checker::default();
    for line in text(3).lines() {
        let block = parse_block(line, &profile).unwrap();
        state.push(block, &profile, profile.network_time(NOW), &checker).unwrap();
    }
    state
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let made = |network_seed: &str, chain_seed: &str| {
        let network = Arc::new(Network::from_seed(network_seed, &second_generation()).unwrap());
        let options = ChainOptions { seed: chain_seed.to_owned(), ..all_types() };
        let chain = Chain::new(Arc::clone(&network), options, NOW).unwrap();
        as_files(&network, &chain.take(50).map(Result::unwrap).collect::<Vec<_>>())
    };
    let first = made("one", "a");
    assert_eq!(first, made("one", "a"));
    assert_ne!(first[1], made("two", "a")[1]);
    let other_chain = made("one", "b");
    assert_eq!(first[..3], other_chain[..3]);
    assert_ne!(first[3], other_chain[3]);
}

#[test]
fn a_chain_of_all_types_is_valid_from_its_files_alone() {
    for options in [small(), second_generation()] {
        let network = network(&options);
        let mut chain = Chain::new(Arc::clone(&network), all_types(), NOW).unwrap();
        let blocks: Vec<Block> = chain.by_ref().take(130).map(Result::unwrap).collect();
        assert_eq!(&replay(&as_files(&network, &blocks)), chain.state());
        assert_all_kinds(&blocks, chain.state());
    }
}

/// Every type and every way to sign that the ledger has rules for.
fn assert_all_kinds(blocks: &[Block], state: &MemoryState) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = |kind, found: bool| *kinds.entry(kind).or_default() += usize::from(found);
    for transaction in blocks.iter().flat_map(|block| &block.transactions) {
        let asset = &transaction.asset;
        count("transfer", matches!(asset, Asset::Transfer));
        count("second signature", matches!(asset, Asset::SecondSignature { .. }));
        count("delegate", matches!(asset, Asset::Delegate { .. }));
        count("changed vote", matches!(asset, Asset::Vote { votes } if votes.len() == 2));
        count("vote taken back", matches!(asset, Asset::Vote { votes } if votes.len() == 1 && !votes[0].add));
        count("burning vote", matches!(asset, Asset::Vote { .. }) && transaction.amount > 0);
        count("group", matches!(asset, Asset::Multisignature { .. }));
        let grouped = matches!(asset, Asset::Transfer) && !transaction.signatures.is_empty();
        count("transfer of a group", grouped);
        count("transfer of a group by a requester", grouped && transaction.requester_public_key.is_some());
        count("two signatures and a group", grouped && transaction.second_signature.is_some());
        count("transfer to itself", transaction.recipient == Some(transaction.sender));
        count("second signature used", transaction.second_signature.is_some());
    }
    let slots = blocks.windows(2).filter(|pair| pair[1].timestamp - pair[0].timestamp > 30).count();
    count("skipped slot", slots > 0);
    let registered =
        state.delegates().filter(|a| a.delegate.as_ref().unwrap().username.starts_with('d')).count();
    count("registered delegate", registered > 0);
    count("delegate that missed a round", state.delegates().any(|a| a.forging.missed_blocks > 1));
    assert!(kinds.values().all(|found| *found > 0), "{kinds:?}");
}

#[test]
fn a_fork_from_an_earlier_height_is_valid_and_going_on_without_a_new_seed_gives_the_same_blocks() {
    let network = network(&second_generation());
    let mut chain = Chain::new(Arc::clone(&network), all_types(), NOW).unwrap();
    let mut blocks: Vec<Block> = chain.by_ref().take(60).map(Result::unwrap).collect();
    let before = chain.state().clone();

    // Back over two round ends, 55 and 44.
    let taken: Vec<Block> = (0..20).map(|_| chain.pop().unwrap()).collect();
    assert!(taken.iter().rev().eq(&blocks[40..]));
    assert_eq!(chain.height(), 41);
    let mut again = chain.clone();
    assert!(again.by_ref().take(20).map(Result::unwrap).eq(blocks[40..].iter().cloned()));
    assert_eq!(again.state(), &before);

    chain.set_options(ChainOptions { seed: "fork".to_owned(), ..all_types() }).unwrap();
    blocks.truncate(40);
    blocks.extend(chain.by_ref().take(30).map(Result::unwrap));
    assert_ne!(blocks[40].id, taken.last().unwrap().id);
    assert_eq!(&replay(&as_files(&network, &blocks)), chain.state());
}

#[test]
fn taking_back_ends_at_the_genesis_block_and_at_the_limit() {
    let network = network(&small());
    let mut chain = Chain::new(Arc::clone(&network), ChainOptions::default(), NOW).unwrap();
    let genesis = chain.state().clone();
    assert_eq!(chain.pop(), Err(GenerateError::NothingToTakeBack));
    chain.next_block().unwrap();
    chain.pop().unwrap();
    assert_eq!(chain.state(), &genesis);

    let options = ChainOptions { undo_blocks_max: 2, ..ChainOptions::default() };
    let mut chain = Chain::new(network, options, NOW).unwrap();
    chain.by_ref().take(5).for_each(|block| assert!(block.is_ok()));
    assert!(chain.pop().is_ok() && chain.pop().is_ok());
    assert_eq!(chain.pop(), Err(GenerateError::NothingToTakeBack));
    assert_eq!(chain.height(), 4);
}

#[test]
fn the_genesis_block_gives_away_exactly_the_supply() {
    for (delegates, standby_delegates, accounts) in [(101, 0, 1_000), (2, 0, 0), (3, 1, 1), (101, 98, 5_000)]
    {
        let options = NetworkOptions { delegates, standby_delegates, accounts, ..NetworkOptions::default() };
        let network = network(&options);
        let genesis = &network.genesis;
        let given: i64 = genesis.transactions.iter().map(|t| t.amount).sum();
        assert_eq!(
            (given, genesis.total_amount),
            (network.profile.total_amount, network.profile.total_amount)
        );
        let (state, _) = MemoryState::from_genesis(genesis.clone(), &network.profile).unwrap();
        assert_eq!(state.delegates().count(), (delegates + standby_delegates) as usize);
        assert_eq!(state.round().unwrap().forgers.len(), delegates as usize);
        let votes: HashSet<i64> = state.delegates().map(|a| a.delegate.as_ref().unwrap().vote).collect();
        assert_eq!(votes.len(), (delegates + standby_delegates) as usize, "each has another number of votes");
        let names = network.wallets.iter().filter(|w| w.username.is_some()).count();
        assert_eq!(names, (delegates + standby_delegates) as usize);
    }
}

#[test]
fn secrets_sign_for_their_accounts() {
    let network = network(&small());
    let files = as_files(&network, &[]);
    let secrets: serde_json::Value = serde_json::from_slice(&files[2]).unwrap();
    let delegates = secrets["delegates"].as_array().unwrap();
    assert_eq!((delegates.len(), secrets["accounts"].as_array().unwrap().len()), (17, 60));
    let pair = forebay_ledger::crypto::KeyPair::from_passphrase(delegates[3]["passphrase"].as_str().unwrap());
    assert_eq!(pair.public_key().to_string(), delegates[3]["publicKey"]);
    assert_eq!(delegates[3]["username"], "genesis.3");
}

#[test]
fn no_block_lies_in_the_future() {
    let network = network(&small());
    let epoch = network.profile.epoch_unix_seconds().unwrap();
    let mut chain = Chain::new(Arc::clone(&network), ChainOptions::default(), epoch + 95).unwrap();
    assert_eq!(chain.by_ref().take(3).filter(Result::is_ok).count(), 3);
    assert_eq!(chain.next_block(), Err(GenerateError::Future { height: 5 }));

    let options = ChainOptions { first_slot: 1_000, ..ChainOptions::default() };
    let mut chain = Chain::new(network, options, NOW).unwrap();
    assert_eq!(chain.next_block().unwrap().timestamp, 30_000);
}

#[test]
fn wrong_options_are_errors_that_say_what_is_wrong() {
    let error = |options| Network::from_seed("", &options).unwrap_err().to_string();
    assert!(error(NetworkOptions { name: "A".into(), ..small() }).contains("name"));
    assert!(error(NetworkOptions { delegates: 1, ..small() }).contains("delegates"));
    assert!(error(NetworkOptions { delegates: u32::MAX, ..small() }).contains("delegates"));
    assert!(
        error(NetworkOptions { transactions_per_block: 0, ..small() }).contains("transactions_per_block")
    );
    let two = GenerationTwoOptions { first_round: 1, missed_in_a_row_max: 1 };
    assert!(error(NetworkOptions { generation_two: Some(two), ..small() }).contains("first_round"));

    let network = network(&small());
    let error = |options| Chain::new(Arc::clone(&network), options, NOW).unwrap_err().to_string();
    assert!(error(ChainOptions { transactions_max: 26, ..all_types() }).contains("up to 25"));
    assert!(
        error(ChainOptions { transactions_min: 9, transactions_max: 8, ..all_types() }).contains("9 to 8")
    );
    assert!(error(ChainOptions { skipped_slots_percent: 91, ..all_types() }).contains("91"));
}

#[test]
fn mixes_are_read_from_text() {
    let mix: Mix = "transfers=80, votes=20".parse().unwrap();
    assert_eq!(mix, Mix { transfers: 80, votes: 20, ..none() });
    assert_eq!(Mix::all_types().to_string().parse::<Mix>().unwrap(), Mix::all_types());
    for wrong in ["", "transfers", "transfers=x", "transfers=-1", "gifts=3", "votes=0"] {
        assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
    }
    let text = "gifts=3".parse::<Mix>().unwrap_err().to_string();
    assert!(text.contains("gifts") && text.contains("second_signatures"), "{text}");
}

fn none() -> Mix {
    Mix { transfers: 0, ..Mix::transfers_only() }
}

#[test]
fn each_kind_alone_gives_a_valid_chain() {
    for mix in [
        Mix { group_transfers: 1, multisignatures: 1, ..none() },
        Mix { second_signatures: 1, ..none() },
        Mix { delegates: 1, ..none() },
        Mix { votes: 1, ..none() },
        Mix { multisignatures: 1, ..none() },
    ] {
        let options = ChainOptions { mix, skipped_slots_percent: 90, ..ChainOptions::default() };
        let mut chain = Chain::new(network(&small()), options, NOW).unwrap();
        chain.by_ref().take(30).for_each(|block| assert_eq!(block.unwrap().transactions.len(), 25, "{mix}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the options, the ledger accepts what is made, and taking it all back gives the genesis state.
    #[test]
    fn any_network_and_mix_gives_a_valid_chain(
        seed in "[a-z]{1,8}",
        delegates in 2..14u32,
        standby_delegates in 2..8u32,
        accounts in 0..40u32,
        weights in prop::array::uniform6(0..9u32),
        skipped_slots_percent in 0..60u8,
        first_round in 2..6u32,
        missed_in_a_row_max in 0..4u32,
    ) {
        let generation_two = Some(GenerationTwoOptions { first_round, missed_in_a_row_max });
        let options = NetworkOptions { delegates, standby_delegates, accounts, generation_two, ..small() };
        let [transfers, group_transfers, second_signatures, delegates, votes, multisignatures] = weights;
        let mix = Mix { transfers, group_transfers, second_signatures, delegates, votes, multisignatures };
        let options = (options, ChainOptions { seed, mix, skipped_slots_percent, transactions_max: 9, transactions_min: 0, ..all_types() });
        let mut chain = Chain::new(network(&options.0), options.1, NOW).unwrap();
        let genesis = chain.state().clone();
        let mut made = 0;
        while made < 40 {
            match chain.next_block() {
                Ok(_) => made += 1,
                // Few delegates, and most of them banned: a network can run dry.
                Err(GenerateError::NoForger { .. }) => break,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        for _ in 0..made {
            chain.pop().unwrap();
        }
        prop_assert!(chain.state() == &genesis);
    }
}
