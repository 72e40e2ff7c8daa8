//! The start: claim both tiers, drain what an earlier node left, clean Redis, restore it, serve.
//!
//! A crash in any phase is survived by starting again: each phase can be repeated.

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_failpoint::reach;
use forebay_fast::{
    FastErrorKind, FastOptions, FastTier, Head, Holder, Operation, OutboxEntry, Owner, State,
};
use forebay_ledger::ids::Address;
use forebay_slow::setup::{ChainParameters, migrate, prepare};
use forebay_slow::{
    BlockRow, ErrorKind as SlowErrorKind, Position as SlowPosition, SlowOperation, SlowWriter,
};
use tokio::sync::{Notify, mpsc};

use crate::error::{Decision, StoreError, decide};
use crate::heal::{CANNOT_KEEP, tip_after};
use crate::kept::KeptOperations;
use crate::options::{NodeOptions, OnHardLimit};
use crate::progress::{Phase, PhaseProgress};
use crate::receipt::Profile;
use crate::restore::{RestoreFrom, Restored};
use crate::rollback::{self, Base, GivenUp, Order};
use crate::syncer::{BackOff, Batch, Outcome, SyncEvent, Syncer};

/// Who watches a start: called with each phase and its steps.
pub type Observer = Arc<dyn Fn(PhaseProgress) + Send + Sync>;

/// What was told of a start so far.
struct Told<'a> {
    observe: &'a Observer,
    last: Mutex<PhaseProgress>,
}

impl<'a> Told<'a> {
    fn new(observe: &'a Observer) -> Self {
        Self { observe, last: Mutex::new(PhaseProgress::new(Phase::Setup, 0, None)) }
    }

    /// The start goes on: what kept it is over.
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.tell(|last| {
            *last = PhaseProgress { retries: last.retries, ..PhaseProgress::new(phase, done, total) }
        });
    }

    fn failed(&self, error: String) {
        self.tell(|last| {
            last.retries += 1;
            last.last_error = Some(error);
        });
    }

    fn tell(&self, change: impl FnOnce(&mut PhaseProgress)) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut last);
        (self.observe)(last.clone());
    }
}

/// What the start hands to the node's loop.
pub(crate) struct Started {
    pub(crate) fast: FastTier,
    pub(crate) epoch: u64,
    pub(crate) restored: Restored,
    pub(crate) profile: Profile,
}

pub(crate) async fn start(options: &NodeOptions, observe: &Observer) -> Result<Started, StoreError> {
    let told = Told::new(observe);
    told.at(Phase::Setup, 0, None);
    set_up(options, &told).await?;
    let connecting = async || Ok(SlowWriter::connect(&options.postgres).await?);
    let mut slow = patiently(options, &told, connecting).await?;
    let chain = &options.profile.name;
    let fast = patiently(options, &told, async || {
        Ok(FastTier::connect(&options.redis_url, chain, FastOptions::default()).await?)
    })
    .await?;
    let profile = check_server(&fast).await?;

    reach("start.set_up");
    told.at(Phase::Claim, 0, None);
    let (epoch, position) = claim(options, &fast, &mut slow).await?;
    let beating = Heartbeat::start(&fast, epoch, options, Arc::new(Notify::new()));

    reach("start.claimed");

    let orders = standing_orders(options)?;
    let (void, orders) = sort_out(orders, &fast.head().await?);
    for order in &void {
        tracing::warn!(order = %order.path.display(), "a later node drained what this rollback file gives up: it is void");
        mark_done(order)?;
    }
    for order in &orders {
        tracing::warn!(
            order = %order.path.display(),
            height = position.height,
            "obeying a rollback file: what comes after its base is given up, the chain goes back to PostgreSQL's last block"
        );
    }
    told.at(Phase::Drain, 0, None);
    // An order gives up what comes after its base; what PostgreSQL lost before it is brought there first.
    let until_seq = orders.iter().map(|order| order.seq).min().unwrap_or(u64::MAX);
    let drained_seq = drain(options, &fast, epoch, position, until_seq, &told).await?;
    reach("start.drained");
    let carried = Arc::new(carry(options, &fast, drained_seq).await);
    let restored = RestoreFrom {
        carried,
        fast: &fast,
        postgres: &options.postgres,
        profile: &options.profile,
        limits: &options.limits,
        genesis_account: Address::of(&options.genesis.generator_public_key),
        epoch,
        seq: drained_seq,
    }
    .run(&|progress| told.at(progress.phase, progress.done, progress.total))
    .await?;
    reach("start.restored");
    for order in &orders {
        mark_done(order)?;
    }
    // From now on another run of Redis, which may be an older copy, is made sure of before it is used.
    fast.guard_runs();
    // The node's loop shows its own heartbeat.
    drop(beating);
    Ok(Started { fast, epoch, restored, profile })
}

