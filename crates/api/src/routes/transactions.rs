//! `/api/transactions`. Plain conditions are alternatives, those with `and:` in front are required; two bounds of one
//! thing (heights, times, amounts) always belong together.

use axum::extract::State;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_slow::lists::{Condition, TransactionFilter, TransactionOrder};
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError};
use crate::documents::Routes;
use crate::parameters::{Asked, Given, Kind, NOTHING, Parameter, Schema};
use crate::tiers::of_slow;
use crate::views;

const NUMBER: Kind = Kind::Integer(Some(0), None);
const ORDERS: &[&str] =
    &["height:asc", "height:desc", "timestamp:asc", "timestamp:desc", "amount:asc", "amount:desc"];

const LIST: Schema = Schema {
    parameters: &[
        Parameter::optional("limit", Kind::Integer(Some(1), Some(1000)), "At most so many; 100"),
        Parameter::optional("offset", NUMBER, "Skip so many"),
        Parameter::optional("orderBy", Kind::OneOf(ORDERS), "The chain's order if it is left out"),
        Parameter::optional("type", Kind::Integer(Some(0), Some(10)), "Of this type"),
        Parameter::optional("and:type", Kind::Integer(Some(0), Some(10)), "Required: of this type"),
        Parameter::optional("blockId", Kind::Id, "In this block"),
        Parameter::optional("and:blockId", Kind::Id, "Required: in this block"),
        Parameter::optional("senderId", Kind::Address, "Sent by this account"),
        Parameter::optional("and:senderId", Kind::Address, "Required: sent by this account"),
        Parameter::optional("senderIds", Kind::Addresses, "Sent by one of these"),
        Parameter::optional("and:senderIds", Kind::Addresses, "Required: sent by one of these"),
        Parameter::optional("senderPublicKey", Kind::PublicKey, "Sent with this key"),
        Parameter::optional("and:senderPublicKey", Kind::PublicKey, "Required: sent with this key"),
        Parameter::optional("recipientId", Kind::Address, "Received by this account"),
        Parameter::optional("and:recipientId", Kind::Address, "Required: received by this account"),
        Parameter::optional("recipientIds", Kind::Addresses, "Received by one of these"),
        Parameter::optional("and:recipientIds", Kind::Addresses, "Required: received by one of these"),
        Parameter::optional("fromHeight", NUMBER, "From this height on"),
        Parameter::optional("and:fromHeight", NUMBER, "Required: from this height on"),
        Parameter::optional("toHeight", NUMBER, "Up to this height"),
        Parameter::optional("and:toHeight", NUMBER, "Required: up to this height"),
        Parameter::optional("fromTimestamp", NUMBER, "From this second of the chain on"),
        Parameter::optional("and:fromTimestamp", NUMBER, "Required: from this second of the chain on"),
        Parameter::optional("toTimestamp", NUMBER, "Up to this second of the chain"),
        Parameter::optional("and:toTimestamp", NUMBER, "Required: up to this second of the chain"),
        Parameter::optional("fromUnixTime", NUMBER, "From this second since 1970 on"),
        Parameter::optional("and:fromUnixTime", NUMBER, "Required: from this second since 1970 on"),
        Parameter::optional("toUnixTime", NUMBER, "Up to this second since 1970"),
        Parameter::optional("and:toUnixTime", NUMBER, "Required: up to this second since 1970"),
        Parameter::optional("minAmount", NUMBER, "Of this amount or more"),
        Parameter::optional("and:minAmount", NUMBER, "Required: of this amount or more"),
        Parameter::optional("maxAmount", NUMBER, "Of this amount or less"),
        Parameter::optional("and:maxAmount", NUMBER, "Required: of this amount or less"),
        Parameter::optional("minConfirmations", NUMBER, "With so many confirmations or more"),
        Parameter::optional("and:minConfirmations", NUMBER, "Required: with so many confirmations or more"),
    ],
    closed: true,
};
const ONE: Schema =
    Schema { parameters: &[Parameter::required("id", Kind::Id, "The transaction's id")], closed: false };

/// The routes.
pub fn routes() -> Routes {
    let queue = |summary| about("transactions", summary, &NOTHING);
    let queued = |summary| about("transactions", summary, &ONE);
    Routes::new()
        .get::<TransactionsPage, _, _>(
            "/api/transactions",
            about("transactions", "Transactions by conditions", &LIST),
            list,
        )
        .get::<OneTransaction, _, _>(
            "/api/transactions/get",
            about("transactions", "A transaction", &ONE),
            one,
        )
        .get::<TransactionCounts, _, _>(
            "/api/transactions/count",
            about("transactions", "How many there are", &NOTHING),
            count,
        )
        .get::<TransactionsPage, _, _>(
            "/api/transactions/queued",
            queue("None: there is no pool here"),
            nothing,
        )
        .get::<TransactionsPage, _, _>(
            "/api/transactions/unconfirmed",
            queue("None: there is no pool here"),
            nothing,
        )
        .get::<TransactionsPage, _, _>(
            "/api/transactions/multisignatures",
            queue("None: there is no pool here"),
            nothing,
        )
        .get::<OneTransaction, _, _>(
            "/api/transactions/queued/get",
            queued("Unknown: no pool here"),
            not_queued,
        )
        .get::<OneTransaction, _, _>(
            "/api/transactions/unconfirmed/get",
            queued("Unknown: no pool here"),
            not_queued,
        )
        .get::<OneTransaction, _, _>(
            "/api/transactions/multisignatures/get",
            queued("Unknown: no pool here"),
            not_queued,
        )
}

