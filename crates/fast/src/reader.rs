//! Reads of many things at once, for any number of programs; those of one are in `singles.rs`. Each answer comes with the
//! point of the chain's history that it belongs to; a chain that is not ready, or older than what this process saw
//! acknowledged, is an error and not an answer.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;

use crate::codec::round::decode_keys;
use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::At;
use crate::plan::Plan;
use crate::step::member_key;
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on, take};

/// Which ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankedBy {
    /// By vote: the first generation's.
    Vote,
    /// By vote weight: the second generation's.
    VotesWeight,
}

/// A part of all accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsPage {
    /// The accounts of some buckets, in no order.
    pub accounts: Vec<Account>,
    /// The bucket to go on with; `None` at the end.
    pub next_bucket: Option<u64>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub accounts: u64,
    /// Registered delegates.
    pub delegates: u64,
    /// Transactions of the chain.
    pub transactions: u64,
    /// Blocks whose bodies are kept by height.
    pub blocks_kept: u64,
}

impl FastTier {
    /// The accounts of `buckets_max` buckets, starting at a bucket. For a list of all at one point in history, ask
    /// until `next_bucket` is `None` and compare the points; for a list in order, sort by address.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn accounts(&self, from_bucket: u64, buckets_max: u64) -> Result<At<AccountsPage>, FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let end = from_bucket.saturating_add(buckets_max.max(1)).min(buckets.accounts);
            let mut reads = Plan::new(self.keys());
            let names: Vec<String> =
                (from_bucket..end).map(|bucket| self.keys().account_bucket(bucket)).collect();
            names.iter().for_each(|key| {
                reads.read_key("HGETALL", key.clone());
            });
            let Some((head, values)) = self.snapshot("read accounts", reads, &buckets).await? else {
                continue;
            };
            let hashes: Vec<HashMap<Vec<u8>, Vec<u8>>> = take(&mut values.into_iter(), names.len())?;
            let mut records = Vec::new();
            for (key, hash) in names.iter().zip(hashes) {
                for (field, value) in hash {
                    records.push((self.address_of(key, &field)?, value));
                }
            }
            let Some(accounts) = self.resolve(&head, records).await? else { continue };
            let next_bucket = (end < buckets.accounts).then_some(end);
            return Ok(At { at: head.point(), value: AccountsPage { accounts, next_bucket } });
        }
        Err(moved_on("read accounts"))
    }

    /// All accounts, ascending by address, at one point in history. `None`: the chain moved on meanwhile.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn all_accounts(&self) -> Result<Option<At<Vec<Account>>>, FastError> {
        const BUCKETS_A_CALL: u64 = 512;
        let first = self.accounts(0, BUCKETS_A_CALL).await?;
        let (at, mut accounts, mut next) = (first.at, first.value.accounts, first.value.next_bucket);
        while let Some(bucket) = next {
            let page = self.accounts(bucket, BUCKETS_A_CALL).await?;
            if page.at != at {
                return Ok(None);
            }
            accounts.extend(page.value.accounts);
            next = page.value.next_bucket;
        }
        accounts.sort_unstable_by_key(|account| account.address);
        Ok(Some(At { at, value: accounts }))
    }

    /// Delegates in the order of a ranking (value descending, public key ascending), `count` of them from `offset` on.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn delegates_ranked(
        &self,
        by: RankedBy,
        offset: u32,
        count: u32,
    ) -> Result<At<Vec<Account>>, FastError> {
        let Some(last) = count.checked_sub(1).map(|more| u64::from(offset) + u64::from(more)) else {
            let acknowledged = self.acknowledged();
            let head = self.head().await?;
            self.readable(&head, acknowledged)?;
            return Ok(At { at: head.point(), value: Vec::new() });
        };
        let ranking = match by {
            RankedBy::Vote => self.keys().rank_vote(),
            RankedBy::VotesWeight => self.keys().rank_weight(),
        };
        let key = self.keys().delegates();
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut reads = Plan::new(self.keys());
            reads.read("ZRANGE", ranking.clone(), (offset, last));
            let (head, values) = self.snapshot_anywhere("read a ranking", reads).await?;
            let members: Vec<Vec<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
            let mut accounts = Plan::new(self.keys());
            for member in members.iter().flatten() {
                let public_key = member_key(member).ok_or_else(|| FastError::Corrupt {
                    key: ranking.clone(),
                    detail: format!("a member of {} bytes", member.len()),
                })?;
                accounts.read("HGET", key.clone(), &Address::of(&public_key).0.to_be_bytes());
            }
            let (now, values) = self.snapshot_anywhere("read ranked delegates", accounts).await?;
            if now.point() != head.point() {
                continue;
            }
            let count = values.len();
            let records: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), count)?;
            let mut value = Vec::with_capacity(count);
            for (member, record) in members.iter().flatten().zip(records) {
                let public_key = member_key(member).unwrap_or(PublicKey([0; PublicKey::LENGTH]));
                let record = record.ok_or_else(|| FastError::Corrupt {
                    key: key.clone(),
                    detail: format!("the ranked delegate {public_key} is missing"),
                })?;
                value.push(self.account_of(&key, &Address::of(&public_key).0.to_be_bytes(), &record)?);
            }
            return Ok(At { at: head.point(), value });
        }
        Err(moved_on("read a ranking"))
    }

    /// A round's forger list; `None` if it is not kept.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn forgers(&self, round: u32) -> Result<At<Option<Vec<PublicKey>>>, FastError> {
        let key = self.keys().forgers(round);
        let mut reads = Plan::new(self.keys());
        reads.read_key("GET", key.clone());
        let (head, values) = self.snapshot_anywhere("read a forger list", reads).await?;
        let found: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
        let value = found
            .into_iter()
            .flatten()
            .next()
            .map(|bytes| decode_keys(&bytes).map_err(|cause| FastError::corrupt(&key, cause)))
            .transpose()?;
        Ok(At { at: head.point(), value })
    }

    /// How many accounts, delegates, transactions and kept blocks there are.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn counts(&self) -> Result<At<Counts>, FastError> {
        let mut reads = Plan::new(self.keys());
        reads.read_key("HLEN", self.keys().delegates());
        reads.read_key("HLEN", self.keys().heights());
        let (head, values) = self.snapshot_anywhere("count", reads).await?;
        let lengths: Vec<u64> = take(&mut values.into_iter(), 2)?;
        let [delegates, blocks_kept] = lengths.as_slice() else { return Err(moved_on("count")) };
        let value = Counts {
            accounts: head.accounts,
            delegates: *delegates,
            transactions: head.tip.map_or(0, |tip| tip.transactions_total),
            blocks_kept: *blocks_kept,
        };
        Ok(At { at: head.point(), value })
    }
}
