//! One owner of the protocol's state, one loop.
//!
//! Callers hand in commands; the loop takes one action at a time, does it, and checks its invariants. It alone talks to
//! the Writer and knows the unsynced tail; the Syncer gets batches of the tail and reports back (`owner/syncing.rs`). How
//! it ends when it is asked to is in `owner/winding_down.rs`, what to do when a tier lost something in `heal.rs`.

mod durable;
mod shown;
pub(crate) mod stops;
mod syncing;
mod winding_down;

pub use winding_down::Stopped;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use forebay_fast::{FastError, Position};
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_slow::{Position as SlowPosition, SlowOperation};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use self::stops::{StopAsked, Stops};
use crate::awake::AwakeClock;
use crate::error::{Decision, StoreError, decide};
use crate::guard::{Guard, Verdict};
use crate::latency::Latency;
use crate::memory::pressure::MemoryWatch;
use crate::node::Command;
use crate::options::NodeOptions;
use crate::progress::{Counts, Pace, Phase, Progress};
use crate::receipt::{Accepted, Durable};
use crate::retention::Retention;
use crate::serve::{STEPS_SENT_MAX, Waiting};
use crate::start::{Heartbeat, Observer, Pulse, Started};
use crate::syncer::{BackOff, Batch, SyncEvent, Syncer};
use crate::writer::{Step, Writer};

/// Things to remove from Redis before a trim is worth a call of its own.
const TRIM_AT_LEAST: usize = 64;
/// How often the guard looks, and how soon an idle PostgreSQL is asked whether it still is where it was.
const TICK: Duration = Duration::from_millis(500);
/// Ticks between two such questions.
const TICKS_A_QUESTION: u32 = 4;

/// An operation that Redis has and PostgreSQL does not.
pub(crate) struct Unsynced {
    pub(crate) position: Position,
    pub(crate) operation: SlowOperation,
    pub(crate) bytes: usize,
    /// The tip after it.
    pub(crate) height: Height,
    pub(crate) id: BlockId,
    pub(crate) accepted_at: Instant,
}

/// What the Syncer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flight {
    Idle,
    /// So many of the tail's oldest are with it.
    Batch(usize),
    /// It was asked whether PostgreSQL still is where it was.
    Question,
}

/// A task that is ended when this is dropped.
struct EndsWithLoop(tokio::task::JoinHandle<()>);

impl Drop for EndsWithLoop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the loop does next.
enum Action {
    Command(Command),
    /// A command that did not come through with others on their way.
    Again(Command),
    /// Redis answered the oldest step on its way.
    Landed(Result<(), FastError>),
    Synced(SyncEvent),
    SyncerGone,
    Stop(StopAsked),
    Tick,
    SuspectRedis,
    ServeAgain,
}

pub(crate) struct Owner {
    pub(crate) options: NodeOptions,
    pub(crate) writer: Writer,
    /// The command that waits for Redis; no other is taken before it.
    pub(crate) waiting: Option<Waiting>,
    /// Commands whose steps are on their way, in the Writer's order.
    pub(crate) sent: VecDeque<Command>,
    /// Commands to be served by themselves, before any new one.
    pub(crate) again: VecDeque<Command>,
    /// Steps whose answers were lost and which were done after all, until their callers are answered.
    pub(crate) settled: VecDeque<Accepted>,
    /// PostgreSQL is asked again from then on.
    sync_from: Instant,
    redis_trouble: Option<String>,
    slow_trouble: Option<String>,
    pub(crate) tail: VecDeque<Unsynced>,
    pub(crate) tail_bytes: usize,
    pub(crate) flight: Flight,
    pub(crate) durable: Durable,
    pub(crate) retention: Retention,
    pub(crate) guard: Guard,
    /// What the guard counts by.
    awake: AwakeClock,
    /// Tries no more once the loop has ended: what it gave up must not be committed after all.
    _syncer: EndsWithLoop,
    latency: Latency,
    /// What was done since the node was ready.
    pub(crate) counts: Counts,
    /// Requests refused, here and by the check before.
    pub(crate) refused: Arc<AtomicU64>,
    /// When the Syncer was given what it has.
    flight_since: Instant,
    pace: Pace,
    progressed_at: Instant,
    at_limit_since: Option<Instant>,
    batches: mpsc::Sender<Batch>,
    events: mpsc::Receiver<SyncEvent>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Beats as long as the loop lives; replaced with the epoch.
    pub(crate) heartbeat: Heartbeat,
    pub(crate) pulse: Pulse,
    /// How full Redis is.
    memory: MemoryWatch,
    /// When the last command was taken: pauses count from there, whatever comes in between.
    command_at: tokio::time::Instant,
    pub(crate) suspect: Arc<Notify>,
    pub(crate) observe: Observer,
    ticks: Interval,
    ticks_seen: u32,
    /// True while Redis is not to be written to: it lost our state, or it is being restored.
    pub(crate) redis_is_out: bool,
    /// Where PostgreSQL was found after it was put back to an older state, until it is fed.
    pub(crate) behind: Option<SlowPosition>,
    /// The rollback file that this loop has written, as long as it stands.
    pub(crate) order: Option<PathBuf>,
    /// Whether somebody asked us to stop. Every wait that may be long hears it.
    pub(crate) stops: Stops,
}

