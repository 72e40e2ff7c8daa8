//! Giving up: operations that cannot become durable in time, or that PostgreSQL lost and the outbox does not have any more,
//! end as a rollback file, which is the order for the next start and the record.
//!
//! `gap.rs` finds what the outbox does not have any more; `rollback.rs` writes the file.

use std::path::PathBuf;

use forebay_fast::{FastTier, Operation, OutboxEntry};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_slow::{Position as SlowPosition, SlowOperation};

use crate::drain::{is_damage, operations_of};
use crate::error::StoreError;
use crate::gap::{GapEnd, blocks_in_gap};
use crate::guard::Overrun;
use crate::kept::newest;
use crate::options::OnHardLimit;
use crate::owner::Owner;
use crate::rollback::{self, Base, Given, GivenUp, NotWritten, Written};

/// What `keep` means when there is nothing that could be kept.
pub(crate) const CANNOT_KEEP: &str = "`keep` forbids to give operations up: restore a newer copy of PostgreSQL, or start \
     once with `rollback`";

impl Owner {
    /// The guard's stop: order and record, or the outbox as it is.
    pub(crate) fn give_up(&mut self, overrun: Overrun) -> StoreError {
        let why = match overrun {
            Overrun::NoProgress(waited) => {
                format!(
                    "PostgreSQL made no progress for {} s (limit {} s)",
                    waited.as_secs(),
                    self.options.limits.no_progress_max.as_secs()
                )
            }
            Overrun::OverLimit(over) => format!(
                "{} operations or more were not durable for {} s (limit {} s)",
                self.options.limits.lag_blocks_max,
                over.as_secs(),
                self.options.limits.grace.as_secs()
            ),
        };
        let oldest = self.tail.front().map_or(0, |unsynced| unsynced.accepted_at.elapsed().as_secs());
        let last_error = self.last_error();
        // Without Redis the outbox is in our memory only: the record is all that would be left of it.
        let records = self.options.on_hard_limit == OnHardLimit::Rollback || self.redis_is_out;
        let consequence = if records {
            self.write_order()
        } else {
            "the operations stay in the outbox, and the next start drains them".to_owned()
        };
        StoreError::TooFarBehind(format!(
            "{why}; {} operations ({} bytes) wait, the oldest for {oldest} s; last error: {last_error}; {consequence}",
            self.tail.len(),
            self.tail_bytes
        ))
    }

    /// What PostgreSQL lacks is not in the outbox any more: what is there is recorded.
    pub(crate) async fn give_up_older(
        &mut self,
        found: SlowPosition,
        kept: &[OutboxEntry],
        error: &StoreError,
    ) -> StoreError {
        let went_back = format!(
            "PostgreSQL was put back to operation {} (height {}), and the outbox cannot feed it again ({error})",
            found.seq, found.height
        );
        if self.options.on_hard_limit == OnHardLimit::Keep {
            return StoreError::TooFarBehind(format!("{went_back}; {CANNOT_KEEP}"));
        }
        let since = entries_since(kept, found.seq, self.durable.seq);
        let tail_begins =
            self.durable.id.map(|id| GapEnd { seq: self.durable.seq, height: self.durable.height, id });
        let lost = match Lost::of(&self.writer.fast, &found, since, tail_begins).await {
            Ok(lost) => lost,
            // Redis is away for a moment: PostgreSQL is asked once more, and this is done again.
            Err(error) => return error,
        };
        let given_up: Vec<_> = lost.given_up().chain(self.given_up()).collect();
        let base =
            Base { epoch: self.writer.epoch, seq: found.seq, height: found.height, id: found.block_id };
        let written = rollback::order(&self.options, base, self.writer.seq, &given_up);
        let consequence = self.order_stands(written);
        StoreError::TooFarBehind(format!("{went_back}; {consequence}"))
    }

    /// What troubled the node last, for people.
    pub(crate) fn last_error(&self) -> String {
        self.progress.borrow().last_error.clone().unwrap_or_else(|| "none".to_owned())
    }

