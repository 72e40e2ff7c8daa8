//! The lane: a connection of its own that blocks and a restore's rows are written over, one after the other.
//!
//! Writes that go through a function cost Redis twice to three times what they cost as plain commands. So they are plain
//! commands between `MULTI` and `EXEC`, and a function only decides whether they may be sent:
//!
//! ```text
//! WATCH fence meta outbox   what the function looks at must not change before EXEC
//! FCALL_RO guard            epoch, state, last operation, tip, buckets, the outbox' end
//! MULTI
//!                           all three must have agreed before anything more is sent
//! XADD … HSET … EXEC        then WATCH, guard and MULTI for what follows
//! ```
//!
//! Nothing is written that the guard did not see in the state in which `EXEC` finds it: whoever takes the chain over,
//! empties Redis or moves the chain on changes a key that is watched. And nothing is sent before `MULTI` was answered: a
//! refusal, for whatever reason, leaves the connection without a command that could run by itself. The next transaction
//! is opened together with the end of the last, so a block costs one round trip. What waits meanwhile goes into one
//! transaction, which is one flush to disk.
//!
//! Only this task uses the connection: a command of somebody else would become part of a transaction.

use std::collections::VecDeque;
use std::sync::Weak;

use forebay_failpoint::reach;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{mpsc, oneshot};

use crate::connection::{FastTier, Shared, load_library};
use crate::entry::OutboxEntry;
use crate::error::{Effect, FastError};
use crate::head::State;
use crate::keys::Keys;
use crate::library::{Answer, Assumed, Function, is_missing};
use crate::plan::{Plan, fixed_keys};

/// Bytes of the blocks in one transaction: Redis serves nobody else while it runs, some ten milliseconds.
const TRANSACTION_BYTES_MAX: usize = 1 << 20;
/// Jobs that wait for their turn.
const JOBS_MAX: usize = 64;
/// How often a transaction is opened again because something that it watched has changed: a trim, mostly.
const ATTEMPTS_MAX: u32 = 8;

/// What the guard has to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) epoch: u64,
    pub(crate) state: State,
    /// For an operation: the one before it.
    pub(crate) follows: Option<Follows>,
}

/// The operation that another one follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follows {
    pub(crate) seq: u64,
    /// As the head has it.
    pub(crate) tip: String,
    /// What the plan was made for.
    pub(crate) buckets: crate::keys::Buckets,
}

/// Writes that are done together or not at all.
pub(crate) struct Transaction {
    pub(crate) doing: String,
    pub(crate) opening: Opening,
    /// What the guard of the next one has to find.
    pub(crate) leaves: Opening,
    pub(crate) writes: Vec<Cmd>,
    pub(crate) bytes: usize,
}

impl Transaction {
    /// `entry`: the outbox' entry of an operation.
    pub(crate) fn new(
        keys: &Keys,
        doing: &str,
        opening: Opening,
        leaves: Opening,
        entry: Option<&OutboxEntry>,
        plan: &Plan,
    ) -> Self {
        let mut writes = Vec::with_capacity(plan.commands() + 1);
        if let Some(entry) = entry {
            let mut added = redis::cmd("XADD");
            added.arg(keys.outbox()).arg(entry.position.to_string());
            for (name, value) in entry.to_fields() {
                added.arg(name).arg(value);
            }
            writes.push(added);
        }
        plan.append_to(&mut writes);
        Self { doing: doing.to_owned(), opening, leaves, writes, bytes: plan.bytes() }
    }
}

type Reply<T> = oneshot::Sender<Result<T, FastError>>;

/// What the lane does, in the order of its coming.
pub(crate) enum Job {
    Write(Transaction, Reply<()>),
    /// A function's call that must come after the writes before it.
    Call(String, Cmd, Reply<Value>),
}

