//! `take-back`: the newest blocks out of both tiers.

use std::time::Instant;

use forebay_store::Limits;

use crate::accept::{accept_all, checked};
use crate::arena::Arena;
use crate::error::BenchError;
use crate::load::Load;
use crate::options::{BenchOptions, Durability};
use crate::row::{Row, median};

pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Load,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    accept_all(&staged.node, checked(&load.blocks), load.now()).await?;
    staged.settle().await?;
    let mut rows = Vec::new();
    for count in &options.take_back {
        let mut took = Vec::new();
        for _ in 0..options.repeats.max(1) {
            let tip = staged.node.progress().tip.map_or(0, |tip| tip.height);
            let to_height = tip.saturating_sub(*count).max(1);
            let began = Instant::now();
            let back = staged.node.take_back_to(to_height).await?;
            staged.node.until_durable(back.position).await?;
            took.push(began.elapsed().as_secs_f64());
            let again = load.blocks.iter().position(|made| made.applied.block.height > to_height);
            let again = again.and_then(|from| load.blocks.get(from..)).unwrap_or_default();
            accept_all(&staged.node, checked(again), load.now()).await?;
            staged.settle().await?;
        }
        rows.push(Row {
            part: "take-back",
            what: format!("the last {count} blocks out of both tiers"),
            load: load.spec.kind.name().to_owned(),
            block_size: Some(load.block_size),
            accounts: load.spec.accounts,
            profile: profile.name(),
            figure: median(took),
            unit: "s",
            control: None,
            control_figure: None,
            ratio: None,
        });
    }
    staged.end().await?;
    stage.remove().await?;
    Ok(rows)
}
