//! `forebay replay`: files in, block after block, until PostgreSQL has all.
//!
//! `source.rs` reads, decodes and checks ahead on all cores, in order and bounded; this module applies one line after
//! the other. The first line that is refused ends it; what was accepted before it stays, and becomes durable.

mod known;
mod meter;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_fast::Position;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::verify::CheckedBlock;
use forebay_store::{Durable, Progress, StoreError};
use indicatif::HumanCount;
use serde::Serialize;
use tokio::sync::mpsc;

use self::known::KnownBlocks;
use self::meter::Meter;
use self::source::{Item, SourceLine};
use super::Context;
use crate::args::ReplayArgs;
use crate::exit::{Exit, Told};
use crate::operations::{Pop, shown_height};
use crate::output::{counted, error_value};
use crate::rollback_file::RollbackHeader;
use crate::session::{Patience, Session, interrupted};

/// Batches of checked lines that wait to be applied: enough that applying and checking go on at the same time.
const BATCHES_AHEAD: usize = 2;

/// What `--json` prints.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    height: Height,
    block_id: Option<String>,
    /// Applied by this run.
    blocks: u64,
    /// In those blocks.
    transactions: u64,
    /// Until all was durable.
    seconds: f64,
    durable_height: Height,
    /// The chain had them already.
    known_blocks: u64,
    /// Taken back by the file's operations.
    blocks_taken_back: u64,
    /// Until all was accepted.
    accepted_seconds: f64,
    accepted_transactions_per_second: f64,
    /// `None`: not all of them are durable.
    durable_transactions_per_second: Option<f64>,
    #[serde(flatten)]
    error: Option<serde_json::Value>,
    #[serde(skip)]
    begun: Instant,
}

impl Summary {
    /// A signal ends the waiting, not the node: what it brought to PostgreSQL after that counts, too.
    fn ended(mut self, progress: &Progress) -> Self {
        self.height = progress.tip.map_or(0, |tip| tip.height);
        self.block_id = progress.tip.map(|tip| tip.id.to_string());
        self.durable_height = progress.durable.height;
        if self.durable_transactions_per_second.is_none() && progress.durable.seq >= progress.position.seq {
            let elapsed = self.begun.elapsed();
            self.seconds = rounded(elapsed);
            self.durable_transactions_per_second = Some(rate(self.transactions, elapsed));
        }
        self
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: ReplayArgs) -> anyhow::Result<i32> {
    check_files(&args.files)?;
    let words = format!(
        "replay {}",
        args.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" ")
    );
    let mut session = Session::start(
        &context.home,
        &crate::home::command_words(&words),
        Patience::Configured,
        &context.screen,
        &context.signals,
    )
    .await?;
    let outcome = replay(context, &mut session, args.files).await;
    let (summary, refused) = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => return Err(session.stop_after(failure).await),
    };
    let progress = session.node.watch();
    session.stop().await?;
    let summary = Summary { error: refused.as_ref().map(error_value), ..summary.ended(&progress.borrow()) };
    context.output.result(&summary, || text_of(&summary))?;
    match refused {
        // With --json the object is printed already; the failure itself goes to stderr.
        Some(error) if context.output.json => {
            Ok(crate::output::fail(&error, crate::output::Output { json: false }, &context.screen))
        }
        Some(error) => Err(error),
        None => Ok(Exit::Success as i32),
    }
}

/// Before anything is started: a missing file is known at once.
fn check_files(files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files.iter().filter(|file| !source::is_stdin(file)) {
        let told = |what: String| {
            Told::refused("file", format!("{} cannot be read: {what}", file.display()), "Check the path.")
        };
        std::fs::File::open(file).map_err(|error| told(error.to_string()))?;
        if file.is_dir() {
            return Err(told("it is a directory".to_owned()).into());
        }
    }
    Ok(())
}

