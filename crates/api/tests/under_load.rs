//! Answers while blocks come and are taken back, and while Redis is killed: each is the ledger's at its height, none is
//! older than its question, and no block is answered after its take-back was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_api::Limits;
use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::StateView as _;
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::{Bench, TestNode};
use serde_json::Value;

use crate::support::{Served, tier_options};

const READERS: usize = 16;

/// A state that the chain may be in.
struct Known {
    state: MemoryState,
    ids: Vec<BlockId>,
}

impl Known {
    fn height(&self) -> u32 {
        self.state.tip().unwrap().height
    }
}

/// What a writer did, and what it was told.
struct History {
    chain: OracleChain,
    known: Vec<Known>,
    /// The known state after each operation that has begun, from the first one on.
    after: Mutex<Vec<usize>>,
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

impl History {
    fn new(chain: OracleChain, known: Vec<Known>, first: usize) -> Arc<Self> {
        Arc::new(Self {
            chain,
            known,
            after: vec![first].into(),
            acknowledged: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    fn begin(&self, state: usize) {
        self.after.lock().unwrap().push(state);
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a state fits that the chain was in at or after an operation.
    fn fits(&self, since: usize, fits: impl Fn(&Known) -> bool) -> bool {
        self.after.lock().unwrap()[since..].iter().any(|state| fits(&self.known[*state]))
    }
}

/// The ledger's states after each of these blocks.
fn states_of(chain: &OracleChain, from: &MemoryState, below: &[BlockId], blocks: &[Block]) -> Vec<Known> {
    let (checker, mut state, mut ids) = (Checker::default(), from.clone(), below.to_vec());
    blocks
        .iter()
        .map(|block| {
            state.push(block.clone(), &chain.profile, NOW, &checker).unwrap();
            ids.push(block.id);
            Known { state: state.clone(), ids: ids.clone() }
        })
        .collect()
}

fn genesis(chain: &OracleChain) -> Known {
    let (state, _) = MemoryState::from_genesis((*chain.genesis).clone(), &chain.profile).unwrap();
    Known { state, ids: vec![chain.genesis.id] }
}

/// How strict a reader is.
#[derive(Clone, Copy, PartialEq)]
enum Redis {
    IsThere,
    /// Then PostgreSQL, which follows, may answer, or nobody.
    ComesAndGoes,
}

struct Reader {
    served: Served,
    history: Arc<History>,
    redis: Redis,
    blocks: Vec<Block>,
    addresses: Vec<Address>,
}

impl Reader {
    /// Asks again and again: how many answers Redis gave.
    async fn ask_on(&self, number: usize) -> usize {
        let (mut asked, mut fast) = (0, 0);
        while !self.history.is_over.load(Ordering::SeqCst) {
            asked += 1;
            let pick = asked * 31 + number * 7;
            fast += usize::from(match asked % 2 {
                0 => self.ask_account(self.addresses[pick % self.addresses.len()]).await,
                _ => self.ask_block(&self.blocks[pick % self.blocks.len()]).await,
            });
        }
        fast
    }

    /// The answer, the height that it says, and the first operation whose state it may show. `None`: nobody can answer.
    async fn ask(&self, path: &str) -> Option<(Value, Option<u32>, usize, bool)> {
        let acknowledged = self.history.acknowledged.load(Ordering::SeqCst);
        let response = self.served.get(path).await;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let (tier, height) = (header("x-forebay-tier"), header("x-forebay-height"));
        let etag = header("etag");
        let (status, body) = crate::support::body_of(response).await;
        if status == 503 && self.redis == Redis::ComesAndGoes {
            return None;
        }
        assert_eq!(status, 200, "{path}: {body}");
        let height: Option<u32> = height.map(|height| height.parse().unwrap());
        if let (Some(etag), Some(height)) = (etag, height) {
            assert!(etag.ends_with(&format!("-{height}\"")), "{etag} at {height}");
        }
        let is_fast = tier.as_deref() == Some("fast");
        let may_be_behind = self.redis == Redis::ComesAndGoes && !is_fast;
        Some((body, height, if may_be_behind { 0 } else { acknowledged }, is_fast))
    }

    async fn ask_account(&self, address: Address) -> bool {
        let path = format!("/api/accounts?address={}", address.with_suffix('R'));
        let Some((body, height, since, is_fast)) = self.ask(&path).await else { return false };
        let shown = |known: &Known| {
            let account = known.state.account(address);
            match body["success"].as_bool().unwrap() {
                false => account.is_none() && body["error"] == "Account not found",
                true => {
                    let balance = body["account"]["balance"].as_str().unwrap();
                    height == Some(known.height())
                        && account.is_some_and(|account| account.balance.to_string() == balance)
                }
            }
        };
        assert!(self.history.fits(since, shown), "{path} since {since}, at {height:?}: {body}");
        is_fast
    }

    async fn ask_block(&self, block: &Block) -> bool {
        let path = format!("/api/blocks/get?id={}", block.id);
        let Some((body, height, since, is_fast)) = self.ask(&path).await else { return false };
        let shown = |known: &Known| {
            let has = known.ids.contains(&block.id);
            match body["success"].as_bool().unwrap() {
                false => !has && body["error"] == "Block not found",
                true => has && height == Some(known.height()),
            }
        };
        assert!(self.history.fits(since, shown), "{path} since {since}, at {height:?}: {body}");
        if let Some(height) = height {
            let (shown, confirmations) = (&body["block"], height + 1 - block.height);
            assert_eq!(shown["id"], block.id.to_string());
            let transactions = shown["transactions"].as_array().unwrap();
            assert_eq!(transactions.len(), block.transactions.len());
            for (one, expected) in transactions.iter().zip(&block.transactions) {
                assert_eq!(one["id"], expected.id.to_string());
                assert_eq!(one["confirmations"], confirmations, "{path} at {height}");
            }
        }
        is_fast
    }
}

async fn all_ask(reader: Arc<Reader>) -> Vec<tokio::task::JoinHandle<usize>> {
    (0..READERS)
        .map(|number| {
            let reader = Arc::clone(&reader);
            tokio::spawn(async move { reader.ask_on(number).await })
        })
        .collect()
}

fn addresses(known: &Known) -> Vec<Address> {
    known.state.accounts().map(|account| account.address).collect()
}

/// Few enough bytes that blocks come and go.
fn small_cache() -> Limits {
    Limits { written_blocks_bytes_max: 30_000, bodies_bytes_max: 30_000, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_older_than_its_question_and_no_block_is_answered_after_its_take_back() {
    let Some(chain) = OracleChain::first() else { return };
    let base = chain.fork_base as usize;
    let (lowest, highest) = (base - 8, base + 8);
    let genesis = genesis(&chain);
    // Heights from `lowest` on in the main branch, then the other branch.
    let below = states_of(&chain, &genesis.state, &genesis.ids, &chain.blocks[..lowest - 1]).pop().unwrap();
    let mut known = vec![];
    known.extend(states_of(&chain, &below.state, &below.ids, &chain.blocks[lowest - 1..highest - 1]));
    known.insert(0, below);
    let at_base = &known[base - lowest];
    let fork = states_of(&chain, &at_base.state, &at_base.ids, &chain.fork[..highest - base]);
    let first_of_fork = known.len();
    known.extend(fork);

    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..lowest - 1]).await;
    let served =
        Served::with(&bench, Some(node.node.clone()), NOW, tier_options(&bench), small_cache()).await;
    let api = served.api.clone();
    let mut blocks = chain.blocks[lowest - 4..highest - 1].to_vec();
    blocks.extend(chain.fork[..highest - base].to_vec());
    let addresses = addresses(&known[first_of_fork - 1]);
    let history = History::new(chain, known, 0);
    let reader = Reader { served, history: Arc::clone(&history), redis: Redis::IsThere, blocks, addresses };
    let readers = all_ask(Arc::new(reader)).await;

    // Up one branch, down, up the other, down below where they part, again and again.
    for round in 0..6 {
        let is_fork = round % 2 == 1;
        let state_at = |height: usize| match height > base && is_fork {
            true => first_of_fork + height - base - 1,
            false => height - lowest,
        };
        for height in lowest + 1..=highest {
            let block = match height > base && is_fork {
                true => &history.chain.fork[height - base - 1],
                false => &history.chain.blocks[height - 2],
            };
            history.begin(state_at(height));
            node.apply(block).await.unwrap();
            history.acknowledge();
        }
        for height in (lowest..highest).rev() {
            history.begin(state_at(height));
            node.take_back_to(u32::try_from(height).unwrap()).await;
            history.acknowledge();
        }
    }
    history.is_over.store(true, Ordering::SeqCst);
    let mut fast = 0;
    for reader in readers {
        fast += reader.await.unwrap();
    }
    assert!(fast > 100, "{fast}");
    let figures = api.figures();
    assert!(figures.shared.calls < figures.shared.reads, "{figures:?}");
    assert!(figures.kept.blocks > 0 && figures.kept.bytes <= figures.kept.bytes_max, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_right_while_redis_is_killed_and_restored() {
    let Some(chain) = OracleChain::first() else { return };
    let genesis = genesis(&chain);
    let mut known = states_of(&chain, &genesis.state, &genesis.ids, &chain.blocks[..130]);
    known.insert(0, genesis);
    let mut bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..40]).await;
    node.settle().await;
    let served =
        Served::with(&bench, Some(node.node.clone()), NOW, tier_options(&bench), small_cache()).await;
    let addresses = addresses(&known[130]);
    let blocks = chain.blocks[20..130].to_vec();
    let history = History::new(chain, known, 40);
    let reader =
        Reader { served, history: Arc::clone(&history), redis: Redis::ComesAndGoes, blocks, addresses };
    let reader = Arc::new(reader);
    let readers = all_ask(Arc::clone(&reader)).await;
    for (number, block) in history.chain.blocks[40..130].iter().enumerate() {
        history.begin(41 + number);
        if number % 30 == 15 {
            bench.servers.kill_redis().await;
            let applied = apply(&node, block);
            let comes_back = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                bench.servers.restart_redis().await.unwrap();
            };
            tokio::join!(applied, comes_back);
        } else {
            apply(&node, block).await;
        }
        history.acknowledge();
    }
    history.is_over.store(true, Ordering::SeqCst);
    let mut fast = 0;
    for reader in readers {
        fast += reader.await.unwrap();
    }
    assert!(fast > 100, "{fast}");
    crate::support::until("Redis answers again", || async {
        reader.served.get("/api/blocks/getHeight").await.headers()["x-forebay-tier"] == "fast"
    })
    .await;
    let body = reader.served.json("/api/blocks/getHeight").await.1;
    assert_eq!(body["height"], 131);
}

async fn apply(node: &TestNode, block: &Block) {
    node.apply(block).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_questions_wait_for_the_connections() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..3]).await;
    node.settle().await;
    let served = Served::start(&bench, None, NOW).await;
    let (fast, slow) = tokio::join!(
        futures_util::future::join_all((0..8).map(|_| served.get("/api/blocks/getHeight"))),
        futures_util::future::join_all((0..8).map(|_| served.get("/api/blocks?limit=1"))),
    );
    for (answers, tier) in [(fast, "fast"), (slow, "slow")] {
        for answer in answers {
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["x-forebay-tier"]),
                (200, &tier.parse().unwrap())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_taken_back_is_not_answered_though_postgres_has_it() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..30]).await;
    node.settle().await;
    let served = Served::start(&bench, Some(node.node.clone()), NOW).await;
    // Nothing of the chain changes in PostgreSQL while somebody holds its position.
    let admin = bench.admin().await;
    admin.batch_execute("begin; lock table forebay.position in exclusive mode").await.unwrap();
    let paths = [29, 28].map(|at: usize| format!("/api/blocks/get?id={}", chain.blocks[at].id));
    // One of them is kept as it was answered.
    assert_eq!(served.json(&paths[0]).await.1["success"], true);
    node.take_back_to(29).await;
    for path in &paths {
        let (status, body) = served.json(path).await;
        assert_eq!((status, &body["error"]), (200, &Value::from("Block not found")), "{path}: {body}");
    }
    for v1 in [chain.blocks[29].id.to_string(), "?height=31".to_owned(), "?height=30".to_owned()] {
        let path = format!("/v1/blocks/{v1}").replace("/?", "?");
        assert_eq!(served.json(&path).await.0, 404, "{path}");
    }
    assert_eq!(served.json("/v1/blocks?height=29").await.0, 200);
    admin.batch_execute("rollback").await.unwrap();
    node.settle().await;
    node.apply_all(&chain.blocks[28..30]).await;
    for path in &paths {
        assert_eq!(served.json(path).await.1["success"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_comes_again_with_other_signatures_of_a_group_is_answered_as_it_is_now() {
    let Some(chain) = OracleChain::first() else { return };
    let has_group = |block: &&Block| block.transactions.iter().any(|one| one.signatures.len() > 1);
    let block = chain.blocks.iter().find(has_group).expect("a transaction of a group").clone();
    let mut again = block.clone();
    let signed = again.transactions.iter_mut().find(|one| one.signatures.len() > 1).unwrap();
    // A group signs in any order, and no id covers these signatures.
    signed.signatures.reverse();
    let transaction = signed.id;
    let below = usize::try_from(block.height).unwrap() - 2;

    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let mut node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..=below]).await;
    node.settle().await;
    let served = Served::start(&bench, Some(node.node.clone()), NOW).await;
    let paths = [
        format!("/api/blocks/get?id={}", block.id),
        format!("/v1/blocks/{}", block.id),
        format!("/v1/blocks?height={}", block.height),
        format!("/api/transactions/get?id={transaction}"),
    ];
    let signatures = |body: &Value| {
        let all = [&body["transaction"], &body["block"]["transactions"]];
        let mut all =
            all.into_iter().flat_map(|value| value.as_array().cloned().unwrap_or(vec![value.clone()]));
        let own = all.find(|one| one["id"] == transaction.to_string()).expect("the transaction is shown");
        own["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut before = Vec::new();
    for path in &paths {
        for _ in 0..2 {
            let response = served.get(path).await;
            let etag = response.headers().get("etag").cloned();
            let body = crate::support::body_of(response).await.1;
            before.push((etag, signatures(&body)));
        }
    }
    node.take_back_to(block.height - 1).await;
    apply(&node, &again).await;
    for (path, (etag, was)) in paths.iter().zip(before.iter().step_by(2)) {
        for _ in 0..2 {
            let response = served.get(path).await;
            assert_eq!(response.headers()["x-forebay-tier"], "fast", "{path}");
            assert!(etag.is_none() || response.headers().get("etag") != etag.as_ref(), "{path}: {etag:?}");
            let now = signatures(&crate::support::body_of(response).await.1);
            assert!(now != *was && now.iter().rev().eq(was), "{path}: {now:?}");
        }
    }
    // PostgreSQL says the same, with the same tag.
    node.settle().await;
    let tag = served.get(&paths[1]).await.headers().get("etag").cloned();
    node.stop().await.unwrap();
    bench.servers.kill_redis().await;
    let response = served.get(&paths[1]).await;
    assert_eq!(
        (&response.headers()["x-forebay-tier"], response.headers().get("etag")),
        (&"slow".parse().unwrap(), tag.as_ref())
    );
    assert!(signatures(&crate::support::body_of(response).await.1).iter().rev().eq(&before[2].1));
}
