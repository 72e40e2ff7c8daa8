//! `accept`: blocks whose signatures were checked beforehand; everything else is timed: rules, state, indexes, body,
//! outbox entry, acknowledgement. PostgreSQL follows later and is held still meanwhile, for it would take processor time
//! that the ceiling does not give away.

use std::time::Instant;

use forebay_ledger::verify::CheckedBlock;
use forebay_store::{Limits, Node};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use crate::arena::Arena;
use crate::ceiling::Ceiling;
use crate::error::BenchError;
use crate::load::{Load, Made};
use crate::options::{BenchOptions, Durability};
use crate::postgres_only::PostgresOnly;
use crate::row::{Row, figure, median};

/// Blocks that are handed over before the first of them is answered: as many as a node's queue takes.
pub(crate) const HANDED_OVER_MAX: usize = 48;

/// Limits that hold nobody up while PostgreSQL is held still.
pub(crate) fn without_limits() -> Limits {
    Limits { lag_blocks_max: 1 << 30, lag_bytes_max: 1 << 40, ..Limits::default() }
}

/// Measures one load on one profile.
pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Load,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, without_limits()).await?;
    let staged = stage.start().await?;
    let buckets = staged.node.fast().head().await?.buckets;
    let hold = stage.hold_postgres().await?;
    let mut ceiling = Ceiling::open(arena.redis(profile)?.socket(), load, buckets).await?;
    // Without a promise there is nothing alike to compare with.
    let mut postgres = match profile {
        Durability::Durable => Some(PostgresOnly::open(arena, load).await?),
        Durability::Volatile => None,
    };
    let count = load.blocks.len().div_ceil(options.repeats.max(1));
    let (mut ours, mut plain, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for blocks in load.blocks.chunks(count.max(1)) {
        let rate = |seconds: f64| figure(Load::transactions(blocks)) / seconds;
        ours.push(rate(accept_all(&staged.node, checked(blocks), load.now()).await?));
        let packed = ceiling.pack(blocks.iter().map(|made| &made.applied))?;
        plain.push(rate(ceiling.write(packed).await?));
        if let Some(postgres) = &mut postgres {
            slow.push(rate(postgres.apply_all(load, checked(blocks)).await?));
        }
    }
    hold.release().await?;
    staged.end().await?;
    stage.remove().await?;
    if let Some(postgres) = postgres {
        postgres.remove().await?;
    }
    let row = Row {
        part: "accept",
        what: "transactions accepted".to_owned(),
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure: median(ours),
        unit: "tx/s",
        control: None,
        control_figure: None,
        ratio: None,
    };
    let mut rows = vec![row.against("ceiling: same keys and bytes, plain pipeline", median(plain))];
    if !slow.is_empty() {
        rows.push(row.against("PostgreSQL only, one commit a block", median(slow)));
    }
    Ok(rows)
}

pub(crate) fn checked(blocks: &[Made]) -> Vec<CheckedBlock> {
    blocks.iter().map(|made| made.checked.clone()).collect()
}

/// Hands blocks over in order, many before the first is answered; the seconds until the last was accepted.
pub(crate) async fn accept_all(node: &Node, blocks: Vec<CheckedBlock>, now: i64) -> Result<f64, BenchError> {
    let began = Instant::now();
    let mut waiting = FuturesOrdered::new();
    for block in blocks {
        if waiting.len() >= HANDED_OVER_MAX
            && let Some(accepted) = waiting.next().await
        {
            accepted?;
        }
        waiting.push_back(node.apply(block, now));
    }
    while let Some(accepted) = waiting.next().await {
        accepted?;
    }
    Ok(began.elapsed().as_secs_f64())
}
