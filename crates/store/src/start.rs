//! The start: claim both tiers, drain what an earlier node left, clean Redis, restore it, serve.
//!
//! A crash in any phase is survived by starting again: each phase can be repeated.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_failpoint::reach;
use forebay_fast::{FastError, FastErrorKind, FastOptions, FastTier, Head, Holder, Owner};
use forebay_slow::setup::{ChainParameters, migrate, prepare};
use forebay_slow::{ErrorKind as SlowErrorKind, SlowReader, SlowWriter};
use tokio::sync::{Notify, watch};

use crate::drain::Drain;
use crate::entrusted::{keeps_commits, lead_to_one_database, lead_to_one_server};
use crate::error::{Decision, StoreError, decide};
use crate::kept::KeptOperations;
use crate::options::NodeOptions;
use crate::progress::{Phase, PhaseProgress, Progress};
use crate::receipt::Profile;
use crate::restore::{RestoreFrom, Restored};
use crate::rollback::{self, Order};
use crate::syncer::BackOff;

/// Who watches a start: called with each phase and its steps.
pub type Observer = Arc<dyn Fn(PhaseProgress) + Send + Sync>;

/// What was told of a start so far.
pub(crate) struct Told<'a> {
    observe: &'a Observer,
    last: Mutex<PhaseProgress>,
}

impl<'a> Told<'a> {
    fn new(observe: &'a Observer) -> Self {
        Self { observe, last: Mutex::new(PhaseProgress::new(Phase::Setup, 0, None)) }
    }

    /// The start goes on: what kept it is over.
    pub(crate) fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.tell(|last| {
            *last = PhaseProgress { retries: last.retries, ..PhaseProgress::new(phase, done, total) }
        });
    }

    /// The start waits: an attempt at a server failed.
    pub(crate) fn failed(&self, error: String) {
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
    let chain = &options.profile.name;
    let fast = patiently(options, &told, async || {
        Ok(FastTier::connect(&options.redis_url, chain, FastOptions::default()).await?)
    })
    .await?;
    let profile = check_server(&fast).await?;

    reach("start.set_up");
    told.at(Phase::Claim, 0, None);
    let own = AtomicU64::new(0);
    let epoch = patiently(options, &told, async || claim(options, &fast, &own).await).await?;
    let beating = Heartbeat::start(&fast, epoch, options, Arc::new(Notify::new()), Pulse::default());

    reach("start.claimed");

    let taking_in = async || take_in(options, &fast, epoch, &told).await;
    let restored = match patiently(options, &told, taking_in).await {
        Ok(restored) => restored,
        Err(error) => return Err(displaced(&fast, epoch).await.unwrap_or(error)),
    };
    // From now on another run of Redis, which may be an older copy, is made sure of before it is used.
    fast.guard_runs();
    // The node's loop shows its own heartbeat.
    drop(beating);
    Ok(Started { fast, epoch, restored, profile })
}

/// Drains the outbox, or obeys a rollback file; then Redis from PostgreSQL.
async fn take_in(
    options: &NodeOptions,
    fast: &FastTier,
    epoch: u64,
    told: &Told<'_>,
) -> Result<Restored, StoreError> {
    let position = SlowReader::connect(&options.postgres).await?.reads().position().await?;
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
    let drained_seq = Drain { options, fast, epoch, until_seq, told }.run(position).await?;
    reach("start.drained");
    let carried = Arc::new(carry(options, fast, drained_seq).await?);
    let restored = RestoreFrom {
        carried,
        fast,
        postgres: &options.postgres,
        profile: &options.profile,
        limits: &options.limits,
        genesis: &options.genesis,
        epoch,
        seq: drained_seq,
    }
    .run(&|progress| told.at(progress.phase, progress.done, progress.total))
    .await?;
    reach("start.restored");
    for order in &orders {
        mark_done(order)?;
    }
    Ok(restored)
}

/// Whatever a start fails with after another node took the chain from it, that is why.
async fn displaced(fast: &FastTier, epoch: u64) -> Option<StoreError> {
    let owner = fast.owner().await.ok().flatten().filter(|owner| owner.epoch > epoch)?;
    Some(StoreError::Held(format!(
        "process {} on {} took the chain over {}, while this start was under way",
        owner.holder.pid,
        owner.holder.host,
        ago(owner.holder.since_ms)
    )))
}

