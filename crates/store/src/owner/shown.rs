//! What the loop shows of itself: where it stands, and what troubles it.

use std::sync::atomic::Ordering;

use super::{Flight, Owner};
use crate::progress::InFlight;

impl Owner {
    pub(crate) fn trouble_with_postgres(&mut self, error: String) {
        self.slow_trouble = Some(error);
        self.counts.postgres_failures += 1;
        self.progress.send_modify(|progress| progress.retries += 1);
        self.show();
    }

    pub(crate) fn trouble_with_redis(&mut self, error: String) {
        self.redis_trouble = Some(error);
        self.counts.redis_failures += 1;
        self.show();
    }

    pub(crate) fn no_trouble_with_redis(&mut self) {
        if self.redis_trouble.take().is_some() {
            self.show();
        }
    }

    pub(crate) fn show(&mut self) {
        self.counts.requests_refused = self.refused.load(Ordering::Relaxed);
        let redis_trouble = self.redis_trouble.clone().or_else(|| self.pulse.trouble());
        let lag_since = self.tail.front().map(|unsynced| unsynced.accepted_at);
        self.progress.send_modify(|progress| {
            progress.tip = self.writer.tip();
            progress.position = self.position();
            progress.durable = self.durable;
            progress.lag_operations = self.tail.len();
            progress.lag_bytes = self.tail_bytes;
            progress.lag_since = lag_since;
            progress.last_error = redis_trouble.clone().or_else(|| self.slow_trouble.clone());
            progress.redis_error.clone_from(&redis_trouble);
            progress.postgres_error.clone_from(&self.slow_trouble);
            progress.redis_away_since = self.waiting.as_ref().map(|waiting| waiting.since);
            progress.no_progress_since = lag_since.map(|since| since.max(self.progressed_at));
            progress.at_limit_since = self.at_limit_since;
            progress.counts = self.counts;
            progress.pace = self.pace;
            progress.accounts_cached_bytes = self.writer.resident.accounts.bytes();
            if !matches!(self.flight, Flight::Batch(_)) {
                progress.in_flight = InFlight::default();
            }
            progress.kept = self.retention.kept(self.durable.seq, self.durable.height);
        });
    }
}
