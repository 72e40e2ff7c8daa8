//! The load, and a real client's care: after every lost answer it asks by sending the block again.
//!
//! The driver knows which operation has which number, counts along, and logs what is acknowledged. Answers that do not fit
//! its count are violations: a number too many is something done twice, a block that does not follow any more is one lost.

mod deliver;
mod find;
mod take_back;
mod talk;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_generator::{Chain, ChainOptions, Mix};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_to_value;
use forebay_servers::RedisProfile;
use serde_json::json;
use tokio::sync::watch;

use crate::feed::{Done, Feed, Refused};
use crate::history::History;
use crate::random::Random;

/// Pause before something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(30);
/// Blocks sent before the first answer is read.
const PIPELINED_MAX: usize = 8;
/// Take-backs near the tip go at most so far.
const BACK_MAX: u64 = 4;
/// Deep ones: beyond the undo records that the node keeps here, across several rounds.
const BACK_DEEP: (u64, u64) = (5, 40);
/// Blocks below the tip, of which one is sent again.
const SENT_AGAIN_MAX: u64 = 30;

/// What the supervisor wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where the node that holds the chain takes operations.
    pub feed: PathBuf,
    /// Which process that is, counted.
    pub node: u64,
    /// Finish what is under way, and rest.
    pub rest: bool,
    /// Which operations.
    pub wish: Wish,
}

/// Which operations the load has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wish {
    /// All of them.
    #[default]
    Anything,
    /// Blocks only.
    Blocks,
    /// All but deep take-backs.
    Shallow,
    /// Deep take-backs only.
    Deep,
    /// Take-backs near the tip only.
    TakeBacks,
}

/// Where the driver is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Operations acknowledged so far.
    pub operations: u64,
    /// Which process acknowledged the last of them. Answers of one that ended may be read long after its end.
    pub node: u64,
    /// The last acknowledged block's height.
    pub height: Height,
    /// Nothing is under way.
    pub rests: bool,
    /// What it does is by this wish.
    pub wish: Wish,
    /// It gave up: a violation says why.
    pub ended: bool,
}

/// What the driver starts with.
pub struct DriverPlan {
    /// The chain, at its genesis block.
    pub chain: Chain,
    /// The run's seed.
    pub seed: u64,
    /// Blocks a second, about.
    pub blocks_per_second: u64,
    /// Where rollback files are, and where the log goes.
    pub root: PathBuf,
    /// What receipts have to say.
    pub profile: RedisProfile,
}

/// How a conversation with the node ended.
enum Outcome {
    Done(Done),
    /// A verdict on the operation.
    Refused(Refused),
    /// No answer, or trouble: whether it was done is not known.
    Unknown,
}

/// The load.
pub struct Driver {
    plan: DriverPlan,
    random: Random,
    /// Heights 2 and up of the chain as it shall be.
    blocks: Vec<Block>,
    /// How many of them are acknowledged.
    acked: usize,
    /// How many of them may have reached the node.
    sent: usize,
    /// The number of the last operation that is known to be done.
    seq: u64,
    epoch: u64,
    feed: Option<Feed>,
    /// Which process the connection leads to.
    node: u64,
    /// The connection is new, and may lead to a node that was rolled back.
    is_unsure: bool,
    /// Rollback files that explained something already.
    records_used: usize,
    orders: watch::Receiver<Order>,
    view: watch::Sender<View>,
    history: Arc<History>,
    log: std::fs::File,
}

/// Name of the log of acknowledged operations in the run's directory.
pub const LOG: &str = "acknowledged.jsonl";