/// The newest durable operations, as far as Redis still has its state.
async fn carry(options: &NodeOptions, fast: &FastTier, seq: u64) -> Result<KeptOperations, StoreError> {
    if !fast.head().await?.state.has_outbox() {
        return Ok(KeptOperations::default());
    }
    KeptOperations::of_outbox(fast, seq, options.limits.outbox_kept).await
}

/// Rollback files that no start has obeyed yet.
fn standing_orders(options: &NodeOptions) -> Result<Vec<Order>, StoreError> {
    let Some(directory) = &options.rollback_dir else { return Ok(Vec::new()) };
    rollback::orders(directory, &options.profile, options.genesis.id)
        .map_err(|error| order_failed(directory, &error))
}

/// Orders whose operations a later epoch has taken over are void: they were drained, and more was accepted since.
fn sort_out(orders: Vec<Order>, head: &Head) -> (Vec<Order>, Vec<Order>) {
    let accepts_since = head.state.has_outbox();
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
    let asks = options.setup.as_ref().map_or(&options.postgres, |setup| &setup.admin);
    if !options.postgres_may_forget {
        patiently(options, told, async || keeps_commits(asks).await).await?;
    }
    let Some(setup) = &options.setup else { return Ok(()) };
    patiently(options, told, async || lead_to_one_server(setup, &options.postgres).await).await?;
    let parameters = ChainParameters::new(&options.profile, &options.genesis);
    patiently(options, told, async || {
        prepare(&setup.admin, &setup.names, &setup.passwords).await?;
        let mut owner = setup.admin.clone();
        owner.dbname(&setup.names.database);
        Ok(migrate(&owner, &setup.names, &parameters).await?)
    })
    .await?;
    patiently(options, told, async || lead_to_one_database(setup, &options.postgres).await).await
}

/// What breaks a promise stops the start.
pub(crate) async fn check_server(fast: &FastTier) -> Result<Profile, StoreError> {
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
        // A Redis that is too small for the chain stays so: the operator is told at once.
        let is_full = matches!(&error, StoreError::Fast(error) if error.kind() == FastErrorKind::OutOfMemory);
        let again = !is_full
            && !error.is_untrusted()
            && matches!(decide(&error), Decision::Retry | Decision::RetrySlowly | Decision::Ask);
        if !again || options.connect_timeout.is_some_and(|limit| since.elapsed() >= limit) {
            return Err(error);
        }
        let wait = back_off.next(false);
        tracing::warn!(attempt = back_off.attempt(), %error, "waiting for a server");
        told.failed(error.to_string());
        tokio::time::sleep(wait).await;
    }
}

/// Makes us the only writer: first in Redis, so that the old writer's steps are refused, then in PostgreSQL. `own`: the
/// epoch of an attempt before (0: none), whose heartbeat need not be waited for.
async fn claim(options: &NodeOptions, fast: &FastTier, own: &AtomicU64) -> Result<u64, StoreError> {
    let slow = SlowWriter::connect(&options.postgres).await?;
    let owner = fast.owner().await?;
    let position = slow.position().await?;
    // A Redis that was emptied under a living holder does not know it any more; PostgreSQL does.
    let is_forgotten = owner.as_ref().map_or(0, |owner| owner.epoch) < position.epoch;
    let is_held =
        owner.as_ref().is_some_and(|owner| !owner.released && own.load(Ordering::Relaxed) != owner.epoch);
    if (is_held || is_forgotten) && !options.holder_is_gone {
        wait_for_silence(fast, owner.as_ref(), options.limits.takeover_after).await?;
    }
    let head = fast.head().await?;
    let highest = [owner.as_ref().map_or(0, |owner| owner.epoch), position.epoch, head.position.epoch]
        .into_iter()
        .max();
    let epoch = highest.unwrap_or(0) + 1;
    if let Err(error) = fast.claim(owner.as_ref(), epoch, &options.holder).await {
        // A heartbeat since, or another node's claim: whoever that is has the chain.
        return Err(match fast.owner().await {
            Ok(Some(owner)) if error.kind() == FastErrorKind::Fenced => held_by(&owner.holder),
            _ => error.into(),
        });
    }
    own.store(epoch, Ordering::Relaxed);
    reach("start.claimed_redis");
    let position = slow.take_over(position.epoch, epoch).await.map_err(|error| match error.kind() {
        SlowErrorKind::Fenced => {
            StoreError::Held(format!("another node took the chain at the same moment ({error})"))
        }
        _ => error.into(),
    })?;
    tracing::info!(epoch, seq = position.seq, height = position.height, "the chain is ours");
    Ok(epoch)
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
            return Err(held_by(holder));
        }
    }
    Ok(())
}