/// Applies the files, and waits until all is durable. The inner error is the refused line; an outer one ends the node.
async fn replay(
    context: &Context,
    session: &mut Session,
    files: Vec<PathBuf>,
) -> anyhow::Result<(Summary, Option<anyhow::Error>)> {
    let known = Arc::new(KnownBlocks::load(session).await?);
    let (lines, mut ahead) = mpsc::channel(BATCHES_AHEAD);
    let meter = Meter::new(&context.screen, source::total_bytes(&files), session.node.watch());
    let node = session.node.clone();
    let genesis = Arc::clone(&session.chain.genesis);
    let profile = Arc::clone(&session.chain.profile);
    let reader_known = Arc::clone(&known);
    std::thread::spawn(move || source::read_files(&files, &node, &profile, &genesis, &reader_known, &lines));

    let mut replay = Replay {
        session,
        meter,
        begun: Instant::now(),
        blocks: 0,
        transactions: 0,
        known_blocks: 0,
        blocks_taken_back: 0,
    };
    let mut refused = None;
    let mut signalled = false;
    'lines: loop {
        let batch = tokio::select! {
            biased;
            () = context.signals.asked() => {
                signalled = true;
                break;
            }
            batch = ahead.recv() => batch,
        };
        let Some(batch) = batch else { break };
        for line in batch {
            // A line may wait for as long as PostgreSQL is away.
            let taken = tokio::select! {
                biased;
                () = context.signals.asked() => {
                    signalled = true;
                    break 'lines;
                }
                taken = replay.take(line) => taken,
            };
            if let Err(failure) = taken {
                match failure {
                    Failure::Line(error) => refused = Some(error),
                    Failure::Node(error) => return Err(error),
                }
                break 'lines;
            }
        }
    }
    drop(ahead);
    if signalled {
        refused = Some(interrupted("before all was read; what was accepted stays"));
    }
    let summary = replay.finish(context).await?;
    let progress = session.node.progress();
    if refused.is_none()
        && context.signals.exit_code().is_some()
        && progress.durable.seq < progress.position.seq
    {
        refused = Some(interrupted("before all was durable; what was accepted stays"));
    }
    Ok((summary, refused))
}

enum Failure {
    /// This line is not taken; the node goes on.
    Line(anyhow::Error),
    /// The node cannot go on.
    Node(anyhow::Error),
}

struct Replay<'a> {
    session: &'a mut Session,
    meter: Meter,
    begun: Instant,
    blocks: u64,
    transactions: u64,
    known_blocks: u64,
    blocks_taken_back: u64,
}

impl Replay<'_> {
    fn tip(&self) -> Option<(Height, BlockId)> {
        self.session.node.progress().tip.map(|tip| (tip.height, tip.id))
    }

    async fn take(&mut self, line: SourceLine) -> Result<(), Failure> {
        let place = line.place;
        let bytes = line.bytes;
        let outcome = match line.item {
            Item::Known(block) if self.blocks_taken_back == 0 => {
                drop(block);
                self.known_blocks += 1;
                Ok(())
            }
            // What was known at the start may have been taken back since.
            Item::Known(block) => self.check_and_apply(*block).await,
            Item::Block(block) => self.apply(*block).await,
            Item::Refused { block, error } => Err(refused_block(&error, &block, self.tip())),
            Item::Pop(pop) => self.pop(pop).await,
            Item::Await { height } => self.durable_at(height).await,
            Item::Header(header) => self.check_base(&header),
            Item::Unreadable { kind, problem } => Err(Failure::Line(
                Told::refused(kind, problem, "Correct the line; what was accepted before it stays.").into(),
            )),
        };
        self.meter.advance(bytes, self.blocks, self.known_blocks, self.transactions);
        outcome.map_err(|failure| match failure {
            Failure::Line(error) => Failure::Line(error.context(place.to_string())),
            Failure::Node(error) => Failure::Node(error.context(place.to_string())),
        })
    }

    async fn check_and_apply(&mut self, block: Block) -> Result<(), Failure> {
        let shown = block.clone();
        match self.session.node.check(block) {
            Ok(checked) => self.apply(checked).await,
            Err(error) => Err(refused_block(&error, &shown, self.tip())),
        }
    }

    async fn apply(&mut self, block: CheckedBlock) -> Result<(), Failure> {
        let now = self.session.chain.now();
        let transactions = block.block().transactions.len() as u64;
        // Only a refusal shows it; a header is small beside the signatures that were checked.
        let shown = header_of(block.block());
        match self.session.node.apply(block, now).await {
            Ok(accepted) if accepted.is_new => {
                self.blocks += 1;
                self.transactions += transactions;
                Ok(())
            }
            Ok(_) => {
                self.known_blocks += 1;
                Ok(())
            }
            Err(error) => Err(refused_block(&error, &shown, self.tip())),
        }
    }

    async fn pop(&mut self, pop: Pop) -> Result<(), Failure> {
        let height = self.tip().map_or(0, |(height, _)| height);
        let (to_height, count) = pop
            .target(height)
            .map_err(|message| Failure::Line(Told::refused("request", message, "").into()))?;
        match self.session.node.take_back_to(to_height).await {
            Ok(_) => {
                self.blocks_taken_back += u64::from(count);
                Ok(())
            }
            Err(error) => Err(of_store(error, format!("taking {count} blocks back"))),
        }
    }

    async fn durable_at(&mut self, height: Height) -> Result<(), Failure> {
        let progress = self.session.node.progress();
        let tip = progress.tip.map_or(0, |tip| tip.height);
        if height > tip {
            let message = format!("height {height} cannot be awaited: the tip is at height {tip}");
            return Err(Failure::Line(Told::refused("request", message, "").into()));
        }
        let position = crate::commands::feed::position_of(&progress, height);
        let outcome = self.session.node.until_durable(position).await;
        outcome
            .map(drop)
            .map_err(|error| of_store(error, format!("waiting until height {height} is durable")))
    }

    fn check_base(&self, header: &RollbackHeader) -> Result<(), Failure> {
        let (height, id) = self.tip().map_or((0, "none".to_owned()), |(height, id)| (height, id.to_string()));
        match header.mismatch(&self.session.chain, height, &id) {
            None => Ok(()),
            Some(problem) => {
                let remedy = "Bring the chain to the file's base first (`forebay pop`, `forebay replay`).";
                let message = format!("this rollback file does not fit: {problem}");
                Err(Failure::Line(Told::refused("rollback-base", message, remedy).into()))
            }
        }
    }

    /// Waits until all that was accepted is durable.
    async fn finish(self, context: &Context) -> anyhow::Result<Summary> {
        let accepted_seconds = self.begun.elapsed();
        let progress = self.session.node.progress();
        self.meter.waiting();
        // After a signal the end drains, for as long as the settings say; here nobody waits for it.
        let node = self.session.node.watch();
        let left = move || node.borrow().lag_operations as u64;
        let waiting = self.until_durable(progress.position);
        let waiting = context.screen.while_counting_down("waiting for PostgreSQL", left, waiting);
        let durable = tokio::select! {
            biased;
            durable = waiting => durable.context("waiting until all is durable")?,
            () = context.signals.asked() => self.session.node.progress().durable,
        };
        let seconds = self.begun.elapsed();
        self.meter.finish();
        let tip = progress.tip;
        Ok(Summary {
            height: tip.map_or(0, |tip| tip.height),
            block_id: tip.map(|tip| tip.id.to_string()),
            blocks: self.blocks,
            transactions: self.transactions,
            seconds: rounded(seconds),
            durable_height: durable.height,
            known_blocks: self.known_blocks,
            blocks_taken_back: self.blocks_taken_back,
            accepted_seconds: rounded(accepted_seconds),
            accepted_transactions_per_second: rate(self.transactions, accepted_seconds),
            durable_transactions_per_second: (durable.seq >= progress.position.seq)
                .then(|| rate(self.transactions, seconds)),
            error: None,
            begun: self.begun,
        })
    }

    async fn until_durable(&self, position: Position) -> Result<Durable, StoreError> {
        self.session.node.until_durable(position).await
    }
}

