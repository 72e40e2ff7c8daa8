//! Delegates in lists: who votes for one, which names contain a text.

use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;

use super::Lists;
use crate::columns::Columns;
use crate::error::SlowError;

/// An account that votes for a delegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its number.
    pub address: Address,
    /// Units of 10^-8.
    pub balance: i64,
    /// If it is a delegate itself.
    pub username: Option<String>,
    /// If known.
    pub public_key: Option<PublicKey>,
}

/// A delegate that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDelegate {
    /// Its number.
    pub address: Address,
    /// Accounts that vote for it now.
    pub voters: u64,
    /// When it registered, seconds since the network's epoch.
    pub registered_at: u32,
}

impl Lists<'_> {
    /// Who votes for a delegate, the smallest balance first.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn voters(&self, delegate: Address) -> Result<Vec<Voter>, SlowError> {
        let doing = "listing voters";
        let sql = "select a.address, a.balance, d.username, a.public_key from forebay.votes v \
             join forebay.accounts a on a.address = v.voter \
             left join forebay.delegates d on d.address = v.voter \
             where v.delegate = $1 order by a.balance, a.address";
        let rows = self.query(doing, sql, &[&delegate.to_bigint()]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok(Voter {
                    address: Address::from_bigint(row.get(0)?),
                    balance: row.get(1)?,
                    username: row.get(2)?,
                    public_key: row.fixed_or_null(3, PublicKey::from_slice)?,
                })
            })
            .collect()
    }

    /// Delegates whose name contains a text.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn delegates_named_like(&self, part: &str) -> Result<Vec<FoundDelegate>, SlowError> {
        let doing = "searching delegates";
        let sql = "select d.address, (select count(*) from forebay.votes v where v.delegate = d.address), t.timestamp \
             from forebay.delegates d join forebay.transactions t on t.id = d.registration \
             where strpos(d.username, $1) > 0";
        let rows = self.query(doing, sql, &[&part]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok(FoundDelegate {
                    address: Address::from_bigint(row.get(0)?),
                    voters: row.get::<i64>(1)?.unsigned_abs(),
                    registered_at: row.get::<i32>(2)?.unsigned_abs(),
                })
            })
            .collect()
    }

    /// How many votes are given, over all delegates.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn count_votes(&self) -> Result<u64, SlowError> {
        self.count("counting votes", "select count(*) from forebay.votes", &[]).await
    }
}
