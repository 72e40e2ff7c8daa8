//! Blocks that are applied at a pace, beside reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay_ledger::verify::CheckedBlock;
use forebay_store::Node;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use crate::accept::HANDED_OVER_MAX;
use crate::error::BenchError;
use crate::row::figure;

/// A writer with a pace.
pub(super) struct Writing {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<f64, BenchError>>,
}

impl Writing {
    /// Hands a block over each `pause`; later when as many wait as a node's queue takes.
    pub(super) fn start(node: Node, blocks: Vec<CheckedBlock>, pause: Duration, now: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(node, blocks, pause, now, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Ends it: transactions a second that were accepted.
    pub(super) async fn end(self) -> Result<f64, BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn write(
    node: Node,
    blocks: Vec<CheckedBlock>,
    pause: Duration,
    now: i64,
    stop: Arc<AtomicBool>,
) -> Result<f64, BenchError> {
    let began = Instant::now();
    let mut due = tokio::time::Instant::from_std(began);
    let mut waiting = FuturesOrdered::new();
    let mut transactions = 0;
    for block in blocks {
        tokio::time::sleep_until(due).await;
        due += pause;
        if stop.load(Ordering::Relaxed) {
            while let Some(accepted) = waiting.next().await {
                accepted?;
            }
            return Ok(figure(transactions) / began.elapsed().as_secs_f64());
        }
        if waiting.len() >= HANDED_OVER_MAX
            && let Some(accepted) = waiting.next().await
        {
            accepted?;
        }
        transactions += block.block().transactions.len() as u64;
        waiting.push_back(node.apply(block, now));
    }
    Err(BenchError::Other("the blocks to apply ended before the reads beside them".to_owned()))
}