impl Driver {
    /// Prepares the load.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn new(
        plan: DriverPlan,
        orders: watch::Receiver<Order>,
        history: Arc<History>,
    ) -> anyhow::Result<(Self, watch::Receiver<View>)> {
        let log = std::fs::File::create(plan.root.join(LOG)).context("creating the log of operations")?;
        let (view, seen) = watch::channel(View::default());
        let random = Random::new(plan.seed, 2);
        let driver = Self {
            plan,
            random,
            blocks: Vec::new(),
            acked: 0,
            sent: 0,
            seq: 0,
            epoch: 0,
            feed: None,
            node: 0,
            is_unsure: false,
            records_used: 0,
            orders,
            view,
            history,
            log,
        };
        Ok((driver, seen))
    }

    /// Works until it is aborted; ends by itself only at a violation.
    pub async fn run(mut self) {
        if let Err(error) = self.work().await {
            self.history.violated(format!("the driver gave up: {error:#}"));
        }
        self.view.send_modify(|view| view.ended = true);
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        self.begin().await?;
        loop {
            if self.orders.borrow().rest {
                self.view.send_modify(|view| view.rests = true);
                self.orders.wait_for(|order| !order.rest).await?;
                self.view.send_modify(|view| view.rests = false);
            }
            let operations = self.operate().await?;
            let pause = Duration::from_millis(1000 * operations / self.plan.blocks_per_second.max(1));
            tokio::time::sleep(pause).await;
        }
    }

    /// Something of what is wished for. Returns how many operations that were.
    async fn operate(&mut self) -> anyhow::Result<u64> {
        // Blocks that a failure left behind come first: everything else counts from the chain's end.
        self.deliver_all().await?;
        let wish = self.orders.borrow().wish;
        self.view.send_if_modified(|view| std::mem::replace(&mut view.wish, wish) != wish);
        let (deepest, deep) = BACK_DEEP;
        match (wish, self.random.between(1, 100)) {
            (Wish::Deep, _) => self.take_back(deep / 2, deep).await,
            (Wish::TakeBacks, _) => self.take_back(1, BACK_MAX).await,
            (Wish::Blocks, _) | (_, 1..=74) => self.grow().await,
            (_, 75..=82) => self.take_back(1, BACK_MAX).await,
            (Wish::Anything, 83..=84) => self.take_back(deepest, deep).await,
            (_, 83..=91) => self.await_durable().await,
            (_, 92..=94) => self.send_again().await,
            (_, 95..=97) => self.send_out_of_order().await,
            _ => self.fork(),
        }
    }

    /// The node has the genesis block, which is an operation of its own.
    async fn begin(&mut self) -> anyhow::Result<()> {
        let line = json!({ "op": "await", "height": 1 });
        loop {
            match self.converse(&line).await {
                Outcome::Done(done) => {
                    (self.epoch, self.seq) = (done.epoch, done.seq);
                    return Ok(());
                }
                Outcome::Refused(refused) => bail!("the genesis block is not there: {refused:?}"),
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// More blocks.
    async fn grow(&mut self) -> anyhow::Result<u64> {
        let count = self.random.between(1, PIPELINED_MAX as u64);
        for _ in 0..count {
            self.forge()?;
        }
        self.deliver_all().await?;
        Ok(count)
    }

    /// One block more of the chain as it shall be.
    fn forge(&mut self) -> anyhow::Result<()> {
        let block = self.plan.chain.next_block()?;
        self.history.lock().sent.insert(block.id, block.height);
        self.blocks.push(block);
        Ok(())
    }

    /// Another branch grows from here on.
    fn fork(&mut self) -> anyhow::Result<u64> {
        let seed = format!("branch {}", self.random.next_u64());
        self.plan.chain.set_options(chain_options(&seed))?;
        Ok(0)
    }

    /// Waits until a height near the tip is durable.
    async fn await_durable(&mut self) -> anyhow::Result<u64> {
        let below = usize::try_from(self.random.between(0, 20)).unwrap_or_default();
        loop {
            let (height, id) = self.at(self.acked.saturating_sub(below));
            match self.converse_here(&json!({ "op": "await", "height": height })).await {
                Some(Outcome::Done(done)) => {
                    if done.id != id.to_string() || !done.durable || done.seq > self.seq {
                        bail!("awaiting {id} at height {height} (operation {}): {done:?}", self.seq);
                    }
                    {
                        let mut events = self.history.lock();
                        events.durable_seq = events.durable_seq.max(done.seq);
                    }
                    self.acknowledged_one();
                    return Ok(0);
                }
                Some(Outcome::Refused(refused)) => bail!("awaiting height {height}: {refused:?}"),
                Some(Outcome::Unknown) => tokio::time::sleep(AGAIN).await,
                // What a new node was rolled back to is not awaited, but found out.
                None => {
                    self.find_what_is_left().await?;
                }
            }
        }
    }

    /// One operation more is acknowledged by the node that the connection leads to.
    fn acknowledged_one(&self) {
        self.view.send_modify(|view| {
            view.operations += 1;
            view.node = self.node;
        });
    }

    /// Height and id after so many blocks.
    fn at(&self, place: usize) -> (Height, BlockId) {
        match place.checked_sub(1).and_then(|index| self.blocks.get(index)) {
            Some(block) => (block.height, block.id),
            None => (1, self.plan.chain.network().genesis.id),
        }
    }

    /// The line that sends a block.
    fn block_line(&self, block: &Block) -> Vec<u8> {
        let block = block_to_value(block, &self.plan.chain.network().profile);
        format!("{}\n", json!({ "op": "block", "block": block })).into_bytes()
    }

    fn record(&mut self, line: &serde_json::Value) -> anyhow::Result<()> {
        writeln!(self.log, "{line}").context("writing the log of operations")
    }
}

/// What the chain of a branch looks like: everything that the ledger knows, in small blocks.
pub fn chain_options(seed: &str) -> ChainOptions {
    ChainOptions {
        seed: seed.to_owned(),
        mix: Mix::all_types(),
        transactions_min: 0,
        transactions_max: 6,
        skipped_slots_percent: 10,
        ..ChainOptions::default()
    }
}
