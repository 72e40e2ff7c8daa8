//! The inverse: takes the tip back with the record of what it changed.

use crate::block::Block;
use crate::state::{AccountChange, ChangeSet, RoundChange, StateView, UndoRecord};

/// Why a block cannot be taken back with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// The record belongs to another block than the tip.
    #[error("the undo record belongs to block {record}, the tip is {tip}")]
    NotTheTip {
        /// Whose record it is.
        record: crate::ids::BlockId,
        /// The tip.
        tip: String,
    },
    /// The block that was given is not the one of the record.
    #[error("the undo record belongs to block {record}, but block {block} was given")]
    OtherBlock {
        /// Whose record it is.
        record: crate::ids::BlockId,
        /// What was given.
        block: crate::ids::BlockId,
    },
}

/// Takes the tip back: the change set whose application leaves the state exactly as it was before the block.
///
/// # Errors
/// [`UndoError`] when record, block and tip are not the same block.
pub fn undo(view: &impl StateView, block: &Block, record: &UndoRecord) -> Result<ChangeSet, UndoError> {
    let tip = view.tip();
    if tip.map(|tip| tip.id) != Some(record.block_id) {
        let tip = tip.map_or_else(|| "none".to_owned(), |tip| tip.id.to_string());
        return Err(UndoError::NotTheTip { record: record.block_id, tip });
    }
    if block.id != record.block_id {
        return Err(UndoError::OtherBlock { record: record.block_id, block: block.id });
    }
    let accounts = record
        .accounts
        .iter()
        .map(|(address, before)| AccountChange {
            address: *address,
            before: view.account(*address).cloned(),
            after: before.clone(),
        })
        .collect();
    let round = match &record.closed_round {
        Some(round) => RoundChange::Reopened(round.clone()),
        None => RoundChange::Retracted,
    };
    Ok(ChangeSet {
        tip_before: tip.copied(),
        tip_after: record.tip_before,
        accounts,
        transactions: block.transactions.iter().map(|t| t.id).collect(),
        usernames: record.usernames.clone(),
        round,
        undo: true,
        delegates_digest: None,
    })
}
