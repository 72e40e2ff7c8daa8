//! Lines to the node, and its answers.

use super::{Driver, Outcome};
use crate::feed::{Answer, Feed};
use crate::process::POLL;

/// Of a line that waits for its answer, so much is shown.
const LINE_SHOWN_MAX: usize = 60;

impl Driver {
    /// One line, one answer. The connection may be a new one, to a node that was rolled back.
    pub(super) async fn converse(&mut self, line: &serde_json::Value) -> Outcome {
        match self.connected().await {
            Some(feed) => self.converse_over(feed, line).await,
            None => Outcome::Unknown,
        }
    }

    /// The same for what counts on the node's chain being ours. `None`: nothing was sent, because the connection leads to no
    /// node that is known to have it; [`Driver::find_what_is_left`] makes sure.
    pub(super) async fn converse_here(&mut self, line: &serde_json::Value) -> Option<Outcome> {
        let feed = if self.is_unsure { None } else { self.feed_to_holder() }?;
        Some(self.converse_over(feed, line).await)
    }

    async fn converse_over(&mut self, mut feed: Feed, line: &serde_json::Value) -> Outcome {
        let shown: String = line.to_string().chars().take(LINE_SHOWN_MAX).collect();
        self.history.lock().last_answer = format!("none yet to {shown}");
        if feed.send(format!("{line}\n").as_bytes()).await.is_err() {
            return Outcome::Unknown;
        }
        let outcome = self.answer(&mut feed).await;
        if !feed.is_broken() {
            self.feed = Some(feed);
        }
        outcome
    }

    /// The next answer, unless the connection or the chain's holder is gone before it comes.
    pub(super) async fn answer(&mut self, feed: &mut Feed) -> Outcome {
        let socket = self.orders.borrow().feed.clone();
        let answer = tokio::select! {
            answer = feed.answer() => answer,
            _ = self.orders.wait_for(|order| order.feed != socket) => {
                feed.give_up();
                return Outcome::Unknown;
            }
        };
        self.history.lock().last_answer = format!("{answer:?}");
        match answer {
            Ok(Answer::Done(done)) => {
                let profile = self.plan.profile.to_string();
                if done.profile != profile {
                    self.history.violated(format!("Redis is {profile}, but a receipt says {done:?}"));
                }
                Outcome::Done(done)
            }
            Ok(Answer::Error { error }) if error.is_trouble() => Outcome::Unknown,
            Ok(Answer::Error { error }) => Outcome::Refused(error),
            Err(_) => Outcome::Unknown,
        }
    }

    /// The connection that there is, unless another process was counted since: a node that listens where the last one did
    /// may have been found before that, and is gone to once more.
    fn feed_to_holder(&mut self) -> Option<Feed> {
        let is_counted = self.orders.borrow().node == self.node;
        self.feed.take().filter(|_| is_counted)
    }

    /// A connection to the node that holds the chain, as soon as it listens; `None`: it could not be used, try again.
    pub(super) async fn connected(&mut self) -> Option<Feed> {
        if let Some(feed) = self.feed_to_holder() {
            return Some(feed);
        }
        loop {
            let (socket, node) = {
                let order = self.orders.borrow_and_update();
                (order.feed.clone(), order.node)
            };
            if let Ok(feed) = Feed::connect(&socket).await {
                (self.is_unsure, self.node) = (true, node);
                if self.may_be_rolled_back() {
                    // Numbers may be given again.
                    self.history.lock().tips.clear();
                }
                return Some(feed);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
