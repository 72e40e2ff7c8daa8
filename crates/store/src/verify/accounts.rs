//! Account by account.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;

use super::{Findings, Meeting, Tier, VerifyProgress};
use crate::error::StoreError;

const ROWS_A_CHUNK: usize = 20_000;

impl<F: Fn(VerifyProgress) + Sync> Meeting<'_, F> {
    /// All accounts of PostgreSQL, ascending by address.
    pub(super) async fn slow_accounts(&self) -> Result<Vec<Account>, StoreError> {
        let total = self.snapshot.reads().counts().await?.accounts;
        let mut all = Vec::new();
        self.snapshot
            .reads()
            .accounts(ROWS_A_CHUNK, async |accounts: Vec<Account>| -> Result<(), StoreError> {
                all.extend(accounts);
                self.at("accounts", all.len() as u64, total);
                Ok(())
            })
            .await?;
        Ok(all)
    }

    pub(super) fn compare_accounts(&self, findings: &mut Findings, fast: &[Account], slow: &[Account]) {
        self.compare_with(findings, (Tier::Fast, fast), (Tier::Slow, slow), Tier::Either);
    }

    /// Both lists ascend by address. A row that only one has is missing in the other; of one that both have, each field
    /// that differs is named.
    pub(super) fn compare_with(
        &self,
        findings: &mut Findings,
        (left_tier, left): (Tier, &[Account]),
        (right_tier, right): (Tier, &[Account]),
        differing: Tier,
    ) {
        let by_address: HashMap<Address, &Account> = right.iter().map(|a| (a.address, a)).collect();
        let mut seen = 0;
        for account in left {
            let subject = format!("account {}", self.address(account.address));
            match by_address.get(&account.address) {
                Some(other) => {
                    seen += 1;
                    for (field, ours, theirs) in self.differences(account, other) {
                        let names = (place(left_tier, differing), place(right_tier, differing));
                        let detail = format!("{} has {ours}, {} has {theirs}", names.0, names.1);
                        findings.add(differing, format!("{subject} {field}"), detail);
                    }
                }
                None => findings.add(
                    missing_in(right_tier, differing),
                    subject,
                    format!("it is missing in {}", place(right_tier, differing)),
                ),
            }
        }
        if seen == right.len() {
            return;
        }
        let known: std::collections::HashSet<Address> = left.iter().map(|a| a.address).collect();
        for account in right.iter().filter(|a| !known.contains(&a.address)) {
            let subject = format!("account {}", self.address(account.address));
            let detail = format!("it is missing in {}", place(left_tier, differing));
            findings.add(missing_in(left_tier, differing), subject, detail);
        }
    }

    fn differences(&self, ours: &Account, theirs: &Account) -> Vec<(&'static str, String, String)> {
        if ours == theirs {
            return Vec::new();
        }
        let fields = |account: &Account| -> Vec<(&'static str, String)> {
            let delegate = account.delegate.as_ref();
            let number = |value: Option<i64>| value.map_or_else(|| "none".to_owned(), |v| v.to_string());
            vec![
                ("balance", account.balance.to_string()),
                ("publicKey", format!("{:?}", account.public_key)),
                ("secondPublicKey", format!("{:?}", account.second_public_key)),
                ("votes", account.votes.iter().map(|v| self.address(*v)).collect::<Vec<_>>().join(", ")),
                ("multisignatures", format!("{:?}", account.multisignature)),
                ("producedblocks", account.forging.produced_blocks.to_string()),
                ("missedblocks", account.forging.missed_blocks.to_string()),
                ("fees", account.forging.fees.to_string()),
                ("rewards", account.forging.rewards.to_string()),
                ("username", delegate.map_or_else(|| "none".to_owned(), |d| d.username.clone())),
                ("vote", number(delegate.map(|d| d.vote))),
                ("votesWeight", number(delegate.map(|d| d.votes_weight))),
                ("cmb", number(delegate.map(|d| d.missed_in_a_row.into()))),
                ("running sum of voters' balances", number(delegate.map(|d| d.voters_balance))),
                ("running sum of voters' shares", number(delegate.map(|d| d.voters_share))),
            ]
        };
        let pairs = fields(ours).into_iter().zip(fields(theirs));
        pairs.filter(|(a, b)| a != b).map(|((name, a), (_, b))| (name, shown(a), shown(b))).collect()
    }
}

fn shown(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// In a comparison with the derived state, the other side is the chain itself.
fn place(tier: Tier, differing: Tier) -> &'static str {
    match tier {
        Tier::Fast => "redis",
        Tier::Slow => "postgres",
        Tier::Either if differing == Tier::Either => "either",
        Tier::Either => "the chain",
    }
}

/// What the derived state lacks is too much in the tier that has it.
fn missing_in(tier: Tier, differing: Tier) -> Tier {
    if tier == Tier::Either { differing } else { tier }
}
