//! The load, and a real client's care: after every lost answer it asks by sending the block again.
//!
//! The driver knows which operation has which number, counts along, and logs what is acknowledged. Answers that do not fit
//! its count are violations: a number too many is something done twice, a block that does not follow any more is one lost.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_generator::{Chain, ChainOptions, Mix};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_to_value;
use serde_json::json;
use tokio::sync::watch;

use crate::feed::{Answer, Done, Feed, Refused};
use crate::history::History;
use crate::process::POLL;
use crate::random::Random;
use crate::rollback::Recorded;

/// Pause before something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(30);
/// Blocks sent before the first answer is read.
const PIPELINED_MAX: usize = 8;
/// Of a line that waits for its answer, so much is shown.
const LINE_SHOWN_MAX: usize = 60;
/// Take-backs go at most so far: beyond the undo records that the node keeps here, across several rounds.
const BACK_MAX: u64 = 40;

/// What the supervisor wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where the node that holds the chain takes operations.
    pub feed: PathBuf,
    /// Finish what is under way, and rest.
    pub rest: bool,
}

/// Where the driver is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Operations acknowledged so far.
    pub operations: u64,
    /// The last acknowledged block's height.
    pub height: Height,
    /// Nothing is under way.
    pub rests: bool,
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
            let operations = match self.random.between(1, 100) {
                1..=78 => self.grow().await?,
                79..=86 => self.take_back(4).await?,
                87..=88 => self.take_back(BACK_MAX).await?,
                89..=95 => self.await_durable().await?,
                _ => self.fork()?,
            };
            let pause = Duration::from_millis(1000 * operations / self.plan.blocks_per_second.max(1));
            tokio::time::sleep(pause).await;
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
            let block = self.plan.chain.next_block()?;
            self.history.lock().sent.insert(block.id, block.height);
            self.blocks.push(block);
        }
        while self.acked < self.blocks.len() {
            self.deliver().await?;
        }
        Ok(count)
    }

    /// Another branch grows from here on.
    fn fork(&mut self) -> anyhow::Result<u64> {
        let seed = format!("branch {}", self.random.next_u64());
        self.plan.chain.set_options(chain_options(&seed))?;
        Ok(0)
    }

    /// Sends all blocks that are not acknowledged, and reads the answers.
    async fn deliver(&mut self) -> anyhow::Result<()> {
        let first = self.acked;
        let was_sent = self.sent;
        let lines: Vec<_> = self.blocks.iter().skip(first).map(|block| self.block_line(block)).collect();
        let count = lines.len();
        let Some(mut feed) = self.connected().await else { return Ok(()) };
        self.sent = self.sent.max(first + count);
        self.history.lock().last_answer = format!("none yet to {count} blocks");
        for line in lines {
            if feed.send(&line).await.is_err() {
                return Ok(());
            }
        }
        let mut is_troubled = false;
        for place in first..first + count {
            match self.answer(&mut feed).await {
                Outcome::Done(done) => self.block_acknowledged(place, was_sent, &done)?,
                Outcome::Refused(refused) if is_troubled && refused.is_elsewhere() => {}
                Outcome::Refused(refused) if refused.is_elsewhere() => {
                    drop(feed);
                    if !self.find_what_is_left().await? {
                        bail!("a block that follows the last accepted one was refused: {refused:?}");
                    }
                    return Ok(());
                }
                Outcome::Refused(refused) => {
                    bail!("block {place} after the genesis block is valid, but refused: {refused:?}")
                }
                // Either the connection is gone, or the rest of its answers tells more.
                Outcome::Unknown if feed.is_broken() => return Ok(()),
                Outcome::Unknown => is_troubled = true,
            }
        }
        self.feed = Some(feed);
        if is_troubled {
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Checks an acknowledgement against our own count.
    fn block_acknowledged(&mut self, place: usize, was_sent: usize, done: &Done) -> anyhow::Result<()> {
        let block = self.blocks.get(place).context("an answer to a block that was not sent")?;
        if done.id != block.id.to_string() || done.height != block.height {
            bail!("block {} at height {} was answered as {done:?}", block.id, block.height);
        }
        // Blocks before it that got no answer are done too: this one stands on them.
        let number = self.seq + (place + 1).saturating_sub(self.acked) as u64;
        let newest = self.seq + was_sent.max(place + 1).saturating_sub(self.acked) as u64;
        let fits = match done.known {
            false => done.seq == number,
            true => (number..=newest).contains(&done.seq) && place < was_sent,
        };
        if !fits || done.epoch < self.epoch {
            self.history.lock().counts.duplicated += done.seq.saturating_sub(newest);
            bail!(
                "block {} at height {} is operation {number} (at most {newest} were sent) of epoch {} or later, but was \
                 answered as {done:?}",
                block.id,
                block.height,
                self.epoch
            );
        }
        let (id, height) = (block.id, block.height);
        for done_place in self.acked..=place {
            if let Some(block) = self.blocks.get(done_place) {
                let block = block_to_value(block, &self.plan.chain.network().profile);
                self.record(&json!({ "accepted": block, "known": done.known, "seq": done.seq }))?;
            }
        }
        let count = (place + 1).saturating_sub(self.acked) as u64;
        (self.acked, self.seq, self.epoch) = (place + 1, number, done.epoch);
        self.is_unsure = false;
        self.acknowledged(count, height, id);
        Ok(())
    }

    fn acknowledged(&mut self, blocks: u64, height: Height, tip: BlockId) {
        {
            let mut events = self.history.lock();
            events.counts.accepted += blocks;
            events.acknowledged = (self.epoch, self.seq);
            events.tips.insert(self.seq, tip);
        }
        self.view.send_modify(|view| {
            view.operations += 1;
            view.height = height;
        });
    }

    async fn take_back(&mut self, most: u64) -> anyhow::Result<u64> {
        // Some chain shall remain, and the generator must be able to follow.
        let count = usize::try_from(self.random.between(1, most)).unwrap_or(1).min(self.acked / 2);
        if count == 0 {
            return Ok(0);
        }
        let target = self.acked - count;
        while self.acked > target {
            self.take_back_to(target).await?;
        }
        for _ in 0..count {
            self.plan.chain.pop()?;
        }
        self.blocks.truncate(target);
        self.sent = target;
        if self.random.percent(60) {
            self.fork()?;
        }
        Ok(count as u64)
    }

    /// One attempt; afterwards `acked` is where the node's chain is known to end.
    async fn take_back_to(&mut self, target: usize) -> anyhow::Result<()> {
        // At a node that was rolled back, as many blocks back are other ones.
        if self.feed.is_none() || self.is_unsure {
            self.find_what_is_left().await?;
            return Ok(());
        }
        let count = self.acked - target;
        let (height, id) = self.at(target);
        match self.converse(&json!({ "op": "pop", "count": count })).await {
            Outcome::Done(done) => {
                let steps = done.seq.saturating_sub(self.seq);
                if done.id != id.to_string() || done.height != height || done.epoch < self.epoch {
                    bail!("taking back to {id} at height {height} was answered as {done:?}");
                }
                if steps < 1 || steps > count as u64 + 1 {
                    bail!("taking back {count} blocks after operation {} was answered as {done:?}", self.seq);
                }
                (self.acked, self.seq, self.epoch) = (target, done.seq, done.epoch);
                self.record(&json!({ "back": height, "seq": done.seq }))?;
                self.acknowledged(0, height, id);
                Ok(())
            }
            Outcome::Refused(refused) => bail!("taking back to height {height} was refused: {refused:?}"),
            Outcome::Unknown => {
                tokio::time::sleep(AGAIN).await;
                let before = self.seq;
                let (place, done, is_new) = self.probe().await?;
                if place < target || done.seq < before {
                    // What was to be taken back anyway need not be there.
                    return self.rolled_back(place, &done, is_new, target).await;
                }
                // At most all of it was done, and one block came back by our question.
                if done.seq > before + count as u64 + 2 {
                    bail!("after operation {before} and a lost take-back of {count}: {done:?}");
                }
                self.found_at(place, &done, "found")
            }
        }
    }

    /// The chain ends after so many blocks.
    fn found_at(&mut self, place: usize, done: &Done, how: &str) -> anyhow::Result<()> {
        let (height, id) = self.at(place);
        (self.acked, self.seq, self.epoch) = (place, done.seq, done.epoch);
        self.is_unsure = false;
        self.record(&json!({ "back": height, "seq": done.seq, how: true }))?;
        self.acknowledged(0, height, id);
        Ok(())
    }

    /// The newest of our blocks that the node has: asks by sending them again, from the last one down. A block that follows
    /// the node's tip is taken by that (then the last is true).
    async fn probe(&mut self) -> anyhow::Result<(usize, Done, bool)> {
        let mut place = self.acked;
        loop {
            match self.ask(place).await {
                Outcome::Done(done) => {
                    let is_new = !done.known && place > 0;
                    return Ok((place, done, is_new));
                }
                Outcome::Refused(refused) if refused.is_elsewhere() && place > 0 => place -= 1,
                Outcome::Refused(refused) => bail!("an accepted block was refused: {refused:?}"),
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Sends a block again. The genesis block is awaited instead.
    async fn ask(&mut self, place: usize) -> Outcome {
        let line = match place.checked_sub(1).and_then(|index| self.blocks.get(index)) {
            Some(block) => {
                json!({ "op": "block", "block": block_to_value(block, &self.plan.chain.network().profile) })
            }
            None => json!({ "op": "await", "height": 1 }),
        };
        self.converse(&line).await
    }

    /// Asks whether the node still has all that it acknowledged. `false`: it has.
    async fn find_what_is_left(&mut self) -> anyhow::Result<bool> {
        let (place, done, is_new) = self.probe().await?;
        if !is_new && place == self.acked && done.seq >= self.seq {
            self.is_unsure = false;
            return Ok(false);
        }
        self.rolled_back(place, &done, is_new, self.acked).await?;
        Ok(true)
    }

    /// The node went back to an earlier operation. The first `expected` of our blocks had to be there, but for those that
    /// a new rollback record explains.
    async fn rolled_back(
        &mut self,
        place: usize,
        done: &Done,
        is_new: bool,
        expected: usize,
    ) -> anyhow::Result<()> {
        let kept = if is_new { place - 1 } else { place };
        let recorded = Recorded::of_run(&self.plan.root)?;
        let gone: Vec<&Block> = self.blocks.iter().take(expected).skip(kept).collect();
        let (base, _) = self.at(kept);
        let may_miss = self.history.lock().postgres_forgot
            && recorded.base_heights.iter().any(|recorded_base| *recorded_base >= base);
        let (given_up, lost): (Vec<&Block>, Vec<&Block>) =
            gone.into_iter().partition(|block| may_miss || recorded.blocks.contains(&block.id.to_string()));
        {
            let mut events = self.history.lock();
            // Numbers are given again.
            events.tips.clear();
            events.counts.rolled_back += given_up.len() as u64;
            events.counts.lost += lost.len() as u64;
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            bail!(
                "{} accepted blocks, heights {} to {}, are gone without a record; the node is at {done:?}",
                lost.len(),
                first.height,
                last.height
            );
        }
        if recorded.files <= self.records_used {
            bail!(
                "operation {} was acknowledged, and without a new record the node is at {done:?}",
                self.seq
            );
        }
        self.records_used = recorded.files;
        let (place, done) =
            if is_new { (place, done.clone()) } else { self.leave_other_branch(place).await? };
        self.found_at(place, &done, "rolledBack")
    }

    /// A rollback may have given take-backs up too: then blocks that we had left stand above our newest one. They are taken
    /// back one by one. One block too many does no harm: it is sent again.
    async fn leave_other_branch(&mut self, ours: usize) -> anyhow::Result<(usize, Done)> {
        let (height, id) = self.at(ours);
        loop {
            match self.converse(&json!({ "op": "pop", "count": 1 })).await {
                Outcome::Done(done) if done.height > height => {}
                Outcome::Done(done) => {
                    let place = ours.saturating_sub(usize::try_from(height - done.height)?);
                    let (_, expected) = self.at(place);
                    if done.id != expected.to_string() {
                        bail!("below block {id} at height {height} stands {done:?}, not {expected}");
                    }
                    return Ok((place, done));
                }
                // Nothing stands above the genesis block.
                Outcome::Refused(refused) if refused.kind == "request" => {
                    if let Outcome::Done(done) = self.ask(0).await {
                        return Ok((0, done));
                    }
                }
                Outcome::Refused(refused) => bail!("taking back after a rollback was refused: {refused:?}"),
                // The next answer tells.
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Waits until a height near the tip is durable.
    async fn await_durable(&mut self) -> anyhow::Result<u64> {
        let below = usize::try_from(self.random.between(0, 20)).unwrap_or_default();
        let (height, id) = self.at(self.acked.saturating_sub(below));
        loop {
            match self.converse(&json!({ "op": "await", "height": height })).await {
                Outcome::Done(done) => {
                    if done.id != id.to_string() || !done.durable || done.seq > self.seq {
                        bail!("awaiting {id} at height {height} (operation {}): {done:?}", self.seq);
                    }
                    let mut events = self.history.lock();
                    events.durable_seq = events.durable_seq.max(done.seq);
                    drop(events);
                    self.view.send_modify(|view| view.operations += 1);
                    return Ok(0);
                }
                // What was accepted and is recorded as rolled back shows at the next block.
                Outcome::Refused(refused) if refused.kind == "request" => return Ok(0),
                Outcome::Refused(refused) => bail!("awaiting height {height}: {refused:?}"),
                Outcome::Unknown => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Height and id after so many blocks.
    fn at(&self, place: usize) -> (Height, BlockId) {
        match place.checked_sub(1).and_then(|index| self.blocks.get(index)) {
            Some(block) => (block.height, block.id),
            None => (1, self.plan.chain.network().genesis.id),
        }
    }

    fn block_line(&self, block: &Block) -> Vec<u8> {
        let block = block_to_value(block, &self.plan.chain.network().profile);
        format!("{}\n", json!({ "op": "block", "block": block })).into_bytes()
    }

    /// One line, one answer.
    async fn converse(&mut self, line: &serde_json::Value) -> Outcome {
        let Some(mut feed) = self.connected().await else { return Outcome::Unknown };
        let shown: String = line.to_string().chars().take(LINE_SHOWN_MAX).collect();
        self.history.lock().last_answer = format!("none yet to {shown}");
        if feed.send(format!("{line}\n").as_bytes()).await.is_err() {
            return Outcome::Unknown;
        }
        let outcome = self.answer(&mut feed).await;
        if !feed.is_broken() {
            self.feed = Some(feed);
        }
        outcome
    }

    /// The next answer, unless the connection or the chain's holder is gone before it comes.
    async fn answer(&mut self, feed: &mut Feed) -> Outcome {
        let socket = self.orders.borrow().feed.clone();
        let answer = tokio::select! {
            answer = feed.answer() => answer,
            _ = self.orders.wait_for(|order| order.feed != socket) => {
                feed.give_up();
                return Outcome::Unknown;
            }
        };
        self.history.lock().last_answer = format!("{answer:?}");
        match answer {
            Ok(Answer::Done(done)) => Outcome::Done(done),
            Ok(Answer::Error { error }) if error.is_trouble() => Outcome::Unknown,
            Ok(Answer::Error { error }) => Outcome::Refused(error),
            Err(_) => Outcome::Unknown,
        }
    }

    /// A connection to the node that holds the chain, as soon as it listens; `None`: it could not be used, try again.
    async fn connected(&mut self) -> Option<Feed> {
        if let Some(feed) = self.feed.take() {
            return Some(feed);
        }
        loop {
            let socket = self.orders.borrow_and_update().feed.clone();
            if let Ok(feed) = Feed::connect(&socket).await {
                self.is_unsure = true;
                return Some(feed);
            }
            tokio::time::sleep(POLL).await;
        }
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
