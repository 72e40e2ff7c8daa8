//! The control arm without Redis: the same ledger, the same tables and triggers, one durable commit a block.
//!
//! It is favoured: its rules read a state in memory, where a node of this kind would ask PostgreSQL. COPY is binary, its
//! statements are prepared by the driver, and the connection is a Unix socket.

use std::time::Instant;

use forebay_ledger::apply::{Applied, apply_block};
use forebay_ledger::crypto::Checker;
use forebay_ledger::keys::PublicKey;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::{RoundChange, StateView};
use forebay_ledger::verify::CheckedBlock;
use forebay_slow::{BlockRow, SlowOperation, SlowWriter};

use crate::arena::{Arena, Database};
use crate::error::BenchError;
use crate::load::Load;

pub(crate) struct PostgresOnly<'a> {
    database: Database<'a>,
    writer: SlowWriter,
    state: MemoryState,
    checker: Checker,
    seq: u64,
    now: i64,
}

/// The row of an applied block; `forgers`: the running round's list before it.
pub(crate) fn row_of(applied: &Applied, forgers: Option<Vec<PublicKey>>) -> SlowOperation {
    SlowOperation::Append(BlockRow {
        block: std::sync::Arc::new(applied.block.clone()),
        transactions_before: applied.changes.tip_before.map_or(0, |tip| tip.transactions_total),
        forgers,
        delegates_digest: applied.changes.delegates_digest,
    })
}

/// The genesis block's row: it carries the first round's list.
pub(crate) fn genesis_row(load: &Load) -> SlowOperation {
    let forgers = match &load.genesis.changes.round {
        RoundChange::Closed { next, .. } => Some(next.forgers.clone()),
        _ => None,
    };
    row_of(&load.genesis, forgers)
}

impl<'a> PostgresOnly<'a> {
    /// A database with the genesis block.
    pub(crate) async fn open(arena: &'a Arena, load: &Load) -> Result<Self, BenchError> {
        let database = arena.database(&load.network).await?;
        let mut writer = SlowWriter::connect(&database.writer).await?;
        writer.take_over(0, 1).await?;
        writer.apply(1, 0, 1, &[genesis_row(load)], 1).await?;
        Ok(Self {
            database,
            writer,
            state: load.state()?,
            checker: Checker::default(),
            seq: 1,
            now: load.now(),
        })
    }

    /// Verifies a block against the state, and commits it.
    pub(crate) async fn apply(&mut self, load: &Load, checked: CheckedBlock) -> Result<(), BenchError> {
        let profile = &load.network.profile;
        let applied = apply_block(&self.state, checked, profile, self.now, &self.checker)?;
        let forgers = profile
            .opens_round(applied.block.height)
            .then(|| self.state.round().map(|round| round.forgers.clone()))
            .flatten();
        let row = row_of(&applied, forgers);
        self.writer.apply(1, self.seq, self.seq + 1, &[row], 1).await?;
        self.seq += 1;
        self.state.commit(&applied.changes).map_err(|error| BenchError::Other(error.to_string()))
    }

    /// Applies blocks one after the other; the seconds that it took.
    pub(crate) async fn apply_all(
        &mut self,
        load: &Load,
        blocks: Vec<CheckedBlock>,
    ) -> Result<f64, BenchError> {
        let began = Instant::now();
        for checked in blocks {
            self.apply(load, checked).await?;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        drop(self.writer);
        self.database.remove().await
    }
}