/// The newest durable operations as Redis still has them. Whatever keeps them from being read is no reason not to start:
/// PostgreSQL knows most of them, too.
async fn carry(options: &NodeOptions, fast: &FastTier, seq: u64) -> KeptOperations {
    let is_whole = match fast.head().await {
        Ok(head) => matches!(head.state, State::Ready | State::Rewinding),
        Err(_) => false,
    };
    if !is_whole {
        return KeptOperations::default();
    }
    KeptOperations::of_outbox(fast, seq, options.limits.outbox_kept).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the outbox' durable entries are not carried over");
        KeptOperations::default()
    })
}

/// Rollback files that no start has obeyed yet.
fn standing_orders(options: &NodeOptions) -> Result<Vec<Order>, StoreError> {
    let Some(directory) = &options.rollback_dir else { return Ok(Vec::new()) };
    rollback::orders(directory, &options.profile).map_err(|error| order_failed(directory, &error))
}

/// Orders whose operations a later epoch has taken over are void: they were drained, and more was accepted since.
fn sort_out(orders: Vec<Order>, head: &Head) -> (Vec<Order>, Vec<Order>) {
    let accepts_since = matches!(head.state, State::Ready | State::Rewinding);
    orders.into_iter().partition(|order| accepts_since && head.position.epoch > order.epoch)
}

fn mark_done(order: &Order) -> Result<(), StoreError> {
    let done = rollback::mark_done(&order.path).map_err(|error| order_failed(&order.path, &error))?;
    tracing::info!(record = %done.display(), "the rollback file is a record from now on, for `forebay replay`");
    Ok(())
}

fn order_failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Request(format!("{}: a rollback file cannot be read or renamed ({error})", path.display()))
}

async fn set_up(options: &NodeOptions, told: &Told<'_>) -> Result<(), StoreError> {
    let Some(setup) = &options.setup else { return Ok(()) };
    let parameters = ChainParameters::new(&options.profile, &options.genesis);
    patiently(options, told, async || {
        prepare(&setup.admin, &setup.names, &setup.passwords).await?;
        let mut owner = setup.admin.clone();
        owner.dbname(&setup.names.database);
        Ok(migrate(&owner, &setup.names, &parameters).await?)
    })
    .await
}

/// What breaks a promise stops the start.
async fn check_server(fast: &FastTier) -> Result<Profile, StoreError> {
    let facts = fast.server_facts().await?;
    let problems = facts.problems();
    if !problems.is_empty() {
        return Err(StoreError::Request(problems.join("; ")));
    }
    Ok(if facts.is_durable() { Profile::Durable } else { Profile::Volatile })
}

/// Repeats while a server is away, for as long as the options say.
async fn patiently<T>(
    options: &NodeOptions,
    told: &Told<'_>,
    attempt: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let since = Instant::now();
    let mut back_off = BackOff::new();
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let again = matches!(decide(&error), Decision::Retry | Decision::RetrySlowly | Decision::Ask);
        if !again || options.connect_timeout.is_some_and(|limit| since.elapsed() >= limit) {
            return Err(error);
        }
        let wait = back_off.next(false);
        tracing::warn!(attempt = back_off.attempt(), %error, "waiting for a server");
        told.failed(error.to_string());
        tokio::time::sleep(wait).await;
    }
}