impl FastTier {
    /// Writes as soon as everything before it is written, if the guard finds what the transaction is opened for. The first
    /// poll hands it over.
    ///
    /// # Errors
    /// The guard's refusal, or Redis' (full memory, a full disk): nothing was written. Outcome unknown. Corrupt: another
    /// program destroyed a key, and the chain is marked as damaged.
    pub(crate) async fn transact(&self, transaction: Transaction) -> Result<(), FastError> {
        let doing = transaction.doing.clone();
        let (reply, answer) = oneshot::channel();
        self.in_lane(&doing, Job::Write(transaction, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(gone(&doing)))
    }

    /// A function's call after all that waits to be written.
    pub(crate) async fn call_in_lane(&self, doing: &str, command: Cmd) -> Result<Value, FastError> {
        let (reply, answer) = oneshot::channel();
        self.in_lane(doing, Job::Call(doing.to_owned(), command, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(gone(doing)))
    }

    async fn in_lane(&self, doing: &str, job: Job) -> Result<(), FastError> {
        self.lane().send(job).await.map_err(|_| gone(doing))
    }
}

/// The program ends: what was handed over may have been done.
fn gone(doing: &str) -> FastError {
    let error = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the connection's task has ended");
    FastError::of_answer(doing, Effect::Change, error.into())
}

/// Starts a lane. It ends with the last of those who use it.
pub(crate) fn start(shared: Weak<Shared>, runtime: &tokio::runtime::Handle) -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    runtime.spawn(Lane { shared, jobs, waiting: VecDeque::new(), link: None }.run());
    sender
}

struct Lane {
    shared: Weak<Shared>,
    jobs: mpsc::Receiver<Job>,
    /// Taken from the jobs, and not done yet.
    waiting: VecDeque<Job>,
    link: Option<Link>,
}

/// The lane's connection.
struct Link {
    connection: MultiplexedConnection,
    /// Of the tier's connection that it was opened beside: with that it is given up.
    generation: u64,
    /// What a transaction is open for.
    opened: Option<Opening>,
    /// Whether `WATCH` or `MULTI` may be in force without a transaction that could be used.
    is_dirty: bool,
}

/// Transactions that are sent as one.
struct Group {
    replies: Vec<(String, Reply<()>)>,
    opening: Opening,
    leaves: Opening,
    /// The writes, `EXEC`, and the opening of the next one.
    pipeline: Pipeline,
    /// Where `EXEC` stands.
    exec_at: usize,
}

/// What became of a transaction that was sent.
enum Outcome {
    Done,
    /// Something that was watched has changed: nothing was written.
    Moved,
}

impl Lane {
    async fn run(mut self) {
        loop {
            let job = match self.waiting.pop_front() {
                Some(job) => job,
                None => match self.jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            let Some(shared) = self.shared.upgrade() else { return };
            let tier = FastTier::of(shared);
            match job {
                Job::Write(first, reply) => {
                    let group = self.group(tier.keys(), first, reply);
                    self.write(&tier, group).await;
                }
                Job::Call(doing, command, reply) => {
                    // Whoever asked may have gone; the call was made.
                    let _ = reply.send(self.call(&tier, &doing, &command).await);
                }
            }
        }
    }

    /// As many of the writes that wait as follow one another and fit into one transaction.
    fn group(&mut self, keys: &Keys, first: Transaction, reply: Reply<()>) -> Group {
        while self.waiting.len() < JOBS_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            self.waiting.push_back(job);
        }
        let mut pipeline = Pipeline::with_capacity(first.writes.len() + 4);
        let mut bytes = first.bytes;
        let (opening, mut leaves) = (first.opening, first.leaves);
        let mut replies = vec![(first.doing, reply)];
        first.writes.into_iter().for_each(|write| {
            pipeline.add_command(write);
        });
        while let Some(Job::Write(next, _)) = self.waiting.front()
            && next.opening == leaves
            && bytes + next.bytes <= TRANSACTION_BYTES_MAX
            && let Some(Job::Write(next, reply)) = self.waiting.pop_front()
        {
            bytes += next.bytes;
            leaves = next.leaves;
            replies.push((next.doing, reply));
            next.writes.into_iter().for_each(|write| {
                pipeline.add_command(write);
            });
        }
        let exec_at = pipeline.len();
        pipeline.cmd("EXEC");
        add_opening(&mut pipeline, keys, &leaves);
        Group { replies, opening, leaves, pipeline, exec_at }
    }

