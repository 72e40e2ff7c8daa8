//! Every metric: its name, its kind, its unit and what it says. Nothing else names one; the tests hold the dashboard, the
//! alert rules and docs/metrics.md against this list.
//!
//! Base units as Prometheus' convention has them: seconds, bytes; totals end with `_total`. What has a limit has it under
//! the same name with `_limit`, so that `x / x_limit` is how close it is.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One sentence, for `# HELP`.
    pub help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels: &[], help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels: &[], help }
}

const fn by(labels: &'static [&'static str], metric: Metric) -> Metric {
    Metric { labels, ..metric }
}

macro_rules! metrics {
    ($($constant:ident = $metric:expr;)*) => {
        $(#[doc = "See its help."] pub const $constant: Metric = $metric;)*
        /// All of them, in the order of docs/metrics.md.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    // What it is and does.
    BUILD_INFO = by(&["version", "network"], gauge("forebay_build_info", "1; the labels say which program and network."));
    PHASE = by(&["phase"], gauge("forebay_phase", "1 for what the node is doing now, 0 for everything else."));
    READY = gauge("forebay_ready", "1 if /readyz answers 200: blocks are taken and reads answered.");
    PART_READY = by(&["part"], gauge("forebay_part_ready", "1 if this part of /readyz is in order."));
    START_STEPS_DONE = gauge("forebay_start_steps_done", "Steps of the start's present phase that are done.");
    START_STEPS = gauge("forebay_start_steps", "Steps of the start's present phase in all; 0: nobody counts them.");
    START_FAILURES = gauge("forebay_start_failures", "Attempts at a server that failed since the start began.");
    EPOCH = gauge("forebay_epoch", "Epoch under which the node holds the chain; each takeover raises it.");
    ACCEPTANCE_DURABLE = gauge("forebay_acceptance_durable", "1 if Redis syncs every step to its disk before it answers, 0 if it may lose what PostgreSQL lacks.");

    // Where both tiers are.
    ACCEPTED_HEIGHT = gauge("forebay_accepted_height", "Height of the newest accepted block: Redis' tip.");
    DURABLE_HEIGHT = gauge("forebay_durable_height", "Height of the newest durable block: PostgreSQL's tip.");
    ACCEPTED_OPERATION = gauge("forebay_accepted_operation", "Number (seq) of the newest accepted operation.");
    DURABLE_OPERATION = gauge("forebay_durable_operation", "Number (seq) of the newest durable operation.");
    TIP_AGE = gauge("forebay_tip_age_seconds", "Age of the newest accepted block by its own timestamp; below 0: it is ahead of this machine's clock.");
    TIP_AGE_LIMIT = gauge("forebay_tip_age_seconds_limit", "live_within_seconds: a younger tip makes the chain live, for which grace_seconds counts.");

    // What was done.
    OPERATIONS_ACCEPTED = counter("forebay_operations_accepted_total", "Operations accepted: blocks, and take-backs.");
    BLOCKS_ACCEPTED = counter("forebay_blocks_accepted_total", "Blocks accepted.");
    TRANSACTIONS_ACCEPTED = counter("forebay_transactions_accepted_total", "Transactions of accepted blocks.");
    BLOCKS_TAKEN_BACK = counter("forebay_blocks_taken_back_total", "Blocks taken back.");
    REQUESTS_REFUSED = counter("forebay_requests_refused_total", "Blocks that were refused, by what they say or by the chain's state, and take-backs that the node refused; nothing was changed by them. Not counted: what cannot be read, and take-backs that a feed or the API refused before they asked the node.");
    OPERATIONS_DURABLE = counter("forebay_operations_durable_total", "Operations that became durable.");
    BLOCKS_DURABLE = counter("forebay_blocks_durable_total", "Blocks that became durable.");
    TRANSACTIONS_DURABLE = counter("forebay_transactions_durable_total", "Transactions of blocks that became durable.");
    BATCHES_DURABLE = counter("forebay_batches_durable_total", "Batches that became durable: transactions of PostgreSQL.");
    FAILURES = by(&["tier"], counter("forebay_failures_total", "Attempts at a tier (redis, postgres) that failed; another one follows."));
    REDIS_RESTORES = counter("forebay_redis_restores_total", "Times that a running node restored Redis from PostgreSQL, since Redis had lost the chain or was rewound.");

    // How far PostgreSQL is behind, and how far it may be.
    LAG_BLOCKS = gauge("forebay_lag_blocks", "Accepted height minus durable height; below 0 while take-backs are on their way.");
    LAG_OPERATIONS = gauge("forebay_lag_operations", "Operations accepted and not durable.");
    LAG_OPERATIONS_LIMIT = gauge("forebay_lag_operations_limit", "lag_blocks_max: the writer slows from three quarters of it on, and waits at it.");
    LAG_BYTES = gauge("forebay_lag_bytes", "Bytes of blocks accepted and not durable.");
    LAG_BYTES_LIMIT = gauge("forebay_lag_bytes_limit", "lag_bytes_max: the writer slows from three quarters of it on, and waits at it.");
    LAG_SECONDS = gauge("forebay_lag_seconds", "Age of the oldest operation that is not durable.");
    NO_PROGRESS = gauge("forebay_no_progress_seconds", "How long operations have waited without any progress of PostgreSQL.");
    NO_PROGRESS_LIMIT = gauge("forebay_no_progress_seconds_limit", "no_progress_seconds_max: the node ends then (exit code 8).");
    AT_LIMIT = gauge("forebay_at_lag_limit_seconds", "How long the lag has been at its limit of operations.");
    AT_LIMIT_LIMIT = gauge("forebay_at_lag_limit_seconds_limit", "grace_seconds: with a live chain the node ends then (exit code 8).");
    DURABLE_LATENCY = by(&["quantile"], gauge("forebay_durable_latency_seconds", "From accepted to durable, of the newest 1,000 operations."));
    DURABLE_LATENCY_LIMIT = gauge("forebay_durable_latency_seconds_limit", "durable_within_ms: the log names a block of a live chain that took longer.");
    BATCH_OPERATIONS = gauge("forebay_batch_operations", "Operations in the batch that is on its way to PostgreSQL.");
    BATCH_OPERATIONS_LIMIT = gauge("forebay_batch_operations_limit", "batch_operations_max.");
    BATCH_BYTES = gauge("forebay_batch_bytes", "Bytes of the batch that is on its way to PostgreSQL.");
    BATCH_BYTES_LIMIT = gauge("forebay_batch_bytes_limit", "batch_bytes_max; a single larger block goes alone.");

    // The writer.
    PACE = by(&["pace"], gauge("forebay_writer_pace", "1 for how blocks are taken now: free, slowed, or waiting (not at all)."));
    PAUSE = gauge("forebay_writer_pause_seconds", "Pause before each block while the pace is slowed.");
    COMMANDS_WAITING = gauge("forebay_commands_waiting", "Callers' commands in the queue of the loop.");
    COMMANDS_WAITING_LIMIT = gauge("forebay_commands_waiting_limit", "Places in that queue; who comes later waits for one.");
    ACCOUNTS_CACHED = gauge("forebay_accounts_cached_bytes", "Memory of the accounts that the writer has at hand, by what a plain one takes.");
    ACCOUNTS_CACHED_LIMIT = gauge("forebay_accounts_cached_bytes_limit", "accounts_cached_bytes_max; blocks that touch other accounts wait for Redis once more.");
    LOOP_SILENT = gauge("forebay_loop_silent_seconds", "Since when the loop has not looked at its limits: below 1, but while it heals or rewinds.");

    // Redis.
    REDIS_MEMORY = gauge("forebay_redis_memory_bytes", "What Redis says that it uses.");
    REDIS_MEMORY_LIMIT = gauge("forebay_redis_memory_bytes_limit", "Redis' maxmemory; 0: none.");
    REDIS_MEMORY_PLANNED = gauge("forebay_redis_memory_planned_bytes", "What the memory plan gave Redis right after the load.");
    REDIS_MEMORY_SLOWED = gauge("forebay_redis_memory_slowed", "1 while blocks are taken more slowly because Redis is filling up.");
    REDIS_AWAY = gauge("forebay_redis_away_seconds", "How long a caller has waited for a Redis that does not answer.");
    REDIS_AWAY_LIMIT = gauge("forebay_redis_away_seconds_limit", "redis_away_seconds_max: the node ends then.");
    BLOCKS_KEPT = gauge("forebay_redis_blocks_kept", "Newest blocks whose bodies Redis keeps.");
    BLOCKS_KEPT_LIMIT = gauge("forebay_redis_blocks_kept_limit", "blocks_kept; those that are not durable are kept beyond it.");
    UNDO_DEPTH = gauge("forebay_redis_undo_blocks", "Durable blocks that can be taken back out of Redis alone; 0 right after a start.");
    UNDO_DEPTH_LIMIT = gauge("forebay_redis_undo_blocks_limit", "undo_kept.");
    OUTBOX_KEPT = gauge("forebay_redis_outbox_kept", "Durable entries that the outbox still has.");
    OUTBOX_KEPT_LIMIT = gauge("forebay_redis_outbox_kept_limit", "outbox_kept; they are trimmed in portions, so there may be some more.");

    // The API.
    API_SHARED_READS = counter("forebay_api_shared_reads_total", "Reads of single things that the API sent to Redis.");
    API_SHARED_CALLS = counter("forebay_api_shared_calls_total", "Calls that they were sent in: reads that wait at the same time share one.");
    API_WRITTEN_BLOCKS = gauge("forebay_api_written_blocks", "Blocks that the API keeps as it answered them.");
    API_WRITTEN_BYTES = gauge("forebay_api_written_blocks_bytes", "What these blocks take.");
    API_WRITTEN_BYTES_LIMIT = gauge("forebay_api_written_blocks_bytes_limit", "written_blocks_bytes_max of [api]; 0: none are kept, or no API is served.");
    API_BODIES = gauge("forebay_api_bodies", "Blocks whose bodies the API keeps as it read them.");
    API_BODIES_BYTES = gauge("forebay_api_bodies_bytes", "What these bodies take.");
    API_BODIES_BYTES_LIMIT = gauge("forebay_api_bodies_bytes_limit", "bodies_bytes_max of [api]; 0: none are kept, or no API is served.");

    // The process.
    START_TIME = gauge("process_start_time_seconds", "When the process began, seconds since 1970.");
    CPU = counter("process_cpu_seconds_total", "Processor time that the process used.");
    RESIDENT = gauge("process_resident_memory_bytes", "Memory of the process.");
    OPEN_FDS = gauge("process_open_fds", "Open files.");
    MAX_FDS = gauge("process_max_fds", "How many may be open.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for metric in ALL {
            let name = metric.name;
            let lawful =
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
            assert!(lawful && (name.starts_with("forebay_") || name.starts_with("process_")), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
            assert_eq!(ALL.iter().filter(|other| other.name == name).count(), 1, "{name} is there twice");
            for unit in ["_ms", "_milliseconds", "_kb", "_mb", "_mib"] {
                assert!(!name.contains(unit), "{name}: base units are seconds and bytes");
            }
        }
    }

    #[test]
    fn every_limit_stands_beside_what_it_limits() {
        let limits: Vec<_> = ALL.iter().filter_map(|metric| metric.name.strip_suffix("_limit")).collect();
        assert!(limits.len() >= 13);
        for limited in limits {
            assert!(ALL.iter().any(|metric| metric.name == limited), "{limited}_limit has no {limited}");
        }
    }
}