/// Makes us the only writer: first in Redis, so that the old writer's steps are refused, then in PostgreSQL.
async fn claim(
    options: &NodeOptions,
    fast: &FastTier,
    slow: &mut SlowWriter,
) -> Result<(u64, SlowPosition), StoreError> {
    let owner = fast.owner().await?;
    let position = slow.position().await?;
    // A Redis that was emptied under a living holder does not know it any more; PostgreSQL does.
    let is_forgotten = owner.as_ref().map_or(0, |owner| owner.epoch) < position.epoch;
    let is_held = owner.as_ref().is_some_and(|owner| !owner.released);
    if (is_held || is_forgotten) && !options.holder_is_gone {
        wait_for_silence(fast, owner.as_ref(), options.limits.takeover_after).await?;
    }
    let head = fast.head().await?;
    let highest = [owner.as_ref().map_or(0, |owner| owner.epoch), position.epoch, head.position.epoch]
        .into_iter()
        .max();
    let epoch = highest.unwrap_or(0) + 1;
    fast.claim(owner.as_ref(), epoch, &options.holder).await.map_err(|error| {
        StoreError::Held(format!("another node took the chain at the same moment ({error})"))
    })?;
    reach("start.claimed_redis");
    let position = slow.take_over(position.epoch, epoch).await.map_err(|error| match error.kind() {
        SlowErrorKind::Fenced => {
            StoreError::Held(format!("another node took the chain at the same moment ({error})"))
        }
        _ => error.into(),
    })?;
    tracing::info!(epoch, seq = position.seq, height = position.height, "the chain is ours");
    Ok((epoch, position))
}

/// A holder that shows a heartbeat lives; one that shows none for the whole time may be replaced.
async fn wait_for_silence(
    fast: &FastTier,
    seen: Option<&Owner>,
    takeover_after: Duration,
) -> Result<(), StoreError> {
    tracing::info!(
        host = seen.map(|owner| owner.holder.host.as_str()),
        pid = seen.map(|owner| owner.holder.pid),
        wait_s = takeover_after.as_secs(),
        "an earlier node may still have the chain; watching for its heartbeat"
    );
    let until = Instant::now() + takeover_after;
    while Instant::now() < until {
        tokio::time::sleep(takeover_after / 20).await;
        let now = fast.owner().await?;
        if now.as_ref() != seen
            && let Some(holder) = now.as_ref().or(seen).map(|owner| &owner.holder)
        {
            return Err(StoreError::Held(format!(
                "the chain is held by process {} on {} since {}; its heartbeat goes on",
                holder.pid,
                holder.host,
                ago(holder.since_ms)
            )));
        }
    }
    Ok(())
}

/// `12 minutes ago`, for people.
pub(crate) fn ago(since_unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.saturating_sub(Duration::from_millis(since_unix_ms)).as_secs();
    match seconds {
        0..=119 => format!("{seconds} seconds ago"),
        120..=7199 => format!("{} minutes ago", seconds / 60),
        _ => format!("{} hours ago", seconds / 3600),
    }
}

