//! What was seen, as Prometheus' text. Every number is taken at the moment of the scrape: none can be stale.

use std::sync::Arc;
use std::time::Instant;

use forebay_api::{Api, ReadFigures};
use forebay_store::{Limits, Pace, Phase, PhaseProgress, Progress};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::names::{self, Kind, Metric};
use super::process::{ProcessFigures, unix_seconds};
use super::ready::PARTS;
use super::{Observed, ObservedNode, Seen};

const PHASES: [Phase; 9] = [
    Phase::Setup,
    Phase::Claim,
    Phase::Drain,
    Phase::Clean,
    Phase::Restore,
    Phase::Check,
    Phase::Ready,
    Phase::Stopping,
    Phase::Stopped,
];

/// A recorder of its own: nothing is global. Cheap to clone.
#[derive(Clone)]
pub struct Export {
    recorder: Arc<PrometheusRecorder>,
}

impl Default for Export {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || names::ALL.iter().for_each(describe));
        Self { recorder: Arc::new(recorder) }
    }
}

impl Export {
    /// Everything as it is now.
    pub fn text(&self, observed: &Observed) -> String {
        let seen = observed.now();
        with_local_recorder(&*self.recorder, || {
            of_process(observed.started_at);
            of_any_state(&seen);
            if let Some(node) = &seen.node {
                of_node(node);
                of_api(seen.api.as_ref());
            }
        });
        self.recorder.handle().render()
    }
}

fn describe(metric: &Metric) {
    let unit = match metric.name {
        name if name.contains("_seconds") => Unit::Seconds,
        name if name.contains("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    match metric.kind {
        Kind::Counter => describe_counter!(metric.name, unit, metric.help),
        Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
    }
}

fn set(metric: Metric, value: f64) {
    gauge!(metric.name).set(value);
}

fn set_one(metric: Metric, label: &'static str, value: f64) {
    let name = metric.labels.first().copied().unwrap_or_default();
    gauge!(metric.name, name => label).set(value);
}

fn count(metric: Metric, value: u64) {
    counter!(metric.name).absolute(value);
}

/// 1 or 0.
fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Exact up to 2^53: more than any of them grows to.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows nothing but doubles")]
fn number(value: impl TryInto<u64>) -> f64 {
    value.try_into().map_or(f64::INFINITY, |value| value as f64)
}

fn seconds_since(since: Option<Instant>) -> f64 {
    since.map_or(0.0, |since| since.elapsed().as_secs_f64())
}

fn of_process(started_at: f64) {
    let figures = ProcessFigures::now();
    set(names::START_TIME, started_at);
    if let Some(seconds) = figures.cpu_seconds {
        count(names::CPU, seconds);
    }
    let gauges = [
        (names::RESIDENT, figures.resident_bytes),
        (names::OPEN_FDS, figures.open_files),
        (names::MAX_FDS, figures.files_max),
    ];
    for (metric, value) in gauges {
        if let Some(value) = value {
            set(metric, number(value));
        }
    }
}

fn of_any_state(seen: &Seen) {
    if let Some(network) = &seen.network {
        let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("network", network.clone())];
        gauge!(names::BUILD_INFO.name, &labels).set(1.0);
    }
    let readiness = seen.readiness();
    for phase in PHASES.map(Phase::name) {
        set_one(names::PHASE, phase, truth(phase == readiness.phase));
    }
    set(names::READY, truth(readiness.ready));
    for part in PARTS {
        // A part that a start says nothing of yet is not in order.
        let found = readiness.parts.iter().find(|found| found.part == part);
        set_one(names::PART_READY, part, truth(found.is_some_and(|found| found.ok)));
    }
    let nothing = PhaseProgress::new(Phase::Ready, 0, None);
    let step = seen.step.as_ref().unwrap_or(&nothing);
    set(names::START_STEPS_DONE, number(step.done));
    set(names::START_STEPS, number(step.total.unwrap_or(0)));
    set(names::START_FAILURES, number(step.retries));
}

fn of_node(node: &ObservedNode) {
    let progress = node.node.progress();
    of_tips(&progress, node);
    of_counts(&progress);
    of_lag(&progress, &node.limits);
    of_writer(&progress, &node.limits, node.node.commands_waiting());
    of_redis(&progress, &node.limits);
}

fn of_tips(progress: &Progress, node: &ObservedNode) {
    let height = progress.tip.map_or(0, |tip| tip.height);
    set(names::EPOCH, number(progress.position.epoch));
    set(names::ACCEPTANCE_DURABLE, truth(progress.profile == forebay_store::Profile::Durable));
    set(names::ACCEPTED_HEIGHT, f64::from(height));
    set(names::DURABLE_HEIGHT, f64::from(progress.durable.height));
    set(names::ACCEPTED_OPERATION, number(progress.position.seq));
    set(names::DURABLE_OPERATION, number(progress.durable.seq));
    if let (Some(tip), Some(epoch)) = (progress.tip, node.profile.epoch_unix_seconds()) {
        let forged_at = f64::from(tip.timestamp) + number(epoch);
        set(names::TIP_AGE, unix_seconds() - forged_at);
    }
    set(names::TIP_AGE_LIMIT, node.limits.live_within.as_secs_f64());
}

