//! An account as RISE tools know it: the columns' names, the reference node's types.
//!
//! Both tiers' accounts come through here, so that the same state is the same text, byte by byte.

use std::collections::HashMap;

use forebay_ledger::account::{Account, Delegate};
use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;
use serde::Serialize;

/// The fields of `forebay dump accounts`, exactly and in this order. Amounts are units of 10^-8 as decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRecord {
    address: String,
    public_key: Option<String>,
    second_public_key: Option<String>,
    balance: String,
    username: Option<String>,
    is_delegate: u8,
    second_signature: u8,
    vote: String,
    votes_weight: String,
    #[serde(rename = "producedblocks")]
    produced_blocks: u32,
    #[serde(rename = "missedblocks")]
    missed_blocks: u32,
    cmb: u32,
    fees: String,
    rewards: String,
    delegates: Vec<String>,
    multisignatures: Vec<String>,
    multimin: String,
    multilifetime: String,
}

/// The public keys of delegates, who are named by their addresses inside.
pub type DelegateKeys = HashMap<Address, PublicKey>;

/// The keys of the delegates among accounts.
pub fn delegate_keys<'a>(accounts: impl Iterator<Item = &'a Account>) -> DelegateKeys {
    accounts
        .filter(|account| account.delegate.is_some())
        .filter_map(|account| Some((account.address, account.public_key?)))
        .collect()
}

impl AccountRecord {
    /// The record of an account. A vote for a delegate whose key is not in `keys` would be a defect of the data; it is shown
    /// as `address:<number>`, never left out.
    pub fn new(account: &Account, suffix: char, keys: &DelegateKeys) -> Self {
        let delegate = account.delegate.as_ref();
        let group = account.multisignature.as_ref();
        let sum = |part: fn(&Delegate) -> i64| delegate.map_or(0, part).to_string();
        let mut delegates: Vec<String> = account
            .votes
            .iter()
            .map(|voted| keys.get(voted).map_or_else(|| format!("address:{}", voted.0), ToString::to_string))
            .collect();
        delegates.sort_unstable();
        let mut multisignatures: Vec<String> =
            group.map(|group| group.members.iter().map(ToString::to_string).collect()).unwrap_or_default();
        multisignatures.sort_unstable();
        Self {
            address: account.address.with_suffix(suffix),
            public_key: account.public_key.map(|key| key.to_string()),
            second_public_key: account.second_public_key.map(|key| key.to_string()),
            balance: account.balance.to_string(),
            username: delegate.map(|delegate| delegate.username.clone()),
            is_delegate: u8::from(delegate.is_some()),
            second_signature: u8::from(account.second_public_key.is_some()),
            vote: sum(|delegate| delegate.vote),
            votes_weight: sum(|delegate| delegate.votes_weight),
            produced_blocks: account.forging.produced_blocks,
            missed_blocks: account.forging.missed_blocks,
            cmb: delegate.map_or(0, |delegate| delegate.missed_in_a_row),
            fees: account.forging.fees.to_string(),
            rewards: account.forging.rewards.to_string(),
            delegates,
            multisignatures,
            multimin: group.map_or(0, |group| group.min).to_string(),
            multilifetime: group.map_or(0, |group| group.lifetime).to_string(),
        }
    }

    /// For people: one line a field that says something.
    pub fn text(&self) -> String {
        let mut lines = vec![
            ("address", self.address.clone()),
            ("balance", coins(&self.balance)),
            ("public key", self.public_key.clone().unwrap_or_else(|| "not known yet".to_owned())),
        ];
        let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
        add("second key", self.second_public_key.clone());
        add("votes for", (!self.delegates.is_empty()).then(|| self.delegates.join(", ")));
        add("delegate", self.username.clone());
        if self.is_delegate == 1 {
            add("vote", Some(coins(&self.vote)));
            add("votes weight", Some(coins(&self.votes_weight)));
        }
        if self.produced_blocks + self.missed_blocks > 0 {
            add("blocks", Some(format!("{} produced, {} missed", self.produced_blocks, self.missed_blocks)));
            add("earned", Some(format!("{} fees, {} rewards", coins(&self.fees), coins(&self.rewards))));
        }
        if !self.multisignatures.is_empty() {
            let members = self.multisignatures.join(", ");
            add(
                "group",
                Some(format!("{} of {} must sign: {members}", self.multimin, self.multisignatures.len())),
            );
        }
        crate::output::table(&lines)
    }
}

/// Units of 10^-8 as a decimal number, `123.45`.
pub fn coins(units: &str) -> String {
    let (sign, digits) = units.strip_prefix('-').map_or(("", units), |digits| ("-", digits));
    let padded = format!("{digits:0>9}");
    let (whole, part) = padded.split_at(padded.len() - 8);
    let part = part.trim_end_matches('0');
    let dot = if part.is_empty() { "" } else { "." };
    format!("{sign}{whole}{dot}{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_exact() {
        for (units, shown) in [
            ("0", "0"),
            ("1", "0.00000001"),
            ("-1", "-0.00000001"),
            ("150000000", "1.5"),
            ("-10999999991000000", "-109999999.91"),
        ] {
            assert_eq!(coins(units), shown);
        }
    }

    #[test]
    fn the_fields_are_those_of_the_dump_in_their_order() {
        let account = Account::new(Address(7));
        let text = serde_json::to_string(&AccountRecord::new(&account, 'R', &DelegateKeys::new())).unwrap();
        let expected = concat!(
            r#"{"address":"7R","publicKey":null,"secondPublicKey":null,"balance":"0","username":null,"isDelegate":0,"#,
            r#""secondSignature":0,"vote":"0","votesWeight":"0","producedblocks":0,"missedblocks":0,"cmb":0,"fees":"0","#,
            r#""rewards":"0","delegates":[],"multisignatures":[],"multimin":"0","multilifetime":"0"}"#
        );
        assert_eq!(text, expected);
    }
}
