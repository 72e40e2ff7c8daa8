//! `forebay delegates`: by rank.

use std::cmp::Reverse;

use forebay_fast::RankedBy;
use forebay_ledger::account::Account;
use forebay_ledger::ids::Height;
use serde::Serialize;

use super::Context;
use crate::account_record::coins;
use crate::args::DelegatesArgs;
use crate::exit::Exit;
use crate::reads::{Answered, Look, Reads};

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    tier: Answered,
    height: Height,
    delegates: Vec<Ranked>,
}

/// A delegate. Amounts are units of 10^-8 as decimal text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ranked {
    rank: u32,
    username: String,
    address: String,
    public_key: Option<String>,
    vote: String,
    votes_weight: String,
    #[serde(rename = "producedblocks")]
    produced_blocks: u32,
    #[serde(rename = "missedblocks")]
    missed_blocks: u32,
    cmb: u32,
}

/// Runs the command.
pub async fn run(context: &Context, args: DelegatesArgs) -> anyhow::Result<i32> {
    let answer = context
        .read(Look::Ready, async |reads| {
            let limit = args.limit.unwrap_or(reads.chain.profile.delegates);
            find(reads, args.offset, limit).await
        })
        .await?;
    context.output.result(&answer, || text_of(&answer))?;
    Ok(Exit::Success as i32)
}

async fn find(reads: &Reads, offset: u32, limit: u32) -> anyhow::Result<Answer> {
    let tip = reads.tip_height().await?;
    // The ranking that forger lists are made by, as the reference node shows it.
    let by = if reads.chain.profile.is_generation_two(tip) { RankedBy::VotesWeight } else { RankedBy::Vote };
    let fast = reads.fast(async |fast| fast.delegates_ranked(by, offset, limit).await).await?;
    let (accounts, height, tier) = match fast {
        Some(found) => (found.value, found.at.height, Answered::Fast),
        None => {
            let mut reader = reads.slow().await?;
            let snapshot = reader.snapshot().await?;
            let height = snapshot.reads().tip().await?.map_or(0, |tip| tip.height);
            let mut all = snapshot.reads().delegates().await?;
            all.sort_by_key(|account| (Reverse(ranked_value(account, by)), account.public_key));
            let from = usize::try_from(offset)?;
            (all.into_iter().skip(from).take(usize::try_from(limit)?).collect(), height, Answered::Slow)
        }
    };
    let suffix = reads.chain.profile.address_suffix;
    let delegates =
        (offset + 1..).zip(&accounts).filter_map(|(rank, account)| ranked(rank, account, suffix)).collect();
    Ok(Answer { tier, height, delegates })
}

fn ranked_value(account: &Account, by: RankedBy) -> i64 {
    account.delegate.as_ref().map_or(0, |delegate| match by {
        RankedBy::Vote => delegate.vote,
        RankedBy::VotesWeight => delegate.votes_weight,
    })
}

fn ranked(rank: u32, account: &Account, suffix: char) -> Option<Ranked> {
    let delegate = account.delegate.as_ref()?;
    Some(Ranked {
        rank,
        username: delegate.username.clone(),
        address: account.address.with_suffix(suffix),
        public_key: account.public_key.map(|key| key.to_string()),
        vote: delegate.vote.to_string(),
        votes_weight: delegate.votes_weight.to_string(),
        produced_blocks: account.forging.produced_blocks,
        missed_blocks: account.forging.missed_blocks,
        cmb: delegate.missed_in_a_row,
    })
}

fn text_of(answer: &Answer) -> String {
    let mut lines = vec![format!(
        "{:>4}  {:20}  {:>22}  {:>20}  {:>9}  {:>7}",
        "rank", "username", "address", "vote", "produced", "missed"
    )];
    lines.extend(answer.delegates.iter().map(|delegate| {
        format!(
            "{:>4}  {:20}  {:>22}  {:>20}  {:>9}  {:>7}",
            delegate.rank,
            delegate.username,
            delegate.address,
            coins(&delegate.vote),
            delegate.produced_blocks,
            delegate.missed_blocks
        )
    }));
    lines.join("\n")
}
