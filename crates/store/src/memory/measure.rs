//! Calibration: a sample of the chain's own rows is loaded into the server in use, beside the chain, weighed and removed.
//!
//! It goes the way of a restore, under a name of its own (`<chain>.measure`), so what is weighed is what a restore makes.

use forebay_fast::{
    Calibration, Contents, Expected, FastOptions, FastTier, Footprint, Holder, SERVER_BYTES, measurement_of,
};
use forebay_ledger::ids::TransactionId;
use forebay_slow::{Reads, SlowReader};
use tokio_postgres::Config;

use crate::error::StoreError;

/// Accounts of the sample: 32 in each of the fewest buckets.
const ACCOUNTS: u32 = 131_072;
/// Ids of the sample: 16 in each of the fewest buckets.
const TRANSACTIONS: u64 = 262_144;
/// Blocks of the sample, newest first; and their payloads, bytes.
const BLOCKS: u32 = 200;
/// Parts that have fewer bytes than this in the sample say nothing.
const WEIGHT_BYTES_MIN: u64 = 1 << 18;

/// Measures what entries take on this Redis. Some 20 MB are used in it for a moment; nothing of the chain is touched, and
/// nothing stays. An empty chain is measured with accounts made up.
///
/// # Errors
/// Either server's.
pub async fn measure(
    redis_url: &str,
    postgres: Option<&Config>,
    chain: &str,
    holder: &Holder,
) -> Result<Calibration, StoreError> {
    let name = measurement_of(chain);
    let fast = FastTier::connect(redis_url, &name, FastOptions::default()).await?;
    let owner = fast.owner().await?;
    let epoch = owner.as_ref().map_or(0, |owner| owner.epoch) + 1;
    fast.claim(owner.as_ref(), epoch, holder).await?;
    let outcome = match postgres {
        Some(postgres) => {
            let mut reader = SlowReader::connect(postgres).await?;
            let snapshot = reader.snapshot().await?;
            weigh(&fast, epoch, &name, Some(snapshot.reads())).await
        }
        None => weigh(&fast, epoch, &name, None).await,
    };
    // Whatever happened: the sample goes.
    fast.begin_clean(epoch).await?;
    fast.clean(epoch, |_| {}).await?;
    fast.forget(epoch).await?;
    outcome
}

async fn weigh(
    fast: &FastTier,
    epoch: u64,
    name: &str,
    reads: Option<Reads<'_>>,
) -> Result<Calibration, StoreError> {
    fast.begin_clean(epoch).await?;
    fast.clean(epoch, |_| {}).await?;
    let accounts = match reads {
        Some(reads) => reads.some_accounts(ACCOUNTS).await?,
        None => Vec::new(),
    };
    let blocks = match reads {
        Some(reads) => {
            let tip = reads.tip().await?.map_or(0, |tip| tip.height);
            reads.blocks(tip.saturating_sub(BLOCKS).max(1)..=tip).await?
        }
        None => Vec::new(),
    };
    let expected = Expected { accounts: accounts.len() as u64, transactions: TRANSACTIONS };
    let mut restore = fast.begin_restore(epoch, expected).await?;
    restore.load_accounts(&accounts).await?;
    restore.load_blocks(&blocks).await?;
    let ids: Vec<_> = (0..TRANSACTIONS).map(|n| (TransactionId(spread(n)), HEIGHT)).collect();
    restore.load_transactions(&ids).await?;
    restore.write_waiting().await?;

    let mut contents = Contents::of_sample(&accounts, &blocks);
    contents.chain_name_bytes = name.len() as u64;
    contents.transactions = TRANSACTIONS;
    contents.height = HEIGHT.into();
    let planned = Footprint::of(&contents, &Calibration::default());
    let found = fast.weigh_keys().await?;
    let permille = |found: u64, planned: u64| {
        if found < WEIGHT_BYTES_MIN { 1000 } else { (found * 1000).checked_div(planned).unwrap_or(1000) }
    };
    let server_bytes = fast.server_facts().await?.memory_bytes_at_start;
    Ok(Calibration {
        server_bytes: if server_bytes > 0 { server_bytes } else { SERVER_BYTES },
        accounts_permille: permille(found.accounts, planned.accounts + planned.delegates),
        transactions_permille: permille(found.transactions, planned.transactions),
        blocks_permille: permille(found.blocks, planned.blocks),
    })
}

/// A height of a chain of some years.
const HEIGHT: u32 = 1_000_000;

/// Numbers that fall into buckets by chance, as ids do (splitmix64).
fn spread(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
