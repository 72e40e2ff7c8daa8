//! `forebay transaction ID`.

use forebay_fast::FoundTransaction;
use forebay_ledger::ids::{BlockId, Height, TransactionId};
use forebay_ledger::json::transaction_to_value;
use forebay_ledger::transaction::{Asset, Transaction};
use serde_json::{Value, json};

use super::Context;
use crate::account_record::coins;
use crate::args::TransactionArgs;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::output::{table, utc_time};
use crate::reads::{Answered, Look, Reads};

/// Runs the command.
pub async fn run(context: &Context, args: TransactionArgs) -> anyhow::Result<i32> {
    let id: TransactionId = args.id.parse().map_err(|error| {
        Told::refused("malformed", format!("not a transaction id: {error}"), "Give a decimal number.")
    })?;
    let (found, chain) =
        context.read(Look::Ready, async |reads| Ok((find(reads, id).await?, reads.chain.clone()))).await?;
    let mut value = transaction_to_value(&found.transaction, &chain.profile);
    if let Value::Object(fields) = &mut value {
        fields.insert("height".to_owned(), json!(found.height));
        fields.insert("blockId".to_owned(), json!(found.block_id.to_string()));
        fields.insert("confirmations".to_owned(), json!(found.tip.saturating_sub(found.height) + 1));
        fields.insert("tier".to_owned(), serde_json::to_value(found.answered)?);
    }
    context.output.result(&value, || text_of(&found, &chain))?;
    Ok(Exit::Success as i32)
}

struct Found {
    transaction: Transaction,
    height: Height,
    block_id: BlockId,
    tip: Height,
    answered: Answered,
}

async fn find(reads: &Reads, id: TransactionId) -> anyhow::Result<Found> {
    let fast = reads.fast(async |fast| fast.transaction(id).await).await?;
    let asked = reads.who_was_asked();
    let unknown = || Told::unknown(format!("{asked} has no transaction {id}"));
    if let Some(found) = fast {
        // Redis knows the ids of all; PostgreSQL may still have one whose block was taken back.
        let located = found.value.ok_or_else(unknown)?;
        if let Some(FoundTransaction { block: block_id, transaction, .. }) = located.found {
            let (height, tip) = (located.height, found.at.height);
            return Ok(Found { transaction, height, block_id, tip, answered: Answered::Fast });
        }
    }
    let mut reader = reads.slow().await?;
    let snapshot = reader.snapshot().await?;
    let reads = snapshot.reads();
    let (height, transaction) = reads.transaction(id).await?.ok_or_else(unknown)?;
    let block = reads.block_by_height(height).await?.ok_or_else(unknown)?;
    let tip = reads.tip().await?.map_or(height, |tip| tip.height);
    Ok(Found { transaction, height, block_id: block.id, tip, answered: Answered::Slow })
}

fn kind_of(asset: &Asset) -> &'static str {
    match asset {
        Asset::Transfer => "transfer",
        Asset::SecondSignature { .. } => "second signature",
        Asset::Delegate { .. } => "delegate",
        Asset::Vote { .. } => "vote",
        Asset::Multisignature { .. } => "multisignature",
    }
}

/// One line for people.
pub fn line_of(transaction: &Transaction, chain: &Chain) -> String {
    let to = transaction.recipient.map_or_else(String::new, |to| format!(" → {}", chain.address(to)));
    format!(
        "{:>20}  {:16}  {}{to}  {}",
        transaction.id.to_string(),
        kind_of(&transaction.asset),
        chain.address(transaction.sender),
        coins(&transaction.amount.to_string()),
    )
}

fn text_of(found: &Found, chain: &Chain) -> String {
    let transaction = &found.transaction;
    let mut lines = vec![
        ("transaction", transaction.id.to_string()),
        ("type", kind_of(&transaction.asset).to_owned()),
        ("block", format!("{} at height {}", found.block_id, found.height)),
        ("confirmations", (found.tip.saturating_sub(found.height) + 1).to_string()),
        ("time", utc_time(&chain.profile, transaction.timestamp)),
        ("from", chain.address(transaction.sender)),
    ];
    lines.extend(transaction.recipient.map(|to| ("to", chain.address(to))));
    lines.push(("amount", coins(&transaction.amount.to_string())));
    lines.push(("fee", coins(&transaction.fee.to_string())));
    match &transaction.asset {
        Asset::Transfer => {}
        Asset::SecondSignature { public_key } => lines.push(("second key", public_key.to_string())),
        Asset::Delegate { username } => lines.push(("username", username.clone())),
        Asset::Vote { votes } => lines.extend(
            votes
                .iter()
                .map(|vote| (if vote.add { "votes for" } else { "takes back" }, vote.delegate.to_string())),
        ),
        Asset::Multisignature { min, keys, .. } => {
            lines.push(("group", format!("{min} of {} must sign", keys.len())));
            lines.extend(keys.iter().map(|key| ("member", key.to_string())));
        }
    }
    table(&lines)
}
