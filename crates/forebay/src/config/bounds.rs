//! What the types of single settings cannot say: how large a number may be, and whether settings fit together. One list, for
//! every command and for `forebay config check`.

use forebay_fast::SERVER_BYTES;

use super::layers::Problem;
use super::{LimitSettings, Settings};
use crate::logging;

/// Heights and rows are counted so far in PostgreSQL.
const COUNT_MAX: u64 = i32::MAX as u64;
/// No machine has more: 1 PiB.
const BYTES_MAX: u64 = 1 << 50;
/// Ten years.
pub(crate) const SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;
/// Names of PostgreSQL have up to 63 bytes, and the longest of ours ends with `_writer` or `_reader`.
const PREFIX_BYTES_MAX: usize = 63 - "_writer".len();
/// Each of them is renamed when the newest is full.
const LOG_FILES_MAX: u64 = 10_000;

/// A number with its bounds.
pub(crate) struct Bounded {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Bounded {
    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let Self { name, value, least, most } = self;
        let message = match value {
            value if value < least && *least == 1 => format!("{name} must be above 0"),
            value if value < least => format!("{name} is {value}, and must be at least {least}"),
            value if value > most => format!("{name} is {value}, and may be at most {most}"),
            _ => return None,
        };
        Some(Problem {
            message,
            remedy: "Correct the number, or leave the setting out for its default.".to_owned(),
        })
    }
}

/// Everything that is wrong with settings whose types are right; nothing is read or asked for it.
pub(super) fn problems(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |message: &str, remedy: &str| {
        problems.push(Problem { message: message.to_owned(), remedy: remedy.to_owned() });
    };
    if settings.redis_url.is_some() != settings.postgres_url.is_some() {
        wrong(
            "redis_url and postgres_url belong together: only one of them is given",
            "Give both to use your servers, or neither for private ones.",
        );
    }
    if settings.postgres_admin_url.is_some() && settings.postgres_url.is_none() {
        wrong("postgres_admin_url is given without postgres_url", "Give postgres_url too.");
    }
    if settings.data_dir.to_string_lossy().trim().is_empty() {
        wrong("data_dir is empty or blank", "Name a directory, or leave the setting out for its default.");
    }
    let prefix = settings.postgres_prefix.len();
    if prefix == 0 || prefix > PREFIX_BYTES_MAX {
        wrong(
            &format!("postgres_prefix has {prefix} bytes, and must have 1 to {PREFIX_BYTES_MAX}"),
            "Correct the name, or leave the setting out for its default.",
        );
    }
    if let Err(error) = settings.log.as_deref().map(logging::filter).transpose() {
        wrong(&format!("log: {error}"), logging::REMEDY);
    }
    problems.extend(numbers(settings).iter().chain(&limits(&settings.limits)).filter_map(Bounded::problem));
    problems.extend(settings.api.problems());
    problems
}

fn numbers(settings: &Settings) -> [Bounded; 5] {
    let bounded = |name, value, least, most| Bounded { name, value, least, most };
    let memory = settings.redis_memory_bytes_max.unwrap_or(0);
    // 0: no limit. What is too little for a chain only the memory plan knows.
    let memory_least = if memory == 0 { 0 } else { SERVER_BYTES };
    [
        bounded("redis_memory_bytes_max", memory, memory_least, BYTES_MAX),
        bounded("connect_timeout_seconds", settings.connect_timeout_seconds, 0, SECONDS_MAX),
        bounded("drain_seconds", settings.drain_seconds, 0, SECONDS_MAX),
        bounded("write_log_bytes_max", settings.write_log_bytes_max, 1, BYTES_MAX),
        bounded("write_log_files_max", settings.write_log_files_max.into(), 1, LOG_FILES_MAX),
    ]
}

fn limits(limits: &LimitSettings) -> [Bounded; 14] {
    let bounded = |name, value, least, most| Bounded { name, value, least, most };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    [
        bounded("limits.lag_blocks_max", wide(limits.lag_blocks_max), 1, COUNT_MAX),
        bounded("limits.lag_bytes_max", wide(limits.lag_bytes_max), 1, BYTES_MAX),
        bounded("limits.batch_operations_max", wide(limits.batch_operations_max), 1, COUNT_MAX),
        bounded("limits.batch_bytes_max", wide(limits.batch_bytes_max), 1, BYTES_MAX),
        bounded("limits.blocks_kept", limits.blocks_kept.into(), 0, COUNT_MAX),
        bounded("limits.undo_kept", limits.undo_kept.into(), 0, COUNT_MAX),
        bounded("limits.outbox_kept", wide(limits.outbox_kept), 0, COUNT_MAX),
        bounded(
            "limits.accounts_cached_bytes_max",
            limits.accounts_cached_bytes_max.unwrap_or(0),
            0,
            BYTES_MAX,
        ),
        bounded("limits.takeover_after_seconds", limits.takeover_after_seconds, 1, SECONDS_MAX),
        bounded("limits.redis_away_seconds_max", limits.redis_away_seconds_max, 0, SECONDS_MAX),
        bounded("limits.no_progress_seconds_max", limits.no_progress_seconds_max, 0, SECONDS_MAX),
        bounded("limits.durable_within_ms", limits.durable_within_ms, 0, 1000 * SECONDS_MAX),
        bounded("limits.grace_seconds", limits.grace_seconds, 0, SECONDS_MAX),
        // With the age of the whole network every tip is live.
        bounded("limits.live_within_seconds", limits.live_within_seconds, 0, 10 * SECONDS_MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(problems(&Settings::default()), []);
    }

    #[test]
    fn each_number_out_of_its_bounds_is_a_problem_of_its_own() {
        let settings = Settings {
            redis_memory_bytes_max: Some(1),
            drain_seconds: u64::MAX,
            write_log_files_max: 0,
            limits: LimitSettings { lag_blocks_max: 0, blocks_kept: u32::MAX, ..LimitSettings::default() },
            ..Settings::default()
        };
        let messages: Vec<String> = problems(&settings).into_iter().map(|problem| problem.message).collect();
        assert_eq!(
            messages,
            [
                "redis_memory_bytes_max is 1, and must be at least 876272",
                "drain_seconds is 18446744073709551615, and may be at most 315360000",
                "write_log_files_max must be above 0",
                "limits.lag_blocks_max must be above 0",
                "limits.blocks_kept is 4294967295, and may be at most 2147483647",
            ]
        );
    }
}
