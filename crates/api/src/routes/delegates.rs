//! `/api/delegates`: single ones from Redis, lists from PostgreSQL.

use std::cmp::Ordering;

use axum::extract::State;
use forebay_ledger::ids::Address;
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, NOTHING, Parameter, Schema};
use crate::tiers::of_slow;
use crate::views::{self, Shown, collation};

const ORDERS: &[&str] = &[
    "approval:asc",
    "approval:desc",
    "productivity:asc",
    "productivity:desc",
    "rank:asc",
    "rank:desc",
    "vote:asc",
    "vote:desc",
    "username:asc",
    "username:desc",
    "address:asc",
    "address:desc",
    "publicKey:asc",
    "publicKey:desc",
    "votesWeight:asc",
    "votesWeight:desc",
    "cmb:asc",
    "cmb:desc",
];
const LIST: Schema = Schema {
    parameters: &[
        Parameter::optional("orderBy", Kind::OneOf(ORDERS), "rank:asc"),
        Parameter::optional(
            "limit",
            Kind::Integer(Some(1), Some(199)),
            "At most so many; as many as forge in a round",
        ),
        Parameter::optional("offset", Kind::Integer(Some(0), None), "Skip so many"),
        Parameter::optional("includeBanned", Kind::Flag, "Those too that missed too many rounds in a row"),
    ],
    closed: false,
};
const ONE: Schema = Schema {
    parameters: &[
        Parameter::optional("publicKey", Kind::PublicKey, "The delegate's key"),
        Parameter::optional("username", Kind::Text(0, 20), "The delegate's name"),
    ],
    closed: false,
};
const BY_KEY: Schema = Schema {
    parameters: &[Parameter::required("publicKey", Kind::PublicKey, "The delegate's key")],
    closed: false,
};
const SEARCH: Schema = Schema {
    parameters: &[
        Parameter::required("q", Kind::Text(1, 20), "A part of the name"),
        Parameter::optional("limit", Kind::Integer(Some(1), Some(1000)), "At most so many; 101"),
        Parameter::optional("orderBy", Kind::OneOf(ORDERS), "username:asc"),
    ],
    closed: false,
};
const NEXT: Schema = Schema {
    parameters: &[Parameter::optional("limit", Kind::Integer(Some(1), Some(101)), "At most so many; 10")],
    closed: false,
};
const FORGED: Schema = Schema {
    parameters: &[
        Parameter::required("generatorPublicKey", Kind::PublicKey, "The forger's key"),
        Parameter::optional("start", Kind::Integer(None, None), "From this second since 1970 on"),
        Parameter::optional("end", Kind::Integer(None, None), "Up to this second since 1970"),
    ],
    closed: false,
};
const FORGING: Schema = Schema {
    parameters: &[Parameter::optional("publicKey", Kind::PublicKey, "Whether this one forges here")],
    closed: false,
};

/// What searches give without a limit.
const SEARCH_LIMIT: u32 = 101;
/// What a search takes for the supply, whatever it is: 10^8 coins. A fault of the reference node that clients show.
const SEARCH_SUPPLY: f64 = 1e16;

