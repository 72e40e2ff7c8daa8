//! Reading: the tip, accounts, blocks, rounds. What a restore streams is in [`crate::restore`].

use std::ops::RangeInclusive;

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::state::{RoundBlock, RoundCloser, RoundState, Tip};
use forebay_ledger::transaction::{Asset, Transaction};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, IsolationLevel, Row};

use crate::columns::Columns;
use crate::connection::connect;
use crate::error::{ErrorKind, SlowError};
use crate::restore;
use crate::rows::{BlockRow, Position};

/// A reading session.
#[derive(Debug)]
pub struct SlowReader {
    client: Client,
}

/// Reads that see one state of the database, whatever is committed meanwhile. Ends when it is dropped.
pub struct Snapshot<'a> {
    transaction: tokio_postgres::Transaction<'a>,
}

/// What can be read. Each call sees the newest commit, or the snapshot's state.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a> {
    pub(crate) client: &'a Client,
}

/// How many rows the tables have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks, the genesis block included.
    pub blocks: u64,
    /// Transactions, the genesis block's included.
    pub transactions: u64,
    /// Accounts.
    pub accounts: u64,
    /// Delegates.
    pub delegates: u64,
    /// Votes that are given.
    pub votes: u64,
    /// Members of multisignature groups.
    pub members: u64,
}

impl SlowReader {
    /// Opens a session. The role needs to read schema `forebay`: the writer's does.
    ///
    /// # Errors
    /// Unavailable, Permission.
    pub async fn connect(config: &Config) -> Result<Self, SlowError> {
        let settings =
            "set default_transaction_read_only = on; set jit = off; set application_name = 'forebay reader'";
        Ok(Self { client: connect(config, "connecting to PostgreSQL to read", settings).await? })
    }

    /// Reads, each of the newest commit.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads::new(&self.client)
    }

    /// Begins a repeatable-read transaction: all reads until it is dropped see one state.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn snapshot(&mut self) -> Result<Snapshot<'_>, SlowError> {
        let transaction = self
            .client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(|error| SlowError::from_postgres("beginning to read", error))?;
        Ok(Snapshot { transaction })
    }
}

impl Snapshot<'_> {
    /// Reads of the snapshot's state.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads::new(self.transaction.client())
    }
}

