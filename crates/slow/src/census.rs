//! What a memory plan asks PostgreSQL: counts, and how long the records are that Redis will keep.
//!
//! Lengths are those of the fast tier's encoding (`docs/redis-keys.md`), computed in SQL from the columns, so that no row
//! has to travel.

use forebay_ledger::account::Account;
use forebay_ledger::ids::Height;

use crate::columns::Columns;
use crate::error::SlowError;
use crate::reader::{Counts, Reads};
use crate::restore;

/// The longest record that stays in its bucket, bytes: a part of the fast tier's format.
const INLINE_BYTES_MAX: i64 = 64;

/// Counts and sums over the whole chain, and its newest blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Rows.
    pub counts: Counts,
    /// Accounts whose record has more than 64 bytes, delegates not included.
    pub long_accounts: u64,
    /// Bytes of all records of up to 64 bytes.
    pub inline_record_bytes: u64,
    /// Bytes of the longer ones.
    pub long_record_bytes: u64,
    /// Bytes of the delegates' records.
    pub delegate_record_bytes: u64,
    /// The newest blocks, at most so many as asked for.
    pub recent_blocks: u64,
    /// Their transactions.
    pub recent_transactions: u64,
    /// Their payloads, bytes.
    pub recent_payload_bytes: u64,
    /// How the chain grew lately.
    pub growth: Growth,
}

/// Growth over the newest part of the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Seconds of the chain's time that it is measured over.
    pub seconds: u64,
    /// Accounts that came.
    pub accounts: u64,
    /// Transactions that came.
    pub transactions: u64,
}

impl Reads<'_> {
    /// Counts what a memory plan needs, in two passes over the accounts and one over `recent` blocks. `growth_blocks`: over
    /// how many of the newest blocks growth is measured; the genesis block does not count.
    ///
    /// # Errors
    /// Unavailable; WrongDatabase or Server where no chain is set up yet.
    pub async fn census(self, recent: u32, growth_blocks: u32) -> Result<Census, SlowError> {
        let counts = self.counts().await?;
        let tip = Height::try_from(counts.blocks).unwrap_or(Height::MAX);
        let since = tip.saturating_sub(growth_blocks).max(1);
        let mut census = self.records(since).await?;
        census.counts = counts;
        self.recent(&mut census, tip.saturating_sub(recent)).await?;
        self.growth(&mut census, since).await?;
        Ok(census)
    }

    /// Some accounts, at most so many: a sample for a measurement.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn some_accounts(self, count: u32) -> Result<Vec<Account>, SlowError> {
        let doing = "reading a sample of accounts";
        let sql = format!("{} limit {count}", restore::SELECT_ACCOUNTS);
        let rows = self.query(doing, &sql, &[]).await?;
        rows.iter().map(|row| restore::account(&Columns { row, doing })).collect()
    }

    async fn records(self, since: Height) -> Result<Census, SlowError> {
        let doing = "counting what the accounts take";
        let sql = SELECT_RECORDS;
        let since = i32::try_from(since).unwrap_or(i32::MAX);
        let rows = self.query(doing, sql, &[&INLINE_BYTES_MAX, &since]).await?;
        let Some(row) = rows.first() else { return Ok(Census::default()) };
        let row = Columns { row, doing };
        let number = |index| row.get::<i64>(index).map(i64::unsigned_abs);
        Ok(Census {
            long_accounts: number(0)?,
            inline_record_bytes: number(1)?,
            long_record_bytes: number(2)?,
            delegate_record_bytes: number(3)?,
            growth: Growth { accounts: number(4)?, ..Growth::default() },
            ..Census::default()
        })
    }

    async fn recent(self, census: &mut Census, above: Height) -> Result<(), SlowError> {
        let doing = "counting the newest blocks";
        let sql = "select count(*), coalesce(sum(number_of_transactions), 0)::bigint, \
                   coalesce(sum(payload_length::bigint), 0)::bigint from forebay.blocks where height > $1";
        let rows = self.query(doing, sql, &[&i32::try_from(above).unwrap_or(i32::MAX)]).await?;
        if let Some(row) = rows.first() {
            let row = Columns { row, doing };
            let number = |index| row.get::<i64>(index).map(i64::unsigned_abs);
            (census.recent_blocks, census.recent_transactions) = (number(0)?, number(1)?);
            census.recent_payload_bytes = number(2)?;
        }
        Ok(())
    }

    async fn growth(self, census: &mut Census, since: Height) -> Result<(), SlowError> {
        let doing = "measuring the growth";
        let sql = "select (tip.timestamp - past.timestamp)::bigint, \
                   tip.transactions_before + tip.number_of_transactions - past.transactions_before - past.number_of_transactions \
                   from forebay.blocks past, (select * from forebay.blocks order by height desc limit 1) tip \
                   where past.height = $1";
        let rows = self.query(doing, sql, &[&i32::try_from(since).unwrap_or(i32::MAX)]).await?;
        if let Some(row) = rows.first() {
            let row = Columns { row, doing };
            census.growth.seconds = u64::try_from(row.get::<i64>(0)?).unwrap_or_default();
            census.growth.transactions = u64::try_from(row.get::<i64>(1)?).unwrap_or_default();
        }
        Ok(())
    }
}

/// A number's bytes as the fast tier writes it: 7 bits each, after doubling for the sign.
const SELECT_RECORDS: &str = "
with
votes as (select voter as address, count(*) as n from forebay.votes group by voter),
members as (select account as address, count(*) as n from forebay.multisignature_members group by account),
records as (
    select
        a.created_height,
        d.address is not null as is_delegate,
        1
        + case when a.balance = 0 then 1 else 1 + floor((ln(abs(a.balance)::float8) / ln(2.0::float8) + 1) / 7)::int end
        + case when a.public_key is null then 0 else 32 end
        + case when a.second_public_key is null then 0 else 32 end
        + case when v.n is null then 0 else 1 + 8 * v.n end
        + case when a.multimin = 0 then 0 else 3 + 32 * coalesce(m.n, 0) end
        + case when a.produced_blocks = 0 and a.missed_blocks = 0 and a.fees = 0 and a.rewards = 0 then 0 else 12 end
        + case when d.address is null then 0 else 33 + octet_length(d.username) end
            as bytes
    from forebay.accounts a
    left join votes v using (address)
    left join members m using (address)
    left join forebay.delegates d using (address)
)
select
    count(*) filter (where not is_delegate and bytes > $1),
    coalesce(sum(bytes) filter (where not is_delegate and bytes <= $1), 0)::bigint,
    coalesce(sum(bytes) filter (where not is_delegate and bytes > $1), 0)::bigint,
    coalesce(sum(bytes) filter (where is_delegate), 0)::bigint,
    count(*) filter (where created_height > $2)
from records";
