//! `/api/accounts`, `/api/multisignatures`.

use std::collections::BTreeMap;

use axum::extract::State;
use forebay_ledger::ids::Address;
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, Parameter, Schema};
use crate::tiers::of_slow;
use crate::views;

const ADDRESS: Parameter = Parameter::optional("address", Kind::Address, "The account's address");
const PUBLIC_KEY: Parameter = Parameter::optional("publicKey", Kind::PublicKey, "The account's public key");
const ACCOUNT: Schema = Schema { parameters: &[ADDRESS, PUBLIC_KEY], closed: false };
const BY_ADDRESS: Schema = Schema {
    parameters: &[Parameter::required("address", Kind::Address, "The account's address")],
    closed: false,
};
const BY_KEY: Schema = Schema {
    parameters: &[Parameter::required("publicKey", Kind::PublicKey, "A public key")],
    closed: false,
};
const TOP: Schema = Schema {
    parameters: &[
        Parameter::optional("limit", Kind::Integer(Some(0), Some(100)), "At most so many; 100"),
        Parameter::optional("offset", Kind::Integer(Some(0), None), "Skip so many"),
    ],
    closed: false,
};

/// The routes.
pub fn routes() -> Routes {
    Routes::new()
        .get::<OneAccount, _, _>("/api/accounts", about("accounts", "An account", &ACCOUNT), account)
        .get::<Balance, _, _>(
            "/api/accounts/getBalance",
            about("accounts", "An account's balance; \"0\" if the chain does not know it", &BY_ADDRESS),
            balance,
        )
        .get::<Key, _, _>(
            "/api/accounts/getPublicKey",
            about("accounts", "An account's public key, if it is known", &BY_ADDRESS),
            public_key,
        )
        .get::<VotedFor, _, _>(
            "/api/accounts/delegates",
            about("accounts", "The delegates that an account votes for", &BY_ADDRESS),
            delegates,
        )
        .get::<Richest, _, _>("/api/accounts/top", about("accounts", "The richest accounts", &TOP), top)
        .get::<Groups, _, _>(
            "/api/multisignatures/accounts",
            about("multisignatures", "The accounts whose group a key belongs to", &BY_KEY),
            groups,
        )
        .get::<Pending, _, _>(
            "/api/multisignatures/pending",
            about(
                "multisignatures",
                "Transactions that wait for signatures: none, there is no pool here",
                &BY_KEY,
            ),
            pending,
        )
}

#[derive(Serialize, ToSchema)]
struct OneAccount {
    account: views::Account,
}

async fn account(State(api): State<Api>, asked: Asked) -> Result<Answer<OneAccount>, ApiError> {
    let given = api.check(&asked, &ACCOUNT)?;
    let (address, key) = (given.address("address"), given.key("publicKey"));
    let address = match (address, key) {
        (None, None) => {
            return Err(ApiError::refused("Missing required property: address or publicKey"));
        }
        (Some(address), Some(key)) if address != Some(Address::of(&key)) => {
            return Err(ApiError::refused("Account publicKey does not match address"));
        }
        (_, Some(key)) => Some(Address::of(&key)),
        (Some(address), None) => address,
    };
    let found = known(&api, address, &asked).await?;
    Ok(Answer::of(found.map(|account| OneAccount { account: views::Account::of(&account, api.chain()) })))
}

/// The account, or the family's words that there is none.
async fn known(
    api: &Api,
    address: Option<Address>,
    asked: &Asked,
) -> Result<crate::answer::Read<forebay_ledger::account::Account>, ApiError> {
    let not_found = || ApiError::refused("Account not found");
    let address = address.ok_or_else(not_found)?;
    api.tiers().account(address, asked.wait_height).await?.try_map(|found| found.ok_or_else(not_found))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Balance {
    balance: String,
    unconfirmed_balance: String,
}

async fn balance(State(api): State<Api>, asked: Asked) -> Result<Answer<Balance>, ApiError> {
    let given = api.check(&asked, &BY_ADDRESS)?;
    // An address that no account can have is as unknown as any other; address 0 has no account either, but a height.
    let address = given.address("address").flatten().unwrap_or(Address(0));
    let is_known = given.address("address").flatten().is_some();
    let found = api.tiers().account(address, asked.wait_height).await?;
    Ok(Answer::of(found.map(|account| {
        let balance = account.filter(|_| is_known).map_or(0, |account| account.balance).to_string();
        Balance { unconfirmed_balance: balance.clone(), balance }
    })))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Key {
    public_key: Option<String>,
}

async fn public_key(State(api): State<Api>, asked: Asked) -> Result<Answer<Key>, ApiError> {
    let given = api.check(&asked, &BY_ADDRESS)?;
    let found = known(&api, given.address("address").flatten(), &asked).await?;
    Ok(Answer::of(found.map(|account| Key { public_key: account.public_key.map(|key| key.to_string()) })))
}

/// Without votes the reference node shows the public key instead, byte by byte. Clients test for `delegates`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum VotedFor {
    Some {
        delegates: Vec<views::Delegate>,
    },
    #[serde(rename_all = "camelCase")]
    None {
        public_key: Option<BTreeMap<usize, u8>>,
    },
}

async fn delegates(State(api): State<Api>, asked: Asked) -> Result<Answer<VotedFor>, ApiError> {
    let given = api.check(&asked, &BY_ADDRESS)?;
    let found = known(&api, given.address("address").flatten(), &asked).await?;
    if found.value.votes.is_empty() {
        return Ok(Answer::of(found.map(|account| VotedFor::None {
            public_key: account.public_key.map(|key| key.0.into_iter().enumerate().collect()),
        })));
    }
    let delegates = api.tiers().delegates(found.value.votes, asked.wait_height).await?;
    let supply = api.supply(delegates.height);
    Ok(Answer::of(delegates.map(|all| VotedFor::Some {
        delegates: all.iter().map(|one| views::Delegate::of(one, supply, api.chain())).collect(),
    })))
}

#[derive(Serialize, ToSchema)]
struct Richest {
    accounts: Vec<views::Rich>,
}

async fn top(State(api): State<Api>, asked: Asked) -> Result<Answer<Richest>, ApiError> {
    let given = api.check(&asked, &TOP)?;
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let found = lists.richest(given.count("limit", 100), given.count("offset", 0)).await;
    let accounts = found.map_err(|error| of_slow(&error))?;
    let accounts = accounts.iter().map(|account| views::Rich::of(account, api.chain())).collect();
    Ok(Api::of_lists(&lists, Richest { accounts }))
}

#[derive(Serialize, ToSchema)]
struct Groups {
    accounts: Vec<views::GroupAccount>,
}

async fn groups(State(api): State<Api>, asked: Asked) -> Result<Answer<Groups>, ApiError> {
    let given = api.check(&asked, &BY_KEY)?;
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let found = match given.key("publicKey") {
        Some(key) => lists.groups_of(&key).await.map_err(|error| of_slow(&error))?,
        None => Vec::new(),
    };
    let accounts = found.iter().map(|group| views::GroupAccount::of(group, api.chain())).collect();
    Ok(Api::of_lists(&lists, Groups { accounts }))
}

#[derive(Serialize, ToSchema)]
struct Pending {
    transactions: Vec<views::Single>,
}

async fn pending(State(api): State<Api>, asked: Asked) -> Result<Answer<Pending>, ApiError> {
    api.check(&asked, &BY_KEY)?;
    Ok(Answer::of_nobody(Pending { transactions: Vec::new() }))
}
