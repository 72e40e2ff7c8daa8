//! `forebay block ID|HEIGHT`.

use forebay_fast::InChain;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_to_value;
use serde_json::Value;

use super::Context;
use crate::account_record::coins;
use crate::args::BlockArgs;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::output::{table, utc_time};
use crate::reads::{Answered, Look, Reads};

/// Runs the command.
pub async fn run(context: &Context, args: BlockArgs) -> anyhow::Result<i32> {
    let ((block, answered), chain) =
        context.read(Look::Ready, async |reads| Ok((find(reads, &args).await?, reads.chain.clone()))).await?;
    let mut value = block_to_value(&block, &chain.profile);
    if let Value::Object(fields) = &mut value {
        fields.insert("tier".to_owned(), serde_json::to_value(answered)?);
    }
    context.output.result(&value, || text_of(&block, &chain))?;
    Ok(Exit::Success as i32)
}

enum Wanted {
    Height(Height),
    Id(BlockId),
}

async fn find(reads: &Reads, args: &BlockArgs) -> anyhow::Result<(Block, Answered)> {
    let wanted = wanted(reads, args).await?;
    let fast = reads
        .fast(async |fast| match wanted {
            Wanted::Height(height) => fast.find_block_at(height).await,
            Wanted::Id(id) => fast.find_block(id).await,
        })
        .await?;
    let unknown = || {
        Told::unknown(match wanted {
            Wanted::Height(height) => format!("{} has no block at height {height}", reads.who_was_asked()),
            Wanted::Id(id) => format!("{} has no block with id {id}", reads.who_was_asked()),
        })
    };
    match fast.map(|found| found.value) {
        Some(InChain::Yes(kept)) => return Ok((kept.block, Answered::Fast)),
        // PostgreSQL may still have one that was taken back.
        Some(InChain::No) => return Err(unknown().into()),
        Some(InChain::NotKept) | None => {}
    }
    let reader = reads.slow().await?;
    let found = match wanted {
        Wanted::Height(height) => reader.reads().block_by_height(height).await?,
        Wanted::Id(id) => reader.reads().block_by_id(id).await?,
    };
    Ok((found.ok_or_else(unknown)?, Answered::Slow))
}

/// A number up to the tip's height is a height, any other an id.
async fn wanted(reads: &Reads, args: &BlockArgs) -> anyhow::Result<Wanted> {
    let text = args.which.as_str();
    let id: BlockId = text.parse().map_err(|error| {
        Told::refused("malformed", format!("not a block id or height: {error}"), "Give a decimal number.")
    })?;
    let height = Height::try_from(id.0).ok().filter(|height| *height > 0);
    Ok(match (args.height, args.id, height) {
        (true, _, Some(height)) => Wanted::Height(height),
        (true, _, None) => {
            return Err(Told::unknown(format!("the chain has no block at height {text}")).into());
        }
        (_, false, Some(height)) if height <= reads.tip_height().await? => Wanted::Height(height),
        _ => Wanted::Id(id),
    })
}

fn text_of(block: &Block, chain: &Chain) -> String {
    let mut lines = vec![
        ("block", block.id.to_string()),
        ("height", block.height.to_string()),
        ("time", utc_time(&chain.profile, block.timestamp)),
        ("previous", block.previous_block.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ("forged by", block.generator_public_key.to_string()),
        ("reward", coins(&block.reward.to_string())),
        ("fees", coins(&block.total_fee.to_string())),
        ("amount", coins(&block.total_amount.to_string())),
        ("transactions", block.transactions.len().to_string()),
    ];
    for transaction in &block.transactions {
        lines.push(("", super::transaction::line_of(transaction, chain)));
    }
    table(&lines)
}
