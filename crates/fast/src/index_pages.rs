//! The transaction index as a whole, for comparing it with the slow tier's.

use std::collections::HashMap;

use forebay_ledger::ids::{Height, TransactionId};

use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::At;
use crate::plan::Plan;
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on, take};

/// A part of the transaction index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionsPage {
    /// Ids and heights of some buckets, in no order.
    pub transactions: Vec<(TransactionId, Height)>,
    /// The bucket to go on with; `None` at the end.
    pub next_bucket: Option<u64>,
}

impl FastTier {
    /// The transaction index of `buckets_max` buckets, starting at a bucket. For all of it at one point in history, ask
    /// until `next_bucket` is `None` and compare the points.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn transactions_page(
        &self,
        from_bucket: u64,
        buckets_max: u64,
    ) -> Result<At<TransactionsPage>, FastError> {
        let doing = "read the transaction index";
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let end = from_bucket.saturating_add(buckets_max.max(1)).min(buckets.transactions);
            let mut reads = Plan::new(self.keys());
            let names: Vec<String> =
                (from_bucket..end).map(|bucket| self.keys().transaction_bucket(bucket)).collect();
            names.iter().for_each(|key| {
                reads.read_key("HGETALL", key.clone());
            });
            let Some((head, values)) = self.snapshot(doing, reads, &buckets).await? else { continue };
            let hashes: Vec<HashMap<Vec<u8>, Height>> = take(&mut values.into_iter(), names.len())?;
            let mut transactions = Vec::new();
            for (key, hash) in names.iter().zip(hashes) {
                for (field, height) in hash {
                    // Ids and addresses are both eight bytes, big endian.
                    transactions.push((TransactionId(self.address_of(key, &field)?.0), height));
                }
            }
            let next_bucket = (end < buckets.transactions).then_some(end);
            return Ok(At { at: head.point(), value: TransactionsPage { transactions, next_bucket } });
        }
        Err(moved_on(doing))
    }
}