/// Brings to PostgreSQL what an earlier node accepted and left in the outbox, as far as it is not given up. Returns
/// PostgreSQL's last operation then.
async fn drain(
    options: &NodeOptions,
    fast: &FastTier,
    epoch: u64,
    mut position: SlowPosition,
    until_seq: u64,
    told: &Told<'_>,
) -> Result<u64, StoreError> {
    let head = fast.head().await?;
    if !matches!(head.state, State::Ready | State::Rewinding) {
        tracing::info!(state = %head.state, "Redis has no complete state to drain");
        return Ok(position.seq);
    }
    let entries = fast.outbox_entries(None, usize::MAX >> 1).await?;
    check_overlap(&entries, &position)?;
    if position.seq < until_seq && is_older(&entries, &position, &head) {
        return Err(give_up_older(options, fast, epoch, &position, &head, entries).await);
    }
    let pending: Vec<OutboxEntry> = entries
        .into_iter()
        .filter(|entry| entry.position.seq > position.seq && entry.position.seq <= until_seq)
        .collect();
    check_contiguous(&pending, position.seq, head.position.seq.min(until_seq))?;
    let total = pending.len() as u64;
    if total > 0 {
        tracing::info!(
            operations = total,
            from_seq = position.seq + 1,
            "draining what an earlier node accepted"
        );
    }
    let mut syncer = Syncer::new(options.postgres.clone(), options.write_log.clone());
    let (events, mut reports) = mpsc::channel(1);
    let mut done = 0;
    let mut tip = (position.height, position.block_id);
    for chunk in pending.chunks(options.limits.batch_operations_max.max(1)) {
        let operations = operations_of(fast, chunk).await?;
        let Some(last) = chunk.last() else { continue };
        let new_seq = last.position.seq;
        let mut tips = vec![tip];
        tips.extend(chunk.iter().map(|entry| {
            let (height, id) = tip_after(&entry.operation);
            (height, Some(id))
        }));
        tip = tips.last().copied().unwrap_or(tip);
        let batch = Batch { epoch, expected_seq: position.seq, new_seq, operations, tips };
        let outcome = {
            let mut commit = pin!(syncer.commit(&batch, &events));
            loop {
                tokio::select! {
                    outcome = &mut commit => break outcome?,
                    Some(event) = reports.recv() => {
                        if let SyncEvent::Retrying { error, .. } = event {
                            told.failed(error);
                        }
                    }
                }
            }
        };
        if let Outcome::Behind(found) = outcome {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL went back from operation {} to {} while it was drained into: start again",
                position.seq, found.seq
            )));
        }
        reach("start.drained_batch");
        position.seq = batch.new_seq;
        done += chunk.len() as u64;
        told.at(Phase::Drain, done, Some(total));
    }
    Ok(position.seq)
}

/// Whether PostgreSQL lacks operations that it had done: the outbox goes on behind a gap.
fn is_older(entries: &[OutboxEntry], position: &SlowPosition, head: &Head) -> bool {
    let goes_on = entries.iter().any(|entry| entry.position.seq == position.seq + 1);
    head.position.seq > position.seq && !goes_on
}

/// What PostgreSQL lost is not in the outbox any more. What is there becomes order and record, for the next start.
async fn give_up_older(
    options: &NodeOptions,
    fast: &FastTier,
    epoch: u64,
    found: &SlowPosition,
    head: &Head,
    entries: Vec<OutboxEntry>,
) -> StoreError {
    let went_back = format!(
        "PostgreSQL is at operation {} (height {}), Redis at {}, and the outbox does not reach back that far: PostgreSQL was \
         put back to an older state",
        found.seq, found.height, head.position
    );
    if options.on_hard_limit == OnHardLimit::Keep {
        return StoreError::TooFarBehind(format!("{went_back}; {CANNOT_KEEP}"));
    }
    let since: Vec<OutboxEntry> =
        entries.into_iter().filter(|entry| entry.position.seq > found.seq).collect();
    let operations = match operations_of(fast, &since).await {
        Ok(operations) => operations,
        Err(error) => return error,
    };
    let given_up: Vec<GivenUp<'_>> = since
        .iter()
        .zip(&operations)
        .map(|(entry, operation)| GivenUp {
            seq: entry.position.seq,
            operation,
            height: tip_after(&entry.operation).0,
        })
        .collect();
    let base = Base { epoch, seq: found.seq, height: found.height, id: found.block_id };
    let consequence = rollback::order(options, base, head.position.seq, &given_up);
    StoreError::TooFarBehind(format!("{went_back}; {consequence}"))
}

