//! Follows the chain from a place in the order of operations: from the outbox in Redis, and from PostgreSQL's write log
//! where the outbox does not go back so far.

use std::collections::VecDeque;

use forebay_fast::{Head, Operation, OutboxEntry, Position};
use forebay_ledger::ids::Height;
use forebay_slow::lists::ChainOperation;
use serde::Serialize;
use utoipa::ToSchema;

use super::hub::{Ear, Seen};
use crate::Api;

/// Operations that are read at once.
const OPERATIONS_A_READ: usize = 500;

/// What happened to the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// A block is applied in Redis and stands in the outbox.
    Accepted {
        /// Who accepted it.
        epoch: u64,
        /// The operation's number.
        seq: u64,
        /// Its height.
        height: Height,
        /// Its id.
        id: String,
    },
    /// A round ended with the block that was accepted just before.
    RoundEnd {
        /// Of the operation that accepted the block.
        epoch: u64,
        /// See `epoch`.
        seq: u64,
        /// Its number.
        round: u32,
        /// Its last block's height.
        height: Height,
    },
    /// Blocks were taken back.
    TakenBack {
        /// Who did it.
        epoch: u64,
        /// The operation's number.
        seq: u64,
        /// The tip's height since.
        height: Height,
        /// The tip since, where it is known.
        id: Option<String>,
    },
    /// PostgreSQL has everything up to and with this operation.
    Durable {
        /// Of the last operation.
        epoch: u64,
        /// See `epoch`.
        seq: u64,
        /// PostgreSQL's tip.
        height: Height,
    },
    /// How far PostgreSQL is behind.
    Guard {
        /// `fine`, `slow` (writes are slowed) or `waiting` (writes wait).
        state: GuardState,
        /// Operations accepted and not durable.
        lag_operations: u64,
    },
    /// What was followed is not the chain's history any more, or goes back too far: look at the chain anew. Events go on from
    /// here.
    Reset {
        /// Of the last operation.
        epoch: u64,
        /// See `epoch`.
        seq: u64,
        /// The tip's height.
        height: Height,
    },
}

/// What the guard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuardState {
    /// Nothing.
    Fine,
    /// Above three quarters of the limit it slows writes.
    Slow,
    /// At the limit writes wait.
    Waiting,
}

/// Where a follower goes on: after this operation. Without an epoch any history will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Who accepted it.
    pub epoch: Option<u64>,
    /// Its number.
    pub seq: u64,
}

impl Cursor {
    /// `<epoch>-<seq>`, or `<seq>` alone.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().split_once('-') {
            Some((epoch, seq)) => Some(Self { epoch: Some(epoch.parse().ok()?), seq: seq.parse().ok()? }),
            None => Some(Self { epoch: None, seq: text.trim().parse().ok()? }),
        }
    }

    fn at(position: Position) -> Self {
        Self { epoch: Some(position.epoch), seq: position.seq }
    }
}

/// An event, and the cursor to go on after it; an event in the middle of an operation has none.
pub type Told = (Option<String>, Event);

/// One who follows.
pub struct Follower {
    api: Api,
    ear: Ear,
    /// `None`: from the first head that is seen.
    cursor: Option<Cursor>,
    durable: u64,
    guard: Option<GuardState>,
    told: VecDeque<Told>,
}

impl Follower {
    /// Follows from a cursor, or from now on.
    pub fn new(api: Api, ear: Ear, cursor: Option<Cursor>) -> Self {
        Self { api, ear, cursor, durable: 0, guard: None, told: VecDeque::new() }
    }

