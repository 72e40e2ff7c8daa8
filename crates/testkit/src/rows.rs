//! Accounts of the ledger in the form of the reference node's dumps.

use std::collections::{BTreeMap, HashMap};

use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;
use serde_json::{Value, json};

/// The columns of `mem_accounts` that the ledger knows, beside its two lists.
const COLUMNS: [&str; 15] = [
    "publicKey",
    "secondPublicKey",
    "balance",
    "username",
    "isDelegate",
    "secondSignature",
    "vote",
    "votesWeight",
    "producedblocks",
    "missedblocks",
    "cmb",
    "fees",
    "rewards",
    "multimin",
    "multilifetime",
];

/// A dump's accounts by address, each with its votes and group members as sorted lists.
#[must_use]
pub fn rows_of_dump(dump: &Value) -> BTreeMap<String, Value> {
    let mut rows: BTreeMap<String, Value> = dump["mem_accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let mut kept = json!({ "delegates": [], "multisignatures": [] });
            for column in COLUMNS {
                kept[column] = row[column].clone();
            }
            (row["address"].as_str().unwrap().to_owned(), kept)
        })
        .collect();
    for (table, list) in
        [("mem_accounts2delegates", "delegates"), ("mem_accounts2multisignatures", "multisignatures")]
    {
        for entry in dump[table].as_array().unwrap() {
            let row = rows.get_mut(entry["accountId"].as_str().unwrap()).unwrap();
            row[list].as_array_mut().unwrap().push(entry["dependentId"].clone());
        }
    }
    for row in rows.values_mut() {
        for list in ["delegates", "multisignatures"] {
            row[list].as_array_mut().unwrap().sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    rows
}

/// The same of accounts; all delegates must be among them.
#[must_use]
pub fn rows_of_accounts(accounts: &[Account], suffix: char) -> BTreeMap<String, Value> {
    let keys: HashMap<Address, PublicKey> =
        accounts.iter().filter_map(|account| Some((account.address, account.public_key?))).collect();
    accounts.iter().map(|account| (account.address.with_suffix(suffix), row(account, &keys))).collect()
}

fn row(account: &Account, keys: &HashMap<Address, PublicKey>) -> Value {
    let delegate = account.delegate.as_ref();
    let group = account.multisignature.as_ref();
    let mut votes: Vec<String> = account.votes.iter().map(|voted| keys[voted].to_string()).collect();
    votes.sort();
    json!({
        "delegates": votes,
        "multisignatures": group.map(|g| g.members.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or_default(),
        "publicKey": account.public_key.map(|k| k.to_string()),
        "secondPublicKey": account.second_public_key.map(|k| k.to_string()),
        "balance": account.balance.to_string(),
        "username": delegate.map(|d| d.username.clone()),
        "isDelegate": u8::from(delegate.is_some()),
        "secondSignature": u8::from(account.second_public_key.is_some()),
        "vote": delegate.map_or(0, |d| d.vote).to_string(),
        "votesWeight": delegate.map_or(0, |d| d.votes_weight).to_string(),
        "producedblocks": account.forging.produced_blocks,
        "missedblocks": account.forging.missed_blocks,
        "cmb": delegate.map_or(0, |d| d.missed_in_a_row),
        "fees": account.forging.fees.to_string(),
        "rewards": account.forging.rewards.to_string(),
        "multimin": group.map_or(0, |g| g.min).to_string(),
        "multilifetime": group.map_or(0, |g| g.lifetime).to_string(),
    })
}