    async fn write(&mut self, tier: &FastTier, group: Group) {
        let doing = group.replies.first().map(|(doing, _)| doing.clone()).unwrap_or_default();
        let mut outcome = Err(FastError::Busy { doing: doing.clone(), attempts: ATTEMPTS_MAX });
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(tier, &doing, &group).await {
                Ok(Outcome::Moved) => {}
                Ok(Outcome::Done) => {
                    outcome = Ok(());
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        for (_, reply) in group.replies {
            // Whoever asked may have gone; what was written stays written.
            let _ = reply.send(outcome.clone());
        }
    }

    async fn attempt(&mut self, tier: &FastTier, doing: &str, group: &Group) -> Result<Outcome, FastError> {
        let link = connected(&mut self.link, tier, doing).await?;
        ready(link, tier, doing, &group.opening).await?;
        reach("fast.before_exec");
        let sent = link.connection.send_packed_commands(&group.pipeline, 0, group.pipeline.len()).await;
        let answers = match sent {
            Ok(answers) => answers,
            Err(error) => return Err(tier.failed(doing, Effect::Change, error, link.generation)),
        };
        reach("fast.after_exec");
        let (written, opening) = answers.split_at_checked(group.exec_at + 1).unwrap_or_default();
        (link.opened, link.is_dirty) = match check_opening(doing, &group.leaves, opening) {
            Ok(()) => (Some(group.leaves.clone()), false),
            // It is opened again when it is needed, and says then what is wrong.
            Err(_) => (None, true),
        };
        match written.split_last() {
            Some((Value::Array(done), _)) => match destroyed(done, &group.pipeline) {
                None => Ok(Outcome::Done),
                Some(error) => {
                    let epoch = group.opening.epoch;
                    let damage = Function::Damage;
                    // If it cannot be marked, the next step finds an operation that nobody knows of.
                    if let Err(error) = tier.call_as(epoch, doing, damage, &[epoch.to_string()]).await {
                        tracing::warn!(%error, "the chain in Redis is damaged, and could not be marked so");
                    }
                    Err(error)
                }
            },
            Some((Value::Nil, _)) => Ok(Outcome::Moved),
            // Refused, mostly when it was queued: the first refusal says why.
            Some((Value::ServerError(aborted), queued)) => {
                let why = queued.iter().find_map(refused).unwrap_or_else(|| aborted.clone().into());
                Err(FastError::of_answer(doing, Effect::Change, why))
            }
            other => {
                let detail = format!("{:?}", other.map(|(exec, _)| exec));
                Err(FastError::UnexpectedAnswer { doing: doing.to_owned(), detail })
            }
        }
    }

    async fn call(&mut self, tier: &FastTier, doing: &str, command: &Cmd) -> Result<Value, FastError> {
        let link = connected(&mut self.link, tier, doing).await?;
        let done = async {
            link.close().await?;
            let answer = command.query_async::<Value>(&mut link.connection).await;
            if !answer.as_ref().is_err_and(is_missing) {
                return answer;
            }
            load_library(&mut link.connection).await?;
            command.query_async::<Value>(&mut link.connection).await
        };
        match done.await {
            Ok(value) => Ok(value),
            Err(error) => Err(tier.failed(doing, Effect::Change, error, link.generation)),
        }
    }
}

impl Link {
    /// Ends a transaction that was opened and is not used.
    async fn close(&mut self) -> Result<(), RedisError> {
        if self.opened.is_none() && !self.is_dirty {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(2);
        // One of the two is refused, unless there is a transaction.
        pipeline.cmd("DISCARD").cmd("UNWATCH");
        self.connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
        (self.opened, self.is_dirty) = (None, false);
        Ok(())
    }

    /// Opens a transaction. `Ok(Err)`: Redis or the guard refuses, and nothing was sent that could be done.
    async fn open(
        &mut self,
        keys: &Keys,
        doing: &str,
        opening: &Opening,
    ) -> Result<Result<(), Refused>, RedisError> {
        self.close().await?;
        let mut pipeline = Pipeline::with_capacity(3);
        add_opening(&mut pipeline, keys, opening);
        reach("fast.before_open");
        self.is_dirty = true;
        let answers = self.connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
        let checked = check_opening(doing, opening, &answers);
        if checked.is_ok() {
            (self.opened, self.is_dirty) = (Some(opening.clone()), false);
            reach("fast.opened");
        }
        Ok(checked)
    }
}

/// The connection, made anew if there is none beside the tier's present one.
async fn connected<'a>(
    link: &'a mut Option<Link>,
    tier: &FastTier,
    doing: &str,
) -> Result<&'a mut Link, FastError> {
    let generation = tier.trusted_generation(doing).await?;
    let link = match link.take() {
        Some(live) if live.generation == generation => link.insert(live),
        _ => {
            let connection = tier.open_lane(doing, generation).await?;
            link.insert(Link { connection, generation, opened: None, is_dirty: false })
        }
    };
    Ok(link)
}

/// Opens a transaction for this, unless one is.
async fn ready(link: &mut Link, tier: &FastTier, doing: &str, opening: &Opening) -> Result<(), FastError> {
    if link.opened.as_ref() == Some(opening) {
        return Ok(());
    }
    let tried = async {
        match link.open(tier.keys(), doing, opening).await? {
            // The server lost its functions, or is another one: nothing ran.
            Err(Refused::Missing) => {
                link.close().await?;
                load_library(&mut link.connection).await?;
                link.open(tier.keys(), doing, opening).await
            }
            outcome => Ok(outcome),
        }
    };
    match tried.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Refused::Because(error))) => Err(error),
        Ok(Err(Refused::Missing)) => Err(FastError::Misconfigured {
            doing: doing.to_owned(),
            detail: "Redis has no function forebay_v1_guard, and could not load it".to_owned(),
        }),
        // Nothing was sent that could be done.
        Err(error) => Err(tier.failed(doing, Effect::Read, error, link.generation)),
    }
}

