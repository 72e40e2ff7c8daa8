//! Writes a restore's rows while the next ones are read.

use forebay_ledger::ids::{Height, TransactionId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::State;
use crate::keys::Buckets;
use crate::lane::{Opening, Transaction};
use crate::plan::Plan;
use crate::restore::ROWS_A_CALL;

/// Calls that are on their way at the same time: Redis works on one while the next is sent.
const CALLS_IN_FLIGHT: usize = 4;
/// Chunks that wait while one is written.
const CHUNKS_WAITING: usize = 1;

/// Rows that are to be written, in any order.
enum Chunk {
    Plans(&'static str, Vec<Plan>),
    Ids(Vec<(TransactionId, Height)>),
    /// Not rows: whoever asks is told when all before it is written.
    Settle(oneshot::Sender<()>),
}

/// Hands rows to a task of their own. It ends with the loader, or with the first error, which all later calls get.
#[derive(Debug)]
pub(crate) struct Loader {
    chunks: mpsc::Sender<Chunk>,
    /// One task: a set, for it ends with the set.
    task: JoinSet<Result<(), FastError>>,
    failed: Option<FastError>,
}

impl Loader {
    pub(crate) fn start(tier: FastTier, epoch: u64, buckets: Buckets) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let mut task = JoinSet::new();
        task.spawn(Writing { tier, epoch, buckets, calls: JoinSet::new() }.run(chunks));
        Self { chunks: sender, task, failed: None }
    }

    /// Writes plans, in any order.
    pub(crate) async fn write(&mut self, doing: &'static str, plans: Vec<Plan>) -> Result<(), FastError> {
        self.hand_over(Chunk::Plans(doing, plans)).await
    }

    /// Writes entries of the transaction index.
    pub(crate) async fn write_ids(&mut self, ids: Vec<(TransactionId, Height)>) -> Result<(), FastError> {
        self.hand_over(Chunk::Ids(ids)).await
    }

    /// Waits until all is written.
    pub(crate) async fn settle(&mut self) -> Result<(), FastError> {
        let (reply, settled) = oneshot::channel();
        self.hand_over(Chunk::Settle(reply)).await?;
        if settled.await.is_ok() { Ok(()) } else { Err(self.failure().await) }
    }

    async fn hand_over(&mut self, chunk: Chunk) -> Result<(), FastError> {
        if self.chunks.send(chunk).await.is_ok() { Ok(()) } else { Err(self.failure().await) }
    }

    /// Why the task has ended.
    async fn failure(&mut self) -> FastError {
        if let Some(error) = &self.failed {
            return error.clone();
        }
        let error = match joined("load rows", self.task.join_next().await) {
            Err(error) => error,
            Ok(()) => unexpected("load rows", "the task that writes has ended".to_owned()),
        };
        self.failed = Some(error.clone());
        error
    }
}

struct Writing {
    tier: FastTier,
    epoch: u64,
    buckets: Buckets,
    calls: JoinSet<Result<(), FastError>>,
}

impl Writing {
    async fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<(), FastError> {
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Chunk::Plans(doing, plans) => {
                    for plan in plans {
                        self.send(doing, plan).await?;
                    }
                }
                Chunk::Ids(ids) => self.send_ids(ids).await?,
                Chunk::Settle(reply) => {
                    self.settle().await?;
                    // Nobody waits any more: nothing to tell.
                    let _ = reply.send(());
                }
            }
        }
        self.settle().await
    }

    /// Sorted by bucket, so that each call touches few buckets, with many entries each.
    async fn send_ids(&mut self, ids: Vec<(TransactionId, Height)>) -> Result<(), FastError> {
        let buckets = self.buckets;
        let mut sorted: Vec<(u64, TransactionId, Height)> =
            ids.into_iter().map(|(id, height)| (buckets.of_transaction(id), id, height)).collect();
        sorted.sort_unstable_by_key(|(bucket, _, _)| *bucket);
        for chunk in sorted.chunks(ROWS_A_CALL) {
            let keys = self.tier.keys();
            let mut plan = Plan::new(keys);
            for run in chunk.chunk_by(|(a, _, _), (b, _, _)| a == b) {
                let Some((bucket, _, _)) = run.first() else { continue };
                plan.once("HSET", format_args!("{}", keys.transaction_bucket_name(*bucket)), |words| {
                    for (_, id, height) in run {
                        words.word(&id.0.to_be_bytes());
                        words.word(height.to_string().as_bytes());
                    }
                });
            }
            self.send("load transactions", plan).await?;
        }
        Ok(())
    }

    /// Sends a plan as soon as few enough are on their way. The order among them does not matter.
    async fn send(&mut self, doing: &'static str, plan: Plan) -> Result<(), FastError> {
        if plan.is_empty() {
            return Ok(());
        }
        if self.calls.len() >= CALLS_IN_FLIGHT {
            joined(doing, self.calls.join_next().await)?;
        }
        let tier = self.tier.clone();
        let opening = Opening { epoch: self.epoch, state: State::Restoring, follows: None };
        self.calls.spawn(async move {
            let rows = Transaction::new(tier.keys(), doing, opening.clone(), opening, None, &plan);
            tier.transact(rows).await
        });
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), FastError> {
        while !self.calls.is_empty() {
            joined("load rows", self.calls.join_next().await)?;
        }
        Ok(())
    }
}

fn joined(doing: &str, result: Option<Result<Result<(), FastError>, JoinError>>) -> Result<(), FastError> {
    match result {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(unexpected(doing, error.to_string())),
    }
}

fn unexpected(doing: &str, detail: String) -> FastError {
    FastError::UnexpectedAnswer { doing: doing.to_owned(), detail }
}
