//! One task looks at Redis for all who follow the chain, and tells them that something changed. It runs while somebody
//! follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_fast::{Head, State};
use forebay_ledger::ids::Height;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::Api;

/// Between two looks: an event is told within so long, and a thousand blocks a second make no thousand looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who follows, and what they are told.
pub struct Hub {
    heads: watch::Sender<Option<Seen>>,
    is_looking: AtomicBool,
    streams: Arc<Semaphore>,
}

/// Where the chain stands in both tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Redis.
    pub head: Head,
    /// The last operation that PostgreSQL has.
    pub durable_seq: u64,
    /// The tip there.
    pub durable_height: Height,
}

impl Seen {
    /// The node knows what is durable; without one, Redis has a note that may lag.
    fn of(head: Head, api: &Api) -> Self {
        let noted = head.durable.map_or((0, 0), |durable| (durable.position.seq, durable.height));
        let known = api.node().map(|node| node.progress().durable);
        let (durable_seq, durable_height) = known.map_or(noted, |durable| (durable.seq, durable.height));
        Self { head, durable_seq, durable_height }
    }
}

/// A follower's ear.
pub struct Ear {
    /// The newest head that was seen.
    pub heads: watch::Receiver<Option<Seen>>,
    _stream: OwnedSemaphorePermit,
}

impl Hub {
    /// For so many followers.
    pub fn new(streams_max: usize) -> Self {
        Self {
            heads: watch::Sender::new(None),
            is_looking: AtomicBool::new(false),
            streams: Arc::new(Semaphore::new(streams_max)),
        }
    }

    /// Follows from now on; `None`: too many do.
    pub fn follow(&self, api: &Api) -> Option<Ear> {
        let stream = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        let heads = self.heads.subscribe();
        if !self.is_looking.swap(true, Ordering::SeqCst) {
            tokio::spawn(look(api.clone()));
        }
        Some(Ear { heads, _stream: stream })
    }
}

async fn look(api: Api) {
    let hub = api.hub();
    loop {
        if hub.heads.receiver_count() == 0 {
            hub.is_looking.store(false, Ordering::SeqCst);
            // Somebody may have come between the two lines, and seen that we look.
            if hub.heads.receiver_count() == 0 || hub.is_looking.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        if let Ok(fast) = api.tiers().fast().usable().await {
            match fast.head().await {
                Ok(head) if head.state == State::Ready => {
                    let seen = Seen::of(head, &api);
                    hub.heads.send_if_modified(|known| {
                        let is_new = *known != Some(seen);
                        *known = Some(seen);
                        is_new
                    });
                }
                Ok(_) => {}
                Err(error) => drop(api.tiers().fast().failed(&error)),
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