impl Owner {
    pub(crate) fn new(
        options: NodeOptions,
        started: Started,
        checker: Arc<Checker>,
        observe: Observer,
        stops: Stops,
    ) -> (Self, watch::Receiver<Progress>) {
        let (batches, to_syncer) = mpsc::channel(1);
        let (to_loop, events) = mpsc::channel(16);
        let syncer = Syncer::new(options.postgres.clone(), options.write_log.clone());
        let syncer = EndsWithLoop(tokio::spawn(syncer.run(to_syncer, to_loop)));
        let (epoch, profile) = (started.epoch, started.profile);
        let (kept, outbox) = (started.restored.kept.clone(), started.restored.outbox.clone());
        let writer = Writer::new(&options, started, checker);
        let tip = writer.resident.tip;
        let durable =
            Durable { seq: writer.seq, height: tip.map_or(0, |tip| tip.height), id: tip.map(|tip| tip.id) };
        let position = Position { epoch, seq: writer.seq };
        let (progress, progress_seen) =
            watch::channel(Progress::of_restored(tip, position, durable, profile));
        let round = writer.resident.round.as_ref().map_or(1, |round| round.round);
        let suspect = Arc::new(Notify::new());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let memory = MemoryWatch::start(&writer.fast, options.memory_planned_bytes);
        let pulse = Pulse::shown_in(progress.clone());
        let heartbeat = Heartbeat::start(&writer.fast, epoch, &options, Arc::clone(&suspect), pulse.clone());
        let owner = Self {
            writer,
            waiting: None,
            sent: VecDeque::new(),
            again: VecDeque::new(),
            settled: VecDeque::new(),
            sync_from: Instant::now(),
            redis_trouble: None,
            slow_trouble: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            flight: Flight::Idle,
            durable,
            retention: Retention::after_restore(&options.limits, kept, outbox, durable.height, round),
            guard: Guard::new(options.limits),
            awake: AwakeClock::start(),
            _syncer: syncer,
            latency: Latency::default(),
            counts: Counts::default(),
            refused: Arc::default(),
            flight_since: Instant::now(),
            pace: Pace::default(),
            progressed_at: Instant::now(),
            at_limit_since: None,
            batches,
            events,
            progress,
            heartbeat,
            pulse,
            command_at: tokio::time::Instant::now(),
            memory,
            suspect,
            observe,
            ticks,
            ticks_seen: 0,
            redis_is_out: false,
            behind: None,
            order: None,
            stops,
            options,
        };
        (owner, progress_seen)
    }

    /// Applies the genesis block if the chain is empty. A large one keeps Redis busy for longer than an answer is waited for,
    /// so what became of it is asked until Redis answers again.
    pub(crate) async fn begin_chain(&mut self) -> Result<(), StoreError> {
        if self.writer.resident.tip.is_some() {
            self.show();
            return Ok(());
        }
        self.writer.resident.genesis_account = Some(self.genesis_account());
        let (since, mut back_off) = (Instant::now(), BackOff::new());
        let step = loop {
            match self.genesis_step().await {
                Ok(step) => break step,
                // An operator has to act first.
                Err(error) if decide(&error) == Decision::RetrySlowly => return Err(error),
                Err(error) => self.bear(error, since, &mut back_off).await?,
            }
        };
        self.accepted(step);
        Ok(())
    }

    async fn genesis_step(&mut self) -> Result<Step, StoreError> {
        self.writer.confirm_run().await?;
        match self.writer.settle().await?.pop() {
            Some(done) => Ok(done),
            None => self.writer.apply_genesis((*self.options.genesis).clone()).await,
        }
    }