/// The entry that PostgreSQL did last must be the one that the outbox has there.
pub(crate) fn check_overlap(entries: &[OutboxEntry], position: &SlowPosition) -> Result<(), StoreError> {
    let Some(entry) = entries.iter().find(|entry| entry.position.seq == position.seq) else { return Ok(()) };
    let tip = match &entry.operation {
        Operation::Block { id, .. } => *id,
        Operation::Pop { tip, .. } | Operation::Rewind { tip, .. } => *tip,
    };
    if Some(tip) == position.block_id {
        return Ok(());
    }
    Err(StoreError::Disagreement(format!(
        "operation {} left the tip {tip} in the outbox, but PostgreSQL's tip there is {}",
        entry.position,
        position.block_id.map_or_else(|| "none".to_owned(), |id| id.to_string())
    )))
}

/// The outbox must go on where PostgreSQL ends, without a gap, up to what Redis accepted.
pub(crate) fn check_contiguous(pending: &[OutboxEntry], seq: u64, accepted: u64) -> Result<(), StoreError> {
    let mut expected = seq;
    for entry in pending {
        expected += 1;
        if entry.position.seq != expected {
            return Err(StoreError::Disagreement(format!(
                "PostgreSQL is at operation {seq}, but the outbox goes on with {}, not with {expected}: PostgreSQL was put \
                 back to an older state, or the outbox was changed",
                entry.position
            )));
        }
    }
    if expected < accepted {
        return Err(StoreError::Disagreement(format!(
            "Redis accepted operations up to {accepted}, but its outbox ends at {expected}"
        )));
    }
    Ok(())
}

pub(crate) async fn operations_of(
    fast: &FastTier,
    entries: &[OutboxEntry],
) -> Result<Vec<SlowOperation>, StoreError> {
    let ids: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.operation {
            Operation::Block { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    let mut bodies = fast.blocks(&ids).await?.into_iter();
    entries
        .iter()
        .map(|entry| match &entry.operation {
            Operation::Block { id, transactions_before, forgers, delegates_digest, .. } => {
                let block = bodies.next().flatten().ok_or_else(|| {
                    StoreError::Disagreement(format!(
                        "the outbox has block {id} ({}), but its body is missing",
                        entry.position
                    ))
                })?;
                Ok(SlowOperation::Append(BlockRow {
                    block: Arc::new(block),
                    transactions_before: *transactions_before,
                    forgers: forgers.clone(),
                    delegates_digest: *delegates_digest,
                }))
            }
            Operation::Pop { height, .. } => {
                Ok(SlowOperation::TakeBack { to_height: height.saturating_sub(1) })
            }
            Operation::Rewind { height, .. } => Ok(SlowOperation::TakeBack { to_height: *height }),
        })
        .collect()
}

/// Shows that we live, until it is dropped.
pub(crate) struct Heartbeat {
    task: tokio::task::JoinHandle<()>,
}

impl Heartbeat {
    /// `suspect` is told when a beat fails.
    pub(crate) fn start(fast: &FastTier, epoch: u64, options: &NodeOptions, suspect: Arc<Notify>) -> Self {
        let (fast, holder) = (fast.clone(), options.holder.clone());
        let takeover_after = options.limits.takeover_after;
        let task = tokio::spawn(async move {
            // Five beats within the time after which a successor may take over: four may be late.
            let mut ticks = tokio::time::interval(takeover_after / 5);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = fast.heartbeat(epoch).await {
                    // The loop asks what became of Redis; an absent server is waited for by whoever needs it.
                    tracing::warn!(%error, "no heartbeat");
                    if error.kind() == FastErrorKind::Fenced {
                        hold_again(&fast, epoch, &holder).await;
                    }
                    suspect.notify_one();
                }
            }
        });
        Self { task }
    }
}

/// A Redis that was emptied, or is an older copy, does not know that we live: another node would take us for gone while
/// PostgreSQL keeps us from healing it. It has no state that could be read or written under this claim.
async fn hold_again(fast: &FastTier, epoch: u64, holder: &Holder) {
    let Ok(owner) = fast.owner().await else { return };
    if owner.as_ref().is_none_or(|owner| owner.epoch < epoch)
        && let Err(error) = fast.claim(owner.as_ref(), epoch, holder).await
    {
        tracing::warn!(%error, "Redis does not know its holder, and could not be told");
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
