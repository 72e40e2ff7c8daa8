//! `forebay pop`: takes blocks back, and waits until PostgreSQL did too.

use anyhow::Context as _;
use forebay_ledger::ids::Height;
use indicatif::HumanCount;
use serde_json::json;

use super::Context;
use crate::args::PopArgs;
use crate::exit::{Exit, Told};
use crate::home::command_words;
use crate::output::counted;
use crate::session::{Patience, Session};

/// Runs the command.
pub async fn run(context: &Context, args: PopArgs) -> anyhow::Result<i32> {
    let words = match (args.count, args.to_height) {
        (_, Some(height)) => format!("pop --to-height {height}"),
        (count, None) => format!("pop --count {}", count.unwrap_or(1)),
    };
    let session = Session::start(
        &context.home,
        &command_words(&words),
        Patience::Configured,
        &context.screen,
        &context.signals,
    )
    .await?;
    let before = session.node.progress().tip.map_or(0, |tip| tip.height);
    let popping = pop(&session, &args, before);
    let (height, id) = match context.screen.while_long("taking blocks back", popping).await {
        Ok(tip) => tip,
        Err(error) => return Err(session.stop_after(error).await),
    };
    session.stop().await?;
    let count = before - height;
    let value = json!({ "height": height, "blockId": id, "blocksTakenBack": count, "durableHeight": height });
    context.output.result(&value, || {
        format!(
            "{} taken back; the tip is block {id} at height {}",
            counted(count.into(), "block"),
            HumanCount(height.into())
        )
    })?;
    Ok(Exit::Success as i32)
}

async fn pop(session: &Session, args: &PopArgs, tip: Height) -> anyhow::Result<(Height, String)> {
    let to_height = match args.to_height {
        Some(height) => height,
        None => {
            let count = args.count.unwrap_or(1);
            tip.checked_sub(count).filter(|height| *height > 0).ok_or_else(|| {
                let message = format!(
                    "{count} blocks cannot be taken back: the tip is at height {tip}, and the genesis block stays"
                );
                Told::refused("request", message, "Take fewer blocks back.")
            })?
        }
    };
    let accepted = session.node.take_back_to(to_height).await.context("taking blocks back")?;
    session.node.until_durable(accepted.position).await.context("waiting until it is durable")?;
    Ok((accepted.height, accepted.id.to_string()))
}