/// The routes.
pub fn routes() -> Routes {
    Routes::new()
        .get::<DelegatesPage, _, _>("/api/delegates", about("delegates", "Delegates, sorted", &LIST), list)
        .get::<OneDelegate, _, _>("/api/delegates/get", about("delegates", "A delegate", &ONE), one)
        .get::<Voters, _, _>(
            "/api/delegates/voters",
            about("delegates", "Who votes for a delegate", &BY_KEY),
            voters,
        )
        .get::<Found, _, _>(
            "/api/delegates/search",
            about("delegates", "Delegates by a part of their name", &SEARCH),
            search,
        )
        .get::<Count, _, _>(
            "/api/delegates/count",
            about("delegates", "How many votes are given", &NOTHING),
            count,
        )
        .get::<Next, _, _>(
            "/api/delegates/getNextForgers",
            about("delegates", "Whose turn is next", &NEXT),
            next,
        )
        .get::<Forged, _, _>(
            "/api/delegates/forging/getForgedByAccount",
            about("delegates", "What an account forged", &FORGED),
            forged,
        )
        .get::<Forging, _, _>(
            "/api/delegates/forging/status",
            about("delegates", "Who forges here: nobody", &FORGING),
            forging,
        )
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DelegatesPage {
    delegates: Vec<views::Delegate>,
    total_count: usize,
}

async fn list(State(api): State<Api>, asked: Asked) -> Result<Answer<DelegatesPage>, ApiError> {
    let given = api.check(&asked, &LIST)?;
    let all = api.tiers().all_delegates(asked.wait_height).await?;
    let (height, supply) = (all.height, api.supply(all.height));
    let default = if api.chain().profile.is_generation_two(height) { 199 } else { 101 };
    let (limit, offset) = (given.count("limit", default), given.count("offset", 0));
    let banned_above = if given.flag("includeBanned") { None } else { api.banned_above(height) };
    Ok(Answer::of(all.map(|all| {
        let mut delegates: Vec<views::Delegate> = all
            .iter()
            .map(|one| views::Delegate::of(one, supply, api.chain()))
            .filter(|one| banned_above.is_none_or(|max| one.cmb <= max))
            .collect();
        let total_count = delegates.len();
        sort(&mut delegates, given.text("orderBy").unwrap_or("rank:asc"));
        let delegates = delegates.into_iter().skip(offset as usize).take(limit as usize);
        DelegatesPage { delegates: delegates.map(views::Delegate::with_text).collect(), total_count }
    })))
}

/// Sorts by a field; equal ones stay by rank.
fn sort(delegates: &mut [views::Delegate], order: &str) {
    let (field, direction) = order.split_once(':').unwrap_or((order, "asc"));
    let vote = |one: &views::Delegate| match &one.vote {
        Shown::Number(vote) => *vote,
        Shown::Text(text) => text.parse().unwrap_or(0),
    };
    let number = |a: f64, b: f64| a.total_cmp(&b);
    let compare = |a: &views::Delegate, b: &views::Delegate| -> Ordering {
        match field {
            "approval" => number(a.approval.0, b.approval.0),
            "productivity" => number(a.productivity.0, b.productivity.0),
            "vote" => vote(a).cmp(&vote(b)),
            "votesWeight" => a.votes_weight.cmp(&b.votes_weight),
            "username" => collation(&a.username).cmp(&collation(&b.username)),
            "address" => a.address.cmp(&b.address),
            "publicKey" => a.public_key.cmp(&b.public_key),
            "cmb" => a.cmb.cmp(&b.cmb),
            _ => a.rank.cmp(&b.rank),
        }
    };
    delegates.sort_by(|a, b| {
        let by_field = compare(a, b);
        let by_field = if direction == "desc" { by_field.reverse() } else { by_field };
        by_field.then(a.rank.cmp(&b.rank))
    });
}

#[derive(Serialize, ToSchema)]
struct OneDelegate {
    delegate: views::Delegate,
}

async fn one(State(api): State<Api>, asked: Asked) -> Result<Answer<OneDelegate>, ApiError> {
    let given = api.check(&asked, &ONE)?;
    let not_found = || ApiError::refused("Delegate not found");
    let name = given.text("username").filter(|name| !name.is_empty());
    let address = match (given.key("publicKey"), name) {
        (Some(key), _) => Address::of(&key),
        (None, Some(name)) => api
            .tiers()
            .address_named(name.to_owned(), asked.wait_height)
            .await?
            .value
            .ok_or_else(not_found)?,
        (None, None) => return Err(not_found()),
    };
    let found = api.tiers().delegates(vec![address], asked.wait_height).await?;
    let supply = api.supply(found.height);
    let fits = |one: &views::Delegate| name.is_none_or(|name| one.username == name);
    let found = found.try_map(|found| {
        let shown = found.first().map(|one| views::Delegate::of(one, supply, api.chain()));
        shown.filter(fits).ok_or_else(not_found)
    })?;
    Ok(Answer::of(found.map(|delegate| OneDelegate { delegate })))
}

#[derive(Serialize, ToSchema)]
struct Voters {
    accounts: Vec<views::VoterAccount>,
}

async fn voters(State(api): State<Api>, asked: Asked) -> Result<Answer<Voters>, ApiError> {
    let given = api.check(&asked, &BY_KEY)?;
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let found = match given.key("publicKey") {
        Some(key) => lists.voters(Address::of(&key)).await.map_err(|error| of_slow(&error))?,
        None => Vec::new(),
    };
    let accounts = found.into_iter().map(|voter| views::VoterAccount::of(voter, api.chain())).collect();
    Ok(Api::of_lists(&lists, Voters { accounts }))
}

#[derive(Serialize, ToSchema)]
struct Found {
    delegates: Vec<views::Delegate>,
}

async fn search(State(api): State<Api>, asked: Asked) -> Result<Answer<Found>, ApiError> {
    let given = api.check(&asked, &SEARCH)?;
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let all = api.tiers().delegates_in(&lists).await?;
    let matching = lists.delegates_named_like(given.text("q").unwrap_or_default()).await;
    let matching = matching.map_err(|error| of_slow(&error))?;
    let mut delegates: Vec<views::Delegate> = Vec::with_capacity(matching.len());
    for found in matching {
        let Some(ranked) = all.iter().find(|one| one.account.address == found.address) else {
            continue;
        };
        let mut delegate = views::Delegate::of(ranked, SEARCH_SUPPLY, api.chain());
        delegate.voters = Some(found.voters);
        delegate.registered_at = Some(found.registered_at);
        delegates.push(delegate);
    }
    sort(&mut delegates, given.text("orderBy").unwrap_or("username:asc"));
    delegates.truncate(given.count("limit", SEARCH_LIMIT) as usize);
    Ok(Api::of_lists(&lists, Found { delegates }))
}

#[derive(Serialize, ToSchema)]
struct Count {
    count: u64,
}

/// It counts votes, not delegates: a fault of the reference node that clients show.
async fn count(State(api): State<Api>, asked: Asked) -> Result<Answer<Count>, ApiError> {
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let count = lists.count_votes().await.map_err(|error| of_slow(&error))?;
    Ok(Api::of_lists(&lists, Count { count }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Next {
    current_block: Option<views::MemoryBlock>,
    current_block_slot: u32,
    current_slot: i64,
    delegates: Vec<String>,
}

async fn next(State(api): State<Api>, asked: Asked) -> Result<Answer<Next>, ApiError> {
    let given = api.check(&asked, &NEXT)?;
    let running = api.tiers().running_forgers(asked.wait_height).await?;
    let profile = &api.chain().profile;
    let current_slot = api.now().div_euclid(i64::from(profile.block_time_seconds.max(1)));
    let limit = given.count("limit", 10) as usize;
    Ok(Answer::of(running.map(|(forgers, block)| {
        let count = i64::try_from(forgers.len()).unwrap_or(1).max(1);
        let of_slot = |slot: i64| forgers.get(usize::try_from(slot.rem_euclid(count)).unwrap_or(0));
        let delegates = (1..=count).take(limit).filter_map(|ahead| of_slot(current_slot + ahead));
        Next {
            current_block_slot: block.as_ref().map_or(0, |block| profile.slot(block.timestamp)),
            current_block: block.map(|block| views::MemoryBlock::of(&block, api.chain())),
            current_slot,
            delegates: delegates.map(ToString::to_string).collect(),
        }
    })))
}

#[derive(Serialize, ToSchema)]
struct Forged {
    /// Blocks; with `start` and `end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    fees: i64,
    forged: String,
    rewards: i64,
}

impl Forged {
    fn new(count: Option<u64>, fees: i64, rewards: i64) -> Self {
        Self { count, fees, forged: (i128::from(fees) + i128::from(rewards)).to_string(), rewards }
    }
}

async fn forged(State(api): State<Api>, asked: Asked) -> Result<Answer<Forged>, ApiError> {
    let given = api.check(&asked, &FORGED)?;
    let not_found = || ApiError::refused("Account not found");
    let address = Address::of(&given.key("generatorPublicKey").ok_or_else(not_found)?);
    let (start, end) = (given.integer("start"), given.integer("end"));
    if start.is_none() && end.is_none() {
        let found = api.tiers().account(address, asked.wait_height).await?;
        let found = found.try_map(|found| found.ok_or_else(not_found))?;
        return Ok(Answer::of(
            found.map(|account| Forged::new(None, account.forging.fees, account.forging.rewards)),
        ));
    }
    let profile = &api.chain().profile;
    let from = start.map_or(0, |unix| profile.network_time(unix.max(0)));
    let to = end.map_or(i64::MAX, |unix| profile.network_time(unix.max(0)));
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let sums = lists.forged_between(address, from, to).await.map_err(|error| of_slow(&error))?;
    Ok(Api::of_lists(&lists, Forged::new(Some(sums.blocks), sums.fees, sums.rewards)))
}

#[derive(Serialize, ToSchema)]
struct Forging {
    /// Always empty.
    delegates: Vec<String>,
    enabled: bool,
}

async fn forging(State(api): State<Api>, asked: Asked) -> Result<Answer<Forging>, ApiError> {
    api.check(&asked, &FORGING)?;
    Ok(Answer::of_nobody(Forging { delegates: Vec::new(), enabled: false }))
}
