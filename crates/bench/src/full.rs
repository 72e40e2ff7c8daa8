//! `full`: blocks as a peer sends them (JSON): decode, verify every signature and rule, accept, until durable. The lag is
//! bounded by the node's own limits.

use std::sync::Arc;
use std::time::Instant;

use forebay_ledger::crypto::Checker;
use forebay_ledger::json::{block_to_value, parse_block};
use forebay_ledger::verify::{CheckedBlock, check_block};
use forebay_store::Limits;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use crate::accept::HANDED_OVER_MAX;
use crate::arena::{Arena, StagedNode};
use crate::error::BenchError;
use crate::load::Load;
use crate::options::Durability;
use crate::postgres_only::PostgresOnly;
use crate::row::{Row, figure};

/// Blocks that are decoded and checked ahead of the node.
const CHECKED_AHEAD: usize = 8;

pub(crate) async fn measure(
    arena: &Arena,
    load: &Arc<Load>,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let texts: Vec<String> = load
        .blocks
        .iter()
        .map(|made| block_to_value(made.checked.block(), &load.network.profile).to_string())
        .collect();
    let texts = Arc::new(texts);
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    let ours = figure(Load::transactions(&load.blocks)) / apply_all(&staged, load, &texts).await?;
    staged.end().await?;
    stage.remove().await?;
    // A third of the blocks: this arm is steady from its first block on.
    let count = load.blocks.len().div_ceil(3);
    let mut postgres = PostgresOnly::open(arena, load).await?;
    let checker = Checker::default();
    let began = Instant::now();
    for text in texts.iter().take(count) {
        postgres.apply(load, checked(text, load, &checker)?).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    postgres.remove().await?;
    let measured = load.blocks.get(..count).unwrap_or_default();
    let row = Row {
        part: "full",
        what: "transactions decoded, verified, accepted and durable".to_owned(),
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure: ours,
        unit: "tx/s",
        control: None,
        control_figure: None,
        ratio: None,
    };
    let control = "PostgreSQL only, the same verification, one commit a block";
    Ok(vec![row.against(control, figure(Load::transactions(measured)) / seconds)])
}

fn checked(text: &str, load: &Load, checker: &Checker) -> Result<CheckedBlock, BenchError> {
    let profile = &load.network.profile;
    let block = parse_block(text, profile).map_err(|error| BenchError::Other(error.to_string()))?;
    Ok(check_block(block, profile, checker)?)
}

/// The seconds until the last block was durable.
async fn apply_all(
    staged: &StagedNode,
    load: &Arc<Load>,
    texts: &Arc<Vec<String>>,
) -> Result<f64, BenchError> {
    let (sender, mut ready) = mpsc::channel(CHECKED_AHEAD);
    let checker = staged.node.checker();
    let (texts, source) = (Arc::clone(texts), Arc::clone(load));
    let began = Instant::now();
    let checking = tokio::task::spawn_blocking(move || -> Result<(), BenchError> {
        for text in texts.iter() {
            // A node that stopped says itself why.
            if sender.blocking_send(checked(text, &source, &checker)?).is_err() {
                break;
            }
        }
        Ok(())
    });
    let mut waiting = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some(accepted) = waiting.next() => {
                accepted?;
            }
            block = ready.recv(), if waiting.len() < HANDED_OVER_MAX => match block {
                Some(block) => waiting.push_back(staged.node.apply(block, load.now())),
                None => break,
            },
        }
    }
    while let Some(accepted) = waiting.next().await {
        accepted?;
    }
    checking.await??;
    staged.settle().await?;
    Ok(began.elapsed().as_secs_f64())
}
