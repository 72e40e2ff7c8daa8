//! Single reads that wait at the same time share one call of Redis.
//!
//! Most of what a read costs belongs to its call: two ways through the kernel, waking who waits, starting a function,
//! proving that the chain is whole and where it stands. So reads of single things are handed to one task. While a call is
//! on its way, those that come wait for the next one, and go with it all together:
//!
//! ```text
//! reads that wait ──▶ one FCALL_RO ──▶ meta, then an answer for each ──▶ whoever asked
//! ```
//!
//! **A read joins only a call that has not been sent.** So no answer is older than its question, what was acknowledged before
//! the question counts as acknowledged before the call, and all answers of a call belong to one point of the chain's
//! history. Whoever stops waiting takes nothing from the others; a key that is damaged is told to those who asked for it.
//!
//! Bodies of blocks do not go this way: long values are slow in functions, and would hold the short ones up. Those read
//! lately are kept by the tier (`kept_by_block.rs`).

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{FastTier, Shared};
use crate::error::{Effect, FastError, FastErrorKind};
use crate::head::Head;
use crate::keys::{Buckets, Keys};
use crate::plan::Plan;
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on};

/// Reads in one call: Redis serves nobody else while it runs, some 300 µs with so many. More of them gain nothing, since
/// what belongs to the call is a hundredth of it by then.
const READS_A_CALL_MAX: usize = 128;
/// Reads that wait for a call. Who comes later waits for a place.
const READS_WAITING_MAX: usize = 1024;

/// What is done in the messages of a call that was not made for one read alone.
const DOING: &str = "read from Redis";

/// A single thing, in one answer or a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What an account's bucket has.
    Account(Address),
    /// The same, and what is in the two places that a bucket may refer to: side key, delegates.
    AccountEverywhere(Address),
    /// The height of a transaction, and what stands at that height.
    Place(TransactionId),
    /// The id of the block at a height, and its body's checksum.
    IdAt(Height),
    /// What stands at a height: the block's id, the beginning of its undo record, its body's checksum.
    BlockAt(Height),
    /// The first byte of a body: whether it is kept.
    HasBody(BlockId),
}

impl Wanted {
    fn answers(self) -> usize {
        match self {
            Self::Account(_) | Self::HasBody(_) => 1,
            Self::IdAt(_) => 2,
            Self::AccountEverywhere(_) | Self::BlockAt(_) => 3,
            Self::Place(_) => 4,
        }
    }

    fn plan(self, reads: &mut Plan, keys: &Keys, buckets: &Buckets) {
        // A key that two reads name is named twice: that is cheaper than to look.
        let account = |reads: &mut Plan, address: Address| {
            let bucket = keys.account_bucket_name(buckets.of_account(address));
            reads.once("HGET", format_args!("{bucket}"), |words| words.word(&address.0.to_be_bytes()));
        };
        match self {
            Self::Account(address) => account(reads, address),
            Self::AccountEverywhere(address) => {
                account(reads, address);
                reads.read_key("GET", keys.long_account(address));
                reads.read("HGET", keys.delegates(), &address.0.to_be_bytes());
            }
            Self::Place(id) => {
                let bucket = keys.transaction_bucket_name(buckets.of_transaction(id));
                reads.once("LOCATE", format_args!("{bucket}"), |words| words.word(&id.0.to_be_bytes()));
            }
            Self::IdAt(height) => reads.read("ID", keys.heights(), height),
            Self::BlockAt(height) => reads.read("STANDS", keys.heights(), height),
            Self::HasBody(id) => reads.read("GETRANGE", keys.block(id), (0, 0)),
        }
    }
}

/// The answers to what was wanted, all at the point that the head is.
pub(crate) struct Found {
    pub(crate) head: Head,
    pub(crate) values: std::vec::IntoIter<Value>,
}

impl Found {
    /// The next answer; `None`: there is no such thing.
    pub(crate) fn next(&mut self, doing: &str) -> Result<Option<Vec<u8>>, FastError> {
        let detail = match self.values.next() {
            Some(Value::BulkString(bytes)) => return Ok(Some(bytes)),
            Some(Value::Nil) => return Ok(None),
            Some(other) => format!("{other:?}"),
            None => "an answer is missing".to_owned(),
        };
        Err(FastError::UnexpectedAnswer { doing: doing.to_owned(), detail })
    }
}

/// A read that waits.
pub(crate) struct Read {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Found, FastError>>,
}

