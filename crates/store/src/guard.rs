//! The guard: how far the slow tier may fall behind, and when to stop. Pure: it is told the time, so tests can feed it
//! any, and a jump of the wall clock changes nothing.

use std::time::{Duration, Instant};

use crate::options::Limits;

/// What waits for the slow tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Operations accepted and not durable.
    pub operations: usize,
    /// Bytes of their blocks.
    pub bytes: usize,
    /// Steps on their way to Redis: they will wait, too, so they take room; but the slow tier is not late with them.
    pub steps_sent: usize,
    /// Bytes of their blocks.
    pub bytes_sent: usize,
}

/// What the writer may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Fine,
    /// Above the soft limit: pause so long before the next operation.
    Slow(Duration),
    /// At a hard limit: wait until there is room.
    Wait,
    /// Too far behind for too long: stop.
    Stop(Overrun),
}

/// Why the guard stops the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// The slow tier made no progress for so long while operations waited.
    NoProgress(Duration),
    /// A live chain was at the limit of operations for so long.
    OverLimit(Duration),
}

/// Watches the lag. One owner feeds it.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    /// The later of: the last progress, the first operation that waits since.
    waiting_since: Option<Instant>,
    over_since: Option<Instant>,
}

/// Longest pause before an operation, just below the hard limit.
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl Guard {
    /// A guard that has seen nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, waiting_since: None, over_since: None }
    }

    /// The slow tier made progress.
    pub fn progressed(&mut self, now: Instant) {
        self.waiting_since = Some(now);
    }

    /// What may be done now. `is_live`: the tip is close to the clock.
    pub fn observe(&mut self, now: Instant, lag: &Lag, is_live: bool) -> Verdict {
        let limits = &self.limits;
        let (operations, bytes) = (lag.operations + lag.steps_sent, lag.bytes + lag.bytes_sent);
        let at_blocks = operations >= limits.lag_blocks_max;
        let is_full = at_blocks || bytes >= limits.lag_bytes_max;
        if lag.operations == 0 {
            (self.waiting_since, self.over_since) = (None, None);
            return if is_full && operations > 0 { Verdict::Wait } else { Verdict::Fine };
        }
        let waiting = now.saturating_duration_since(*self.waiting_since.get_or_insert(now));
        self.over_since = at_blocks.then(|| self.over_since.unwrap_or(now));
        let over = self.over_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if waiting >= limits.no_progress_max {
            return Verdict::Stop(Overrun::NoProgress(waiting));
        }
        if is_live && at_blocks && over >= limits.grace {
            return Verdict::Stop(Overrun::OverLimit(over));
        }
        if is_full {
            return Verdict::Wait;
        }
        let pause = pause(operations, limits.lag_blocks_max).max(pause(bytes, limits.lag_bytes_max));
        if pause.is_zero() { Verdict::Fine } else { Verdict::Slow(pause) }
    }
}

/// Nothing up to three quarters of the limit, then growing to the longest pause.
fn pause(lag: usize, max: usize) -> Duration {
    let soft = max / 4 * 3;
    let (over, range) = (lag.saturating_sub(soft), (max - soft).max(1));
    PAUSE_MAX.mul_f64(
        f64::from(u32::try_from(over).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(range).unwrap_or(u32::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            lag_blocks_max: 100,
            lag_bytes_max: 1000,
            no_progress_max: Duration::from_secs(600),
            grace: Duration::from_secs(60),
            ..Limits::default()
        }
    }

    fn lag(operations: usize, bytes: usize) -> Lag {
        Lag { operations, bytes, ..Lag::default() }
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn soft_limit_slows_and_hard_limit_waits() {
        let (mut guard, now) = (Guard::new(limits()), Instant::now());
        assert_eq!(guard.observe(now, &lag(75, 0), true), Verdict::Fine);
        let Verdict::Slow(first) = guard.observe(now, &lag(80, 0), true) else { panic!("not slowed") };
        let Verdict::Slow(second) = guard.observe(now, &lag(99, 0), true) else { panic!("not slowed") };
        assert!(first < second && second < PAUSE_MAX);
        assert_eq!(guard.observe(now, &lag(100, 0), true), Verdict::Wait);
        assert_eq!(guard.observe(now, &lag(1, 1000), true), Verdict::Wait);
    }

    #[test]
    fn steps_on_their_way_take_room_but_are_nothing_that_the_slow_tier_is_late_with() {
        let (mut guard, start) = (Guard::new(limits()), Instant::now());
        let sent = |operations, steps_sent| Lag { steps_sent, ..lag(operations, 0) };
        assert_eq!(guard.observe(start, &sent(0, 16), true), Verdict::Fine);
        assert_eq!(guard.observe(seconds(start, 900), &sent(0, 16), true), Verdict::Fine);
        assert_eq!(guard.observe(seconds(start, 900), &sent(0, 100), true), Verdict::Wait);
        assert_eq!(guard.observe(seconds(start, 900), &sent(90, 10), true), Verdict::Wait);
        let full = Lag { bytes_sent: 600, ..lag(1, 400) };
        assert_eq!(guard.observe(seconds(start, 900), &full, true), Verdict::Wait);
    }

    #[test]
    fn no_progress_for_the_time_limit_stops_in_every_mode() {
        for is_live in [true, false] {
            let (mut guard, start) = (Guard::new(limits()), Instant::now());
            guard.observe(start, &lag(1, 1), is_live);
            assert_eq!(guard.observe(seconds(start, 599), &lag(2, 1), is_live), Verdict::Fine);
            let stop = Verdict::Stop(Overrun::NoProgress(Duration::from_secs(600)));
            assert_eq!(guard.observe(seconds(start, 600), &lag(2, 1), is_live), stop);
        }
    }

    #[test]
    fn progress_and_an_empty_outbox_start_the_time_anew() {
        let (mut guard, start) = (Guard::new(limits()), Instant::now());
        guard.observe(start, &lag(5, 1), false);
        guard.progressed(seconds(start, 500));
        assert_eq!(guard.observe(seconds(start, 1099), &lag(5, 1), false), Verdict::Fine);
        guard.observe(seconds(start, 1099), &lag(0, 0), false);
        assert_eq!(guard.observe(seconds(start, 5000), &lag(5, 1), false), Verdict::Fine);
    }

    #[test]
    fn over_the_limit_for_the_grace_stops_a_live_chain_only() {
        let start = Instant::now();
        let mut guard = Guard::new(limits());
        guard.observe(start, &lag(100, 1), true);
        guard.progressed(seconds(start, 59));
        assert_eq!(guard.observe(seconds(start, 59), &lag(100, 1), true), Verdict::Wait);
        let stop = Verdict::Stop(Overrun::OverLimit(Duration::from_secs(60)));
        assert_eq!(guard.observe(seconds(start, 60), &lag(100, 1), true), stop);
        assert_eq!(guard.observe(seconds(start, 60), &lag(100, 1), false), Verdict::Wait);
        // Below the limit in between: the grace begins anew.
        guard.observe(seconds(start, 61), &lag(99, 1), true);
        assert_eq!(guard.observe(seconds(start, 62), &lag(100, 1), true), Verdict::Wait);
    }
}