    fn given_up(&self) -> impl Iterator<Item = GivenUp<'_>> {
        self.tail.iter().map(|unsynced| GivenUp {
            seq: unsynced.position.seq,
            operation: Given::from(&unsynced.operation),
            height: unsynced.height,
        })
    }

    /// The tail as order and record. Says what comes of it.
    pub(crate) fn write_order(&mut self) -> String {
        let base = Base {
            epoch: self.writer.epoch,
            seq: self.durable.seq,
            height: self.durable.height,
            id: self.durable.id,
        };
        let given_up: Vec<_> = self.given_up().collect();
        let written = rollback::order(&self.options, base, self.writer.seq, &given_up);
        self.order_stands(written)
    }

    /// One order is enough: what was written before has less to say. Says what comes of it.
    fn order_stands(&mut self, written: Result<Written, NotWritten>) -> String {
        match written {
            Ok(Written { path, consequence }) => {
                let earlier = self.order.replace(path);
                if earlier != self.order {
                    self.withdraw(earlier);
                }
                consequence
            }
            Err(problem) => match &self.order {
                Some(order) => format!("{problem}, so {} holds, which was written before", order.display()),
                None if self.redis_is_out => {
                    format!(
                        "{problem}, so there is no record: whoever gave these blocks has to give them again"
                    )
                }
                None => problem.without_order(),
            },
        }
    }

    /// What the order would give up is durable by now, or in the outbox: there is nothing to obey.
    pub(crate) fn withdraw_order(&mut self) {
        let order = self.order.take();
        self.withdraw(order);
    }

    fn withdraw(&self, order: Option<PathBuf>) {
        let Some(order) = order else { return };
        match rollback::withdraw(&order) {
            Ok(()) => {
                tracing::info!(order = %order.display(), "a rollback file is withdrawn: nothing is given up by it")
            }
            // Harmless: a start that obeys it finds nothing to give up.
            Err(error) => {
                tracing::warn!(order = %order.display(), %error, "a rollback file cannot be withdrawn")
            }
        }
    }
}

/// What PostgreSQL lost, as far as Redis has it.
pub(crate) struct Lost {
    in_gap: Vec<(u64, Block)>,
    entries: Vec<OutboxEntry>,
    operations: Vec<SlowOperation>,
}

impl Lost {
    /// `entries`: what the outbox has of it. `through`: where the chain stood after all of it.
    ///
    /// # Errors
    /// Redis cannot be asked now.
    pub(crate) async fn of(
        fast: &FastTier,
        found: &SlowPosition,
        entries: Vec<OutboxEntry>,
        through: Option<GapEnd>,
    ) -> Result<Self, StoreError> {
        // A record without a gap in its middle can be obeyed and replayed.
        let last = through.map_or(u64::MAX, |through| through.seq);
        let mut entries = newest(entries, last, usize::MAX);
        let operations = match operations_of(fast, &entries).await {
            Ok(operations) => operations,
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "what the outbox has of it cannot be recorded");
                entries.clear();
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let gap_end = match (entries.first(), operations.first()) {
            (Some(entry), Some(operation)) => GapEnd::before(entry, operation),
            _ => through,
        };
        let in_gap = match gap_end {
            Some(end) => blocks_in_gap(fast, found, end).await?,
            None => Vec::new(),
        };
        Ok(Self { in_gap, entries, operations })
    }

    /// Oldest first.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = GivenUp<'_>> {
        let in_gap = self.in_gap.iter().map(|(seq, block)| GivenUp {
            seq: *seq,
            operation: Given::Block(block),
            height: block.height,
        });
        let entries = self.entries.iter().zip(&self.operations).map(|(entry, operation)| GivenUp {
            seq: entry.position.seq,
            operation: Given::from(operation),
            height: tip_after(&entry.operation).0,
        });
        in_gap.chain(entries)
    }
}

/// The entries of the operations that PostgreSQL had done and lacks now.
pub(crate) fn entries_since(kept: &[OutboxEntry], found: u64, durable: u64) -> Vec<OutboxEntry> {
    kept.iter().filter(|entry| entry.position.seq > found && entry.position.seq <= durable).cloned().collect()
}

/// The tip that an entry left.
pub(crate) fn tip_after(operation: &Operation) -> (Height, BlockId) {
    match operation {
        Operation::Block { height, id, .. } => (*height, *id),
        Operation::Pop { height, tip, .. } => (height.saturating_sub(1), *tip),
        Operation::Rewind { height, tip } => (*height, *tip),
    }
}
