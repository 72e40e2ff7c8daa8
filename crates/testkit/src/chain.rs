//! The oracle's chains: profile, genesis block and blocks.

use std::path::PathBuf;
use std::sync::Arc;

use forebay_ledger::block::Block;
use forebay_ledger::json::{block_from_value, parse_block};
use forebay_ledger::profile::{GenerationTwo, NetworkProfile};
use serde_json::Value;

use crate::oracle::oracle_dir;

/// A moment after every block of the oracle, in seconds since the network's epoch.
pub const NOW: i64 = 320_000_000;

/// One of the oracle's chains.
#[derive(Clone)]
pub struct OracleChain {
    /// Where its files are.
    pub folder: PathBuf,
    /// Its rules.
    pub profile: Arc<NetworkProfile>,
    /// Its first block.
    pub genesis: Arc<Block>,
    /// Heights 2 and up.
    pub blocks: Vec<Block>,
    /// The other branch.
    pub fork: Vec<Block>,
    /// The height that the other branch starts on.
    pub fork_base: u32,
}

impl OracleChain {
    /// Rules of the first generation, 420 blocks. `None`: see [`oracle_dir`].
    #[must_use]
    pub fn first() -> Option<Self> {
        Self::load("chain", profile("rise-devnet"))
    }

    /// Rules of the second generation from height 102, 520 blocks. `None`: see [`oracle_dir`].
    #[must_use]
    pub fn second() -> Option<Self> {
        let generation_two = Some(GenerationTwo { first_height: 102, missed_in_a_row_max: 1, pool: 199 });
        Self::load(
            "chain-v2",
            NetworkProfile { name: "oracle-v2".to_owned(), generation_two, ..profile("rise-devnet") },
        )
    }

    fn load(name: &str, profile: NetworkProfile) -> Option<Self> {
        let folder = oracle_dir()?.join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let blocks = |file: &str| -> Vec<Block> {
            read(file).lines().map(|line| parse_block(line, &profile).unwrap()).collect()
        };
        let genesis = Arc::new(parse_block(&read("genesis.json"), &profile).unwrap());
        let all = blocks("blocks.jsonl");
        let fork = blocks("fork-blocks.jsonl");
        let fork_base = all.iter().find(|b| Some(b.id) == fork[0].previous_block).unwrap().height;
        Some(Self {
            blocks: all.into_iter().skip(1).collect(),
            fork,
            fork_base,
            genesis,
            profile: Arc::new(profile),
            folder,
        })
    }

    /// The dump of a height, if there is one. `kind`: `""`, `"-fork"`, `"-after-rollback"`.
    #[must_use]
    pub fn dump(&self, height: u32, kind: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.join(format!("accounts-{height}{kind}.json"))).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The cases of `rejected-blocks.jsonl` that have a block: name, whether the reference node took it, the block or
    /// `None` where it cannot be read.
    #[must_use]
    pub fn rejected_cases(&self) -> Vec<(String, bool, Option<Block>)> {
        let text = std::fs::read_to_string(self.folder.join("rejected-blocks.jsonl")).unwrap();
        let cases = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        cases
            .filter(|case| !case["block"].is_null())
            .map(|case| {
                let block = block_from_value(&case["block"], &self.profile).ok();
                (case["name"].as_str().unwrap().to_owned(), case["accepted"].as_bool().unwrap(), block)
            })
            .collect()
    }
}

fn profile(name: &str) -> NetworkProfile {
    NetworkProfile::built_in(name).unwrap()
}