/// A block without its transactions, for messages.
fn header_of(block: &Block) -> Block {
    Block {
        transactions: Vec::new(),
        id: block.id,
        height: block.height,
        version: block.version,
        timestamp: block.timestamp,
        previous_block: block.previous_block,
        number_of_transactions: block.number_of_transactions,
        total_amount: block.total_amount,
        total_fee: block.total_fee,
        reward: block.reward,
        payload_length: block.payload_length,
        payload_hash: block.payload_hash,
        generator_public_key: block.generator_public_key,
        block_signature: block.block_signature,
    }
}

fn refused_block(error: &StoreError, block: &Block, tip: Option<(Height, BlockId)>) -> Failure {
    let height = shown_height(block, tip).map_or_else(String::new, |height| format!(" at height {height}"));
    let what = format!("block {}{height}", block.id);
    let exit = crate::exit::of_store(error);
    if exit == Exit::Refused {
        let told = Told::refused(error.kind(), format!("{what}: {error} [{}]", error.kind()), error.remedy());
        return Failure::Line(told.into());
    }
    let told = Told::new(exit, error.kind(), format!("{what}: {error}"), error.remedy());
    Failure::Node(told.into())
}

fn of_store(error: StoreError, doing: String) -> Failure {
    let is_refused = crate::exit::of_store(&error) == Exit::Refused;
    let error = anyhow::Error::new(error).context(doing);
    if is_refused { Failure::Line(error) } else { Failure::Node(error) }
}

/// Milliseconds are enough.
fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, duration: Duration) -> f64 {
    let seconds = duration.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds).round() } else { 0.0 }
}

fn text_of(summary: &Summary) -> String {
    let mut text = format!(
        "height {}, block {}\n{} with {} applied",
        HumanCount(summary.height.into()),
        summary.block_id.as_deref().unwrap_or("none"),
        counted(summary.blocks, "block"),
        counted(summary.transactions, "transaction"),
    );
    if summary.known_blocks > 0 {
        text.push_str(&format!(", {} skipped", counted(summary.known_blocks, "known block")));
    }
    if summary.blocks_taken_back > 0 {
        text.push_str(&format!(", {} taken back", counted(summary.blocks_taken_back, "block")));
    }
    let durable = match summary.durable_transactions_per_second {
        Some(rate) => format!("durable in {:.1} s ({rate} tx/s)", summary.seconds),
        None => "not all durable yet: PostgreSQL is".to_owned(),
    };
    text.push_str(&format!(
        "\naccepted in {:.1} s ({} tx/s), {durable} at height {}",
        summary.accepted_seconds,
        summary.accepted_transactions_per_second,
        HumanCount(summary.durable_height.into()),
    ));
    text
}