#[derive(Serialize, ToSchema)]
struct TransactionsPage {
    count: u64,
    transactions: Vec<views::Listed>,
}

async fn list(State(api): State<Api>, asked: Asked) -> Result<Answer<TransactionsPage>, ApiError> {
    let given = api.check(&asked, &LIST)?;
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    let tip = lists.height();
    let filter = TransactionFilter {
        any: conditions(&given, "", tip, &api),
        all: conditions(&given, "and:", tip, &api),
        order: order(given.text("orderBy")),
        limit: given.count("limit", 100),
        offset: given.count("offset", 0),
    };
    let count = lists.count_transactions(&filter).await.map_err(|error| of_slow(&error))?;
    let found = lists.transactions(&filter).await.map_err(|error| of_slow(&error))?;
    let transactions = found.iter().map(|one| views::Listed::of(one, tip, api.chain())).collect();
    Ok(Api::of_lists(&lists, TransactionsPage { count, transactions }))
}

fn order(text: Option<&str>) -> TransactionOrder {
    let (field, direction) = text.and_then(|text| text.split_once(':')).unwrap_or(("height", "asc"));
    let descending = direction == "desc";
    match field {
        "timestamp" => TransactionOrder::Timestamp { descending },
        "amount" => TransactionOrder::Amount { descending },
        _ => TransactionOrder::Height { descending },
    }
}

/// The conditions with this in front of their names.
fn conditions(given: &Given, prefix: &str, tip: u32, api: &Api) -> Vec<Condition> {
    let named = |name: &str| format!("{prefix}{name}");
    let number = |name: &str| given.integer(&named(name));
    let mut found = Vec::new();
    if let Some(type_number) = number("type") {
        found.push(Condition::Type(u8::try_from(type_number).unwrap_or(u8::MAX)));
    }
    if let Some(block) = given.id(&named("blockId")) {
        // An id that nothing can have: no block has this one either, and the list is empty.
        found.push(block.map_or(Condition::Senders(Vec::new()), |id| Condition::Block(BlockId(id))));
    }
    let one = |address: Option<Address>| address.into_iter().collect::<Vec<_>>();
    if let Some(sender) = given.address(&named("senderId")) {
        found.push(Condition::Senders(one(sender)));
    }
    found.extend(given.addresses(&named("senderIds")).map(Condition::Senders));
    found.extend(given.key(&named("senderPublicKey")).map(Condition::SenderKey));
    if let Some(recipient) = given.address(&named("recipientId")) {
        found.push(Condition::Recipients(one(recipient)));
    }
    found.extend(given.addresses(&named("recipientIds")).map(Condition::Recipients));
    let confirmed = number("minConfirmations").map(|count| (i64::from(tip) + 1).saturating_sub(count));
    let to_height = [number("toHeight"), confirmed].into_iter().flatten().min();
    let heights = (number("fromHeight"), to_height);
    let since_1970 = |name| number(name).map(|unix| api.chain().profile.network_time(unix));
    let times = (
        number("fromTimestamp").or_else(|| since_1970("fromUnixTime")),
        number("toTimestamp").or_else(|| since_1970("toUnixTime")),
    );
    let amounts = (number("minAmount"), number("maxAmount"));
    let bounded = |(from, to): (Option<i64>, Option<i64>)| from.is_some() || to.is_some();
    found.extend(bounded(heights).then_some(Condition::Heights(heights.0, heights.1)));
    found.extend(bounded(times).then_some(Condition::Timestamps(times.0, times.1)));
    found.extend(bounded(amounts).then_some(Condition::Amounts(amounts.0, amounts.1)));
    found
}

#[derive(Serialize, ToSchema)]
struct OneTransaction {
    transaction: views::Single,
}

async fn one(State(api): State<Api>, asked: Asked) -> Result<Answer<OneTransaction>, ApiError> {
    let given = api.check(&asked, &ONE)?;
    let not_found = || ApiError::refused("Transaction not found");
    let id = given.id("id").flatten().map(TransactionId).ok_or_else(not_found)?;
    let found = api.tiers().transaction(id, asked.wait_height).await?;
    let found = found.try_map(|found| found.ok_or_else(not_found))?;
    let tip = found.height;
    Ok(Answer::of(
        found.map(|found| OneTransaction { transaction: views::Single::of(&found, tip, api.chain()) }),
    ))
}

#[derive(Serialize, ToSchema)]
struct TransactionCounts {
    confirmed: u64,
    multisignature: u64,
    queued: u64,
    unconfirmed: u64,
}

async fn count(State(api): State<Api>, asked: Asked) -> Result<Answer<TransactionCounts>, ApiError> {
    let tip = api.tiers().tip(asked.wait_height).await?;
    Ok(Answer::of(tip.map(|tip| TransactionCounts {
        confirmed: tip.map_or(0, |tip| tip.transactions_total),
        multisignature: 0,
        queued: 0,
        unconfirmed: 0,
    })))
}

async fn nothing() -> Answer<TransactionsPage> {
    Answer::of_nobody(TransactionsPage { count: 0, transactions: Vec::new() })
}

async fn not_queued(State(api): State<Api>, asked: Asked) -> Result<Answer<OneTransaction>, ApiError> {
    let given = api.check(&asked, &ONE)?;
    let id = given.text("id").unwrap_or_default();
    Err(ApiError::refused(format!("Transaction not found in this queue {id}")))
}
