//! What the chain holds now, from PostgreSQL; or from its genesis block, before PostgreSQL has anything.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use forebay_ledger::block::Block;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::transaction::Asset;
use forebay_slow::{Census, Counts, ErrorKind as SlowErrorKind, SlowError, SlowReader};
use tokio_postgres::Config;

use crate::error::{Decision, StoreError, decide};
use crate::options::Limits;
use crate::syncer::BackOff;

/// Growth is measured over the newest 30 days.
const GROWTH_SECONDS: u32 = 30 * 24 * 3600;
/// What a record of the fast tier has on average, as measured on the development network's chain.
const RECORD_BYTES: u64 = 42;
/// A registered delegate's record.
const DELEGATE_RECORD_BYTES: u64 = 120;

/// A chain by its rules and its first block.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The network's rules.
    pub profile: &'a NetworkProfile,
    /// The first block.
    pub genesis: &'a Block,
}

/// Counts the chain in PostgreSQL; where there is none yet, what the genesis block will make. Reads only.
///
/// `connect_timeout`: how long a PostgreSQL that is away is waited for; `None`: as long as it takes.
///
/// # Errors
/// PostgreSQL's, once waiting does not help.
pub async fn take_census(
    postgres: &Config,
    chain: Chain<'_>,
    limits: &Limits,
    connect_timeout: Option<Duration>,
) -> Result<Census, StoreError> {
    take_census_told(postgres, chain, limits, connect_timeout, &|_| {}).await
}

/// The same; `waits` is told each failure that is waited over.
///
/// # Errors
/// See [`take_census`].
pub async fn take_census_told(
    postgres: &Config,
    chain: Chain<'_>,
    limits: &Limits,
    connect_timeout: Option<Duration>,
    waits: &(dyn Fn(String) + Send + Sync),
) -> Result<Census, StoreError> {
    let (since, mut back_off) = (Instant::now(), BackOff::new());
    loop {
        let error = match ask(postgres, chain, limits).await {
            Ok(census) if census.counts.blocks > 0 => return Ok(census),
            Ok(_) => return Ok(census_of_genesis(chain)),
            Err(error) if error.kind() == SlowErrorKind::WrongDatabase => {
                return Ok(census_of_genesis(chain));
            }
            Err(error) => StoreError::from(error),
        };
        let passes = !error.is_untrusted()
            && matches!(decide(&error), Decision::Retry | Decision::RetrySlowly | Decision::Ask);
        if !passes || connect_timeout.is_some_and(|limit| since.elapsed() >= limit) {
            return Err(error);
        }
        let wait = back_off.next(false);
        tracing::warn!(attempt = back_off.attempt(), %error, "waiting for PostgreSQL, to plan Redis' memory");
        waits(error.to_string());
        tokio::time::sleep(wait).await;
    }
}

async fn ask(postgres: &Config, chain: Chain<'_>, limits: &Limits) -> Result<Census, SlowError> {
    let mut reader = SlowReader::connect(postgres).await?;
    let snapshot = reader.snapshot().await?;
    let growth_blocks = GROWTH_SECONDS / chain.profile.block_time_seconds.max(1);
    snapshot.reads().census(limits.blocks_kept, growth_blocks).await
}

/// What the genesis block will make, about: for a chain that PostgreSQL does not have yet.
#[must_use]
pub fn census_of_genesis(chain: Chain<'_>) -> Census {
    let transactions = &chain.genesis.transactions;
    let mut accounts = HashSet::new();
    let mut delegates = 0;
    for transaction in transactions {
        accounts.insert(transaction.sender);
        accounts.extend(transaction.recipient);
        delegates += u64::from(matches!(transaction.asset, Asset::Delegate { .. }));
    }
    let (accounts, transactions) = (accounts.len() as u64, transactions.len() as u64);
    Census {
        counts: Counts { blocks: 1, transactions, accounts, delegates, ..Counts::default() },
        inline_record_bytes: accounts.saturating_sub(delegates) * RECORD_BYTES,
        delegate_record_bytes: delegates * DELEGATE_RECORD_BYTES,
        recent_blocks: 1,
        recent_transactions: transactions,
        recent_payload_bytes: chain.genesis.payload_length.into(),
        ..Census::default()
    }
}
