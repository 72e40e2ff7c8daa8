//! What things cost: the same schedule under the names of five routes.

use axum::extract::State;
use forebay_ledger::ids::Height;
use forebay_ledger::profile::FeeSchedule;
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError, Read};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, Parameter, Schema};

const AT_HEIGHT: Schema = Schema {
    parameters: &[Parameter::optional(
        "height",
        Kind::Integer(Some(1), None),
        "At this height; the next block's if it is left out",
    )],
    closed: false,
};

/// The routes.
pub fn routes() -> Routes {
    Routes::new()
        .get::<Fee, _, _>(
            "/api/blocks/getFee",
            about("blocks", "What a transfer costs", &AT_HEIGHT),
            transfer,
        )
        .get::<Fees, _, _>("/api/blocks/getFees", about("blocks", "What each type costs", &AT_HEIGHT), all)
        .get::<Fee, _, _>(
            "/api/signatures/fee",
            about("signatures", "What a second signature costs", &AT_HEIGHT),
            second_signature,
        )
        .get::<Fee, _, _>(
            "/api/delegates/fee",
            about("delegates", "What a delegate's registration costs", &AT_HEIGHT),
            delegate,
        )
        .get::<FeeAlone, _, _>(
            "/api/accounts/delegates/fee",
            about("accounts", "What a delegate's registration costs", &AT_HEIGHT),
            delegate_alone,
        )
}

/// When a fee holds.
#[derive(Clone, Copy)]
struct Span {
    height: Height,
    fees: FeeSchedule,
    to_height: Option<Height>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Fee {
    fee: i64,
    from_height: Height,
    to_height: Option<Height>,
    height: Height,
}

impl Fee {
    fn of(span: Span, fee: impl Fn(&FeeSchedule) -> i64) -> Self {
        Self {
            fee: fee(&span.fees),
            from_height: span.fees.from_height,
            to_height: span.to_height,
            height: span.height,
        }
    }
}

async fn span(api: &Api, asked: &Asked) -> Result<Read<Span>, ApiError> {
    let given = api.check(asked, &AT_HEIGHT)?;
    let tip = api.tiers().height(asked.wait_height).await?;
    Ok(tip.map(|tip| {
        let asked = given.integer("height").map(|height| Height::try_from(height).unwrap_or(Height::MAX));
        let height = asked.unwrap_or(tip.saturating_add(1));
        let profile = &api.chain().profile;
        let later = profile.fees.iter().map(|fees| fees.from_height).find(|from| *from > height);
        Span { height, fees: profile.fees_at(height), to_height: later.map(|from| from - 1) }
    }))
}

async fn transfer(State(api): State<Api>, asked: Asked) -> Result<Answer<Fee>, ApiError> {
    Ok(Answer::of(span(&api, &asked).await?.map(|span| Fee::of(span, |fees| fees.transfer))))
}

async fn second_signature(State(api): State<Api>, asked: Asked) -> Result<Answer<Fee>, ApiError> {
    Ok(Answer::of(span(&api, &asked).await?.map(|span| Fee::of(span, |fees| fees.second_signature))))
}

async fn delegate(State(api): State<Api>, asked: Asked) -> Result<Answer<Fee>, ApiError> {
    Ok(Answer::of(span(&api, &asked).await?.map(|span| Fee::of(span, |fees| fees.delegate))))
}

#[derive(Serialize, ToSchema)]
struct FeeAlone {
    fee: i64,
}

async fn delegate_alone(State(api): State<Api>, asked: Asked) -> Result<Answer<FeeAlone>, ApiError> {
    Ok(Answer::of(span(&api, &asked).await?.map(|span| FeeAlone { fee: span.fees.delegate })))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Fees {
    fees: FeesByName,
    from_height: Height,
    height: Height,
    to_height: Option<Height>,
}

#[derive(Serialize, ToSchema)]
struct FeesByName {
    send: i64,
    vote: i64,
    secondsignature: i64,
    delegate: i64,
    multisignature: i64,
}

async fn all(State(api): State<Api>, asked: Asked) -> Result<Answer<Fees>, ApiError> {
    Ok(Answer::of(span(&api, &asked).await?.map(|Span { height, fees, to_height }| Fees {
        fees: FeesByName {
            send: fees.transfer,
            vote: fees.vote,
            secondsignature: fees.second_signature,
            delegate: fees.delegate,
            multisignature: fees.multisignature,
        },
        from_height: fees.from_height,
        height,
        to_height,
    })))
}
