//! How fast and how large Forebay is: each figure beside a control arm of the same run, on private servers.
//!
//! [`run`] measures and gives a [`Report`]. A figure by itself says more about the machine than about the program; the
//! ratios are what can be compared between machines. The parts are in modules of their own names.

mod accept;
mod arena;
mod ceiling;
mod drain;
mod error;
mod full;
mod growth;
mod http;
mod latency;
mod load;
mod machine;
mod memory;
mod options;
mod postgres_only;
mod read;
mod report;
mod restore;
mod row;
mod take_back;

use std::sync::Arc;

pub use error::BenchError;
pub use http::load_generator;
pub use machine::Machine;
pub use options::{BenchOptions, Durability, LoadKind, LoadSpec, Part};
pub use report::Report;
pub use row::Row;

use crate::arena::Arena;
use crate::drain::Pace;
use crate::load::{Load, Maker};

/// Runs the parts in their order, unless `stop` ends before. `tell` gets a line now and then. The servers' directory is
/// removed at the end, also after a failure.
///
/// # Errors
/// [`BenchError`]; what was measured before is lost.
pub async fn run(
    options: BenchOptions,
    tell: impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<Report, BenchError> {
    if options.parts.contains(&Part::Http) {
        // Known before the other parts were measured for nothing.
        load_generator()?;
    }
    let arena = Arena::start(&options.directory, &options.profiles).await?;
    let outcome = tokio::select! {
        outcome = measure(&arena, &options, &tell) => outcome,
        () = stop => Err(BenchError::Interrupted),
    };
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
        let profiles = self.options.profiles.clone();
        if part == Part::Accept {
            return self.accept(tell).await;
        }
        if part == Part::Growth {
            return self.growth(tell).await;
        }
        let mut rows = Vec::new();
        for block_size in self.sizes(part) {
            let load = self.load(self.spec_of(part)?, block_size, self.blocks(part, block_size)).await?;
            // Where PostgreSQL's pace decides, Redis' profile hardly matters: the safer one is measured.
            let measured = if part == Part::Latency { profiles.len() } else { 1 };
            for profile in profiles.iter().take(measured) {
                let found = self.one(part, &load, *profile).await?;
                found.iter().for_each(|row| tell(&report::line(row)));
                rows.extend(found);
            }
        }
        Ok(rows)
    }

    async fn one(&self, part: Part, load: &Arc<Load>, profile: Durability) -> Result<Vec<Row>, BenchError> {
        let (arena, options) = (self.arena, self.options);
        match part {
            Part::Accept => accept::measure(arena, options, load, profile).await,
            Part::Latency => latency::measure(arena, load, profile).await,
            Part::Full => full::measure(arena, load, profile).await,
            Part::Drain => {
                let mut rows = drain::measure(arena, options, load, profile, Pace::Bulk).await?;
                if load.block_size <= LIVE_BLOCK {
                    for pace in [Pace::Live, Pace::CommitEach] {
                        rows.extend(drain::measure(arena, options, load, profile, pace).await?);
                    }
                }
                Ok(rows)
            }
            Part::TakeBack => take_back::measure(arena, options, load, profile).await,
            Part::Read => read::measure(arena, options, load, profile).await,
            Part::Memory => memory::measure(arena, load, profile).await,
            Part::Restore => restore::measure(arena, options, load, profile).await,
            Part::Growth => growth::measure(arena, load, profile).await,
            Part::Http => http::measure(arena, options, load, profile).await,
        }
    }

    fn sizes(&self, part: Part) -> Vec<u32> {
        match part {
            Part::Accept | Part::Full | Part::Drain => self.options.block_sizes.clone(),
            Part::Read | Part::Memory => {
                vec![self.options.block_sizes.iter().copied().find(|size| *size >= 250).unwrap_or(LIVE_BLOCK)]
            }
            Part::Latency | Part::TakeBack | Part::Restore | Part::Growth | Part::Http => vec![LIVE_BLOCK],
        }
    }

    /// The first load; where only the chain's newest blocks matter, one with few accounts.
    fn spec_of(&self, part: Part) -> Result<LoadSpec, BenchError> {
        let loads = &self.options.loads;
        let fewest =
            loads.iter().filter(|spec| spec.kind == LoadKind::Uniform).min_by_key(|spec| spec.accounts);
        match part {
            Part::Restore | Part::TakeBack | Part::Latency => fewest.or(loads.first()).copied(),
            _ => loads.first().copied(),
        }
        .ok_or_else(|| BenchError::Other("no load was chosen".to_owned()))
    }

    fn blocks(&self, part: Part, block_size: u32) -> usize {
        let options = self.options;
        let of = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        match part {
            Part::Accept => options.blocks_a_measurement(block_size) * options.repeats.max(1),
            Part::Drain => options.blocks_in_bulk(block_size) * options.repeats.max(1),
            Part::Latency => of(options.single_blocks),
            Part::Full => of(options.full_transactions() / block_size.max(1)).max(3),
            Part::TakeBack => of(options.take_back.iter().copied().max().unwrap_or(1) + 10),
            Part::Read => of(options.transactions / block_size.max(1)).max(40),
            Part::Memory => of(10_000 / block_size.max(1)).clamp(2, options.blocks_a_measurement(block_size)),
            Part::Restore => restore::blocks_needed(),
            Part::Growth => of(options.growth_blocks),
            Part::Http => of(http::blocks_needed(options, block_size)),
        }
    }

    async fn growth(&mut self, tell: &impl Fn(&str)) -> Result<Vec<Row>, BenchError> {
        let mut rows = Vec::new();
        let profile = self.options.profiles.first().copied().unwrap_or(Durability::Durable);
        for accounts in &self.options.growth_accounts {
            let spec = LoadSpec { kind: LoadKind::Uniform, accounts: *accounts };
            let load = self.load(spec, LIVE_BLOCK, self.blocks(Part::Growth, LIVE_BLOCK)).await?;
            let measured = self.one(Part::Growth, &load, profile).await?;
            measured.iter().for_each(|row| tell(&report::line(row)));
            rows.extend(measured);
        }
        Ok(rows)
    }

    async fn accept(&mut self, tell: &impl Fn(&str)) -> Result<Vec<Row>, BenchError> {
        let mut rows = Vec::new();
        for spec in &self.options.loads {
            for block_size in &self.options.block_sizes {
                let load = self.load(*spec, *block_size, self.blocks(Part::Accept, *block_size)).await?;
                for profile in &self.options.profiles {
                    let measured = self.one(Part::Accept, &load, *profile).await?;
                    measured.iter().for_each(|row| tell(&report::line(row)));
                    rows.extend(measured);
                }
            }
        }
        Ok(rows)
    }
}

/// Transactions of a block on the known networks.
const LIVE_BLOCK: u32 = 25;
