//! One connection: lines are decoded and checked ahead on other threads, done one after the other, answered in order.

use std::sync::Arc;

use forebay_fast::InChain;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::refusal::Refusal;
use forebay_ledger::verify::CheckedBlock;
use forebay_slow::SlowReader;
use forebay_store::StoreError;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::{Driven, position_of};
use crate::lines::line_bytes_max;
use crate::operations::{Operation, Pop, read_feed_line};

/// Lines of one connection under way: enough to check on all cores while one is applied.
const LINES_AHEAD: usize = 16;
/// Bytes of lines of one connection under way, beyond the one that is read.
const BYTES_AHEAD_MAX: usize = 64 << 20;

/// What a line asks for, checked as far as it goes without state.
enum Asked {
    Block(Box<CheckedBlock>),
    Genesis(Box<Block>),
    Pop(Pop),
    Await(Height),
    /// Answered without doing anything.
    Answered(Answer),
}

struct Ahead {
    asked: JoinHandle<Asked>,
    _bytes: OwnedSemaphorePermit,
}

/// Serves until the input ends, the other side is gone, or we are closing. Lines under way are answered first.
pub async fn serve(
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Unpin + Send,
    driven: Driven,
    mut close: watch::Receiver<bool>,
    name: &str,
) {
    let (to, ahead) = mpsc::channel(LINES_AHEAD);
    let reading = {
        let driven = driven.clone();
        async move {
            tokio::select! {
                outcome = read_lines(input, &driven, to) => outcome,
                _ = close.wait_for(|closing| *closing) => Ok(()),
            }
        }
    };
    let reading = tokio::spawn(reading);
    if let Err(error) = answer_all(output, &driven, ahead).await {
        tracing::debug!(name, %error, "the feed's other side does not take answers any more");
        reading.abort();
    }
    match reading.await {
        Ok(Err(error)) => tracing::warn!(name, %error, "reading the feed failed"),
        _ => tracing::debug!(name, "the feed's connection ended"),
    }
}

async fn read_lines(
    input: impl AsyncRead + Unpin,
    driven: &Driven,
    to: mpsc::Sender<Ahead>,
) -> std::io::Result<()> {
    let bytes_max = line_bytes_max(driven.chain.profile.limits.payload_bytes);
    let budget_bytes = BYTES_AHEAD_MAX.max(bytes_max);
    let budget = Arc::new(Semaphore::new(budget_bytes));
    let mut input = BufReader::with_capacity(1 << 16, input);
    loop {
        let Some(line) = read_line(&mut input, bytes_max).await? else { return Ok(()) };
        let bytes = line.as_ref().map_or(0, Vec::len);
        if line.as_ref().is_some_and(|line| line.iter().all(u8::is_ascii_whitespace)) {
            continue;
        }
        let permits = u32::try_from(bytes.min(budget_bytes)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&budget).acquire_many_owned(permits).await else { return Ok(()) };
        let driven = driven.clone();
        let asked = tokio::task::spawn_blocking(move || match line {
            Some(line) => check(&line, &driven),
            None => {
                let message = format!("the line has more than {bytes_max} bytes");
                Asked::Answered(Answer::error("line-too-long", message, "Send shorter lines."))
            }
        });
        if to.send(Ahead { asked, _bytes: permit }).await.is_err() {
            return Ok(());
        }
    }
}

