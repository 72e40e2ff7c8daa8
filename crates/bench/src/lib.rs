//! How fast and how large Forebay is: each figure beside a control arm of the same run, on private servers.
//!
//! [`run`] measures and gives a [`Report`]. A figure by itself says more about the machine than about the program; the
//! ratios are what can be compared between machines. The parts are in modules of their own names.

mod accept;
mod arena;
mod ceiling;
mod error;
mod load;
mod machine;
mod options;
mod postgres_only;
mod report;
mod row;

use std::sync::Arc;

pub use error::BenchError;
pub use machine::Machine;
pub use options::{BenchOptions, Durability, LoadKind, LoadSpec, Part};
pub use report::Report;
pub use row::Row;

use crate::arena::Arena;
use crate::load::{Load, Maker};

/// Runs the parts in their order. `tell` gets a line now and then. The servers' directory is removed at the end, also
/// after a failure.
///
/// # Errors
/// [`BenchError`]; what was measured before is lost.
pub async fn run(options: BenchOptions, tell: impl Fn(&str)) -> Result<Report, BenchError> {
    let arena = Arena::start(&options.directory, &options.profiles).await?;
    let outcome = measure(&arena, &options, &tell).await;
    arena.end().await?;
    outcome
}

async fn measure(arena: &Arena, options: &BenchOptions, tell: &impl Fn(&str)) -> Result<Report, BenchError> {
    let machine = Machine::look(arena, options).await?;
    let mut bench = Bench {
        arena,
        options,
        maker: Some(Maker::new(options.block_sizes.iter().copied().max().unwrap_or(25))),
    };
    let mut results = Vec::new();
    for part in Part::ALL.into_iter().filter(|part| options.parts.contains(part)) {
        tell(&format!("{}:", part.name()));
        let rows = bench.part(part, tell).await?;
        results.extend(rows);
    }
    Ok(Report { machine, options: options.clone(), results })
}

/// What the parts share.
struct Bench<'a> {
    arena: &'a Arena,
    options: &'a BenchOptions,
    /// Lent to a blocking thread while it makes a load.
    maker: Option<Maker>,
}

impl Bench<'_> {
    /// Makes a load, on all cores.
    async fn load(
        &mut self,
        spec: LoadSpec,
        block_size: u32,
        blocks: usize,
    ) -> Result<Arc<Load>, BenchError> {
        let mut maker = self.maker.take().unwrap_or_else(|| Maker::new(block_size));
        let (maker, load) = tokio::task::spawn_blocking(move || {
            let load = maker.make(spec, block_size, blocks);
            (maker, load)
        })
        .await?;
        self.maker = Some(maker);
        load.map(Arc::new)
    }

    async fn part(&mut self, part: Part, tell: &impl Fn(&str)) -> Result<Vec<Row>, BenchError> {
        match part {
            Part::Accept => self.accept(tell).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn accept(&mut self, tell: &impl Fn(&str)) -> Result<Vec<Row>, BenchError> {
        let mut rows = Vec::new();
        for spec in &self.options.loads {
            for block_size in &self.options.block_sizes {
                let blocks = self.options.blocks_a_measurement(*block_size) * self.options.repeats.max(1);
                let load = self.load(*spec, *block_size, blocks).await?;
                for profile in &self.options.profiles {
                    let measured = accept::measure(self.arena, self.options, &load, *profile).await?;
                    measured.iter().for_each(|row| tell(&report::line(row)));
                    rows.extend(measured);
                }
            }
        }
        Ok(rows)
    }
}