    /// The next event; `None` when the server ends.
    pub async fn next(&mut self) -> Option<Told> {
        let mut ending = self.api.ending();
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let seen = *self.ear.heads.borrow_and_update();
            if let Some(seen) = seen {
                self.look(seen).await;
                if !self.told.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return None,
                changed = self.ear.heads.changed() => changed.ok()?,
            }
        }
    }

    async fn look(&mut self, seen: Seen) {
        let head = seen.head;
        let Some(cursor) = self.cursor else {
            self.cursor = Some(Cursor::at(head.position));
            self.tell_lag(seen);
            return;
        };
        if cursor.seq > head.position.seq {
            self.reset(head);
        } else if cursor.seq < head.position.seq {
            match self.operations_between(cursor, head.position).await {
                // A tier is away: the next head, or the next look, tells more.
                None => {}
                Some(operations) if operations.is_empty() => self.reset(head),
                Some(operations) => operations.into_iter().for_each(|told| self.push(told)),
            }
        } else if cursor.epoch.is_some_and(|epoch| epoch > head.position.epoch) {
            self.reset(head);
        }
        self.tell_lag(seen);
    }

    fn push(&mut self, (position, events): (Position, Vec<Event>)) {
        let last = events.len().saturating_sub(1);
        for (at, event) in events.into_iter().enumerate() {
            self.told.push_back(((at == last).then(|| position.to_string()), event));
        }
        self.cursor = Some(Cursor::at(position));
    }

    fn reset(&mut self, head: Head) {
        let Position { epoch, seq } = head.position;
        self.cursor = Some(Cursor::at(head.position));
        let height = head.tip.map_or(0, |tip| tip.height);
        self.told.push_back((Some(head.position.to_string()), Event::Reset { epoch, seq, height }));
    }

    fn tell_lag(&mut self, Seen { head, durable_seq: durable, durable_height: height }: Seen) {
        if durable > self.durable {
            self.durable = durable;
            let epoch = head.durable.map_or(head.position.epoch, |durable| durable.position.epoch);
            self.told.push_back((None, Event::Durable { epoch, seq: durable, height }));
        }
        let lag = head.position.seq.saturating_sub(durable);
        let max = self.api.lag_operations_max().max(1);
        let state = match lag {
            lag if lag >= max => GuardState::Waiting,
            lag if lag > max / 4 * 3 => GuardState::Slow,
            _ => GuardState::Fine,
        };
        if self.guard != Some(state) {
            self.guard = Some(state);
            self.told.push_back((None, Event::Guard { state, lag_operations: lag }));
        }
    }

    /// What was done after a cursor and up to a head, in order and without gaps. `Some` and empty: the history does not go back to it, or is
    /// another one. `None`: it cannot be read now.
    async fn operations_between(
        &self,
        cursor: Cursor,
        head: Position,
    ) -> Option<Vec<(Position, Vec<Event>)>> {
        let fast = self.api.tiers().fast().usable().await.ok()?;
        let after = Position { epoch: cursor.epoch.unwrap_or(0), seq: cursor.seq };
        let entries = match fast.outbox_entries(Some(after), OPERATIONS_A_READ).await {
            Ok(entries) => entries,
            Err(error) => {
                self.api.tiers().fast().failed(&error);
                return None;
            }
        };
        // What came after the head was seen is told with the next head; a cursor without an epoch sees earlier ones again.
        let entries: Vec<OutboxEntry> = entries
            .into_iter()
            .filter(|entry| entry.position <= head)
            .filter(|entry| cursor.epoch.is_some() || entry.position.seq > cursor.seq)
            .collect();
        if entries.first().is_some_and(|first| first.position.seq == cursor.seq + 1) {
            return Some(entries.iter().map(|entry| (entry.position, self.events_of(entry))).collect());
        }
        self.operations_logged(cursor, head).await
    }

    async fn operations_logged(&self, cursor: Cursor, head: Position) -> Option<Vec<(Position, Vec<Event>)>> {
        let mut session = self.api.tiers().lists(None).await.ok()?;
        let lists = session.lists().await.ok()?;
        let count = u32::try_from(OPERATIONS_A_READ).unwrap_or(u32::MAX);
        let mut logged = lists.operations_from(cursor.seq, count).await.ok()?.into_iter().peekable();
        if cursor.seq > 0 {
            // The operation that was seen last has to be the same one still.
            let same = |one: &ChainOperation| {
                one.seq == cursor.seq && cursor.epoch.is_none_or(|epoch| epoch == one.epoch)
            };
            if logged.next_if(same).is_none() {
                return Some(Vec::new());
            }
        }
        match logged.peek() {
            // PostgreSQL lacks what the outbox has; the outbox lacks nothing that PostgreSQL lacks.
            None => None,
            Some(first) if first.seq != cursor.seq + 1 => Some(Vec::new()),
            Some(_) => {
                let seen = logged.take_while(|one| one.seq <= head.seq);
                Some(seen.map(|one| self.events_of_logged(&one)).collect())
            }
        }
    }

    fn events_of(&self, entry: &OutboxEntry) -> Vec<Event> {
        let Position { epoch, seq } = entry.position;
        match &entry.operation {
            Operation::Block { height, id, .. } => {
                self.events_of_block(entry.position, *height, id.to_string())
            }
            Operation::Pop { height, tip, .. } => {
                vec![Event::TakenBack {
                    epoch,
                    seq,
                    height: height.saturating_sub(1),
                    id: Some(tip.to_string()),
                }]
            }
            Operation::Rewind { height, tip } => {
                vec![Event::TakenBack { epoch, seq, height: *height, id: Some(tip.to_string()) }]
            }
        }
    }

    fn events_of_logged(&self, one: &ChainOperation) -> (Position, Vec<Event>) {
        let position = Position { epoch: one.epoch, seq: one.seq };
        let events = if one.taken_back {
            let height = one.from_height.saturating_sub(1);
            vec![Event::TakenBack { epoch: one.epoch, seq: one.seq, height, id: None }]
        } else {
            self.events_of_block(position, one.to_height, one.last_id.to_string())
        };
        (position, events)
    }

    fn events_of_block(&self, position: Position, height: Height, id: String) -> Vec<Event> {
        let Position { epoch, seq } = position;
        let profile = &self.api.chain().profile;
        let mut events = vec![Event::Accepted { epoch, seq, height, id }];
        if height > 1 && profile.closes_round(height) {
            events.push(Event::RoundEnd { epoch, seq, round: profile.round_of(height), height });
        }
        events
    }
}