impl<'a> Reads<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// How far the slow tier is.
    ///
    /// # Errors
    /// Unavailable, WrongDatabase.
    pub async fn position(self) -> Result<Position, SlowError> {
        let doing = "reading the position";
        let rows =
            self.query(doing, "select epoch, seq, height, block_id from forebay.position", &[]).await?;
        let row = rows.first().ok_or_else(|| {
            SlowError::new(ErrorKind::WrongDatabase, doing, "there is no row in forebay.position")
        })?;
        let row = Columns { row, doing };
        Ok(Position {
            epoch: row.get::<i64>(0)?.unsigned_abs(),
            seq: row.get::<i64>(1)?.unsigned_abs(),
            height: row.get::<i32>(2)?.unsigned_abs(),
            block_id: row.get::<Option<i64>>(3)?.map(BlockId::from_bigint),
        })
    }

    /// The newest block; `None` before the genesis block.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn tip(self) -> Result<Option<Tip>, SlowError> {
        let doing = "reading the tip";
        let rows = self
            .query(
                doing,
                "select height, id, timestamp, transactions_before + number_of_transactions \
                 from forebay.blocks order by height desc limit 1",
                &[],
            )
            .await?;
        rows.first()
            .map(|row| {
                let row = Columns { row, doing };
                Ok(Tip {
                    height: row.get::<i32>(0)?.unsigned_abs(),
                    id: BlockId::from_bigint(row.get(1)?),
                    timestamp: row.get::<i32>(2)?.unsigned_abs(),
                    transactions_total: row.get::<i64>(3)?.unsigned_abs(),
                })
            })
            .transpose()
    }

    /// Counts of rows. Blocks and transactions come from the tip; the others are counted.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn counts(self) -> Result<Counts, SlowError> {
        let doing = "counting rows";
        let tip = self.tip().await?;
        let rows = self
            .query(
                doing,
                "select (select count(*) from forebay.accounts), (select count(*) from forebay.delegates), \
                 (select count(*) from forebay.votes), (select count(*) from forebay.multisignature_members)",
                &[],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Counts::default()) };
        let row = Columns { row, doing };
        let count = |index| row.get::<i64>(index).map(i64::unsigned_abs);
        Ok(Counts {
            blocks: tip.map_or(0, |tip| tip.height.into()),
            transactions: tip.map_or(0, |tip| tip.transactions_total),
            accounts: count(0)?,
            delegates: count(1)?,
            votes: count(2)?,
            members: count(3)?,
        })
    }

    /// Rows of blocks and transactions counted one by one, for a verification: the tip's totals are not trusted.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn counted_rows(self) -> Result<(u64, u64), SlowError> {
        let doing = "counting blocks and transactions";
        let sql = "select (select count(*) from forebay.blocks), (select count(*) from forebay.transactions)";
        let rows = self.query(doing, sql, &[]).await?;
        let Some(row) = rows.first() else { return Ok((0, 0)) };
        let row = Columns { row, doing };
        Ok((row.get::<i64>(0)?.unsigned_abs(), row.get::<i64>(1)?.unsigned_abs()))
    }

    /// One account; `None` if it has no row.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn account(self, address: Address) -> Result<Option<Account>, SlowError> {
        let doing = format!("reading account {}", address.0);
        let sql = format!("{} where a.address = $1", restore::SELECT_ACCOUNTS);
        let rows = self.query(&doing, &sql, &[&address.to_bigint()]).await?;
        rows.first().map(|row| restore::account(&Columns { row, doing: &doing })).transpose()
    }

    /// All delegates' accounts, ascending by address as a number.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn delegates(self) -> Result<Vec<Account>, SlowError> {
        let doing = "reading the delegates";
        let sql = format!("{} where d.address is not null", restore::SELECT_ACCOUNTS);
        let rows = self.query(doing, &sql, &[]).await?;
        let mut accounts = rows
            .iter()
            .map(|row| restore::account(&Columns { row, doing }))
            .collect::<Result<Vec<_>, _>>()?;
        accounts.sort_unstable_by_key(|account| account.address);
        Ok(accounts)
    }

    /// The block at a height, as it was given in.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn block_by_height(self, height: Height) -> Result<Option<Block>, SlowError> {
        Ok(self.blocks(height..=height).await?.pop())
    }

    /// The block with an id.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn block_by_id(self, id: BlockId) -> Result<Option<Block>, SlowError> {
        let doing = format!("looking for block {id}");
        let sql = "select height from forebay.blocks where id = $1";
        match self.query(&doing, sql, &[&id.to_bigint()]).await?.first() {
            Some(row) => {
                let height: i32 = Columns { row, doing: &doing }.get(0)?;
                self.block_by_height(height.unsigned_abs()).await
            }
            None => Ok(None),
        }
    }

    /// The blocks of a range of heights that are there, ascending.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn blocks(self, heights: RangeInclusive<Height>) -> Result<Vec<Block>, SlowError> {
        Ok(self.parts(heights).await?.into_iter().map(|(block, ..)| block).collect())
    }

    /// The same with what the slow tier keeps beside a block.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn block_rows(self, heights: RangeInclusive<Height>) -> Result<Vec<BlockRow>, SlowError> {
        let parts = self.parts(heights).await?;
        Ok(parts
            .into_iter()
            .map(|(block, transactions_before, forgers, delegates_digest)| BlockRow {
                block: std::sync::Arc::new(block),
                transactions_before,
                forgers,
                delegates_digest,
            })
            .collect())
    }

    async fn parts(self, heights: RangeInclusive<Height>) -> Result<Vec<BlockParts>, SlowError> {
        let doing = format!("reading blocks {} to {}", heights.start(), heights.end());
        let range: [&(dyn ToSql + Sync); 2] = [&stored(*heights.start()), &stored(*heights.end())];
        let blocks = self.query(&doing, SELECT_BLOCKS, &range).await?;
        let transactions = self.query(&doing, SELECT_TRANSACTIONS, &range).await?;
        let mut transactions = transactions
            .iter()
            .map(|row| {
                let row = Columns { row, doing: &doing };
                Ok((row.get::<i32>(0)?, transaction(&row)?))
            })
            .collect::<Result<Vec<_>, SlowError>>()?
            .into_iter()
            .peekable();
        blocks
            .iter()
            .map(|row| {
                let row = Columns { row, doing: &doing };
                let mut parts = block(&row)?;
                let height = parts.0.height.cast_signed();
                // Transactions without their block: a tampered database. They must not hide those that follow.
                while transactions.next_if(|(at, _)| *at < height).is_some() {}
                while let Some((_, transaction)) = transactions.next_if(|(at, _)| *at == height) {
                    parts.0.transactions.push(transaction);
                }
                Ok(parts)
            })
            .collect()
    }

    /// A transaction and the height of its block.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn transaction(self, id: TransactionId) -> Result<Option<(Height, Transaction)>, SlowError> {
        let doing = format!("reading transaction {id}");
        let rows = self.query(&doing, SELECT_TRANSACTION, &[&id.to_bigint()]).await?;
        rows.first()
            .map(|row| {
                let row = Columns { row, doing: &doing };
                Ok((row.get::<i32>(0)?.unsigned_abs(), transaction(&row)?))
            })
            .transpose()
    }

    /// A round's forger list by slot; `None` until the round's first block is there.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn forgers(self, round: u32) -> Result<Option<Vec<PublicKey>>, SlowError> {
        let doing = format!("reading the forgers of round {round}");
        let sql = "select b.forgers from forebay.blocks b, forebay.chain c \
             where b.height = ($1::bigint - 1) * c.delegates_per_round + 1";
        match self.query(&doing, sql, &[&i64::from(round)]).await?.first() {
            Some(row) => Columns { row, doing: &doing }.keys(0),
            None => Ok(None),
        }
    }

    /// The round that the next block belongs to, with the newest `closers_max` blocks that closed rounds. Without its list
    /// where no block of it is there yet: then `forgers` is empty, and the ledger computes it.
    ///
    /// # Errors
    /// Unavailable, Corrupt; WrongDatabase before the genesis block.
    pub async fn round_state(self, closers_max: u32) -> Result<RoundState, SlowError> {
        let doing = "reading the running round";
        let tip = self.tip().await?.ok_or_else(|| {
            SlowError::new(ErrorKind::WrongDatabase, doing, "the genesis block is not there yet")
        })?;
        let rows = self.query(doing, "select delegates_per_round from forebay.chain", &[]).await?;
        let row = rows.first().ok_or_else(|| SlowError::new(ErrorKind::WrongDatabase, doing, "no chain"))?;
        let delegates = Columns { row, doing }.get::<i32>(0)?.unsigned_abs().max(1);
        let round = tip.height / delegates + 1;
        let first = (round - 1) * delegates + 1;
        let sql = "select generator_public_key, total_fee, reward from forebay.blocks where height >= $1 order by height";
        let blocks = self.query(doing, sql, &[&stored(first)]).await?;
        let closers = self
            .query(
                doing,
                "select height, generator_public_key from (\
                     select b.height, b.generator_public_key from forebay.blocks b, forebay.chain c \
                     where b.height = any (array(select generate_series(\
                         $1::bigint, greatest(1, $1 - ($2::bigint - 1) * c.delegates_per_round), -c.delegates_per_round::bigint)::int)) \
                 ) closer order by height",
                &[&i64::from((round - 1) * delegates), &i64::from(closers_max)],
            )
            .await?;
        Ok(RoundState {
            round,
            forgers: self.forgers(round).await?.unwrap_or_default(),
            blocks: blocks
                .iter()
                .map(|row| {
                    let row = Columns { row, doing };
                    Ok(RoundBlock { generator: row.key(0)?, fees: row.get(1)?, reward: row.get(2)? })
                })
                .collect::<Result<_, SlowError>>()?,
            closers: closers
                .iter()
                .map(|row| {
                    let row = Columns { row, doing };
                    Ok(RoundCloser { height: row.get::<i32>(0)?.unsigned_abs(), generator: row.key(1)? })
                })
                .collect::<Result<_, SlowError>>()?,
        })
    }

    pub(crate) async fn query(
        self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SlowError> {
        self.client.query(sql, parameters).await.map_err(|error| SlowError::from_postgres(doing, error))
    }
}

