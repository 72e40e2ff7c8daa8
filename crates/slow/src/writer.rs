//! The one place that writes into PostgreSQL.

use forebay_ledger::ids::{BlockId, Height};
use tokio_postgres::{Client, Config, Transaction};

use crate::connection::connect;
use crate::copy_in::copy_segment;
use crate::error::{ErrorKind, SlowError};
use crate::rows::{BlockRow, Position, SlowOperation};
use crate::segments::{ends_segment, ranges_back};

/// A paused node must not hold its locks for ever: the server ends a transaction that stands still for this long.
const SESSION: &str = "set synchronous_commit = on; set idle_in_transaction_session_timeout = '60s'; \
     set application_name = 'forebay writer'";

/// What one committed batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Where the slow tier is now.
    pub position: Position,
    /// Blocks inserted.
    pub blocks_inserted: u64,
    /// Transactions inserted.
    pub transactions_inserted: u64,
    /// Blocks taken back.
    pub blocks_deleted: u64,
}

/// A session of the writer role. One at a time writes: the position row fences all others.
#[derive(Debug)]
pub struct SlowWriter {
    client: Client,
    delegates_per_round: u32,
}

impl SlowWriter {
    /// Opens a session. Nothing is written.
    ///
    /// # Errors
    /// Unavailable, Permission, or WrongDatabase when the setup has not run.
    pub async fn connect(config: &Config) -> Result<Self, SlowError> {
        let doing = "connecting to PostgreSQL as the writer";
        let client = connect(config, doing, SESSION).await?;
        let row = client
            .query_opt("select delegates_per_round from forebay.chain", &[])
            .await
            .map_err(|error| SlowError::from_postgres(doing, error))?
            .ok_or_else(|| {
                SlowError::new(
                    ErrorKind::WrongDatabase,
                    doing,
                    "the database was not initialised for a chain",
                )
            })?;
        let delegates: i32 = row.try_get(0).map_err(|error| SlowError::from_postgres(doing, error))?;
        Ok(Self { client, delegates_per_round: delegates.unsigned_abs() })
    }

    /// Whether the session is over; a new one is needed then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// How far the slow tier is.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn position(&self) -> Result<Position, SlowError> {
        crate::reader::Reads::new(&self.client).position().await
    }

    /// Makes `epoch` the only one that may write, and ends the other sessions of the writer role in this database, so
    /// that no lock of theirs is waited for. Durable when it returns. Returns the position after.
    ///
    /// # Errors
    /// Fenced: the epoch in the database is not below `epoch`. OutcomeUnknown: ask the position.
    pub async fn take_over(&self, epoch: u64) -> Result<Position, SlowError> {
        let doing = format!("taking over the chain with epoch {epoch}");
        let failed = |error| SlowError::from_postgres(&doing, error);
        self.client.execute(END_OTHER_SESSIONS, &[]).await.map_err(failed)?;
        let moved = self
            .client
            .execute("update forebay.position set epoch = $1 where epoch < $1", &[&bigint(epoch, &doing)?])
            .await
            .map_err(|error| SlowError::from_commit(&doing, error))?;
        // A session that opened between the two statements with the old epoch is fenced, but may hold locks.
        self.client.execute(END_OTHER_SESSIONS, &[]).await.map_err(failed)?;
        let position = self.position().await?;
        if moved == 1 {
            return Ok(position);
        }
        let message = format!("the database is at epoch {}, which is not below", position.epoch);
        Err(SlowError::new(ErrorKind::Fenced, doing, message))
    }

    /// Does the operations in order, in one transaction whose first statement moves the position from `expected_seq` to
    /// `new_seq`. When it returns they are committed and flushed; on any error but OutcomeUnknown nothing was written.
    ///
    /// # Errors
    /// Fenced: the position is not at (`epoch`, `expected_seq`). OutcomeUnknown: the connection broke at COMMIT; ask
    /// [`SlowWriter::position`] on a new session. Constraint, DigestMismatch: the rows were refused.
    pub async fn apply(
        &mut self,
        epoch: u64,
        expected_seq: u64,
        new_seq: u64,
        operations: &[SlowOperation],
    ) -> Result<Committed, SlowError> {
        let doing = format!("applying {} operations up to seq {new_seq}", operations.len());
        if operations.is_empty() || new_seq <= expected_seq {
            return Err(SlowError::new(
                ErrorKind::Misuse,
                doing,
                "no operations, or a seq that does not grow",
            ));
        }
        let delegates_per_round = self.delegates_per_round;
        let target = target_of(operations);
        let transaction =
            self.client.transaction().await.map_err(|error| SlowError::from_postgres(&doing, error))?;
        let position = move_position(&transaction, epoch, expected_seq, new_seq, target).await?;
        let mut committed =
            Committed { position, blocks_inserted: 0, transactions_inserted: 0, blocks_deleted: 0 };
        let mut segment: Vec<BlockRow> = Vec::new();
        for operation in operations {
            match operation {
                SlowOperation::Append(row) => {
                    let ends = ends_segment(row.block.height, delegates_per_round);
                    segment.push(row.clone());
                    if ends {
                        insert(&transaction, &mut segment, &mut committed).await?;
                    }
                }
                SlowOperation::TakeBack { to_height } => {
                    insert(&transaction, &mut segment, &mut committed).await?;
                    committed.blocks_deleted +=
                        take_back(&transaction, *to_height, delegates_per_round).await?;
                }
            }
        }
        insert(&transaction, &mut segment, &mut committed).await?;
        transaction.commit().await.map_err(|error| SlowError::from_commit(&doing, error))?;
        Ok(committed)
    }
}

