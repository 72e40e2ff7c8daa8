//! `latency`: one block of 25 at a time, from hand-over (its signatures unchecked) to accepted, and to durable.

use std::time::Instant;

use forebay_ledger::verify::check_block;
use forebay_store::Limits;

use crate::arena::Arena;
use crate::error::BenchError;
use crate::load::Load;
use crate::options::Durability;
use crate::postgres_only::PostgresOnly;
use crate::row::{Row, median};

pub(crate) async fn measure(arena: &Arena, load: &Load, profile: Durability) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    let mut postgres = PostgresOnly::open(arena, load).await?;
    let checker = staged.node.checker();
    let (mut accepted, mut durable, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for made in &load.blocks {
        let block = made.checked.block().clone();
        let began = Instant::now();
        let answer = staged.node.apply(staged.node.check(block.clone())?, load.now()).await?;
        accepted.push(began.elapsed().as_secs_f64() * 1000.0);
        staged.node.until_durable(answer.position).await?;
        durable.push(began.elapsed().as_secs_f64() * 1000.0);
        let began = Instant::now();
        let checked = check_block(block, &load.network.profile, &checker)?;
        postgres.apply(load, checked).await?;
        slow.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    staged.end().await?;
    stage.remove().await?;
    postgres.remove().await?;
    let row = |what: &str, figures: Vec<f64>| Row {
        part: "latency",
        what: what.to_owned(),
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure: median(figures),
        unit: "ms",
        control: None,
        control_figure: None,
        ratio: None,
    };
    let slow = median(slow);
    let control = "PostgreSQL only, one commit a block";
    Ok(vec![
        row("from hand-over to accepted", accepted).against(control, slow),
        row("from hand-over to durable", durable).against(control, slow),
    ])
}