/// A block without its transactions, and what is kept beside it.
pub(crate) type BlockParts = (Block, u64, Option<Vec<PublicKey>>, Option<Hash>);

const SELECT_BLOCKS: &str = "select id, height, version, timestamp, previous_block, number_of_transactions, total_amount, \
     total_fee, reward, payload_length, payload_hash, generator_public_key, block_signature, transactions_before, \
     forgers, delegates_digest from forebay.blocks where height between $1 and $2 order by height";

/// What [`block`] reads.
pub(crate) const BLOCK_COLUMNS: &str = "b.id, b.height, b.version, b.timestamp, b.previous_block, \
     b.number_of_transactions, b.total_amount, b.total_fee, b.reward, b.payload_length, b.payload_hash, \
     b.generator_public_key, b.block_signature, b.transactions_before, b.forgers, b.delegates_digest";

const SELECT_TRANSACTIONS: &str = "select height, id, timestamp, sender_public_key, sender, requester_public_key, recipient, \
     amount, fee, signature, second_signature, signatures, type, asset \
     from forebay.transactions where height between $1 and $2 order by height, index";

const SELECT_TRANSACTION: &str = "select height, id, timestamp, sender_public_key, sender, requester_public_key, recipient, \
     amount, fee, signature, second_signature, signatures, type, asset \
     from forebay.transactions where id = $1";

