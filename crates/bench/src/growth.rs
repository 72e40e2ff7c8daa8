//! `growth`: whether a block costs the same at every height and with any number of accounts, ends of rounds included, and
//! how PostgreSQL grows. Blocks of 25 are handed over one by one; what is measured is the time until each is accepted.

use std::time::Instant;

use forebay_store::Limits;

use crate::arena::Arena;
use crate::error::BenchError;
use crate::load::Load;
use crate::options::Durability;
use crate::row::{Row, figure, median};

/// Runs of blocks, one after the other, each with a figure of its own.
const RUNS: usize = 6;

pub(crate) async fn measure(arena: &Arena, load: &Load, profile: Durability) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    let admin = stage.admin().await?;
    let delegates = load.network.profile.delegates.max(1);
    let row = |what: String, figure: f64, unit: &'static str| Row {
        part: "growth",
        what,
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure,
        unit,
        control: None,
        control_figure: None,
        ratio: None,
    };
    let (mut accepted, mut sizes) = (Vec::new(), Vec::new());
    let (mut within, mut ends, mut first) = (Vec::new(), Vec::new(), None);
    for blocks in load.blocks.chunks(load.blocks.len().div_ceil(RUNS).max(1)) {
        let mut run = Vec::with_capacity(blocks.len());
        for made in blocks {
            let began = Instant::now();
            staged.node.apply(made.checked.clone(), load.now()).await?;
            let us = began.elapsed().as_secs_f64() * 1e6;
            run.push(us);
            let ends_round = made.applied.block.height.is_multiple_of(delegates);
            if ends_round { ends.push(us) } else { within.push(us) }
        }
        staged.settle().await?;
        let (from, to) = heights(blocks);
        let us = median(run);
        let accept = row(format!("a block accepted, heights {from} to {to}"), us, "us");
        accepted.push(accept.against("the lowest heights of the same run", *first.get_or_insert(us)));
        let sql = "select sum(pg_total_relation_size(c.oid))::float8 / 1e6 from pg_class c \
             where c.relnamespace = 'forebay'::regnamespace and c.relkind = 'r'";
        let megabytes: f64 = admin.query_one(sql, &[]).await?.try_get(0)?;
        sizes.push(row(format!("PostgreSQL at height {to}"), megabytes, "MB"));
    }
    drop(admin);
    staged.end().await?;
    stage.remove().await?;
    let mut rows = accepted;
    if !ends.is_empty() {
        let what = format!("a round's last block accepted, {} of them", figure(ends.len() as u64));
        rows.push(row(what, median(ends), "us").against("the other blocks of the same run", median(within)));
    }
    rows.extend(sizes);
    Ok(rows)
}

fn heights(blocks: &[crate::load::Made]) -> (u32, u32) {
    let height = |made: Option<&crate::load::Made>| made.map_or(0, |made| made.applied.block.height);
    (height(blocks.first()), height(blocks.last()))
}
