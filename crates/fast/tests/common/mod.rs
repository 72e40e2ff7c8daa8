//! What the tests share: a Redis of their own, the reference node's chain as steps, and the whole key space as data.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use forebay_fast::{Expected, FastOptions, FastTier, Fence, Holder, OutboxEntry, Position, RestoredHead};
use forebay_ledger::apply::Applied;
use forebay_ledger::crypto::Checker;
use forebay_ledger::json::parse_block;
use forebay_ledger::keys::PublicKey;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::state::StateView;
use forebay_servers::testing::TestServers;
use redis::aio::MultiplexedConnection;

pub const EPOCH: u64 = 7;

pub fn holder() -> Holder {
    Holder { host: "here".to_owned(), pid: std::process::id(), since_ms: 1 }
}

/// A Redis, and the chain `test` in it.
pub struct Bench {
    pub servers: TestServers,
    pub tier: FastTier,
    pub raw: MultiplexedConnection,
}

impl Bench {
    /// Connected; nobody holds the chain.
    pub async fn new() -> Self {
        let servers = TestServers::start_redis().await.unwrap();
        let url = servers.redis().redis_url();
        let options = FastOptions {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(20),
            ..FastOptions::default()
        };
        let tier = FastTier::connect(&url, "test", options).await.unwrap();
        let client = redis::Client::open(url).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        Self { servers, tier, raw }
    }

    /// Held by [`EPOCH`], ready, before the genesis block.
    pub async fn ready() -> Self {
        let bench = Self::new().await;
        bench.tier.claim(None, EPOCH, &holder()).await.unwrap();
        bench.restore_empty().await;
        bench
    }

    pub async fn restore_empty(&self) {
        self.tier.begin_clean(EPOCH).await.unwrap();
        self.tier.clean(EPOCH, |_| {}).await.unwrap();
        let restore =
            self.tier.begin_restore(EPOCH, Expected { accounts: 0, transactions: 0 }).await.unwrap();
        let head = RestoredHead { position: Position { epoch: 0, seq: 0 }, tip: None, genesis_account: None };
        restore.finish(&head).await.unwrap();
    }

    pub async fn another(&self) -> FastTier {
        FastTier::connect(&self.servers.redis().redis_url(), "test", FastOptions::default()).await.unwrap()
    }

    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self::words(words).query_async(&mut self.raw.clone()).await.unwrap()
    }

    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.command(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }

    /// One command for each key, all in one round trip.
    async fn each<T: redis::FromRedisValue>(&self, commands: impl Iterator<Item = redis::Cmd>) -> Vec<T> {
        let mut pipeline = redis::pipe();
        commands.for_each(|command| {
            pipeline.add_command(command);
        });
        if pipeline.is_empty() {
            Vec::new()
        } else {
            pipeline.query_async(&mut self.raw.clone()).await.unwrap()
        }
    }

    /// Every key, byte for byte as Redis stores it.
    pub async fn dump(&self) -> BTreeMap<String, Vec<u8>> {
        let keys = self.keys().await;
        let dumps = self.each(keys.iter().map(|key| words(&["DUMP", key]))).await;
        keys.into_iter().zip(dumps).collect()
    }

    /// Every key's content, whatever its internal encoding. Without what an operation leaves by design: the outbox and
    /// the position.
    pub async fn content(&self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let keys = self.keys().await;
        let kinds: Vec<String> = self.each(keys.iter().map(|key| words(&["TYPE", key]))).await;
        let (mut content, mut kept) = (BTreeMap::new(), Vec::new());
        let reads = keys.iter().zip(&kinds).filter_map(|(key, kind)| {
            let command = match kind.as_str() {
                "string" => words(&["MGET", key]),
                "list" => words(&["LRANGE", key, "0", "-1"]),
                "zset" => words(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
                "hash" => words(&["HGETALL", key]),
                _ => return None,
            };
            kept.push((key.clone(), kind.clone()));
            Some(command)
        });
        let values: Vec<Vec<Vec<u8>>> = self.each(reads).await;
        for ((key, kind), value) in kept.into_iter().zip(values) {
            let value = if kind == "hash" {
                let pairs = value.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
                let fields: BTreeMap<Vec<u8>, Vec<u8>> = pairs.collect();
                let lasting = fields.into_iter().filter(|(name, _)| name != b"seq" && name != b"epoch");
                lasting.flat_map(|(name, value)| [name, value]).collect()
            } else {
                value
            };
            content.insert(key, value);
        }
        content
    }

    /// Applies the next block of a chain, as the writer would.
    pub async fn apply(&self, fence: &mut Fence, applied: &Applied, forgers: Option<&[PublicKey]>) {
        let entry = next_entry(fence, applied, forgers);
        let result =
            self.tier.apply(fence, &applied.changes, applied.undo.as_ref(), &applied.block, &entry).await;
        result.unwrap();
        *fence = Fence { epoch: fence.epoch, seq: entry.position.seq, tip: Some(applied.block.id) };
    }
}

fn words(words: &[&str]) -> redis::Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}

pub fn start_fence() -> Fence {
    Fence { epoch: EPOCH, seq: 0, tip: None }
}

pub fn next_position(fence: &Fence) -> Position {
    Position { epoch: fence.epoch, seq: fence.seq + 1 }
}

pub fn next_entry(fence: &Fence, applied: &Applied, forgers: Option<&[PublicKey]>) -> OutboxEntry {
    OutboxEntry::of_block(next_position(fence), &applied.changes, &applied.block, forgers)
}

/// The reference node's chain: genesis block and the first blocks, verified and applied by the ledger.
pub struct Chain {
    pub profile: NetworkProfile,
    pub applied: Vec<Applied>,
    /// The forger list of a round, with the round's first block.
    pub forgers: Vec<Option<Vec<PublicKey>>>,
    pub state: MemoryState,
}

/// `None` where the reference data are not there (never under `CI=true`).
pub fn oracle_chain(height_max: usize) -> Option<Chain> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle/chain");
    if !folder.is_dir() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{} is missing under CI=true",
            folder.display()
        );
        eprintln!("skipped: {} is missing", folder.display());
        return None;
    }
    let profile = NetworkProfile::built_in("rise-devnet").unwrap();
    let checker = Checker::default();
    let genesis = std::fs::read_to_string(folder.join("genesis.json")).unwrap();
    let (mut state, first) =
        MemoryState::from_genesis(parse_block(&genesis, &profile).unwrap(), &profile).unwrap();
    let first_forgers = state.round().unwrap().forgers.clone();
    let (mut applied, mut forgers) = (vec![first], vec![Some(first_forgers)]);
    let lines = std::fs::read_to_string(folder.join("blocks.jsonl")).unwrap();
    for block in lines.lines().map(|line| parse_block(line, &profile).unwrap()) {
        if block.height == 1 {
            continue;
        }
        if block.height as usize > height_max {
            break;
        }
        let opens = profile.opens_round(block.height);
        forgers.push(opens.then(|| state.round().unwrap().forgers.clone()));
        applied.push(state.push(block, &profile, 320_000_000, &checker).unwrap());
    }
    Some(Chain { profile, applied, forgers, state })
}
