//! The oracle's chains as rows for the slow tier. Forger lists come from the oracle's manifest, digests from the ledger.

use std::path::PathBuf;
use std::sync::Arc;

use forebay_ledger::crypto::Checker;
use forebay_ledger::json::parse_block;
use forebay_ledger::keys::PublicKey;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::profile::{GenerationTwo, NetworkProfile};
use forebay_ledger::state::StateView;
use forebay_slow::setup::ChainParameters;
use forebay_slow::{BlockRow, SlowOperation, SlowWriter};
use serde_json::Value;

pub const DELEGATES: u32 = 101;

/// One of the oracle's chains.
pub struct Chain {
    pub name: &'static str,
    pub profile: NetworkProfile,
    /// Rows of heights 1 and up.
    pub main: Vec<BlockRow>,
    /// Rows of the other branch.
    pub fork: Vec<BlockRow>,
    /// The ledger's state after each main block.
    pub states: Vec<Arc<MemoryState>>,
}

pub fn oracle() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle")
}

pub fn load_json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(oracle().join(path)).unwrap()).unwrap()
}

impl Chain {
    /// The rules of the first generation.
    pub fn first() -> Self {
        Self::with_profile("chain", NetworkProfile::built_in("rise-devnet").unwrap(), 420)
    }

    /// The same, only as far as a test needs it.
    pub fn first_up_to(height: u32) -> Self {
        Self::with_profile("chain", NetworkProfile::built_in("rise-devnet").unwrap(), height)
    }

    /// The second generation from height 102.
    pub fn second() -> Self {
        let mut profile = NetworkProfile::built_in("rise-devnet").unwrap();
        profile.name = "oracle-v2".into();
        profile.generation_two = Some(GenerationTwo { first_height: 102, missed_in_a_row_max: 1, pool: 199 });
        Self::with_profile("chain-v2", profile, 520)
    }

    /// A chain of the oracle under a profile of the test's.
    pub fn with_profile(name: &'static str, profile: NetworkProfile, height_max: u32) -> Self {
        let checker = Checker::with_capacity(1000);
        let lists = load_json(&format!("{name}/manifest.json"))["delegateLists"].clone();
        let text = |file: &str| std::fs::read_to_string(oracle().join(name).join(file)).unwrap();

        let (mut main, mut states) = (Vec::new(), Vec::new());
        let mut state = MemoryState::new();
        for line in text("blocks.jsonl").lines().take(height_max as usize) {
            main.push(next_row(&mut state, line, &profile, &checker, &|height| {
                forgers(&lists, "main", height)
            }));
            states.push(Arc::new(state.clone()));
        }
        let mut fork = Vec::new();
        let fork_text = text("fork-blocks.jsonl");
        let first = parse_block(fork_text.lines().next().unwrap(), &profile).unwrap().height;
        if first <= height_max {
            state = (*states[first as usize - 2]).clone();
            for line in fork_text.lines() {
                let list =
                    |height| forgers(&lists, "fork", height).or_else(|| forgers(&lists, "main", height));
                fork.push(next_row(&mut state, line, &profile, &checker, &list));
            }
        }
        Self { name, profile, main, fork, states }
    }

    pub fn parameters(&self) -> ChainParameters {
        ChainParameters::new(&self.profile, &self.main[0].block)
    }

    /// Operations that append the heights.
    pub fn appends(&self, heights: std::ops::RangeInclusive<u32>) -> Vec<SlowOperation> {
        let (first, last) = (*heights.start() as usize, *heights.end() as usize);
        self.main[first - 1..last].iter().cloned().map(SlowOperation::Append).collect()
    }

    /// Operations that append blocks of the fork.
    pub fn fork_appends(&self, heights: std::ops::RangeInclusive<u32>) -> Vec<SlowOperation> {
        let rows = self.fork.iter().filter(|row| heights.contains(&row.block.height));
        rows.cloned().map(SlowOperation::Append).collect()
    }
}

fn next_row(
    state: &mut MemoryState,
    line: &str,
    profile: &NetworkProfile,
    checker: &Checker,
    forgers: &dyn Fn(u32) -> Option<Vec<PublicKey>>,
) -> BlockRow {
    let block = parse_block(line, profile).unwrap();
    let transactions_before = state.tip().map_or(0, |tip| tip.transactions_total);
    let applied = if block.previous_block.is_none() {
        let (first, applied) = MemoryState::from_genesis(block, profile).unwrap();
        *state = first;
        applied
    } else {
        let now = i64::from(block.timestamp);
        state.push(block, profile, now, checker).unwrap()
    };
    BlockRow {
        transactions_before,
        forgers: forgers(applied.block.height),
        delegates_digest: applied.changes.delegates_digest,
        block: Arc::new(applied.block),
    }
}

fn forgers(lists: &Value, branch: &str, height: u32) -> Option<Vec<PublicKey>> {
    if height % DELEGATES != 1 {
        return None;
    }
    let list = lists.get(format!("{branch}-round-{}", height / DELEGATES + 1))?;
    Some(list.as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect())
}

/// Applies operations in batches, each in one transaction.
pub async fn apply(writer: &mut SlowWriter, operations: &[SlowOperation], batch: usize) {
    for chunk in operations.chunks(batch) {
        let position = writer.position().await.unwrap();
        let new_seq = position.seq + chunk.len() as u64;
        writer.apply(position.epoch, position.seq, new_seq, chunk, 1).await.unwrap();
    }
}

/// Takes back in a transaction of its own.
pub async fn take_back(writer: &mut SlowWriter, to_height: u32) {
    apply(writer, &[SlowOperation::TakeBack { to_height }], 1).await;
}

/// Heights of the plain dumps of a chain, ascending.
pub fn dumped_heights(name: &str) -> Vec<u32> {
    let mut heights: Vec<u32> = std::fs::read_dir(oracle().join(name))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("accounts-")?.strip_suffix(".json")?.parse().ok()
        })
        .collect();
    heights.sort_unstable();
    heights
}
