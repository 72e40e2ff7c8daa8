//! Streaming everything out by binary COPY: what a restore of the fast tier and a dump read.

use std::pin::pin;

use forebay_ledger::account::{Account, Delegate, Forging, Multisignature};
use forebay_ledger::ids::{Address, Height, TransactionId};
use forebay_ledger::keys::PublicKey;
use futures_util::StreamExt;
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::Type;

use crate::columns::{Columns, Values};
use crate::error::SlowError;
use crate::reader::Reads;

/// All of an account. Votes and members as one byte string each: eight bytes an address, 32 a key.
pub(crate) const SELECT_ACCOUNTS: &str = "select a.address, a.balance, a.public_key, a.second_public_key, \
     (select string_agg(int8send(v.delegate), '') from forebay.votes v where v.voter = a.address), \
     a.multimin, a.multilifetime, \
     case when a.multimin > 0 then (select string_agg(m.public_key, '' order by m.public_key) \
         from forebay.multisignature_members m where m.account = a.address) end, \
     a.produced_blocks, a.missed_blocks, a.fees, a.rewards, \
     d.username, d.vote, d.votes_weight, d.missed_in_a_row, d.voters_balance, d.voters_share \
     from forebay.accounts a left join forebay.delegates d on d.address = a.address";

const ACCOUNT_TYPES: [Type; 18] = [
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::INT2,
    Type::INT2,
    Type::BYTEA,
    Type::INT4,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
];

pub(crate) fn account<R: Values>(row: &Columns<'_, R>) -> Result<Account, SlowError> {
    let mut votes = row
        .get::<Option<&[u8]>>(4)?
        .map(|bytes| row.split(4, bytes, 8, read_address))
        .transpose()?
        .unwrap_or_default();
    votes.sort_unstable();
    let small = |index: usize| -> Result<u8, SlowError> {
        u8::try_from(row.get::<i16>(index)?).map_err(|_| row.corrupt(index))
    };
    let multisignature = match small(5)? {
        0 => None,
        min => Some(Multisignature {
            min,
            lifetime: small(6)?,
            members: row.keys(7)?.ok_or_else(|| row.corrupt(7))?,
        }),
    };
    let delegate = match row.get::<Option<&str>>(12)? {
        None => None,
        Some(username) => Some(Delegate {
            username: username.to_owned(),
            vote: row.get(13)?,
            votes_weight: row.get(14)?,
            missed_in_a_row: row.get::<i32>(15)?.unsigned_abs(),
            voters_balance: row.get(16)?,
            voters_share: row.get(17)?,
        }),
    };
    Ok(Account {
        address: Address::from_bigint(row.get(0)?),
        balance: row.get(1)?,
        public_key: row.fixed_or_null(2, PublicKey::from_slice)?,
        second_public_key: row.fixed_or_null(3, PublicKey::from_slice)?,
        votes,
        multisignature,
        forging: Forging {
            produced_blocks: row.get::<i32>(8)?.unsigned_abs(),
            missed_blocks: row.get::<i32>(9)?.unsigned_abs(),
            fees: row.get(10)?,
            rewards: row.get(11)?,
        },
        delegate,
    })
}

fn read_address(bytes: &[u8]) -> Option<Address> {
    bytes.try_into().ok().map(|bytes| Address(u64::from_be_bytes(bytes)))
}

impl Reads<'_> {
    /// All accounts, ascending by address as a number, in chunks of at most `chunk` for `take`. Stops at the first error
    /// of `take`. Use a snapshot, so that they belong to one height.
    ///
    /// # Errors
    /// Unavailable, Corrupt, or what `take` returned.
    pub async fn accounts<E: From<SlowError>>(
        self,
        chunk: usize,
        mut take: impl AsyncFnMut(Vec<Account>) -> Result<(), E>,
    ) -> Result<(), E> {
        let doing = "reading all accounts";
        // A bigint sorts the upper half of the numbers first: two runs over the index give the numbers' order.
        for half in ["a.address >= 0", "a.address < 0"] {
            let sql =
                format!("copy ({SELECT_ACCOUNTS} where {half} order by a.address) to stdout (format binary)");
            self.copy_out(doing, &sql, &ACCOUNT_TYPES, chunk, account, &mut take).await?;
        }
        Ok(())
    }

    /// Every transaction's id and height, in no order.
    ///
    /// # Errors
    /// Unavailable, or what `take` returned.
    pub async fn transaction_ids<E: From<SlowError>>(
        self,
        chunk: usize,
        mut take: impl AsyncFnMut(Vec<(TransactionId, Height)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "copy (select id, height from forebay.transactions) to stdout (format binary)";
        let read = |row: &Columns<'_, BinaryCopyOutRow>| {
            Ok((TransactionId::from_bigint(row.get(0)?), row.get::<i32>(1)?.unsigned_abs()))
        };
        self.copy_out("reading all transaction ids", sql, &[Type::INT8, Type::INT4], chunk, read, &mut take)
            .await
    }

    /// Every delegate's name with its address, in the order of registration.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn usernames(self) -> Result<Vec<(String, Address)>, SlowError> {
        let doing = "reading the delegates' names";
        let sql = "select username, address from forebay.delegates order by registered_height, address";
        let rows = self.query(doing, sql, &[]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok((row.get(0)?, Address::from_bigint(row.get(1)?)))
            })
            .collect()
    }

    async fn copy_out<T, E: From<SlowError>>(
        self,
        doing: &str,
        sql: &str,
        types: &[Type],
        chunk: usize,
        read: impl Fn(&Columns<'_, BinaryCopyOutRow>) -> Result<T, SlowError>,
        take: &mut impl AsyncFnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| SlowError::from_postgres(doing, error);
        let stream = self.client.copy_out(sql).await.map_err(failed)?;
        let mut stream = pin!(BinaryCopyOutStream::new(stream, types));
        let mut items = Vec::with_capacity(chunk);
        while let Some(row) = stream.next().await {
            let row = row.map_err(failed)?;
            items.push(read(&Columns { row: &row, doing })?);
            if items.len() >= chunk {
                take(std::mem::replace(&mut items, Vec::with_capacity(chunk))).await?;
            }
        }
        if items.is_empty() { Ok(()) } else { take(items).await }
    }
}
