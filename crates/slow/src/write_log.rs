//! Reading the write log: what was committed, one entry an operation. The triggers fill it.

use std::time::{Duration, SystemTime};

use forebay_ledger::ids::{BlockId, Height};
use tokio_postgres::types::ToSql;

use crate::columns::Columns;
use crate::error::SlowError;
use crate::reader::Reads;

/// What an operation did to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// A block was added.
    Append,
    /// Blocks were taken back.
    TakeBack,
}

impl OperationKind {
    /// `append` or `take-back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::TakeBack => "take-back",
        }
    }
}

/// An operation that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOperation {
    /// The writer that did it.
    pub epoch: u64,
    /// Its place in the order of all.
    pub seq: u64,
    /// The last operation of the same PostgreSQL transaction.
    pub batch_seq: u64,
    /// What it did.
    pub kind: OperationKind,
    /// The lowest height that was added or taken back.
    pub from_height: Height,
    /// The highest.
    pub to_height: Height,
    /// The block at `from_height`.
    pub first_id: BlockId,
    /// The block at `to_height`.
    pub last_id: BlockId,
    /// Rows of blocks inserted or deleted.
    pub blocks: u64,
    /// Rows of transactions inserted or deleted.
    pub transactions: u64,
    /// Which try succeeded, from 1.
    pub attempt: u32,
    /// When the PostgreSQL transaction began, by the server's clock.
    pub started_at: SystemTime,
    /// From there until the triggers had worked up the segment that it came in; COMMIT is not in it.
    pub duration: Duration,
}

/// Which operations to show. The default shows the newest hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationFilter {
    /// From this seq.
    pub from_seq: Option<u64>,
    /// Up to this seq.
    pub to_seq: Option<u64>,
    /// Those that added or took back this height.
    pub height: Option<Height>,
    /// Those of PostgreSQL transactions that began then or later.
    pub since: Option<SystemTime>,
    /// Those that did this.
    pub kind: Option<OperationKind>,
    /// The newest so many of them.
    pub limit: u32,
}

impl Default for OperationFilter {
    fn default() -> Self {
        Self { from_seq: None, to_seq: None, height: None, since: None, kind: None, limit: 100 }
    }
}

const SELECT_OPERATIONS: &str = "select * from (\
         select epoch, seq, batch_seq, taken_back, from_height, to_height, first_id, last_id, transactions, attempt, \
             started_at, duration_us \
         from forebay.operations \
         where ($1::bigint is null or seq >= $1) and ($2::bigint is null or seq <= $2) \
             and ($3::integer is null or $3 between from_height and to_height) \
             and ($4::timestamptz is null or started_at >= $4) and ($5::boolean is null or taken_back = $5) \
         order by seq desc limit $6\
     ) newest order by seq";

impl Reads<'_> {
    /// Operations of the write log, ascending by seq: of those that fit the newest `limit`.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn operations(self, filter: OperationFilter) -> Result<Vec<LoggedOperation>, SlowError> {
        let doing = "reading the write log";
        let bigint = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &filter.from_seq.map(bigint),
            &filter.to_seq.map(bigint),
            &filter.height.map(|height| i32::try_from(height).unwrap_or(i32::MAX)),
            &filter.since,
            &filter.kind.map(|kind| kind == OperationKind::TakeBack),
            &i64::from(filter.limit),
        ];
        let rows = self.query(doing, SELECT_OPERATIONS, &parameters).await?;
        rows.iter().map(|row| operation(&Columns { row, doing })).collect()
    }
}

fn operation(row: &Columns<'_>) -> Result<LoggedOperation, SlowError> {
    let number = |index| row.get::<i64>(index).map(i64::unsigned_abs);
    let height = |index| row.get::<i32>(index).map(i32::unsigned_abs);
    let (from_height, to_height) = (height(4)?, height(5)?);
    Ok(LoggedOperation {
        epoch: number(0)?,
        seq: number(1)?,
        batch_seq: number(2)?,
        kind: if row.get(3)? { OperationKind::TakeBack } else { OperationKind::Append },
        from_height,
        to_height,
        first_id: BlockId::from_bigint(row.get(6)?),
        last_id: BlockId::from_bigint(row.get(7)?),
        blocks: u64::from(to_height.saturating_sub(from_height)) + 1,
        transactions: number(8)?,
        attempt: row.get::<i32>(9)?.unsigned_abs(),
        started_at: row.get(10)?,
        duration: Duration::from_micros(number(11)?),
    })
}