fn held_by(holder: &Holder) -> StoreError {
    StoreError::Held(format!(
        "the chain is held by process {} on {} since {}; its heartbeat goes on",
        holder.pid,
        holder.host,
        ago(holder.since_ms)
    ))
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

/// Beats that fail for one reason are told this often.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// What was complained of last, and when.
#[derive(Default)]
struct Complaints(Option<(String, Instant)>);

impl Complaints {
    /// Whether to tell of it: another failure than before, the same again after a while, or the first one after a success.
    fn are_news(&mut self, failure: Option<&FastError>, now: Instant) -> bool {
        let Some(why) = failure.map(ToString::to_string) else {
            self.0 = None;
            return false;
        };
        let is_told =
            |(before, at): &(String, Instant)| *before == why && now.duration_since(*at) < TOLD_AGAIN;
        let is_news = !self.0.as_ref().is_some_and(is_told);
        if is_news {
            self.0 = Some((why, now));
        }
        is_news
    }
}

/// Shows that we live, until it is dropped.
pub(crate) struct Heartbeat {
    task: tokio::task::JoinHandle<()>,
}

impl Heartbeat {
    /// `suspect` is told when a beat fails.
    pub(crate) fn start(
        fast: &FastTier,
        epoch: u64,
        options: &NodeOptions,
        suspect: Arc<Notify>,
        pulse: Pulse,
    ) -> Self {
        let (fast, holder) = (fast.clone(), options.holder.clone());
        let takeover_after = options.limits.takeover_after;
        let task = tokio::spawn(async move {
            // Five beats within the time after which a successor may take over: four may be late.
            let mut ticks = tokio::time::interval(takeover_after / 5);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut complaints = Complaints::default();
            loop {
                ticks.tick().await;
                let beat = fast.heartbeat(epoch).await;
                pulse.beat(beat.as_ref().err());
                let is_news = complaints.are_news(beat.as_ref().err(), Instant::now());
                if let Err(error) = beat {
                    // The loop asks what became of Redis; an absent server is waited for by whoever needs it.
                    if is_news {
                        tracing::warn!(%error, "no heartbeat");
                    }
                    if error.kind() == FastErrorKind::Fenced {
                        hold_again(&fast, epoch, &holder).await;
                    }
                    suspect.notify_one();
                }
            }
        });
        Self { task }
    }

    /// Beats no more: before the chain is given up, after which each beat would be refused.
    pub(crate) fn end(&self) {
        self.task.abort();
    }
}

/// What the last beat found of Redis. Shown at once, whatever the loop waits for.
#[derive(Clone, Default)]
pub(crate) struct Pulse {
    trouble: Arc<Mutex<Option<String>>>,
    progress: Option<watch::Sender<Progress>>,
}

impl Pulse {
    pub(crate) fn shown_in(progress: watch::Sender<Progress>) -> Self {
        Self { trouble: Arc::default(), progress: Some(progress) }
    }

    /// Why the last beat failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One that was fenced says nothing of Redis.
    fn beat(&self, error: Option<&FastError>) {
        let trouble = error.filter(|error| error.kind() != FastErrorKind::Fenced).map(ToString::to_string);
        let before = {
            let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, trouble.clone())
        };
        if before == trouble {
            return;
        }
        let Some(progress) = &self.progress else { return };
        progress.send_modify(|shown| {
            for error in [&mut shown.redis_error, &mut shown.last_error] {
                if error.is_none() || *error == before {
                    error.clone_from(&trouble);
                }
            }
            if shown.last_error.is_none() {
                shown.last_error.clone_from(&shown.postgres_error);
            }
        });
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
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_told_now_and_then_and_a_new_one_at_once() {
        let failure = |doing: &str| FastError::Corrupt { key: doing.to_owned(), detail: "x".to_owned() };
        let (one, other) = (failure("one"), failure("other"));
        let mut complaints = Complaints::default();
        let begin = Instant::now();
        let mut told = |failure: Option<&FastError>, second: u64| {
            complaints.are_news(failure, begin + Duration::from_secs(second))
        };
        assert!(told(Some(&one), 0));
        assert!(!told(Some(&one), 1) && !told(Some(&one), 29));
        assert!(told(Some(&one), 30) && !told(Some(&one), 31));
        assert!(told(Some(&other), 32));
        // It went well in between: the same again is another time.
        assert!(!told(None, 33));
        assert!(told(Some(&other), 34));
    }
}
