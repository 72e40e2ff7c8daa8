//! The newest operations, as entries of the outbox: what Redis keeps so that a PostgreSQL that is put back to an older
//! state can be fed again. A clean drops them; a restore brings them back.
//!
//! Two sources: Redis itself before it is cleaned, which also has what was taken back; and PostgreSQL's own write log with
//! its blocks, for a Redis that lost everything. That one reaches back to the last take-back: the blocks that went with it
//! are nowhere.

use std::sync::Arc;

use forebay_fast::{FastErrorKind, FastTier, Operation, OutboxEntry, Position};
use forebay_ledger::block::Block;
use forebay_slow::{BlockRow, OperationFilter, OperationKind, Reads};

use crate::error::StoreError;

/// Durable operations, oldest first, without a gap.
#[derive(Debug, Default)]
pub(crate) struct KeptOperations {
    pub(crate) entries: Vec<OutboxEntry>,
    /// The bodies of their blocks, in any order.
    pub(crate) blocks: Vec<Arc<Block>>,
}

impl KeptOperations {
    /// The newest `count` up to the operation `seq`, from the outbox; fewer if it has fewer. All of them are durable, so
    /// what is damaged among them is no reason to stop: none is kept then, and PostgreSQL knows most of them, too.
    ///
    /// # Errors
    /// Unavailable.
    pub(crate) async fn of_outbox(fast: &FastTier, seq: u64, count: usize) -> Result<Self, StoreError> {
        match Self::read_outbox(fast, seq, count).await {
            Err(StoreError::Fast(error)) if error.kind() == FastErrorKind::Corrupt => {
                tracing::warn!(%error, "the outbox' durable entries are not carried over");
                Ok(Self::default())
            }
            read => read,
        }
    }

    async fn read_outbox(fast: &FastTier, seq: u64, count: usize) -> Result<Self, StoreError> {
        let entries = fast.outbox_entries(None, usize::MAX >> 1).await?;
        let entries = newest(entries, seq, count);
        let ids: Vec<_> = entries.iter().filter_map(block_of).collect();
        let bodies = fast.blocks(&ids).await?;
        if bodies.iter().any(Option::is_none) {
            return Ok(Self::default());
        }
        Ok(Self { entries, blocks: bodies.into_iter().flatten().map(Arc::new).collect() })
    }

    /// The newest `count` up to the operation `seq`, as far back as PostgreSQL knows all of them.
    ///
    /// # Errors
    /// Unavailable.
    pub(crate) async fn of_postgres(reads: Reads<'_>, seq: u64, count: usize) -> Result<Self, StoreError> {
        let limit = u32::try_from(count).unwrap_or(u32::MAX);
        let filter = OperationFilter { to_seq: Some(seq), limit, ..OperationFilter::default() };
        let logged = reads.operations(filter).await?;
        let is_append = |kind| kind == OperationKind::Append;
        let after_last_take_back =
            logged.iter().rposition(|operation| !is_append(operation.kind)).map_or(0, |at| at + 1);
        let appended = logged.get(after_last_take_back..).unwrap_or_default();
        let (Some(first), Some(last)) = (appended.first(), appended.last()) else {
            return Ok(Self::default());
        };
        let rows = reads.block_rows(first.from_height..=last.to_height).await?;
        let fits = rows.len() == appended.len()
            && rows.iter().zip(appended).all(|(row, logged)| row.block.id == logged.first_id);
        if !fits {
            return Ok(Self::default());
        }
        let entries = rows
            .iter()
            .zip(appended)
            .map(|(row, logged)| entry_of(Position { epoch: logged.epoch, seq: logged.seq }, row))
            .collect();
        Ok(Self {
            entries: newest(entries, seq, count),
            blocks: rows.into_iter().map(|row| row.block).collect(),
        })
    }
}

/// The block that an entry brought.
pub(crate) fn block_of(entry: &OutboxEntry) -> Option<forebay_ledger::ids::BlockId> {
    match entry.operation {
        Operation::Block { id, .. } => Some(id),
        Operation::Pop { .. } | Operation::Rewind { .. } => None,
    }
}

fn entry_of(position: Position, row: &BlockRow) -> OutboxEntry {
    let operation = Operation::Block {
        height: row.block.height,
        id: row.block.id,
        transactions_before: row.transactions_before,
        forgers: row.forgers.clone(),
        delegates_digest: row.delegates_digest,
    };
    OutboxEntry { position, operation }
}

/// The longest run without a gap that ends with `seq`, at most `count` long.
pub(crate) fn newest(mut entries: Vec<OutboxEntry>, seq: u64, count: usize) -> Vec<OutboxEntry> {
    entries.retain(|entry| entry.position.seq <= seq);
    let without_gap = entries
        .iter()
        .rev()
        .zip((0..=seq).rev())
        .take_while(|(entry, expected)| entry.position.seq == *expected)
        .count()
        .min(count);
    entries.split_off(entries.len() - without_gap)
}

#[cfg(test)]
mod tests {
    use forebay_ledger::ids::BlockId;

    use super::*;

    fn entries(seqs: &[u64]) -> Vec<OutboxEntry> {
        let operation = Operation::Rewind { height: 1, tip: BlockId(1) };
        let entry = |seq: &u64| OutboxEntry {
            position: Position { epoch: 1, seq: *seq },
            operation: operation.clone(),
        };
        seqs.iter().map(entry).collect()
    }

    #[test]
    fn only_a_run_without_a_gap_is_worth_keeping() {
        let seqs = |entries: Vec<OutboxEntry>| -> Vec<u64> {
            entries.iter().map(|entry| entry.position.seq).collect()
        };
        assert_eq!(seqs(newest(entries(&[1, 2, 3, 4]), 4, 9)), [1, 2, 3, 4]);
        assert_eq!(seqs(newest(entries(&[1, 2, 3, 4]), 4, 2)), [3, 4]);
        assert_eq!(seqs(newest(entries(&[1, 3, 4, 5]), 4, 9)), [3, 4], "given up: 5");
        assert!(newest(entries(&[1, 2, 3]), 4, 9).is_empty());
        assert!(newest(Vec::new(), 0, 9).is_empty());
    }
}
