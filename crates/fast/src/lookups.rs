//! Reads that an API needs beside single accounts and blocks: delegates by name and with their rank, ids by height, and
//! how many transactions the chain has before a block.

use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_ledger::state::Needs;

use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::{At, Head};
use crate::plan::Plan;
use crate::reader::RankedBy;
use crate::step::rank_members;
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on, take};

/// The fields in front of an undo record's accounts: version, two ids and three varints of at most ten bytes.
const UNDO_HEAD_BYTES_MAX: i64 = 64;

impl FastTier {
    /// Where the chain stands, as data are read: refused unless it is ready and not older than what was seen.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn readable_head(&self) -> Result<Head, FastError> {
        let (head, _) = self.snapshot_anywhere("read the head", Plan::new(self.keys())).await?;
        Ok(head)
    }

    /// The account that a delegate's name belongs to; of two that registered it in one block, the lower address.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn address_named(&self, username: &str) -> Result<At<Option<Address>>, FastError> {
        let mut reads = Plan::new(self.keys());
        reads.read("HGET", self.keys().names(), username);
        let (head, values) = self.snapshot_anywhere("look a delegate's name up", reads).await?;
        let found: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), 1)?;
        let value = found
            .into_iter()
            .flatten()
            .next()
            .map(|bytes| {
                let first = bytes.get(..8).and_then(|first| <[u8; 8]>::try_from(first).ok());
                first.map(|first| Address(u64::from_be_bytes(first))).ok_or_else(|| FastError::Corrupt {
                    key: format!("{} {username}", self.keys().names()),
                    detail: format!("{} bytes are no addresses", bytes.len()),
                })
            })
            .transpose()?;
        Ok(At { at: head.point(), value })
    }

    /// Accounts that are delegates, each with its rank from 1 on; others are left out. All at one point in history.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn delegates_with_rank(
        &self,
        addresses: &[Address],
        by: RankedBy,
    ) -> Result<At<Vec<(Account, u64)>>, FastError> {
        let ranking = match by {
            RankedBy::Vote => self.keys().rank_vote(),
            RankedBy::VotesWeight => self.keys().rank_weight(),
        };
        let needs = Needs { accounts: addresses.to_vec(), ..Needs::default() };
        for _ in 0..READ_ATTEMPTS_MAX {
            let loaded = self.read_needs(&needs).await?;
            let mut reads = Plan::new(self.keys());
            let mut delegates = Vec::new();
            for account in loaded.value.accounts {
                let Some(members) = rank_members(&account)? else { continue };
                let member = match by {
                    RankedBy::Vote => members.by_vote,
                    RankedBy::VotesWeight => members.by_weight,
                };
                reads.read("ZRANK", ranking.clone(), member.as_slice());
                delegates.push(account);
            }
            let (head, values) = self.snapshot_anywhere("rank delegates", reads).await?;
            if head.point() != loaded.at {
                continue;
            }
            let ranks: Vec<Option<u64>> = take(&mut values.into_iter(), delegates.len())?;
            let value = delegates
                .into_iter()
                .zip(ranks)
                .map(|(account, rank)| {
                    let rank = rank.ok_or_else(|| FastError::Corrupt {
                        key: ranking.clone(),
                        detail: format!("the delegate {} is missing", account.address.0),
                    })?;
                    Ok((account, rank + 1))
                })
                .collect::<Result<_, FastError>>()?;
            return Ok(At { at: head.point(), value });
        }
        Err(moved_on("rank delegates"))
    }

    /// The ids of the newest blocks that are kept, newest first, at most `count`, with the head that they belong to.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn newest_ids(&self, count: u32) -> Result<(Head, Vec<BlockId>), FastError> {
        let mut tip: Height = self.head().await?.tip.map_or(0, |tip| tip.height);
        for _ in 0..READ_ATTEMPTS_MAX {
            let heights: Vec<Height> =
                (tip.saturating_sub(count)..tip).rev().map(|below| below + 1).collect();
            let mut reads = Plan::new(self.keys());
            for height in &heights {
                reads.read("HGET", self.keys().heights(), *height);
            }
            let (head, values) = self.snapshot_anywhere("read the newest ids", reads).await?;
            let now = head.tip.map_or(0, |tip| tip.height);
            if now != tip {
                tip = now;
                continue;
            }
            let found: Vec<Option<String>> = take(&mut values.into_iter(), heights.len())?;
            let ids = found.into_iter().map_while(|text| text?.parse().ok()).collect();
            return Ok((head, ids));
        }
        Err(moved_on("read the newest ids"))
    }

    /// How many transactions the chain has before the block at a height, if Redis knows: it does for the tip and for
    /// the blocks that it can take back.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn transactions_before(
        &self,
        block: BlockId,
        height: Height,
    ) -> Result<Option<u64>, FastError> {
        let mut reads = Plan::new(self.keys());
        reads.read("GETRANGE", self.keys().undo(height), (0, UNDO_HEAD_BYTES_MAX - 1));
        let (_, values) = self.snapshot_anywhere("read the head of an undo record", reads).await?;
        let found: Vec<Vec<u8>> = take(&mut values.into_iter(), 1)?;
        Ok(found
            .first()
            .and_then(|bytes| undo_head(bytes))
            .filter(|(id, _)| *id == block)
            .map(|(_, total)| total))
    }
}

/// The block that an undo record belongs to, and the transactions in the chain before it.
fn undo_head(bytes: &[u8]) -> Option<(BlockId, u64)> {
    let (version, rest) = bytes.split_first()?;
    if *version != 1 {
        return None;
    }
    let (id, rest) = fixed_u64(rest)?;
    let (_height, rest) = varint(rest)?;
    let (_tip, rest) = fixed_u64(rest)?;
    let (_timestamp, rest) = varint(rest)?;
    let (total, _) = varint(rest)?;
    Some((BlockId(id), total))
}

fn fixed_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}
