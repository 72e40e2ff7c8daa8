//! `read`: accounts (and with them balances), blocks and transactions by id, while blocks are being applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_fast::{FastOptions, FastTier};
use forebay_slow::SlowReader;
use forebay_store::Limits;
use tokio_postgres::Config;

use crate::accept::{accept_all, checked};
use crate::arena::{Arena, StagedNode};
use crate::error::BenchError;
use crate::load::Load;
use crate::options::{BenchOptions, Durability};
use crate::row::{Row, figure, quantile};

/// Readers at the same time.
const READERS: usize = 8;
/// Pause between two blocks that are applied meanwhile.
const PACE: Duration = Duration::from_millis(50);

/// What is read.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Account,
    Block,
    Transaction,
}

/// Who answers.
#[derive(Clone)]
enum Source {
    Fast(FastTier),
    Slow(Box<Config>),
}

/// Times that are measured: three kinds from both tiers, two of them without kept bodies, too.
const MEASUREMENTS: f64 = 8.0;

pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Arc<Load>,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    let half = load.blocks.len() / 2;
    let (first, rest) = load.blocks.split_at(half);
    accept_all(&staged.node, checked(first), load.now()).await?;
    staged.settle().await?;
    let applied = rest.iter().map(|made| made.checked.clone()).collect();
    let applying = Applying::start(&staged, applied, load.now());
    let seconds = Duration::from_secs_f64(options.seconds / MEASUREMENTS);
    let keeping = staged.node.fast().clone();
    let reading = FastOptions { bodies_bytes_max: 0, ..FastOptions::default() };
    let chain = &load.network.profile.name;
    let forgetting = FastTier::connect(&stage.options.redis_url, chain, reading).await?;
    let mut rows = Vec::new();
    for (kind, what) in
        [(Kind::Account, "account"), (Kind::Block, "block"), (Kind::Transaction, "transaction")]
    {
        let source = Source::Slow(Box::new(stage.options.postgres.clone()));
        let slow = figures(read_all(source, kind, load, half, seconds).await?, seconds);
        let mut ours = vec![(format!("{what} by id"), &keeping)];
        if !matches!(kind, Kind::Account) {
            ours.push((format!("{what} by id, no body kept"), &forgetting));
        }
        for (what, tier) in ours {
            let took = read_all(Source::Fast(tier.clone()), kind, load, half, seconds).await?;
            for ((name, unit, ours), (_, _, slow)) in figures(took, seconds).into_iter().zip(slow) {
                let row = Row {
                    part: "read",
                    what: format!("{what}, {name}"),
                    load: load.spec.kind.name().to_owned(),
                    block_size: Some(load.block_size),
                    accounts: load.spec.accounts,
                    profile: profile.name(),
                    figure: ours,
                    unit,
                    control: None,
                    control_figure: None,
                    ratio: None,
                };
                rows.push(row.against("the same reads from PostgreSQL", slow));
            }
        }
    }
    applying.end().await?;
    staged.end().await?;
    stage.remove().await?;
    Ok(rows)
}

fn figures(mut took_us: Vec<f64>, seconds: Duration) -> [(&'static str, &'static str, f64); 4] {
    took_us.sort_unstable_by(f64::total_cmp);
    [
        ("rate", "reads/s", figure(took_us.len() as u64) / seconds.as_secs_f64()),
        ("p50", "us", quantile(&took_us, 0.5)),
        ("p99", "us", quantile(&took_us, 0.99)),
        ("p99.9", "us", quantile(&took_us, 0.999)),
    ]
}

/// Blocks that are applied beside the reads.
struct Applying {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(), BenchError>>,
}

impl Applying {
    fn start(staged: &StagedNode, blocks: Vec<forebay_ledger::verify::CheckedBlock>, now: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, node) = (Arc::clone(&stop), staged.node.clone());
        let task = tokio::spawn(async move {
            for block in blocks {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                node.apply(block, now).await?;
                tokio::time::sleep(PACE).await;
            }
            Ok(())
        });
        Self { stop, task }
    }

    async fn end(self) -> Result<(), BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Microseconds of each read, of all readers.
async fn read_all(
    source: Source,
    kind: Kind,
    load: &Arc<Load>,
    blocks: usize,
    time: Duration,
) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + time;
    let readers = (0..READERS).map(|number| {
        let (source, load) = (source.clone(), Arc::clone(load));
        tokio::spawn(async move { read(source, kind, &load, blocks, number, until).await })
    });
    let mut took = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        took.extend(reader.await??);
    }
    Ok(took)
}

async fn read(
    source: Source,
    kind: Kind,
    load: &Load,
    blocks: usize,
    number: usize,
    until: Instant,
) -> Result<Vec<f64>, BenchError> {
    let slow = match &source {
        Source::Slow(config) => Some(SlowReader::connect(config).await?),
        Source::Fast(_) => None,
    };
    let missing = || BenchError::Other("a read found nothing".to_owned());
    let mut took = Vec::new();
    let mut at = number.wrapping_mul(7919);
    // One at least: on a machine that is busy with other things, the time may be over before the first.
    while took.is_empty() || Instant::now() < until {
        at = at.wrapping_mul(31).wrapping_add(17);
        let made = load.blocks.get(at % blocks.max(1)).ok_or_else(missing)?;
        let transactions = &made.applied.block.transactions;
        let transaction = transactions.get(at / 7 % transactions.len().max(1)).ok_or_else(missing)?;
        let began = Instant::now();
        let found = match (&source, &slow, kind) {
            (Source::Fast(fast), _, Kind::Account) => fast.account(transaction.sender).await?.value.is_some(),
            (Source::Fast(fast), _, Kind::Block) => fast.block(made.applied.block.id).await?.value.is_some(),
            (Source::Fast(fast), _, Kind::Transaction) => {
                fast.transaction(transaction.id).await?.value.is_some()
            }
            (_, Some(slow), Kind::Account) => slow.reads().account(transaction.sender).await?.is_some(),
            (_, Some(slow), Kind::Block) => slow.reads().block_by_id(made.applied.block.id).await?.is_some(),
            (_, Some(slow), Kind::Transaction) => slow.reads().transaction(transaction.id).await?.is_some(),
            (Source::Slow(_), None, _) => false,
        };
        took.push(began.elapsed().as_secs_f64() * 1e6);
        if !found {
            return Err(missing());
        }
    }
    Ok(took)
}
