//! What a step writes, as plain commands: for benchmarks, which compare a step with the same keys and bytes written
//! without reads, checks or outbox.

use forebay_ledger::block::Block;
use forebay_ledger::state::{ChangeSet, UndoRecord};

use crate::error::FastError;
use crate::head::Position;
use crate::keys::{Buckets, Keys};
use crate::step::plan_block;

/// The commands that bring a block's state, indexes, body and undo record to Redis, each as its words. They are not
/// fenced and not atomic: never send them to a Redis that a node uses.
///
/// # Errors
/// Inconsistent: a delegate without a public key.
pub fn plain_writes(
    keys: &Keys,
    buckets: &Buckets,
    changes: &ChangeSet,
    undo: Option<&UndoRecord>,
    block: &Block,
    position: Position,
) -> Result<Vec<Vec<Vec<u8>>>, FastError> {
    Ok(plan_block(keys, buckets, changes, undo, block, position)?.into_commands())
}