    pub(crate) fn genesis_account(&self) -> Address {
        Address::of(&self.options.genesis.generator_public_key)
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<Stopped, StoreError> {
        let worked = match self.work(&mut commands).await {
            // Heard in the middle of something, which is left as it is.
            Err(StoreError::Stopping) => Ok(self.stops.asked().await),
            worked => worked,
        };
        let outcome = match worked {
            Ok(stop) => self.wind_down(stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, remedy = error.remedy(), "the node stops");
            if let Some(consequence) = self.record_at_the_end().await {
                tracing::error!(consequence, "Redis lost what PostgreSQL lacks");
            }
            let message = error.to_string();
            self.progress.send_modify(|progress| progress.last_error = Some(message));
            // A courtesy for the next start, which else watches the heartbeat for a while.
            let _ = self.release().await;
            self.tell_callers(error);
        }
        self.progress.send_modify(|progress| progress.phase = Phase::Stopped);
        outcome
    }

    /// Works until it is asked to stop, or must stop. Stopping: it was asked while it waited for a server.
    async fn work(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<StopAsked, StoreError> {
        loop {
            self.send_batch().await?;
            let verdict = self.verdict();
            let outcome = match self.next_action(commands, verdict).await? {
                Action::Command(command) => self.serve(command).await,
                Action::Again(command) => self.serve_alone(command).await,
                Action::Landed(answer) => self.landed(answer).await,
                Action::ServeAgain => self.serve_again().await,
                Action::Stop(stop) => return Ok(stop),
                Action::Synced(event) => self.synced(event).await,
                Action::SyncerGone => Err(syncing::syncer_gone()),
                Action::Tick => self.tick().await,
                Action::SuspectRedis => {
                    self.land_all().await?;
                    self.heal_if_lost().await.map(|_| ())
                }
            };
            if let Err(error) = outcome {
                if matches!(error, StoreError::Stopping) {
                    return Err(error);
                }
                self.land_all().await?;
                if !self.healed_from(&error).await? {
                    return Err(error);
                }
            }
            self.check_invariants()?;
        }
    }

    /// While too much is not durable, no command is taken: whoever sent it waits. A stop is always heard.
    async fn next_action(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        verdict: Verdict,
    ) -> Result<Action, StoreError> {
        let (has_room, pause) = match verdict {
            Verdict::Fine => (true, Duration::ZERO),
            Verdict::Slow(pause) => (true, pause),
            Verdict::Wait => (false, Duration::ZERO),
            Verdict::Stop(overrun) => {
                // What Redis has done by now belongs into the record, too.
                self.land_all().await?;
                return Err(self.give_up(overrun));
            }
        };
        let retry_at = self.waiting.as_ref().map(|waiting| waiting.retry_at);
        let is_alone = self.sent.is_empty();
        if has_room
            && retry_at.is_none()
            && is_alone
            && let Some(command) = self.again.pop_front()
        {
            return Ok(Action::Again(command));
        }
        let may_take = has_room && retry_at.is_none() && self.sent.len() < STEPS_SENT_MAX;
        let again = tokio::time::sleep_until(retry_at.unwrap_or_else(Instant::now).into());
        let resume_at = self.command_at + pause;
        let command = async {
            if !pause.is_zero() {
                tokio::time::sleep_until(resume_at).await;
            }
            commands.recv().await
        };
        let action = tokio::select! {
            biased;
            event = self.events.recv() => event.map_or(Action::SyncerGone, Action::Synced),
            stop = self.stops.asked() => Action::Stop(stop),
            () = self.suspect.notified() => Action::SuspectRedis,
            _ = self.ticks.tick() => Action::Tick,
            () = again, if retry_at.is_some() => Action::ServeAgain,
            answer = self.writer.answer(), if !is_alone => Action::Landed(answer),
            command = command, if may_take => {
                command.map_or_else(|| Action::Stop(StopAsked::abandoned()), Action::Command)
            }
        };
        if matches!(action, Action::Command(_)) {
            self.command_at = tokio::time::Instant::now();
        }
        Ok(action)
    }

    fn check_invariants(&self) -> Result<(), StoreError> {
        let first_unsynced = self.tail.front().map_or(self.writer.seq + 1, |unsynced| unsynced.position.seq);
        let in_flight = if let Flight::Batch(count) = self.flight { count } else { 0 };
        if first_unsynced != self.durable.seq + 1 || in_flight > self.tail.len() {
            return Err(StoreError::Disagreement(format!(
                "the tail begins at operation {first_unsynced}, but PostgreSQL is at {}",
                self.durable.seq
            )));
        }
        if self.sent.len() != self.writer.steps_sent() {
            return Err(StoreError::Disagreement(format!(
                "{} steps are on their way for {} callers",
                self.writer.steps_sent(),
                self.sent.len()
            )));
        }
        Ok(())
    }

    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.writer.epoch, seq: self.writer.seq }
    }

    pub(crate) fn round(&self) -> u32 {
        self.writer.resident.round.as_ref().map_or(1, |round| round.round)
    }

    pub(crate) fn redis_away_max(&self) -> Duration {
        self.options.limits.redis_away_max
    }
}

/// For the log: its numbers have 64 bits.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
