//! Simple reads, for any number of programs. Each answer comes with the point of the chain's history that it belongs
//! to; a chain that is not ready, or older than what this process saw acknowledged, is an error and not an answer.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::keys::PublicKey;
use forebay_ledger::transaction::Transaction;

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

/// A transaction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its block's height.
    pub height: Height,
    /// Block and transaction, if the block is among those kept; an older one is in the slow tier only.
    pub found: Option<(BlockId, Transaction)>,
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
    /// An account; `None` if the chain does not know it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn account(&self, address: Address) -> Result<At<Option<Account>>, FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let mut reads = Plan::new(self.keys());
            let key = self.keys().account_bucket(buckets.of_account(address));
            reads.read("HGET", key, &address.0.to_be_bytes());
            let Some((head, values)) = self.snapshot("read an account", reads, &buckets).await? else {
                continue;
            };
            let found: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
            let records = found.into_iter().flatten().map(|value| (address, value)).collect();
            let Some(accounts) = self.resolve(&head, records).await? else { continue };
            return Ok(At { at: head.point(), value: accounts.into_iter().next() });
        }
        Err(moved_on("read an account"))
    }

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

    /// The block with this id, if its body is kept and it is part of the chain.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn block(&self, id: BlockId) -> Result<At<Option<Block>>, FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            // A body belongs to its id, whenever it is read; only whether the chain has it is read at one point.
            let block = self.body("read a block", id).await?;
            let mut reads = Plan::new(self.keys());
            match &block {
                // A block that was taken back leaves its body for the outbox: the height index tells it from the chain's.
                Some(block) => reads.read("HGET", self.keys().heights(), block.height),
                None => reads.read_key("GET", self.keys().block(id)),
            }
            let (head, values) = self.snapshot_anywhere("read a block", reads).await?;
            let found: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
            let found = found.into_iter().flatten().next();
            if block.is_none() && found.is_some() {
                // It came in between.
                continue;
            }
            let in_chain = found.is_some_and(|found| found == id.to_string().as_bytes());
            return Ok(At { at: head.point(), value: block.filter(|_| in_chain) });
        }
        Err(moved_on("read a block"))
    }

    /// A body by itself: a plain read, since long values are slow in functions.
    async fn body(&self, doing: &str, id: BlockId) -> Result<Option<Block>, FastError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys().block(id));
        let bytes: Option<Vec<u8>> = self.ask(doing, &command).await?;
        self.block_of(id, bytes.as_deref())
    }

    /// The block at a height, if it is among those kept.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn block_at(&self, height: Height) -> Result<At<Option<Block>>, FastError> {
        let mut missing = None;
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut reads = Plan::new(self.keys());
            reads.read("HGET", self.keys().heights(), height);
            let (head, values) = self.snapshot_anywhere("read a block by height", reads).await?;
            let indexed: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
            let Some(indexed) = indexed.into_iter().flatten().next() else {
                return Ok(At { at: head.point(), value: None });
            };
            let found = self.indexed_id(height, &indexed)?;
            let block = self.body("read a block by height", found).await?;
            if let Some(block) = block.filter(|block| block.height == height) {
                return Ok(At { at: head.point(), value: Some(block) });
            }
            // Trimmed in between; unless nothing has happened in between.
            if missing.replace(head.point()) == Some(head.point()) {
                return Err(FastError::Corrupt {
                    key: self.keys().block(found),
                    detail: format!("the body of the kept block at height {height} is missing or another's"),
                });
            }
        }
        Err(moved_on("read a block by height"))
    }

    fn indexed_id(&self, height: Height, value: &[u8]) -> Result<BlockId, FastError> {
        std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| FastError::Corrupt {
            key: format!("{} {height}", self.keys().heights()),
            detail: "not a block id".to_owned(),
        })
    }

    /// The height of a confirmed transaction, and the transaction itself if its block is kept; `None` if the chain does
    /// not have it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn transaction(&self, id: TransactionId) -> Result<At<Option<Located>>, FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let mut reads = Plan::new(self.keys());
            let key = self.keys().transaction_bucket(buckets.of_transaction(id));
            reads.read("HGET", key, &id.0.to_be_bytes());
            let Some((head, values)) = self.snapshot("find a transaction", reads, &buckets).await? else {
                continue;
            };
            let heights: Vec<Option<Height>> = take(&mut values.into_iter(), 1)?;
            let Some(height) = heights.into_iter().flatten().next() else {
                return Ok(At { at: head.point(), value: None });
            };
            let block = self.block_at(height).await?;
            if block.at != head.point() {
                continue;
            }
            let found = block.value.and_then(|block| {
                let id_of_block = block.id;
                block.transactions.into_iter().find(|found| found.id == id).map(|found| (id_of_block, found))
            });
            return Ok(At { at: head.point(), value: Some(Located { height, found }) });
        }
        Err(moved_on("find a transaction"))
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
