//! How fast a chain of transfers is made: signed, verified and applied by the ledger, block by block.
//! Usage: `cargo run --release -p forebay-generator --example transfers [BLOCKS]` (800 blocks of 250 if not given)

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use forebay_generator::{Chain, ChainOptions, Network, NetworkOptions};

/// The 1st of January 2026.
const NOW: i64 = 1_767_225_600;

fn main() -> Result<(), Box<dyn Error>> {
    let blocks = std::env::args().nth(1).map_or(Ok(800), |blocks| blocks.parse())?;
    let started = Instant::now();
    let options =
        NetworkOptions { transactions_per_block: 250, accounts: 10_000, ..NetworkOptions::default() };
    let network = Arc::new(Network::from_seed("seed", &options)?);
    println!("a network with {} accounts: {:.1} s", options.accounts, started.elapsed().as_secs_f64());

    let started = Instant::now();
    let options = ChainOptions { transactions_min: 250, transactions_max: 250, ..ChainOptions::default() };
    let mut chain = Chain::new(network, options, NOW)?;
    let mut transfers = 0;
    for _ in 0..blocks {
        transfers += chain.next_block()?.transactions.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{transfers} transfers: {seconds:.1} s, {:.0} transfers/s",
        f64::from(u32::try_from(transfers)?) / seconds
    );
    Ok(())
}