fn of_counts(progress: &Progress) {
    let counts = &progress.counts;
    count(names::OPERATIONS_ACCEPTED, counts.operations_accepted);
    count(names::BLOCKS_ACCEPTED, counts.blocks_accepted);
    count(names::TRANSACTIONS_ACCEPTED, counts.transactions_accepted);
    count(names::BLOCKS_TAKEN_BACK, counts.blocks_taken_back);
    count(names::REQUESTS_REFUSED, counts.requests_refused);
    count(names::OPERATIONS_DURABLE, counts.operations_durable);
    count(names::BLOCKS_DURABLE, counts.blocks_durable);
    count(names::TRANSACTIONS_DURABLE, counts.transactions_durable);
    count(names::BATCHES_DURABLE, counts.batches_durable);
    count(names::REDIS_RESTORES, counts.redis_restores);
    for (tier, failures) in [("redis", counts.redis_failures), ("postgres", counts.postgres_failures)] {
        counter!(names::FAILURES.name, "tier" => tier).absolute(failures);
    }
}

fn of_lag(progress: &Progress, limits: &Limits) {
    let height = progress.tip.map_or(0, |tip| tip.height);
    set(names::LAG_BLOCKS, f64::from(height) - f64::from(progress.durable.height));
    set(names::LAG_OPERATIONS, number(progress.lag_operations));
    set(names::LAG_OPERATIONS_LIMIT, number(limits.lag_blocks_max));
    set(names::LAG_BYTES, number(progress.lag_bytes));
    set(names::LAG_BYTES_LIMIT, number(limits.lag_bytes_max));
    set(names::LAG_SECONDS, seconds_since(progress.lag_since));
    set(names::NO_PROGRESS, seconds_since(progress.no_progress_since));
    set(names::NO_PROGRESS_LIMIT, limits.no_progress_max.as_secs_f64());
    set(names::AT_LIMIT, seconds_since(progress.at_limit_since));
    set(names::AT_LIMIT_LIMIT, limits.grace.as_secs_f64());
    if let Some(took) = progress.durable_after {
        set_one(names::DURABLE_LATENCY, "0.5", took.p50.as_secs_f64());
        set_one(names::DURABLE_LATENCY, "0.99", took.p99.as_secs_f64());
    }
    set(names::DURABLE_LATENCY_LIMIT, limits.durable_within.as_secs_f64());
    set(names::BATCH_OPERATIONS, number(progress.in_flight.operations));
    set(names::BATCH_OPERATIONS_LIMIT, number(limits.batch_operations_max));
    set(names::BATCH_BYTES, number(progress.in_flight.bytes));
    set(names::BATCH_BYTES_LIMIT, number(limits.batch_bytes_max));
}

fn of_writer(progress: &Progress, limits: &Limits, (waiting, places): (usize, usize)) {
    for pace in [Pace::Free, Pace::Slowed(std::time::Duration::ZERO), Pace::Waiting] {
        set_one(names::PACE, pace.name(), truth(pace.name() == progress.pace.name()));
    }
    let pause = if let Pace::Slowed(pause) = progress.pace { pause.as_secs_f64() } else { 0.0 };
    set(names::PAUSE, pause);
    set(names::COMMANDS_WAITING, number(waiting));
    set(names::COMMANDS_WAITING_LIMIT, number(places));
    set(names::ACCOUNTS_CACHED, number(progress.accounts_cached_bytes));
    set(names::ACCOUNTS_CACHED_LIMIT, number(limits.accounts_cached_bytes_max));
    set(names::LOOP_SILENT, progress.looked_at.elapsed().as_secs_f64());
}

fn of_redis(progress: &Progress, limits: &Limits) {
    let (memory, kept) = (&progress.memory, &progress.kept);
    set(names::REDIS_MEMORY, number(memory.used_bytes));
    set(names::REDIS_MEMORY_LIMIT, number(memory.maxmemory_bytes));
    set(names::REDIS_MEMORY_PLANNED, number(memory.planned_bytes));
    set(names::REDIS_MEMORY_SLOWED, truth(memory.is_slowed));
    set(names::REDIS_AWAY, seconds_since(progress.redis_away_since));
    set(names::REDIS_AWAY_LIMIT, limits.redis_away_max.as_secs_f64());
    set(names::BLOCKS_KEPT, number(kept.blocks));
    set(names::BLOCKS_KEPT_LIMIT, number(limits.blocks_kept));
    set(names::UNDO_DEPTH, number(kept.undo_depth));
    set(names::UNDO_DEPTH_LIMIT, number(limits.undo_kept));
    set(names::OUTBOX_KEPT, number(kept.outbox_entries));
    set(names::OUTBOX_KEPT_LIMIT, number(limits.outbox_kept));
}

/// Of a node without one, nothing.
fn of_api(api: Option<&Api>) {
    let ReadFigures { shared, kept, bodies } = api.map(Api::figures).unwrap_or_default();
    count(names::API_SHARED_READS, shared.reads);
    count(names::API_SHARED_CALLS, shared.calls);
    set(names::API_WRITTEN_BLOCKS, number(kept.blocks));
    set(names::API_WRITTEN_BYTES, number(kept.bytes));
    set(names::API_WRITTEN_BYTES_LIMIT, number(kept.bytes_max));
    set(names::API_BODIES, number(bodies.blocks));
    set(names::API_BODIES_BYTES, number(bodies.bytes));
    set(names::API_BODIES_BYTES_LIMIT, number(bodies.bytes_max));
}
