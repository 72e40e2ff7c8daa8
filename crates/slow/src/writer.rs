//! The one place that writes into PostgreSQL.

use forebay_failpoint::reach;
use forebay_ledger::ids::{BlockId, Height};
use tokio_postgres::{Client, Config, Statement, Transaction};

use crate::connection::connect;
use crate::copy_in::{CopyStatements, copy_segment};
use crate::error::{ErrorKind, SlowError};
use crate::rows::{BlockRow, Position, SlowOperation};
use crate::segments::{ends_segment, ranges_back};
use crate::session::WriterOptions;

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
    options: WriterOptions,
    delegates_per_round: u32,
    statements: Statements,
}

/// What each batch does, parsed once a session.
#[derive(Debug, Clone)]
struct Statements {
    move_position: Statement,
    copy: CopyStatements,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            move_position: client.prepare(MOVE_POSITION).await?,
            copy: CopyStatements::prepare(client).await?,
        })
    }
}

impl SlowWriter {
    /// Opens a session with the default bounds of waiting. Nothing is written.
    ///
    /// # Errors
    /// Unavailable, Permission, or WrongDatabase when the setup has not run.
    pub async fn connect(config: &Config) -> Result<Self, SlowError> {
        Self::connect_with(config, WriterOptions::default()).await
    }

