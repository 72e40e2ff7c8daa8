//! `drain`: what was accepted, to PostgreSQL. In bulk, as far behind; and live, where each block has a commit of its own.

use std::time::Instant;

use forebay_ledger::state::{RoundChange, RoundState};
use forebay_slow::{SlowOperation, SlowWriter};
use forebay_store::Limits;

use crate::accept::{accept_all, checked, without_limits};
use crate::arena::Arena;
use crate::error::BenchError;
use crate::load::{Load, Made};
use crate::options::{BenchOptions, Durability};
use crate::postgres_only::{genesis_row, row_of};
use crate::row::{Row, figure, median};

/// How blocks come, and how many a commit takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// All are there.
    Bulk,
    /// One after the other is handed over and accepted, while those before it become durable.
    Live,
    /// All are there, but each has a commit of its own.
    CommitEach,
}

impl Pace {
    fn limits(self) -> Limits {
        match self {
            Self::Bulk | Self::Live => without_limits(),
            Self::CommitEach => Limits { batch_operations_max: 1, ..without_limits() },
        }
    }
}

pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Load,
    profile: Durability,
    pace: Pace,
) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, pace.limits()).await?;
    let staged = stage.start().await?;
    let mut raw = RawCopy::open(arena, load, pace).await?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    let count = match pace {
        Pace::Bulk => options.blocks_in_bulk(load.block_size),
        Pace::Live | Pace::CommitEach => options.blocks_a_measurement(load.block_size),
    };
    for blocks in load.blocks.chunks(count).take(options.repeats.max(1)) {
        let written = match pace {
            Pace::Bulk => Load::transactions(blocks),
            Pace::Live | Pace::CommitEach => blocks.len() as u64,
        };
        if pace == Pace::Live {
            let began = Instant::now();
            for block in checked(blocks) {
                staged.node.apply(block, load.now()).await?;
            }
            staged.settle().await?;
            ours.push(figure(written) / began.elapsed().as_secs_f64());
            plain.push(figure(written) / raw.write(load, blocks).await?);
            continue;
        }
        let hold = stage.hold_postgres().await?;
        let before = staged.node.progress().durable.height;
        accept_all(&staged.node, checked(blocks), load.now()).await?;
        let mut progress = staged.node.watch();
        hold.release().await?;
        // The Syncer waits for the lock with its first batch, which may be in a pause: the clock starts after it.
        let gone = |_| BenchError::Other("the node ended".to_owned());
        let first = progress.wait_for(|progress| progress.durable.height > before).await.map_err(gone)?;
        let began = (Instant::now(), first.durable.height);
        drop(first);
        staged.settle().await?;
        let seconds = began.0.elapsed().as_secs_f64();
        let timed: Vec<&Made> = blocks.iter().filter(|made| made.applied.block.height > began.1).collect();
        let count = match pace {
            Pace::Bulk => timed.iter().map(|made| made.applied.block.transactions.len() as u64).sum(),
            Pace::Live | Pace::CommitEach => timed.len() as u64,
        };
        ours.push(figure(count) / seconds);
        plain.push(figure(written) / raw.write(load, blocks).await?);
    }
    staged.end().await?;
    stage.remove().await?;
    raw.database.remove().await?;
    let (what, unit) = match pace {
        Pace::Bulk => ("transactions from the outbox to PostgreSQL, in bulk", "tx/s"),
        Pace::Live => ("blocks handed over one by one, until durable", "blocks/s"),
        Pace::CommitEach => ("blocks from the outbox to PostgreSQL, a commit each", "blocks/s"),
    };
    let row = Row {
        part: "drain",
        what: what.to_owned(),
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure: median(ours),
        unit,
        control: None,
        control_figure: None,
        ratio: None,
    };
    Ok(vec![
        row.against("raw binary COPY of the same rows, same tables and indexes, no triggers", median(plain)),
    ])
}

/// The same rows and commits, with no trigger to fire.
struct RawCopy<'a> {
    database: crate::arena::Database<'a>,
    writer: SlowWriter,
    seq: u64,
    round: Option<RoundState>,
    batch: usize,
}

impl<'a> RawCopy<'a> {
    async fn open(arena: &'a Arena, load: &Load, pace: Pace) -> Result<Self, BenchError> {
        let database = arena.database(&load.network).await?;
        let mut writer = SlowWriter::connect(&database.without_triggers()?).await?;
        writer.take_over(0, 1).await?;
        writer.apply(1, 0, 1, &[genesis_row(load)], 1).await?;
        let round = round_after(&load.genesis.changes.round);
        let batch = if pace == Pace::Bulk { pace.limits().batch_operations_max } else { 1 };
        Ok(Self { database, writer, seq: 1, round, batch })
    }

    async fn write(&mut self, load: &Load, blocks: &[Made]) -> Result<f64, BenchError> {
        let profile = &load.network.profile;
        let mut rows: Vec<SlowOperation> = Vec::with_capacity(blocks.len());
        for made in blocks {
            let opens = profile.opens_round(made.applied.block.height);
            let forgers = self.round.as_ref().filter(|_| opens).map(|round| round.forgers.clone());
            rows.push(row_of(&made.applied, forgers));
            self.round = round_after(&made.applied.changes.round).or(self.round.take());
        }
        let began = Instant::now();
        for batch in rows.chunks(self.batch) {
            let to = self.seq + batch.len() as u64;
            self.writer.apply(1, self.seq, to, batch, 1).await?;
            self.seq = to;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn round_after(change: &RoundChange) -> Option<RoundState> {
    match change {
        RoundChange::Closed { next, .. } => Some((**next).clone()),
        _ => None,
    }
}
