//! Whether both tiers hold the same state, and (deep) whether it is the state that the chain gives.
//!
//! The plain check compares the tiers account by account, transaction by transaction and block by block, and walks the
//! chain in PostgreSQL. The deep check derives the state again from block 1 by the ledger alone and compares both tiers
//! with that. Reads only.

mod accounts;
mod chain;
mod deep;

use std::sync::Arc;
use std::time::Duration;

use forebay_fast::FastTier;
use forebay_ledger::block::Block;
use forebay_ledger::ids::Height;
use forebay_ledger::profile::NetworkProfile;
use forebay_slow::SlowReader;
use tokio_postgres::Config;

use crate::error::StoreError;

/// What a verification works on.
#[derive(Clone)]
pub struct VerifyInputs {
    /// Redis.
    pub fast: FastTier,
    /// PostgreSQL, as the writer or reader role of the program.
    pub postgres: Config,
    /// The network's rules.
    pub profile: Arc<NetworkProfile>,
    /// The chain's first block.
    pub genesis: Arc<Block>,
}

/// Which tier a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Redis.
    Fast,
    /// PostgreSQL.
    Slow,
    /// The two differ, and which one is wrong the plain check cannot tell: the deep one does.
    Either,
}

impl Tier {
    /// Its name for people and machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "redis",
            Self::Slow => "postgres",
            Self::Either => "either",
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub tier: Tier,
    /// What it is about, for example `account 123R balance` or `block 7 (height 12)`.
    pub subject: String,
    /// What was found and what should be.
    pub detail: String,
}

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The height that both tiers were compared at.
    pub height: Height,
    /// Accounts compared.
    pub accounts: u64,
    /// Transactions compared.
    pub transactions: u64,
    /// Blocks walked.
    pub blocks: u64,
    /// Whether the state was derived again from block 1.
    pub is_deep: bool,
    /// The first findings, at most [`FINDINGS_SHOWN_MAX`].
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub findings_total: u64,
}

/// Findings that are listed one by one; more of them say the same.
pub const FINDINGS_SHOWN_MAX: usize = 1000;

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// What is compared: `accounts`, `blocks`, `transactions` or `deriving`.
    pub part: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

/// Collects findings.
#[derive(Default)]
pub(crate) struct Findings {
    shown: Vec<Finding>,
    total: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, tier: Tier, subject: impl Into<String>, detail: impl Into<String>) {
        self.total += 1;
        if self.shown.len() < FINDINGS_SHOWN_MAX {
            self.shown.push(Finding { tier, subject: subject.into(), detail: detail.into() });
        }
    }
}

/// Waits for PostgreSQL to reach Redis' operation: a chain that moves on is caught between two blocks.
const MEETINGS_MAX: u32 = 50;
const MEETING_PAUSE: Duration = Duration::from_millis(100);

/// Compares the tiers at the same operation; `deep` also derives the state from block 1. Changes nothing.
///
/// # Errors
/// A tier that cannot be read; a chain that moves on faster than it can be compared. Differences are not errors: they
/// are findings.
pub async fn verify(
    inputs: &VerifyInputs,
    deep: bool,
    observe: impl Fn(VerifyProgress) + Sync,
) -> Result<Verification, StoreError> {
    for _ in 0..MEETINGS_MAX {
        let mut reader = SlowReader::connect(&inputs.postgres).await?;
        let head = inputs.fast.head().await?;
        let snapshot = reader.snapshot().await?;
        if snapshot.reads().position().await?.seq != head.position.seq {
            tokio::time::sleep(MEETING_PAUSE).await;
            continue;
        }
        let mut findings = Findings::default();
        let meeting = Meeting { inputs, snapshot: &snapshot, seq: head.position.seq, observe: &observe };
        let outcome = meeting.compare(&mut findings, deep).await?;
        let Some(counts) = outcome else { continue };
        return Ok(Verification {
            height: head.tip.map_or(0, |tip| tip.height),
            accounts: counts.accounts,
            transactions: counts.transactions,
            blocks: counts.blocks,
            is_deep: deep,
            findings: findings.shown,
            findings_total: findings.total,
        });
    }
    Err(StoreError::Request(
        "the chain moved on during every attempt to compare the tiers: pause the feed, or stop the node and verify then"
            .to_owned(),
    ))
}

/// Both tiers at the same operation.
pub(crate) struct Meeting<'a, F> {
    inputs: &'a VerifyInputs,
    snapshot: &'a forebay_slow::Snapshot<'a>,
    seq: u64,
    observe: &'a F,
}

pub(crate) struct Compared {
    accounts: u64,
    transactions: u64,
    blocks: u64,
}

impl<F: Fn(VerifyProgress) + Sync> Meeting<'_, F> {
    /// `None`: Redis moved on meanwhile.
    async fn compare(&self, findings: &mut Findings, deep: bool) -> Result<Option<Compared>, StoreError> {
        let Some(fast) = self.inputs.fast.all_accounts().await? else { return Ok(None) };
        if fast.at.position.seq != self.seq {
            return Ok(None);
        }
        let slow = self.slow_accounts().await?;
        self.compare_accounts(findings, &fast.value, &slow);
        let Some(ids) = self.fast_transactions().await? else { return Ok(None) };
        let blocks = self.walk_chain(findings).await?;
        let transactions = self.compare_transactions(findings, ids).await?;
        self.compare_delegates_index(findings, &fast.value).await?;
        if deep {
            self.derive(findings, &fast.value, &slow).await?;
        }
        if self.inputs.fast.head().await?.position.seq != self.seq {
            return Ok(None);
        }
        Ok(Some(Compared { accounts: slow.len() as u64, transactions, blocks }))
    }

    fn at(&self, part: &'static str, done: u64, total: u64) {
        (self.observe)(VerifyProgress { part, done, total });
    }

    fn address(&self, address: forebay_ledger::ids::Address) -> String {
        address.with_suffix(self.inputs.profile.address_suffix)
    }
}