    /// Opens a session. Nothing is written.
    ///
    /// # Errors
    /// As [`SlowWriter::connect`].
    pub async fn connect_with(config: &Config, options: WriterOptions) -> Result<Self, SlowError> {
        let doing = "connecting to PostgreSQL as the writer";
        let failed = |error| SlowError::from_postgres(doing, error);
        let client = connect(config, doing, &options.settings()).await?;
        let asking = async {
            let row = client
                .query_opt("select delegates_per_round from forebay.chain", &[])
                .await
                .map_err(failed)?
                .ok_or_else(|| {
                    SlowError::new(
                        ErrorKind::WrongDatabase,
                        doing,
                        "the database was not initialised for a chain",
                    )
                })?;
            let delegates: i32 = row.try_get(0).map_err(failed)?;
            Ok((delegates, Statements::prepare(&client).await.map_err(failed)?))
        };
        let (delegates, statements) = options.answered(doing, ErrorKind::Unavailable, asking).await?;
        Ok(Self { client, options, delegates_per_round: delegates.unsigned_abs(), statements })
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

    /// Makes `epoch` the only one that may write, if the database still is at the epoch that was `seen` there, and ends
    /// the other sessions of the writer role in this database, so that no lock of theirs is waited for. Durable when it
    /// returns. Returns the position after.
    ///
    /// # Errors
    /// Fenced: the database is not at `seen`, or `epoch` is not above it: another took over meanwhile. OutcomeUnknown:
    /// ask the position.
    pub async fn take_over(&self, seen: u64, epoch: u64) -> Result<Position, SlowError> {
        let doing = format!("taking over the chain from epoch {seen} with epoch {epoch}");
        let failed = |error| SlowError::from_postgres(&doing, error);
        let fenced = |position: Position| {
            let message = format!("the database is at epoch {}", position.epoch);
            SlowError::new(ErrorKind::Fenced, &doing, message)
        };
        // Who comes too late ends nobody's session.
        let found = self.position().await?;
        if found.epoch != seen || found.epoch >= epoch {
            return Err(fenced(found));
        }
        self.client.execute(END_OTHER_SESSIONS, &[]).await.map_err(failed)?;
        let moved = self
            .client
            .execute(
                "update forebay.position set epoch = $1 where epoch = $2 and epoch < $1",
                &[&bigint(epoch, &doing)?, &bigint(seen, &doing)?],
            )
            .await
            .map_err(|error| SlowError::from_commit(&doing, error))?;
        // A session that opened between the two statements with the old epoch is fenced, but may hold locks.
        self.client.execute(END_OTHER_SESSIONS, &[]).await.map_err(failed)?;
        let position = self.position().await?;
        if moved == 1 { Ok(position) } else { Err(fenced(position)) }
    }

    /// Does the operations in order, in one transaction whose first statement moves the position from `expected_seq` to
    /// `new_seq`, one seq an operation. When it returns they are committed and flushed, and stand in the write log with
    /// `attempt` (1 for the first try); on any error but OutcomeUnknown nothing was written.
    ///
    /// # Errors
    /// Fenced: the position is not at (`epoch`, `expected_seq`). OutcomeUnknown: the connection broke at COMMIT; ask
    /// [`SlowWriter::position`] on a new session. Constraint, DigestMismatch: the rows were refused. After any error the
    /// session should not be used again.
    pub async fn apply(
        &mut self,
        epoch: u64,
        expected_seq: u64,
        new_seq: u64,
        operations: &[SlowOperation],
        attempt: u32,
    ) -> Result<Committed, SlowError> {
        let doing = format!("applying {} operations up to seq {new_seq}", operations.len());
        if operations.is_empty() || new_seq.checked_sub(expected_seq) != Some(operations.len() as u64) {
            let message =
                format!("the seq goes from {expected_seq} to {new_seq}: one an operation is wanted");
            return Err(SlowError::new(ErrorKind::Misuse, doing, message));
        }
        let (options, delegates_per_round, statements) =
            (self.options, self.delegates_per_round, &self.statements);
        let beginning = async {
            let transaction =
                self.client.transaction().await.map_err(|error| SlowError::from_postgres(&doing, error))?;
            let moving = Move { epoch, expected_seq, new_seq, target: target_of(operations), attempt };
            let position = move_position(&transaction, &statements.move_position, moving).await?;
            Ok((transaction, position))
        };
        let (transaction, position) = options.answered(&doing, ErrorKind::Unavailable, beginning).await?;
        reach("slow.position_moved");
        let mut batch = RunningBatch {
            transaction,
            options,
            delegates_per_round,
            copy: &statements.copy,
            segment: Vec::new(),
            take_backs: None,
            committed: Committed {
                position,
                blocks_inserted: 0,
                transactions_inserted: 0,
                blocks_deleted: 0,
            },
        };
        for (seq, operation) in (expected_seq + 1..).zip(operations) {
            match operation {
                SlowOperation::Append(row) => batch.append(row).await?,
                SlowOperation::TakeBack { to_height } => batch.take_back(seq, *to_height).await?,
            }
        }
        batch.commit(&doing).await
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

/// A step of the position.
struct Move {
    epoch: u64,
    expected_seq: u64,
    new_seq: u64,
    target: (Height, Option<BlockId>),
    attempt: u32,
}

const MOVE_POSITION: &str = "update forebay.position set seq = $3, height = $4, \
         block_id = coalesce($5, (select id from forebay.blocks where height = $4)) \
     where epoch = $1 and seq = $2 returning block_id, set_config('forebay.attempt', $6, true)";

async fn move_position(
    transaction: &Transaction<'_>,
    statement: &Statement,
    step: Move,
) -> Result<Position, SlowError> {
    let Move { epoch, expected_seq, new_seq, target: (height, block_id), attempt } = step;
    let doing = format!("moving the position of epoch {epoch} from seq {expected_seq} to {new_seq}");
    let failed = |error| SlowError::from_postgres(&doing, error);
    let moved = transaction
        .query_opt(
            statement,
            &[
                &bigint(epoch, &doing)?,
                &bigint(expected_seq, &doing)?,
                &bigint(new_seq, &doing)?,
                &height.cast_signed(),
                &block_id.map(|id| id.to_bigint()),
                &attempt.max(1).to_string(),
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

/// A transaction whose position has moved, and what waits there to be done by few statements. One of the two is empty.
struct RunningBatch<'a> {
    transaction: Transaction<'a>,
    options: WriterOptions,
    delegates_per_round: u32,
    copy: &'a CopyStatements,
    /// Blocks that wait for the end of their segment.
    segment: Vec<BlockRow>,
    /// Take-backs that wait for the last of their run.
    take_backs: Option<TakeBacks>,
    committed: Committed,
}

/// Take-backs that follow one another: their blocks go in as few statements as those of one.
struct TakeBacks {
    first_seq: u64,
    /// Where each goes, in order.
    to_heights: Vec<Height>,
}

impl RunningBatch<'_> {
    async fn append(&mut self, row: &BlockRow) -> Result<(), SlowError> {
        self.delete().await?;
        self.segment.push(row.clone());
        if ends_segment(row.block.height, self.delegates_per_round) { self.insert().await } else { Ok(()) }
    }

    async fn take_back(&mut self, seq: u64, to_height: Height) -> Result<(), SlowError> {
        self.insert().await?;
        let running =
            self.take_backs.get_or_insert_with(|| TakeBacks { first_seq: seq, to_heights: Vec::new() });
        running.to_heights.push(to_height);
        Ok(())
    }

    async fn insert(&mut self) -> Result<(), SlowError> {
        let (Some(first), Some(last)) = (self.segment.first(), self.segment.last()) else { return Ok(()) };
        let doing = format!("inserting heights {} to {}", first.block.height, last.block.height);
        let copying = copy_segment(&self.transaction, self.copy, &self.segment);
        self.committed.transactions_inserted +=
            self.options.answered(&doing, ErrorKind::Unavailable, copying).await?;
        reach("slow.rows_inserted");
        self.committed.blocks_inserted += self.segment.len() as u64;
        self.segment.clear();
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), SlowError> {
        let Some(take_backs) = self.take_backs.take() else { return Ok(()) };
        let lowest = take_backs.to_heights.last().copied().unwrap_or(0);
        let doing = format!("taking back to height {lowest}");
        let beginning = begin_take_backs(&self.transaction, &doing, &take_backs);
        let tip = self.options.answered(&doing, ErrorKind::Unavailable, beginning).await?;
        let mut height = tip;
        for to_height in take_backs.to_heights {
            if to_height == 0 || to_height > height {
                let doing = format!("taking back to height {to_height}");
                let message = format!("the tip is at height {height}, and the genesis block stays");
                return Err(SlowError::new(ErrorKind::Misuse, doing, message));
            }
            height = to_height;
        }
        for range in ranges_back(tip, lowest, self.delegates_per_round) {
            let deleting = delete_range(&self.transaction, &doing, range);
            self.committed.blocks_deleted +=
                self.options.answered(&doing, ErrorKind::Unavailable, deleting).await?;
            reach("slow.rows_deleted");
        }
        Ok(())
    }

    async fn commit(mut self, doing: &str) -> Result<Committed, SlowError> {
        self.insert().await?;
        self.delete().await?;
        reach("slow.before_commit");
        let commit =
            async { self.transaction.commit().await.map_err(|error| SlowError::from_commit(doing, error)) };
        self.options.answered(doing, ErrorKind::OutcomeUnknown, commit).await?;
        Ok(self.committed)
    }
}

/// The tip's height. Tells the write log which operations these are: a deletion may belong to several of them.
async fn begin_take_backs(
    transaction: &Transaction<'_>,
    doing: &str,
    TakeBacks { first_seq, to_heights }: &TakeBacks,
) -> Result<Height, SlowError> {
    let failed = |error| SlowError::from_postgres(doing, error);
    let targets: Vec<i32> = to_heights.iter().rev().map(|height| height.cast_signed()).collect();
    let last_seq = first_seq + to_heights.len() as u64 - 1;
    let row = transaction
        .query_one(
            "select height, set_config('forebay.take_backs', case when goes then $1::integer[]::text else '' end, true), \
                 set_config('forebay.seq', (case when goes then $2::bigint - 1 else $3::bigint end)::text, true) \
             from (select max(height) as height, max(height) > ($1::integer[])[1] as goes from forebay.blocks) tip",
            &[&targets, &bigint(*first_seq, doing)?, &bigint(last_seq, doing)?],
        )
        .await
        .map_err(failed)?;
    let tip: Option<i32> = row.try_get(0).map_err(failed)?;
    Ok(tip.unwrap_or(0).unsigned_abs())
}

/// Deletes the blocks of a range and what belongs to them. Returns the number of blocks.
async fn delete_range(
    transaction: &Transaction<'_>,
    doing: &str,
    (first, last): (Height, Height),
) -> Result<u64, SlowError> {
    let failed = |error| SlowError::from_postgres(doing, error);
    let range: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&first.cast_signed(), &last.cast_signed()];
    let deleted = transaction
        .execute("delete from forebay.blocks where height between $1 and $2", &range)
        .await
        .map_err(failed)?;
    transaction
        .execute("delete from forebay.transactions where height between $1 and $2", &range)
        .await
        .map_err(failed)?;
    Ok(deleted)
}

fn bigint(number: u64, doing: &str) -> Result<i64, SlowError> {
    number.try_into().map_err(|_| {
        SlowError::new(ErrorKind::Misuse, doing, format!("{number} is larger than 9223372036854775807"))
    })
}
