//! What was done to the chain, in order, for those who follow it.

use forebay_ledger::ids::{BlockId, Height};

use super::Lists;
use crate::columns::Columns;
use crate::error::SlowError;

/// An operation that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainOperation {
    /// Who accepted it.
    pub epoch: u64,
    /// Its place in the order of all.
    pub seq: u64,
    /// Blocks were taken back, not added.
    pub taken_back: bool,
    /// The lowest height that was added or taken back.
    pub from_height: Height,
    /// The highest.
    pub to_height: Height,
    /// The block at the lowest height.
    pub first_id: BlockId,
    /// The block at the highest.
    pub last_id: BlockId,
}

impl Lists<'_> {
    /// Operations from a number on, ascending, at most `count`; as far back as the write log goes.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn operations_from(&self, seq: u64, count: u32) -> Result<Vec<ChainOperation>, SlowError> {
        let doing = "reading the write log";
        let sql = "select epoch, seq, operation = 'take-back', from_height, to_height, first_block_id, last_block_id \
             from forebay_log.operations where seq >= $1 order by seq limit $2";
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let rows = self.query(doing, sql, &[&seq, &i64::from(count)]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                let id = |index: usize| -> Result<BlockId, SlowError> {
                    row.get::<&str>(index)?.parse().map_err(|_| row.corrupt(index))
                };
                Ok(ChainOperation {
                    epoch: row.get::<i64>(0)?.unsigned_abs(),
                    seq: row.get::<i64>(1)?.unsigned_abs(),
                    taken_back: row.get(2)?,
                    from_height: row.get::<i32>(3)?.unsigned_abs(),
                    to_height: row.get::<i32>(4)?.unsigned_abs(),
                    first_id: id(5)?,
                    last_id: id(6)?,
                })
            })
            .collect()
    }
}
