//! `forebay forgers --round N`: who forges, by slot.

use forebay_ledger::keys::PublicKey;
use forebay_ledger::round::forger_list;
use serde::Serialize;

use super::Context;
use crate::args::ForgersArgs;
use crate::exit::{Exit, Told};
use crate::reads::{Answered, Look, Reads};

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    round: u32,
    tier: Answered,
    /// The owner of slot `s` is entry `s` modulo their number.
    forgers: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: ForgersArgs) -> anyhow::Result<i32> {
    let answer = context.read(Look::Ready, async |reads| find(reads, args.round).await).await?;
    context.output.result(&answer, || {
        let lines: Vec<String> =
            answer.forgers.iter().enumerate().map(|(slot, key)| format!("{slot:>4}  {key}")).collect();
        format!("round {}\n{}", answer.round, lines.join("\n"))
    })?;
    Ok(Exit::Success as i32)
}

async fn find(reads: &Reads, round: Option<u32>) -> anyhow::Result<Answer> {
    let tip = reads.tip_height().await?;
    let running = reads.chain.profile.round_of(tip + 1);
    let round = round.unwrap_or(running);
    let answer = |tier, forgers: Vec<PublicKey>| Answer {
        round,
        tier,
        forgers: forgers.iter().map(ToString::to_string).collect(),
    };
    let fast = reads.fast(async |fast| fast.forgers(round).await).await?;
    if let Some(forgers) = fast.and_then(|found| found.value) {
        return Ok(answer(Answered::Fast, forgers));
    }
    let mut reader = reads.slow().await?;
    let snapshot = reader.snapshot().await?;
    let slow = snapshot.reads();
    if let Some(forgers) = slow.forgers(round).await? {
        return Ok(answer(Answered::Slow, forgers));
    }
    if let Some(tip) = slow.tip().await?
        && reads.chain.profile.round_of(tip.height + 1) == round
    {
        // The list comes with a round's first block; before that the ledger computes it from the same rows.
        let profile = &reads.chain.profile;
        let closers_max = profile.generation_two.map_or(1, |two| two.pool);
        let state = slow.round_state(closers_max).await?;
        let delegates = slow.delegates().await?;
        let forgers = forger_list(profile, tip.height + 1, tip.id, &state.closers, delegates.iter());
        return Ok(answer(Answered::Slow, forgers));
    }
    Err(Told::unknown(format!("round {round} has not begun; the running round is {running}")).into())
}