/// Where reads wait, and what became of them.
pub(crate) struct SharedReads {
    waiting: mpsc::Sender<Read>,
    reads: AtomicU64,
    calls: AtomicU64,
}

/// How often single reads shared a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedCalls {
    /// Reads that were sent.
    pub reads: u64,
    /// Calls that they were sent in.
    pub calls: u64,
}

impl SharedReads {
    /// Starts the task that answers.
    pub(crate) fn start(shared: Weak<Shared>, runtime: &Handle) -> Self {
        let (waiting, reads) = mpsc::channel(READS_WAITING_MAX);
        runtime.spawn(answer_all(shared, reads));
        Self { waiting, reads: AtomicU64::new(0), calls: AtomicU64::new(0) }
    }
}

/// Ends with the last of those who could ask.
async fn answer_all(shared: Weak<Shared>, mut waiting: mpsc::Receiver<Read>) {
    let mut reads = Vec::with_capacity(READS_A_CALL_MAX);
    while waiting.recv_many(&mut reads, READS_A_CALL_MAX).await > 0 {
        // Whoever is about to ask as well does it now; nobody is waited for.
        tokio::task::yield_now().await;
        while reads.len() < READS_A_CALL_MAX
            && let Ok(read) = waiting.try_recv()
        {
            reads.push(read);
        }
        reads.retain(|read| !read.answer.is_closed());
        if reads.is_empty() {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        FastTier::of(shared).answer(&mut reads).await;
    }
}

impl FastTier {
    /// How often single reads shared a call so far, in this and all clones.
    #[must_use]
    pub fn shared_calls(&self) -> SharedCalls {
        let shared = self.shared_reads();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SharedCalls { reads: of(&shared.reads), calls: of(&shared.calls) }
    }

    /// One single thing, with the head that it belongs to; refused unless the chain is ready and not older than what was
    /// acknowledged before the call was sent.
    pub(crate) async fn read_shared(&self, doing: &str, wanted: Wanted) -> Result<Found, FastError> {
        let (answer, told) = oneshot::channel();
        let waiting = &self.shared_reads().waiting;
        waiting.send(Read { wanted, answer }).await.map_err(|_| gone(doing))?;
        told.await.unwrap_or_else(|_| Err(gone(doing)))
    }

    async fn answer(&self, reads: &mut Vec<Read>) {
        match self.ask_together(reads).await {
            Ok((head, values)) => hand_out(reads, head, values),
            Err(error) if reads.len() > 1 && is_of_one(&error) => {
                for read in reads.drain(..) {
                    let alone = &mut vec![read];
                    match self.ask_together(alone).await {
                        Ok((head, values)) => hand_out(alone, head, values),
                        Err(error) => tell_all(alone, &error),
                    }
                }
            }
            Err(error) => tell_all(reads, &error),
        }
    }

    async fn ask_together(&self, reads: &[Read]) -> Result<(Head, Vec<Value>), FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let mut plan = Plan::new(self.keys());
            reads.iter().for_each(|read| read.wanted.plan(&mut plan, self.keys(), &buckets));
            let shared = self.shared_reads();
            shared.reads.fetch_add(reads.len() as u64, Ordering::Relaxed);
            shared.calls.fetch_add(1, Ordering::Relaxed);
            if let Some(found) = self.snapshot(DOING, plan, &buckets).await? {
                return Ok(found);
            }
        }
        Err(moved_on(DOING))
    }
}

fn hand_out(reads: &mut Vec<Read>, head: Head, values: Vec<Value>) {
    let mut values = values.into_iter();
    for read in reads.drain(..) {
        let own: Vec<Value> = values.by_ref().take(read.wanted.answers()).collect();
        // Whoever does not wait any more needs no answer.
        let _ = read.answer.send(Ok(Found { head, values: own.into_iter() }));
    }
}

fn tell_all(reads: &mut Vec<Read>, error: &FastError) {
    for read in reads.drain(..) {
        let _ = read.answer.send(Err(error.clone()));
    }
}

/// Whether one of the reads may be the reason, so that the others are to be asked without it: a key that another program
/// destroyed makes Redis refuse the whole call.
fn is_of_one(error: &FastError) -> bool {
    matches!(error.kind(), FastErrorKind::Corrupt | FastErrorKind::Defect)
}

/// The program ends.
fn gone(doing: &str) -> FastError {
    let error = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the reads' task has ended");
    FastError::of_answer(doing, Effect::Read, error.into())
}
