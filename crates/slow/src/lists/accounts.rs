//! Accounts in lists: the richest, the groups of a member, what a forger earned between two moments.

use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;

use super::Lists;
use crate::columns::Columns;
use crate::error::SlowError;

/// An account in the list of the richest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RichAccount {
    /// Its number.
    pub address: Address,
    /// Units of 10^-8.
    pub balance: i64,
    /// If known.
    pub public_key: Option<PublicKey>,
}

/// An account that a group must sign for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOfAccounts {
    /// The account.
    pub address: Address,
    /// Units of 10^-8.
    pub balance: i64,
    /// How many must sign.
    pub min: i16,
    /// Hours.
    pub lifetime: i16,
    /// Who may, by key.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its account.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Units of 10^-8.
    pub balance: i64,
}

/// What a forger earned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForgedBetween {
    /// Blocks.
    pub blocks: u64,
    /// Shares of the fees of rounds that ended then, units of 10^-8.
    pub fees: i64,
    /// Rewards of blocks forged then, units of 10^-8.
    pub rewards: i64,
}

impl Lists<'_> {
    /// Accounts by balance, the largest first; of equal ones the lower stored number first.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn richest(&self, limit: u32, offset: u32) -> Result<Vec<RichAccount>, SlowError> {
        let doing = "listing the richest accounts";
        let sql = "select a.address, a.balance, a.public_key from forebay.accounts a \
             order by a.balance desc, a.address limit $1 offset $2";
        let rows = self.query(doing, sql, &[&i64::from(limit), &i64::from(offset)]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok(RichAccount {
                    address: Address::from_bigint(row.get(0)?),
                    balance: row.get(1)?,
                    public_key: row.fixed_or_null(2, PublicKey::from_slice)?,
                })
            })
            .collect()
    }

    /// The accounts whose group a key belongs to, with all members.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn groups_of(&self, member: &PublicKey) -> Result<Vec<GroupOfAccounts>, SlowError> {
        let doing = "listing the groups of a member";
        let sql = "select a.address, a.balance, a.multimin, a.multilifetime, o.public_key \
             from forebay.multisignature_members m \
             join forebay.accounts a on a.address = m.account \
             join forebay.multisignature_members o on o.account = m.account \
             where m.public_key = $1 order by a.address, o.public_key";
        let rows = self.query(doing, sql, &[&member.0.to_vec()]).await?;
        let mut groups: Vec<GroupOfAccounts> = Vec::new();
        for row in &rows {
            let row = Columns { row, doing };
            let address = Address::from_bigint(row.get(0)?);
            if groups.last().is_none_or(|last| last.address != address) {
                groups.push(GroupOfAccounts {
                    address,
                    balance: row.get(1)?,
                    min: row.get(2)?,
                    lifetime: row.get(3)?,
                    members: Vec::new(),
                });
            }
            let public_key = row.key(4)?;
            let member = GroupMember { address: Address::of(&public_key), public_key, balance: 0 };
            if let Some(group) = groups.last_mut() {
                group.members.push(member);
            }
        }
        self.add_balances(&mut groups).await?;
        Ok(groups)
    }

    async fn add_balances(&self, groups: &mut [GroupOfAccounts]) -> Result<(), SlowError> {
        let doing = "reading the balances of members";
        let members = groups.iter().flat_map(|group| &group.members);
        let addresses: Vec<i64> = members.map(|member| member.address.to_bigint()).collect();
        let sql = "select address, balance from forebay.accounts where address = any($1)";
        let rows = self.query(doing, sql, &[&addresses]).await?;
        let mut balances = std::collections::HashMap::new();
        for row in &rows {
            let row = Columns { row, doing };
            balances.insert(Address::from_bigint(row.get(0)?), row.get::<i64>(1)?);
        }
        for member in groups.iter_mut().flat_map(|group| &mut group.members) {
            member.balance = balances.get(&member.address).copied().unwrap_or(0);
        }
        Ok(())
    }

    /// What a forger earned from one moment to another, seconds since the network's epoch: rewards of its blocks, and
    /// shares of the fees of rounds that ended.
    ///
    /// # Errors
    /// Unavailable; Conflict when it took too long.
    pub async fn forged_between(
        &self,
        forger: Address,
        from: i64,
        to: i64,
    ) -> Result<ForgedBetween, SlowError> {
        let doing = "summing up what was forged";
        let sql = "select \
                 (select count(*) from forebay.blocks b where b.generator = $1 and b.timestamp between $2::bigint and $3::bigint), \
                 (select coalesce(sum(b.reward), 0)::bigint from forebay.blocks b \
                     where b.generator = $1 and b.timestamp between $2::bigint and $3::bigint), \
                 (select coalesce(sum(r.fee_share + case when b.height = r.height then r.fee_remainder else 0 end), 0)::bigint \
                     from forebay.rounds r cross join forebay.chain c \
                     join forebay.blocks b on b.height between r.height - c.delegates_per_round + 1 and r.height \
                     where r.timestamp between $2::bigint and $3::bigint and b.generator = $1)";
        let rows = self.query(doing, sql, &[&forger.to_bigint(), &from, &to]).await?;
        let Some(row) = rows.first() else { return Ok(ForgedBetween::default()) };
        let row = Columns { row, doing };
        Ok(ForgedBetween {
            blocks: row.get::<i64>(0)?.unsigned_abs(),
            rewards: row.get(1)?,
            fees: row.get(2)?,
        })
    }
}
