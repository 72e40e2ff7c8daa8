//! A stop that somebody asks for, and how it is heard wherever the loop waits.
//!
//! The request stays where it was put: a wait that ends because of it leaves it to whoever deals with it. Its time counts
//! from the moment it was asked for, so nothing that the loop was busy with lengthens it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::StoreError;

/// A stop as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopAsked {
    at: Instant,
    drain_max: Duration,
}

impl StopAsked {
    fn now(drain_max: Duration) -> Self {
        Self { at: Instant::now(), drain_max }
    }

    /// Nobody can ask for anything any more, so nobody waits for a drain.
    pub(super) fn abandoned() -> Self {
        Self::now(Duration::ZERO)
    }

    /// What is left of the time to drain.
    pub(super) fn time_left(&self) -> Duration {
        self.drain_max.saturating_sub(self.at.elapsed())
    }
}

/// The side of those who ask.
#[derive(Debug, Clone)]
pub(crate) struct AskToStop(watch::Sender<Option<StopAsked>>);

impl AskToStop {
    /// The first request counts: its time is running.
    pub(crate) fn ask(&self, drain_max: Duration) {
        self.0.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert_with(|| StopAsked::now(drain_max));
            is_first
        });
    }
}

/// The loop's side.
#[derive(Debug, Clone)]
pub(crate) struct Stops {
    asked: watch::Receiver<Option<StopAsked>>,
    is_heard: bool,
}

/// Both sides.
pub(crate) fn channel() -> (AskToStop, Stops) {
    let (ask, asked) = watch::channel(None);
    (AskToStop(ask), Stops { asked, is_heard: false })
}

impl Stops {
    /// Waits until somebody asks; for ever once that was [heard](Self::heard).
    pub(super) async fn asked(&mut self) -> StopAsked {
        if self.is_heard {
            return std::future::pending().await;
        }
        match self.asked.wait_for(Option::is_some).await {
            Ok(asked) => asked.unwrap_or_else(StopAsked::abandoned),
            Err(_) => StopAsked::abandoned(),
        }
    }

    /// From now on the loop winds down: its waits are part of the drain, and end with the drain's time.
    pub(super) fn heard(&mut self) {
        self.is_heard = true;
    }

    /// Work that may be given up at any of its waits. It is, when somebody asks.
    ///
    /// # Errors
    /// Stopping, or what the work fails with.
    pub(crate) async fn unless_asked<T>(
        mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = work => done,
            _ = self.asked() => Err(StoreError::Stopping),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_stays_asked_for_until_it_is_heard_and_the_first_one_counts() {
        let (ask, mut stops) = channel();
        ask.ask(Duration::from_secs(100));
        ask.ask(Duration::ZERO);
        for _ in 0..2 {
            assert!(stops.asked().await.time_left() > Duration::from_secs(90));
            let waiting = stops.clone().unless_asked(std::future::pending::<Result<(), _>>());
            assert!(matches!(waiting.await, Err(StoreError::Stopping)));
        }
        stops.heard();
        assert!(stops.clone().unless_asked(async { Ok(7) }).await.is_ok());
        assert!(tokio::time::timeout(Duration::from_millis(20), stops.asked()).await.is_err());
    }

    #[tokio::test]
    async fn without_anybody_who_could_ask_it_is_time_to_stop_at_once() {
        let (ask, mut stops) = channel();
        drop(ask);
        assert_eq!(stops.asked().await.time_left(), Duration::ZERO);
    }
}
