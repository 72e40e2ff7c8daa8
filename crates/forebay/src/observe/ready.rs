//! Whether the node is ready, part by part, each with its reason. Pure: from what was seen.
//!
//! Ready means: blocks are taken and reads are answered now. A PostgreSQL that is away does not end that before a limit is
//! reached, so it is told and does not count.

use forebay_store::{Pace, Phase, PhaseProgress, Progress};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

/// A part, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name.
    pub part: &'static str,
    /// Whether it is in order.
    pub ok: bool,
    /// Whether the node is not ready without it.
    pub required: bool,
    /// Why, for people.
    pub reason: String,
}

/// What a probe is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether blocks are taken and reads answered.
    pub ready: bool,
    /// What the node is doing.
    pub phase: String,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// The names of the parts.
pub const PARTS: [&str; 5] = ["node", "redis", "postgres", "lag", "memory"];

impl Readiness {
    fn of(phase: &str, parts: Vec<Part>) -> Self {
        let ready = parts.iter().all(|part| part.ok || !part.required);
        Self { ready, phase: phase.to_owned(), parts }
    }

    /// Before the node's loop runs.
    pub fn of_start(step: Option<&PhaseProgress>) -> Self {
        let (phase, mut reason) = match step {
            None => (Phase::Setup.name(), "starting".to_owned()),
            Some(PhaseProgress { phase, done, total: Some(total), .. }) => {
                (phase.name(), format!("starting: {}, {done} of {total}", phase.name()))
            }
            Some(PhaseProgress { phase, .. }) => (phase.name(), format!("starting: {}", phase.name())),
        };
        if let Some(error) = step.and_then(|step| step.last_error.as_ref()) {
            reason.push_str(&format!("; waiting because of: {error}"));
        }
        Self::of(phase, vec![Part { part: "node", ok: false, required: true, reason }])
    }

    /// Of a running node. `step`: of a restore under way.
    pub fn of_node(progress: &Progress, step: Option<&PhaseProgress>) -> Self {
        let phase = progress.phase.name();
        Self::of(
            phase,
            vec![node(progress, step), redis(progress), postgres(progress), lag(progress), memory(progress)],
        )
    }

    /// After its end.
    pub fn of_ended() -> Self {
        let reason = "the node has ended".to_owned();
        Self::of("stopped", vec![Part { part: "node", ok: false, required: true, reason }])
    }
}

fn node(progress: &Progress, step: Option<&PhaseProgress>) -> Part {
    let steps = step.and_then(|step| Some(format!(", {} of {}", step.done, step.total?))).unwrap_or_default();
    let (ok, reason) = match progress.phase {
        Phase::Ready => (true, "takes blocks and answers reads".to_owned()),
        Phase::Stopping => (false, "stopping: what is accepted is brought to PostgreSQL".to_owned()),
        Phase::Stopped => (false, "the node has ended".to_owned()),
        other => (false, format!("Redis is being restored from PostgreSQL: {}{steps}", other.name())),
    };
    Part { part: "node", ok, required: true, reason }
}

fn redis(progress: &Progress) -> Part {
    let (ok, reason) = match (&progress.redis_error, progress.redis_away_since) {
        (None, _) => (true, "answers".to_owned()),
        (Some(error), Some(since)) => {
            (false, format!("callers have waited {} s for it: {error}", since.elapsed().as_secs()))
        }
        (Some(error), None) => (false, error.clone()),
    };
    Part { part: "redis", ok, required: true, reason }
}

fn postgres(progress: &Progress) -> Part {
    let taken = if progress.pace == Pace::Waiting { "" } else { ", blocks are still taken" };
    let (ok, reason) = match (&progress.postgres_error, progress.no_progress_since) {
        (None, _) => (true, "follows".to_owned()),
        (Some(error), Some(since)) => {
            (false, format!("{} s without progress{taken}: {error}", since.elapsed().as_secs()))
        }
        (Some(error), None) => (false, format!("nothing waits for it: {error}")),
    };
    Part { part: "postgres", ok, required: false, reason }
}

fn lag(progress: &Progress) -> Part {
    let (operations, bytes) = (progress.lag_operations as u64, progress.lag_bytes as u64);
    let lag = format!("{} operations, {} are not durable", HumanCount(operations), HumanBytes(bytes));
    let (ok, reason) = match progress.pace {
        Pace::Waiting => {
            (false, format!("at the limit, no block is taken before PostgreSQL has caught up: {lag}"))
        }
        Pace::Slowed(pause) if !progress.memory.is_slowed => {
            (true, format!("close to the limit, {} ms before each block: {lag}", pause.as_millis()))
        }
        _ => (true, lag),
    };
    Part { part: "lag", ok, required: true, reason }
}

fn memory(progress: &Progress) -> Part {
    let memory = &progress.memory;
    let used = HumanBytes(memory.used_bytes);
    let of = match memory.maxmemory_bytes {
        0 => "no maxmemory".to_owned(),
        max => format!("of {}", HumanBytes(max)),
    };
    let reason = match memory.is_slowed {
        true => format!("Redis is filling up, blocks are taken more slowly: {used}, {of}"),
        false => format!("{used}, {of}"),
    };
    Part { part: "memory", ok: !memory.is_slowed, required: false, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_says_its_phase_its_steps_and_what_it_waits_for() {
        let servers = Readiness::of_start(None);
        assert_eq!((servers.ready, servers.phase.as_str()), (false, "setup"));
        let mut step = PhaseProgress::new(Phase::Restore, 3, Some(9));
        step.last_error = Some("connection refused".to_owned());
        let restore = Readiness::of_start(Some(&step));
        assert_eq!((restore.ready, restore.phase.as_str()), (false, "restore"));
        assert_eq!(
            restore.parts[0].reason,
            "starting: restore, 3 of 9; waiting because of: connection refused"
        );
        assert!(!Readiness::of_ended().ready);
    }
}
