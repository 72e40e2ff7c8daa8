//! The chain itself: blocks and transactions, in PostgreSQL from the first on, in Redis as far as it keeps them.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::block::{Block, payload};
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};

use super::{Findings, Meeting, Tier, VerifyProgress};
use crate::error::StoreError;

/// Blocks read at once.
const BLOCKS_A_CHUNK: Height = 200;
/// Index buckets read at once.
const BUCKETS_A_CALL: u64 = 256;
const ROWS_A_CHUNK: usize = 50_000;

impl<F: Fn(VerifyProgress) + Sync> Meeting<'_, F> {
    /// The whole transaction index of Redis; `None`: it moved on meanwhile.
    pub(super) async fn fast_transactions(
        &self,
    ) -> Result<Option<HashMap<TransactionId, Height>>, StoreError> {
        let mut ids = HashMap::new();
        let mut next = Some(0);
        while let Some(bucket) = next {
            let page = self.inputs.fast.transactions_page(bucket, BUCKETS_A_CALL).await?;
            if page.at.position.seq != self.seq {
                return Ok(None);
            }
            ids.extend(page.value.transactions);
            next = page.value.next_bucket;
        }
        Ok(Some(ids))
    }

    /// Every transaction of one tier in the other, at the same height.
    pub(super) async fn compare_transactions(
        &self,
        findings: &mut Findings,
        mut fast: HashMap<TransactionId, Height>,
    ) -> Result<u64, StoreError> {
        let total = fast.len() as u64;
        let mut done = 0;
        self.snapshot
            .reads()
            .transaction_ids(
                ROWS_A_CHUNK,
                async |ids: Vec<(TransactionId, Height)>| -> Result<(), StoreError> {
                    done += ids.len() as u64;
                    for (id, height) in ids {
                        let subject = format!("transaction {id}");
                        match fast.remove(&id) {
                            Some(found) if found == height => {}
                            Some(found) => {
                                let detail = format!("redis has it at height {found}, postgres at {height}");
                                findings.add(Tier::Either, subject, detail);
                            }
                            None => findings.add(
                                Tier::Fast,
                                subject,
                                format!("it is missing in redis (height {height})"),
                            ),
                        }
                    }
                    self.at("transactions", done, total);
                    Ok(())
                },
            )
            .await?;
        for (id, height) in fast {
            findings.add(
                Tier::Slow,
                format!("transaction {id}"),
                format!("it is missing in postgres (height {height})"),
            );
        }
        Ok(done)
    }

    /// Heights without gap, links, ids, payloads; the kept blocks of Redis compared byte by byte. Returns how many blocks
    /// PostgreSQL has.
    pub(super) async fn walk_chain(&self, findings: &mut Findings) -> Result<u64, StoreError> {
        let tip = self.inputs.fast.head().await?.tip.map_or(0, |tip| tip.height);
        let kept = self.inputs.fast.kept_blocks().await?;
        let mut previous: Option<BlockId> = None;
        let mut found = 0;
        let mut from: Height = 1;
        while from <= tip {
            let to = from.saturating_add(BLOCKS_A_CHUNK - 1).min(tip);
            let blocks = self.snapshot.reads().blocks(from..=to).await?;
            found += blocks.len() as u64;
            let by_height: HashMap<Height, &Block> =
                blocks.iter().map(|block| (block.height, block)).collect();
            self.compare_kept(findings, from..=to, &kept, &by_height).await?;
            for height in from..=to {
                let Some(block) = by_height.get(&height) else {
                    let name = kept.get(&height).map_or_else(String::new, |id| format!(" {id}"));
                    findings.add(
                        Tier::Slow,
                        format!("block{name} (height {height})"),
                        "it is missing in postgres",
                    );
                    previous = None;
                    continue;
                };
                check_block(findings, block, previous);
                previous = Some(block.id);
            }
            self.at("blocks", to.into(), tip.into());
            from = to + 1;
        }
        Ok(found)
    }

    async fn compare_kept(
        &self,
        findings: &mut Findings,
        heights: std::ops::RangeInclusive<Height>,
        kept: &HashMap<Height, BlockId>,
        slow: &HashMap<Height, &Block>,
    ) -> Result<(), StoreError> {
        let oldest = kept.keys().min().copied().unwrap_or(Height::MAX);
        let mut wanted = Vec::new();
        for height in heights.filter(|height| *height >= oldest) {
            match kept.get(&height) {
                Some(id) => wanted.push((height, *id)),
                None => {
                    findings.add(Tier::Fast, format!("block (height {height})"), "it is missing in redis")
                }
            }
        }
        let ids: Vec<BlockId> = wanted.iter().map(|(_, id)| *id).collect();
        let bodies = self.inputs.fast.blocks(&ids).await?;
        for ((height, id), body) in wanted.into_iter().zip(bodies) {
            let subject = format!("block {id} (height {height})");
            match (body, slow.get(&height)) {
                (None, _) => findings.add(Tier::Fast, subject, "its body is missing in redis"),
                (Some(body), Some(block)) if body != **block => {
                    let missing: Vec<String> = body
                        .transactions
                        .iter()
                        .filter(|t| !block.transactions.iter().any(|other| other.id == t.id))
                        .map(|t| t.id.to_string())
                        .collect();
                    let detail = if missing.is_empty() {
                        format!("redis and postgres (block {}) differ", block.id)
                    } else {
                        format!("postgres lacks its transactions {}", missing.join(", "))
                    };
                    findings.add(Tier::Either, subject, detail);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Rankings and names in Redis against the accounts in Redis.
    pub(super) async fn compare_delegates_index(
        &self,
        findings: &mut Findings,
        accounts: &[Account],
    ) -> Result<(), StoreError> {
        let mut expected: Vec<&Account> = accounts.iter().filter(|a| a.delegate.is_some()).collect();
        let mut all = self.inputs.fast.all_delegates().await?.value;
        expected.sort_unstable_by_key(|a| a.address);
        all.sort_unstable_by_key(|a| a.address);
        let ranked = self.inputs.fast.counts().await?.value.delegates;
        if all.len() != expected.len() || ranked != expected.len() as u64 {
            let detail = format!(
                "{} delegates are listed, {ranked} ranked, {} are accounts",
                all.len(),
                expected.len()
            );
            findings.add(Tier::Fast, "the list of delegates", detail);
        }
        let expected: HashMap<Address, &Account> = expected.into_iter().map(|a| (a.address, a)).collect();
        for account in &all {
            if expected.get(&account.address) != Some(&account) {
                let subject = format!("delegate {}", self.address(account.address));
                findings.add(
                    Tier::Fast,
                    subject,
                    "its entry in the list of delegates differs from its account",
                );
            }
        }
        Ok(())
    }
}

fn check_block(findings: &mut Findings, block: &Block, previous: Option<BlockId>) {
    let subject = || format!("block {} (height {})", block.id, block.height);
    if let Some(previous) = previous.filter(|previous| block.previous_block != Some(*previous)) {
        let detail = format!("it follows {:?}, but the block before is {previous}", block.previous_block);
        findings.add(Tier::Slow, subject(), detail);
    }
    if usize::try_from(block.number_of_transactions) != Ok(block.transactions.len()) {
        let detail = format!(
            "it has {} transactions, {} are there",
            block.number_of_transactions,
            block.transactions.len()
        );
        findings.add(Tier::Slow, subject(), detail);
    }
    // Nothing of a genesis block is the hash of its contents (RULES 1).
    if block.height == 1 {
        return;
    }
    if block.computed_id() != block.id {
        findings.add(Tier::Slow, subject(), format!("its bytes give the id {}", block.computed_id()));
    }
    if payload(&block.transactions).0 != block.payload_hash {
        findings.add(Tier::Slow, subject(), "its transactions do not give its payload hash");
    }
    for transaction in block.transactions.iter().filter(|t| t.computed_id() != t.id) {
        let detail = format!("its bytes give the id {}", transaction.computed_id());
        findings.add(Tier::Slow, format!("transaction {}", transaction.id), detail);
    }
}