const END_OTHER_SESSIONS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
     where datname = current_database() and usename = current_user and pid <> pg_backend_pid() \
     and application_name = 'forebay writer'";

/// The tip that the operations lead to; without an id where the block is one that the table has already.
fn target_of(operations: &[SlowOperation]) -> (Height, Option<BlockId>) {
    let mut appended: Vec<(Height, BlockId)> = Vec::new();
    let mut target = (0, None);
    for operation in operations {
        match operation {
            SlowOperation::Append(row) => {
                appended.push((row.block.height, row.block.id));
                target = (row.block.height, Some(row.block.id));
            }
            SlowOperation::TakeBack { to_height } => {
                appended.retain(|(height, _)| height <= to_height);
                let here = appended.last().filter(|(height, _)| height == to_height);
                target = (*to_height, here.map(|(_, id)| *id));
            }
        }
    }
    target
}

async fn move_position(
    transaction: &Transaction<'_>,
    epoch: u64,
    expected_seq: u64,
    new_seq: u64,
    (height, block_id): (Height, Option<BlockId>),
) -> Result<Position, SlowError> {
    let doing = format!("moving the position of epoch {epoch} from seq {expected_seq} to {new_seq}");
    let failed = |error| SlowError::from_postgres(&doing, error);
    let moved = transaction
        .query_opt(
            "update forebay.position set seq = $3, height = $4, \
                block_id = coalesce($5, (select id from forebay.blocks where height = $4)) \
             where epoch = $1 and seq = $2 returning block_id",
            &[
                &bigint(epoch, &doing)?,
                &bigint(expected_seq, &doing)?,
                &bigint(new_seq, &doing)?,
                &height.cast_signed(),
                &block_id.map(|id| id.to_bigint()),
            ],
        )
        .await
        .map_err(failed)?;
    match moved {
        Some(row) => {
            let block_id: Option<i64> = row.try_get(0).map_err(failed)?;
            Ok(Position { epoch, seq: new_seq, height, block_id: block_id.map(BlockId::from_bigint) })
        }
        None => {
            let found = crate::reader::Reads::new(transaction.client()).position().await?;
            let message = format!("the database is at epoch {}, seq {}", found.epoch, found.seq);
            Err(SlowError::new(ErrorKind::Fenced, doing, message))
        }
    }
}

async fn insert(
    transaction: &Transaction<'_>,
    segment: &mut Vec<BlockRow>,
    committed: &mut Committed,
) -> Result<(), SlowError> {
    if !segment.is_empty() {
        committed.transactions_inserted += copy_segment(transaction, segment).await?;
        committed.blocks_inserted += segment.len() as u64;
        segment.clear();
    }
    Ok(())
}

async fn take_back(
    transaction: &Transaction<'_>,
    to_height: Height,
    delegates_per_round: u32,
) -> Result<u64, SlowError> {
    let doing = format!("taking back to height {to_height}");
    let failed = |error| SlowError::from_postgres(&doing, error);
    let tip: Option<i32> = transaction
        .query_one("select max(height) from forebay.blocks", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let tip = tip.unwrap_or(0).unsigned_abs();
    if to_height == 0 || to_height > tip {
        let message = format!("the tip is at height {tip}, and the genesis block stays");
        return Err(SlowError::new(ErrorKind::Misuse, doing, message));
    }
    let mut deleted = 0;
    for (first, last) in ranges_back(tip, to_height, delegates_per_round) {
        let range: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
            [&first.cast_signed(), &last.cast_signed()];
        deleted += transaction
            .execute("delete from forebay.blocks where height between $1 and $2", &range)
            .await
            .map_err(failed)?;
        transaction
            .execute("delete from forebay.transactions where height between $1 and $2", &range)
            .await
            .map_err(failed)?;
    }
    Ok(deleted)
}

fn bigint(number: u64, doing: &str) -> Result<i64, SlowError> {
    number.try_into().map_err(|_| {
        SlowError::new(ErrorKind::Misuse, doing, format!("{number} is larger than 9223372036854775807"))
    })
}
