//! A small network whose rounds are seven blocks, a node on servers of its own, and what can be done to those.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_fast::{FastErrorKind, FastTier};
use forebay_generator::{Chain, ChainOptions, Mix, Network, NetworkOptions};
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::memory::MemoryState;
use forebay_servers::testing::TestOptions;
use forebay_slow::SlowReader;
use forebay_store::{Node, NodeOptions, Observer, Progress, StoreError};
use forebay_testkit::chain::NOW;
use forebay_testkit::node::{Bench, TestNode};
use forebay_testkit::proxy::{Endpoint, Proxy};
use tokio::task::JoinHandle;

/// Nothing here takes longer, or something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks a round.
pub const ROUND: u32 = 7;

/// Servers, and a chain to bring to them.
pub struct Stage {
    pub bench: Bench,
    pub network: Arc<Network>,
    pub chain: Chain,
    /// The blocks of the chain from height 2 on, as it is now.
    pub blocks: Vec<Block>,
}

fn options(branch: &str) -> ChainOptions {
    ChainOptions {
        seed: branch.to_owned(),
        mix: Mix::all_types(),
        transactions_min: 1,
        transactions_max: 6,
        skipped_slots_percent: 10,
        ..ChainOptions::default()
    }
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(TestOptions::default()).await
    }

    pub async fn with(test: TestOptions) -> Self {
        let network = NetworkOptions {
            name: "scenario".to_owned(),
            delegates: ROUND,
            standby_delegates: 4,
            accounts: 30,
            ..NetworkOptions::default()
        };
        let network = Arc::new(Network::from_seed("scenario", &network).unwrap());
        let profile = Arc::new(network.profile.clone());
        let now_unix_seconds = profile.epoch_unix_seconds().unwrap() + NOW;
        let chain = Chain::new(Arc::clone(&network), options("main"), now_unix_seconds).unwrap();
        let mut bench = Bench::with(test, profile, Arc::new(network.genesis.clone())).await;
        bench.options.limits.takeover_after = Duration::from_secs(2);
        Self { bench, network, chain, blocks: Vec::new() }
    }

    /// So many more blocks of the chain.
    pub fn more(&mut self, count: usize) -> Vec<Block> {
        let new: Vec<Block> = (0..count).map(|_| self.chain.next_block().unwrap()).collect();
        self.blocks.extend(new.iter().cloned());
        new
    }

    /// From here on blocks without transactions: the node needs to read nothing for them.
    pub fn go_on_with_empty_blocks(&mut self) {
        let empty = ChainOptions { transactions_min: 0, transactions_max: 0, ..options("empty") };
        self.chain.set_options(empty).unwrap();
    }

    /// Back to a height, and from there on another branch.
    pub fn branch_off(&mut self, height: u32, branch: &str) {
        while self.chain.height() > height {
            self.chain.pop().unwrap();
            self.blocks.pop();
        }
        self.chain.set_options(options(branch)).unwrap();
    }

    /// Makes blocks and brings them to a node that must take them.
    pub async fn forward(&mut self, node: &TestNode, count: usize) {
        let blocks = self.more(count);
        node.apply_all(&blocks).await;
    }

    /// The accounts after the chain's blocks, by the ledger alone, from the genesis block on.
    pub fn replayed(&self) -> Vec<Account> {
        let profile = &self.network.profile;
        let (mut state, _) = MemoryState::from_genesis(self.network.genesis.clone(), profile).unwrap();
        for block in &self.blocks {
            state.push(block.clone(), profile, NOW, &Checker::default()).unwrap();
        }
        state.accounts().cloned().collect()
    }

    /// Redis = PostgreSQL = what the chain's blocks give from scratch: nothing is missing, nothing is there twice.
    pub async fn assert_complete(&self, node: &TestNode) {
        tokio::time::timeout(PATIENCE, node.settle()).await.expect("PostgreSQL does not follow");
        let expected = self.replayed();
        assert!(node.fast_accounts().await == expected, "Redis differs from a replay from scratch");
        assert!(
            self.bench.slow_accounts().await == expected,
            "PostgreSQL differs from a replay from scratch"
        );
        let verified = self.bench.verify(true).await;
        assert_eq!((verified.findings, verified.height), (Vec::new(), self.chain.height()));
    }

    /// Runs a command of Redis.
    pub async fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.bench.servers.redis().redis_url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }

    pub async fn slow_seq(&self) -> u64 {
        let reader = SlowReader::connect(&self.bench.options.postgres).await.unwrap();
        reader.reads().position().await.unwrap().seq
    }

    /// A copy of a server's files, made while it does not run.
    pub fn keep(&self, server: &str) -> PathBuf {
        let kept = self.bench.servers.data_dir().join(format!("{server}-kept"));
        copy(&self.bench.servers.data_dir().join(server), &kept);
        kept
    }

    /// The server's files as they were when they were [kept](Self::keep).
    pub fn put_back(&self, server: &str, kept: &Path) {
        copy(kept, &self.bench.servers.data_dir().join(server));
    }

    /// A node whose connections can be broken.
    pub async fn proxied(&self, name: &str) -> (Proxies, NodeOptions) {
        let folder = self.bench.servers.data_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let postgres = self.bench.servers.postgres();
        let socket = format!(".s.PGSQL.{}", postgres.port());
        let proxies = Proxies {
            redis: Proxy::start(
                Endpoint::Unix(folder.join("redis.sock")),
                Endpoint::Unix(self.bench.servers.redis().socket()),
            )
            .await
            .unwrap(),
            postgres: Proxy::start(
                Endpoint::Unix(folder.join(&socket)),
                Endpoint::Unix(postgres.socket_dir().join(&socket)),
            )
            .await
            .unwrap(),
        };
        let mut options = self.bench.options.clone();
        options.redis_url = format!("redis+unix://{}", folder.join("redis.sock").display());
        options.postgres = through(&options.postgres, &folder);
        (proxies, options)
    }
}

