//! The end: what was acknowledged, replayed through the ledger alone, is what both tiers have.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use forebay_fast::{FastOptions, FastTier};
use forebay_generator::Network;
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::Height;
use forebay_ledger::json::block_from_value;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::{StateView as _, UndoRecord};
use forebay_slow::SlowReader;
use forebay_store::verify::{VerifyInputs, verify};
use serde_json::Value;

use crate::driver::LOG;
use crate::history::History;
use crate::servers::Servers;

/// The chain that the log of acknowledged operations gives.
pub struct Replayed {
    /// Its state.
    pub state: MemoryState,
    /// Heights 2 and up.
    pub blocks: Vec<Block>,
}

impl Replayed {
    /// Replays the log of a run.
    ///
    /// # Errors
    /// The log cannot be read, or the ledger refuses what the node accepted.
    pub fn of_log(root: &Path, network: &Network, now: i64) -> anyhow::Result<Self> {
        let profile = &network.profile;
        let checker = Checker::default();
        let (mut state, _) = MemoryState::from_genesis(network.genesis.clone(), profile)?;
        let mut blocks: Vec<(Block, UndoRecord)> = Vec::new();
        for (number, line) in BufReader::new(File::open(root.join(LOG))?).lines().enumerate() {
            let value: Value = serde_json::from_str(&line?)?;
            let at = || format!("line {} of {LOG}", number + 1);
            if let Some(block) = value.get("accepted") {
                let block = block_from_value(block, profile).with_context(at)?;
                if block.previous_block != state.tip().map(|tip| tip.id) {
                    bail!("{}: block {} does not follow what was acknowledged before", at(), block.id);
                }
                let applied = state.push(block, profile, now, &checker).with_context(at)?;
                blocks.push((applied.block, applied.undo.with_context(at)?));
            } else if let Some(height) = value.get("back").and_then(Value::as_u64) {
                while blocks.last().is_some_and(|(block, _)| u64::from(block.height) > height) {
                    let Some((block, undo)) = blocks.pop() else { break };
                    state.pop(&block, &undo).with_context(at)?;
                }
            }
        }
        Ok(Self { state, blocks: blocks.into_iter().map(|(block, _)| block).collect() })
    }

    fn height(&self) -> Height {
        self.state.tip().map_or(0, |tip| tip.height)
    }
}

/// Compares Redis, PostgreSQL and the replay, at rest. What differs becomes a violation.
///
/// # Errors
/// A server does not answer.
pub async fn check(
    servers: &Servers,
    root: &Path,
    network: &Network,
    now: i64,
    history: &History,
) -> anyhow::Result<()> {
    let replayed = Replayed::of_log(root, network, now)?;
    let chain = &network.profile.name;
    let fast = FastTier::connect(&servers.direct_redis_url(), chain, FastOptions::default()).await?;
    let slow = SlowReader::connect(&servers.direct_postgres()?).await?;

    let head = fast.head().await?;
    if head.tip.map(|tip| tip.id) != replayed.state.tip().map(|tip| tip.id) {
        history.violated(format!("Redis' tip is {:?}, the replay's {:?}", head.tip, replayed.state.tip()));
    }
    let in_redis = fast.all_accounts().await?.context("the chain moves on, though nobody drives it")?;
    compare_accounts("Redis", &in_redis.value, &replayed, history);
    let mut in_postgres = Vec::new();
    slow.reads()
        .accounts(10_000, async |accounts: Vec<Account>| -> Result<(), forebay_slow::SlowError> {
            in_postgres.extend(accounts);
            Ok(())
        })
        .await?;
    compare_accounts("PostgreSQL", &in_postgres, &replayed, history);
    compare_blocks(servers, &replayed, history).await?;

    let position = slow.reads().position().await?;
    let acknowledged = history.lock().acknowledged;
    if (position.seq, head.position.seq) != (acknowledged.1, acknowledged.1) {
        history.violated(format!(
            "{} operations were counted, Redis is at {}, PostgreSQL at {}",
            acknowledged.1, head.position.seq, position.seq
        ));
    }
    let inputs = VerifyInputs {
        fast,
        postgres: servers.direct_postgres()?,
        profile: Arc::new(network.profile.clone()),
        genesis: Arc::new(network.genesis.clone()),
    };
    let verified = verify(&inputs, true, |_| ()).await?;
    for finding in verified.findings.iter().take(3) {
        history.violated(format!(
            "verify --deep: {} {}: {}",
            finding.tier.name(),
            finding.subject,
            finding.detail
        ));
    }
    Ok(())
}

fn compare_accounts(tier: &str, found: &[Account], replayed: &Replayed, history: &History) {
    let expected: Vec<&Account> = replayed.state.accounts().collect();
    if found.len() != expected.len() {
        history.violated(format!("{tier} has {} accounts, the replay {}", found.len(), expected.len()));
    }
    let different = found.iter().zip(&expected).find(|(found, expected)| found != *expected);
    if let Some((found, expected)) = different {
        history.violated(format!("{tier} has {found:?}, the replay {expected:?}"));
    }
}

/// Nothing missing, nothing twice, no gap.
async fn compare_blocks(servers: &Servers, replayed: &Replayed, history: &History) -> anyhow::Result<()> {
    let client = servers.administrator().await?;
    let rows = client.query("select height, id from forebay.blocks order by height", &[]).await?;
    let mut seen = HashSet::new();
    let (mut lost, mut duplicated) = (0, 0);
    let mut found = Vec::new();
    for row in &rows {
        let (height, id): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        duplicated += u64::from(!seen.insert(id));
        found.push((height.unsigned_abs(), forebay_ledger::ids::BlockId::from_bigint(id)));
    }
    for block in &replayed.blocks {
        lost += u64::from(!seen.contains(&block.id.to_bigint()));
    }
    let expected = replayed.blocks.iter().map(|block| (block.height, block.id));
    if !found.iter().skip(1).copied().eq(expected) {
        history.violated(format!(
            "PostgreSQL has {} blocks, the replay ends at height {}: {lost} lost, {duplicated} twice",
            found.len(),
            replayed.height()
        ));
    }
    let row = client.query_one("select count(*), count(distinct id) from forebay.transactions", &[]).await?;
    let (transactions, distinct): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let expected = replayed.state.tip().map_or(0, |tip| tip.transactions_total);
    if transactions.unsigned_abs() != expected {
        history.violated(format!("PostgreSQL has {transactions} transactions, the replay {expected}"));
    }
    let mut events = history.lock();
    events.counts.lost += lost;
    events.counts.duplicated += duplicated + (transactions - distinct).unsigned_abs();
    Ok(())
}
