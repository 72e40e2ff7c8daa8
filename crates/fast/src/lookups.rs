//! Reads that an API needs beside single accounts and blocks: delegates by name and with their rank, ids by height.

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
}