/// One line without its end; the inner `None`: too long, and skipped. The outer one: the end.
async fn read_line(
    input: &mut BufReader<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> std::io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Some(Vec::new());
    let mut any = false;
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let length = part.len();
        match &mut line {
            Some(line) if line.len() + length <= bytes_max => line.extend_from_slice(part),
            _ => line = None,
        }
        input.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Everything that needs no state.
fn check(line: &[u8], driven: &Driven) -> Asked {
    match read_feed_line(line, &driven.chain.profile) {
        Ok(Operation::Block(block)) if block.previous_block.is_none() => Asked::Genesis(block),
        Ok(Operation::Block(block)) => match driven.node.check(*block) {
            Ok(checked) => Asked::Block(Box::new(checked)),
            Err(error) => Asked::Answered(Answer::from(&error)),
        },
        Ok(Operation::Pop(pop)) => Asked::Pop(pop),
        Ok(Operation::Await { height }) => Asked::Await(height),
        Err(malformed) => {
            let remedy = "Correct the line; the connection goes on.";
            Asked::Answered(Answer::error("malformed", malformed, remedy))
        }
    }
}

async fn answer_all(
    output: impl AsyncWrite + Unpin,
    driven: &Driven,
    mut ahead: mpsc::Receiver<Ahead>,
) -> std::io::Result<()> {
    let mut output = BufWriter::new(output);
    loop {
        let next = match ahead.try_recv() {
            Ok(next) => next,
            // Whoever waits for an answer before the next line gets it now.
            Err(_) => {
                output.flush().await?;
                match ahead.recv().await {
                    Some(next) => next,
                    None => return Ok(()),
                }
            }
        };
        let answer = match next.asked.await {
            Ok(asked) => perform(asked, driven).await,
            Err(error) => Answer::error("internal", error, "Please report it with the log."),
        };
        output.write_all(&answer.line()).await?;
    }
}

async fn perform(asked: Asked, driven: &Driven) -> Answer {
    let outcome = match asked {
        Asked::Answered(answer) => return answer,
        Asked::Block(block) => apply(*block, driven).await,
        Asked::Genesis(block) => genesis(&block, driven),
        Asked::Pop(asked) => pop(asked, driven).await,
        Asked::Await(height) => durable(height, driven).await,
    };
    outcome.unwrap_or_else(|error| Answer::from(&error))
}

async fn apply(block: CheckedBlock, driven: &Driven) -> Result<Answer, StoreError> {
    let _turn = driven.turn.lock().await;
    let accepted = driven.node.apply(block, driven.chain.now()).await?;
    let progress = driven.node.progress();
    let done_at = if accepted.is_new { accepted.position } else { position_of(&progress, accepted.height) };
    let durable = progress.durable.seq >= done_at.seq;
    Ok(Answer::accepted(
        accepted.id,
        accepted.height,
        accepted.position,
        accepted.profile,
        durable,
        !accepted.is_new,
    ))
}

/// The chain has its genesis block since it began; no other can follow.
fn genesis(block: &Block, driven: &Driven) -> Result<Answer, StoreError> {
    let genesis = driven.chain.genesis.id;
    if block.id != genesis {
        return Err(Refusal::SecondGenesis { genesis }.into());
    }
    let progress = driven.node.progress();
    let durable = progress.durable.height >= 1;
    Ok(Answer::accepted(genesis, 1, progress.position, progress.profile, durable, true))
}

async fn pop(asked: Pop, driven: &Driven) -> Result<Answer, StoreError> {
    let _turn = driven.turn.lock().await;
    let height = driven.node.progress().tip.map_or(0, |tip| tip.height);
    let (to_height, _) = asked.target(height).map_err(StoreError::Request)?;
    let accepted = driven.node.take_back_to(to_height).await?;
    let durable = driven.node.progress().durable.seq >= accepted.position.seq;
    Ok(Answer::accepted(accepted.id, accepted.height, accepted.position, accepted.profile, durable, false))
}

async fn durable(height: Height, driven: &Driven) -> Result<Answer, StoreError> {
    let progress = driven.node.progress();
    let tip = progress.tip.map_or(0, |tip| tip.height);
    if height > tip {
        return Err(StoreError::Request(format!(
            "height {height} cannot be awaited: the tip is at height {tip}"
        )));
    }
    let position = position_of(&progress, height);
    driven.node.until_durable(position).await?;
    let id = id_at(height, driven).await?;
    Ok(Answer::accepted(id, height, position, progress.profile, true, false))
}

/// The chain's block at a height: of the kept ones, else in PostgreSQL.
async fn id_at(height: Height, driven: &Driven) -> Result<BlockId, StoreError> {
    if let Some(tip) = driven.node.progress().tip.filter(|tip| tip.height == height) {
        return Ok(tip.id);
    }
    let taken_back = || StoreError::Request(format!("height {height} was taken back while it was awaited"));
    match driven.node.fast().find_block_at(height).await?.value {
        InChain::Yes(kept) => return Ok(kept.block.id),
        // PostgreSQL may still have it.
        InChain::No => return Err(taken_back()),
        InChain::NotKept => {}
    }
    let reader = SlowReader::connect(&driven.postgres).await?;
    let block = reader.reads().block_by_height(height).await?;
    block.map(|block| block.id).ok_or_else(taken_back)
}
