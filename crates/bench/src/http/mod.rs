//! `http`: accounts by address and blocks by id over the API, asked by a process of its own; alone, and while blocks are
//! applied. The control arm is a handler of the same server, behind the same layers, that gets the same bytes ready made
//! from one key of Redis.

mod served;
mod writing;
mod wrk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_store::Limits;

use crate::accept::{accept_all, checked};
use crate::arena::{Arena, Stage};
use crate::error::BenchError;
use crate::load::{Load, Made};
use crate::options::{BenchOptions, Durability};
use crate::row::{Row, figure, median};

use served::{Keep, RAW, Served};
use writing::Writing;
use wrk::{Asked, Wrk};

pub use wrk::load_generator;

/// Accounts that are asked for, at most: each is read from Redis whenever it is asked for.
const ASKED_FOR_MAX: usize = 1000;
/// Blocks that are read; the others are applied meanwhile. As many as the tail of a chain that clients look at: they are
/// kept as they were answered, so they are measured on a server that keeps none, too.
const BLOCKS_READ: u32 = 200;
/// What is left of the blocks to apply when a machine is slow to start the generator.
const SPARE_SECONDS: u32 = 3;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Account,
    Block,
    /// By a server that keeps no block.
    BlockAnew,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Account, Self::Block, Self::BlockAnew];

    fn name(self) -> &'static str {
        match self {
            Self::Account => "account by address",
            Self::Block => "block by id",
            Self::BlockAnew => "block by id, none kept",
        }
    }

    /// The requests.
    fn paths(self, blocks: &[Made], load: &Load) -> Vec<String> {
        let blocks = blocks.iter().map(|made| &made.applied.block);
        let all: BTreeSet<String> = match self {
            Self::Account => {
                let suffix = load.network.profile.address_suffix;
                let senders = blocks.flat_map(|block| block.transactions.iter().map(|one| one.sender));
                senders
                    .map(|sender| format!("/api/accounts?address={}", sender.with_suffix(suffix)))
                    .collect()
            }
            Self::Block | Self::BlockAnew => {
                blocks.map(|block| format!("/api/blocks/get?id={}", block.id)).collect()
            }
        };
        all.into_iter().take(ASKED_FOR_MAX).collect()
    }
}

/// The files of paths of both arms.
struct Arms {
    ours: PathBuf,
    control: PathBuf,
}

/// Whole seconds of one measurement: the generator knows no others.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of seconds, at least 1"
)]
fn seconds(options: &BenchOptions) -> u32 {
    (options.seconds / 10.0).round().clamp(1.0, 3600.0) as u32
}

/// Blocks to read, and blocks to apply while both kinds are read.
pub(crate) fn blocks_needed(options: &BenchOptions, block_size: u32) -> u32 {
    let repeats = u32::try_from(options.repeats.max(1)).unwrap_or(u32::MAX);
    let reading = seconds(options).saturating_mul(2).saturating_mul(repeats);
    let applying = reading.saturating_add(reading / 4).saturating_add(SPARE_SECONDS);
    BLOCKS_READ + applying.saturating_mul(options.http_writes) / block_size.max(1)
}

pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Arc<Load>,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let directory = options.directory.join("http");
    std::fs::create_dir_all(&directory).map_err(BenchError::io(format!("making {}", directory.display())))?;
    let wrk = Wrk::in_directory(&directory)?;
    // What is asked for stays in Redis while more is applied than a node keeps by default.
    let blocks_kept = u32::try_from(load.blocks.len()).unwrap_or(u32::MAX);
    let stage = arena.stage(profile, &load.network, Limits { blocks_kept, ..Limits::default() }).await?;
    let staged = stage.start().await?;
    let read = usize::try_from(BLOCKS_READ).unwrap_or_default().min(load.blocks.len());
    let (first, rest) = load.blocks.split_at(read);
    accept_all(&staged.node, checked(first), load.now()).await?;
    staged.settle().await?;
    let served = Served::start(&stage, &staged, load, Keep::AsConfigured).await?;
    let forgetful = Served::start(&stage, &staged, load, Keep::Nothing).await?;

    let mut rows = Vec::new();
    let (mut kinds, row) = (Vec::new(), |what: String, figure, unit| row(load, profile, what, figure, unit));
    for kind in Kind::ALL {
        let served = if matches!(kind, Kind::BlockAnew) { &forgetful } else { &served };
        let arms = prepare(kind, first, load, &stage, served, &directory).await?;
        let (mut ours, mut control) = (Vec::new(), Vec::new());
        for _ in 0..options.repeats.max(1) {
            ours.push(wrk.ask(served.address, &arms.ours, seconds(options)).await?);
            control.push(wrk.ask(served.address, &arms.control, seconds(options)).await?);
        }
        let rate = row(format!("{}, rate", kind.name()), of(&ours, |asked| asked.rate), "reads/s");
        rows.push(rate.against(CONTROL, of(&control, |asked| asked.rate)));
        let alone = of(&ours, |asked| asked.p99_us);
        let p99 = row(format!("{}, p99", kind.name()), alone, "us");
        rows.push(p99.against(CONTROL, of(&control, |asked| asked.p99_us)));
        if !matches!(kind, Kind::BlockAnew) {
            kinds.push((kind, arms, alone));
        }
    }
    forgetful.stop().await;

    let pause = Duration::from_secs_f64(f64::from(load.block_size) / f64::from(options.http_writes.max(1)));
    let writing = Writing::start(staged.node.clone(), checked(rest), pause, load.now());
    for (kind, arms, alone) in kinds {
        let mut ours = Vec::new();
        for _ in 0..options.repeats.max(1) {
            ours.push(wrk.ask(served.address, &arms.ours, seconds(options)).await?);
        }
        let what = format!("{}, p99 while {} tx/s are applied", kind.name(), options.http_writes);
        rows.push(row(what, of(&ours, |asked| asked.p99_us), "us").against("the same with no writes", alone));
    }
    let applied = row("transactions applied beside the reads".to_owned(), writing.end().await?, "tx/s");
    rows.push(applied.against("the pace that was asked for", figure(u64::from(options.http_writes))));

    served.stop().await;
    staged.end().await?;
    stage.remove().await?;
    Ok(rows)
}

const CONTROL: &str = "the same server's handler that gets the same bytes from one key";

fn of(asked: &[Asked], what: impl Fn(&Asked) -> f64) -> f64 {
    median(asked.iter().map(what).collect())
}

fn row(load: &Load, profile: Durability, what: String, figure: f64, unit: &'static str) -> Row {
    Row {
        part: "http",
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
    }
}

/// Asks for everything once, which also shows that each answer comes from Redis, and puts the answers where the control
/// arm finds them.
async fn prepare(
    kind: Kind,
    blocks: &[Made],
    load: &Load,
    stage: &Stage<'_>,
    served: &Served,
    directory: &Path,
) -> Result<Arms, BenchError> {
    let mut redis = stage.arena.redis_connection(stage.profile).await?;
    let ours = kind.paths(blocks, load);
    let mut control = Vec::with_capacity(ours.len());
    for (number, path) in ours.iter().enumerate() {
        let key = format!("bench-{kind:?}-{number}");
        let body = served.answer(path).await?;
        redis::cmd("SET").arg(&key).arg(body).query_async::<()>(&mut redis).await?;
        control.push(format!("{RAW}{key}"));
    }
    let write = |name: &str, paths: &[String]| {
        let file = directory.join(format!("{kind:?}-{name}"));
        std::fs::write(&file, paths.join("\n"))
            .map_err(BenchError::io(format!("writing {}", file.display())))?;
        Ok::<_, BenchError>(file)
    };
    Ok(Arms { ours: write("ours", &ours)?, control: write("control", &control)? })
}