/// Why a transaction is not open.
enum Refused {
    /// The server does not have the function.
    Missing,
    Because(FastError),
}

impl From<FastError> for Refused {
    fn from(error: FastError) -> Self {
        Self::Because(error)
    }
}

fn add_opening(pipeline: &mut Pipeline, keys: &Keys, opening: &Opening) {
    let fixed = fixed_keys(keys);
    pipeline.cmd("WATCH").arg(keys.fence()).arg(keys.meta()).arg(keys.outbox());
    pipeline.cmd("FCALL_RO").arg(Function::Guard.name()).arg(fixed.len()).arg(&fixed);
    pipeline.arg(opening.epoch).arg(opening.state.word());
    if let Some(Follows { seq, tip, buckets }) = &opening.follows {
        pipeline.arg(*seq).arg(tip).arg(buckets.accounts).arg(buckets.transactions);
    }
    pipeline.cmd("MULTI");
}

/// All three must have agreed.
fn check_opening(doing: &str, opening: &Opening, answers: &[Value]) -> Result<(), Refused> {
    let [watch, guard, multi] = answers else {
        let detail = format!("{} answers to the opening of a transaction", answers.len());
        return Err(FastError::UnexpectedAnswer { doing: doing.to_owned(), detail }.into());
    };
    if let Some(error) = refused(guard).filter(is_missing) {
        tracing::debug!(%error, "the function is missing");
        return Err(Refused::Missing);
    }
    for answer in [watch, guard, multi] {
        if let Some(error) = refused(answer) {
            return Err(FastError::of_answer(doing, Effect::Read, error).into());
        }
    }
    let follows = opening.follows.as_ref();
    let assumed = Assumed {
        doing,
        epoch: opening.epoch,
        seq: follows.map_or(0, |follows| follows.seq),
        tip: follows.map_or("", |follows| &follows.tip),
    };
    Answer::of(doing, guard.clone())?.accepted(assumed)?;
    Ok(())
}

/// The server's refusal, if the answer is one.
fn refused(answer: &Value) -> Option<RedisError> {
    match answer {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    }
}

/// What a write that was done found in its place, if it was not what we wrote there.
fn destroyed(done: &[Value], pipeline: &Pipeline) -> Option<FastError> {
    let (at, error) = done.iter().enumerate().find_map(|(at, answer)| Some((at, refused(answer)?)))?;
    let key = pipeline.cmd_iter().nth(at).and_then(|command| match command.args_iter().nth(1) {
        Some(redis::Arg::Simple(key)) => Some(String::from_utf8_lossy(key).into_owned()),
        _ => None,
    });
    let detail = format!("another program replaced it ({error})");
    Some(FastError::Corrupt { key: key.unwrap_or_default(), detail })
}