pub(crate) fn block(row: &Columns<'_>) -> Result<BlockParts, SlowError> {
    let block = Block {
        id: BlockId::from_bigint(row.get(0)?),
        height: row.get::<i32>(1)?.unsigned_abs(),
        version: row.get(2)?,
        timestamp: row.get::<i32>(3)?.unsigned_abs(),
        previous_block: row.get::<Option<i64>>(4)?.map(BlockId::from_bigint),
        number_of_transactions: row.get::<i32>(5)?.unsigned_abs(),
        total_amount: row.get(6)?,
        total_fee: row.get(7)?,
        reward: row.get(8)?,
        payload_length: row.get::<i32>(9)?.unsigned_abs(),
        payload_hash: row.fixed(10, Hash::from_slice)?,
        generator_public_key: row.key(11)?,
        block_signature: row.fixed(12, Signature::from_slice)?,
        transactions: Vec::new(),
    };
    Ok((block, row.get::<i64>(13)?.unsigned_abs(), row.keys(14)?, row.fixed_or_null(15, Hash::from_slice)?))
}

pub(crate) fn transaction(row: &Columns<'_>) -> Result<Transaction, SlowError> {
    let type_number = u8::try_from(row.get::<i16>(12)?).unwrap_or(u8::MAX);
    let signatures = row.get::<Option<&[u8]>>(11)?.unwrap_or_default();
    Ok(Transaction {
        id: TransactionId::from_bigint(row.get(1)?),
        timestamp: row.get::<i32>(2)?.unsigned_abs(),
        sender_public_key: row.key(3)?,
        sender: Address::from_bigint(row.get(4)?),
        claimed_sender: None,
        requester_public_key: row.fixed_or_null(5, PublicKey::from_slice)?,
        recipient: row.get::<Option<i64>>(6)?.map(Address::from_bigint),
        amount: row.get(7)?,
        fee: row.get(8)?,
        signature: row.fixed(9, Signature::from_slice)?,
        second_signature: row.fixed_or_null(10, Signature::from_slice)?,
        signatures: row.split(11, signatures, Signature::LENGTH, Signature::from_slice)?,
        asset: Asset::from_bytes(type_number, row.get::<Option<&[u8]>>(13)?.unwrap_or_default())
            .ok_or_else(|| row.corrupt(13))?,
    })
}

fn stored(height: Height) -> i32 {
    i32::try_from(height).unwrap_or(i32::MAX)
}