/// In front of both servers.
pub struct Proxies {
    pub redis: Proxy,
    pub postgres: Proxy,
}

/// The same session by another socket's directory.
pub fn through(config: &tokio_postgres::Config, folder: &Path) -> tokio_postgres::Config {
    let mut other = tokio_postgres::Config::new();
    other.host_path(folder).port(config.get_ports()[0]).user(config.get_user().unwrap());
    other.password(config.get_password().unwrap()).dbname(config.get_dbname().unwrap());
    other
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(to).status().unwrap().success());
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

pub async fn start(options: &NodeOptions) -> Result<TestNode, StoreError> {
    start_watched(options, Arc::new(|_| ())).await
}

pub async fn start_watched(options: &NodeOptions, observe: Observer) -> Result<TestNode, StoreError> {
    let (node, running) = Node::start(options.clone(), observe).await?;
    Ok(TestNode { node, running })
}

/// A start beside whatever the test does meanwhile.
pub fn start_in_background(
    options: NodeOptions,
    observe: Observer,
) -> JoinHandle<Result<TestNode, StoreError>> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(start_watched(&options, observe)))
}

/// SIGSTOP, SIGCONT and the like.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

/// Waits until the node says so of itself.
pub async fn until(node: &TestNode, what: &str, condition: impl FnMut(&Progress) -> bool) {
    let mut progress = node.node.watch();
    let seen = tokio::time::timeout(PATIENCE, progress.wait_for(condition)).await;
    seen.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}")).unwrap();
}

/// Waits for something outside of the node.
pub async fn until_true(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"));
}

/// Reads all the time, as the node's own readers do, and notes what it got.
pub struct Reader {
    ended: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<Read>,
}

/// What a reader got.
#[derive(Default)]
pub struct Read {
    pub answers: u64,
    pub errors: u64,
}

impl Reader {
    pub fn start(node: &TestNode) -> Self {
        let (ended, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tier = node.node.fast().clone();
        let task = tokio::spawn(read_until(tier, Arc::clone(&ended), Arc::clone(&acknowledged)));
        Self { ended, acknowledged, task }
    }

    /// From now on an answer that is older than this is wrong.
    pub fn acknowledged(&self, node: &TestNode) {
        self.acknowledged.fetch_max(node.node.progress().position.seq, Ordering::SeqCst);
    }

    pub async fn end(self) -> Read {
        self.ended.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn read_until(tier: FastTier, ended: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> Read {
    let mut read = Read::default();
    while !ended.load(Ordering::SeqCst) {
        let least = acknowledged.load(Ordering::SeqCst);
        match tier.counts().await {
            Ok(counts) => {
                assert!(
                    counts.at.position.seq >= least,
                    "read at {}, {least} was acknowledged",
                    counts.at.position
                );
                assert!(counts.value.accounts > 30 && counts.value.delegates >= 11, "{:?}", counts.value);
                read.answers += 1;
            }
            Err(error) => {
                let told = [
                    FastErrorKind::Unavailable,
                    FastErrorKind::AnotherRun,
                    FastErrorKind::NotReady,
                    FastErrorKind::Stale,
                ];
                assert!(told.contains(&error.kind()), "{error}");
                read.errors += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    read
}
