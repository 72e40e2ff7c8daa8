//! The chains that the reference node produced, through the triggers: the same state at every height it dumped, whatever
//! the batches.

use forebay_ledger::json::parse_block;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::state::StateView;
use forebay_slow::setup::ChainParameters;
use forebay_slow::{BlockRow, SlowOperation};

use crate::support::Database;
use crate::support::chain::{Chain, apply, dumped_heights, load_json};
use crate::support::dump::{Leftovers, differences, everything};

async fn every_dumped_height(chain: &Chain, batch: usize) {
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let mut writer = database.writing().await;
    let mut height = 0;
    for dumped in dumped_heights(chain.name) {
        apply(&mut writer, &chain.appends(height + 1..=dumped), batch).await;
        height = dumped;
        let dump = load_json(&format!("{}/accounts-{height}.json", chain.name));
        let found = differences(&admin, &dump, &Leftovers::default()).await;
        assert!(found.is_empty(), "{} height {height}, batch {batch}: {found:#?}", chain.name);
    }
}

#[tokio::test]
async fn chain_equals_every_dump_block_by_block() {
    every_dumped_height(&Chain::first(), 1).await;
}

#[tokio::test]
async fn chain_equals_every_dump_in_large_batches() {
    every_dumped_height(&Chain::first(), 100).await;
}

#[tokio::test]
async fn second_generation_equals_every_dump_block_by_block() {
    every_dumped_height(&Chain::second(), 1).await;
}

#[tokio::test]
async fn second_generation_equals_every_dump_in_batches_of_seven() {
    every_dumped_height(&Chain::second(), 7).await;
}

#[tokio::test]
async fn the_state_does_not_depend_on_the_batches() {
    let chain = Chain::first();
    let mut states = Vec::new();
    for batch in [1, 7, 100, 420] {
        let database = Database::new(&chain.parameters()).await;
        let mut writer = database.writing().await;
        apply(&mut writer, &chain.appends(1..=420), batch).await;
        let admin = database.client(&database.admin()).await;
        states.push(everything(&admin).await);
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn genesis_states_of_mainnet_and_testnet() {
    for network in ["rise-mainnet", "rise-testnet"] {
        let profile = NetworkProfile::built_in(network).unwrap();
        let text = load_json(&format!("networks/{network}-genesis.json")).to_string();
        let mut genesis = parse_block(&text, &profile).unwrap();
        genesis.height = 1;
        let parameters = ChainParameters::new(&profile, &genesis);
        let (state, applied) = MemoryState::from_genesis(genesis, &profile).unwrap();
        let row = BlockRow {
            block: applied.block.into(),
            transactions_before: 0,
            forgers: Some(state.round().unwrap().forgers.clone()),
            delegates_digest: applied.changes.delegates_digest,
        };
        let database = Database::new(&parameters).await;
        apply(&mut database.writing().await, &[SlowOperation::Append(row)], 1).await;
        let admin = database.client(&database.admin()).await;
        let dump = load_json(&format!("networks/{network}-accounts-1.json"));
        let found = differences(&admin, &dump, &Leftovers::default()).await;
        assert!(found.is_empty(), "{network}: {found:#?}");
    }
}
