//! Accounts.

use forebay_ledger::account::Account as LedgerAccount;
use forebay_slow::lists::{GroupOfAccounts, RichAccount, Voter};
use serde::Serialize;
use utoipa::ToSchema;

use crate::tiers::Chain;

/// An account. Balances are text; the unconfirmed ones are the confirmed ones, since there is no pool here.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    address: String,
    balance: String,
    /// Keys of the group's members.
    multisignatures: Vec<String>,
    public_key: Option<String>,
    second_public_key: Option<String>,
    /// 1: it has a second key.
    second_signature: u8,
    #[serde(rename = "u_multisignatures")]
    unconfirmed_multisignatures: Vec<String>,
    unconfirmed_balance: String,
    /// Always 0, as the reference node has it.
    unconfirmed_signature: u8,
}

impl Account {
    /// As `/api/accounts` shows it.
    pub fn of(account: &LedgerAccount, chain: &Chain) -> Self {
        let members: Vec<String> =
            account.multisignature.iter().flat_map(|group| &group.members).map(ToString::to_string).collect();
        Self {
            address: chain.address(account.address),
            balance: account.balance.to_string(),
            multisignatures: members.clone(),
            public_key: account.public_key.map(|key| key.to_string()),
            second_public_key: account.second_public_key.map(|key| key.to_string()),
            second_signature: u8::from(account.second_public_key.is_some()),
            unconfirmed_multisignatures: members,
            unconfirmed_balance: account.balance.to_string(),
            unconfirmed_signature: 0,
        }
    }
}

/// One of the richest accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rich {
    address: String,
    balance: i64,
    public_key: Option<String>,
}

impl Rich {
    /// As `/api/accounts/top` shows it.
    pub fn of(account: &RichAccount, chain: &Chain) -> Self {
        Self {
            address: chain.address(account.address),
            balance: account.balance,
            public_key: account.public_key.map(|key| key.to_string()),
        }
    }
}

/// An account that votes for a delegate.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoterAccount {
    address: String,
    balance: i64,
    username: Option<String>,
    public_key: Option<String>,
}

impl VoterAccount {
    /// As `/api/delegates/voters` shows it.
    pub fn of(voter: Voter, chain: &Chain) -> Self {
        Self {
            address: chain.address(voter.address),
            balance: voter.balance,
            username: voter.username,
            public_key: voter.public_key.map(|key| key.to_string()),
        }
    }
}

/// An account that a group signs for.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupAccount {
    address: String,
    balance: i64,
    multisignatures: Vec<String>,
    multilifetime: i16,
    multimin: i16,
    multisigaccounts: Vec<GroupAccountMember>,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupAccountMember {
    address: String,
    public_key: String,
    balance: i64,
}

impl GroupAccount {
    /// As `/api/multisignatures/accounts` shows it.
    pub fn of(group: &GroupOfAccounts, chain: &Chain) -> Self {
        Self {
            address: chain.address(group.address),
            balance: group.balance,
            multisignatures: group.members.iter().map(|member| member.public_key.to_string()).collect(),
            multilifetime: group.lifetime,
            multimin: group.min,
            multisigaccounts: group
                .members
                .iter()
                .map(|member| GroupAccountMember {
                    address: chain.address(member.address),
                    public_key: member.public_key.to_string(),
                    balance: member.balance,
                })
                .collect(),
        }
    }
}
