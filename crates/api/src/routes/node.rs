//! What a node says of itself: `/api/loader`, `/api/peers`, `/peer`. This one has no peers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use forebay_ledger::ids::Height;
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError, json};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, NOTHING, Parameter, Schema};

const PEERS: Schema = Schema {
    parameters: &[
        Parameter::optional("limit", Kind::Integer(Some(1), Some(100)), "At most so many"),
        Parameter::optional("offset", Kind::Integer(Some(0), None), "Skip so many"),
    ],
    closed: false,
};
const PEER: Schema = Schema {
    parameters: &[
        Parameter::required("ip", Kind::Text(1, 64), "Its address"),
        Parameter::required("port", Kind::Integer(Some(1), Some(65_535)), "Its port"),
    ],
    closed: false,
};

/// The routes.
pub fn routes() -> Routes {
    let of = |tag, summary| about(tag, summary, &NOTHING);
    Routes::new()
        .get::<Loaded, _, _>("/api/loader/status", of("loader", "Whether the chain is loaded"), loaded)
        .get::<Sync, _, _>("/api/loader/status/sync", of("loader", "Whether the chain is loading"), sync)
        .get::<Nothing, _, _>(
            "/api/loader/status/ping",
            of("loader", "Whether the newest block is younger than a round"),
            ping,
        )
        .get::<Version, _, _>("/api/peers/version", of("peers", "What runs here"), version)
        .get::<Peers, _, _>(
            "/api/peers",
            about("peers", "Other nodes: none, there is no network here", &PEERS),
            peers,
        )
        .get::<Peers, _, _>("/api/peers/get", about("peers", "Another node: unknown", &PEER), peer)
        .get::<PeerCounts, _, _>("/api/peers/count", of("peers", "How many other nodes there are"), counts)
        .get::<AtHeight, _, _>("/peer/height", of("peers", "The tip's height"), height)
        .get::<Peers, _, _>("/peer/list", of("peers", "Other nodes: none"), peer_list)
        .get::<Nothing, _, _>("/peer/ping", of("peers", "That this one is there"), peer_ping)
}

#[derive(Serialize, ToSchema)]
struct Loaded {
    loaded: bool,
}

async fn loaded(State(api): State<Api>, asked: Asked) -> Result<Answer<Loaded>, ApiError> {
    let height = api.tiers().height(asked.wait_height).await?;
    Ok(Answer::of(height.map(|height| Loaded { loaded: height > 0 })))
}

#[derive(Serialize, ToSchema)]
struct Sync {
    /// What a node without peers tells others: the network's hash.
    broadhash: String,
    consensus: u32,
    height: Height,
    syncing: bool,
}

async fn sync(State(api): State<Api>, asked: Asked) -> Result<Answer<Sync>, ApiError> {
    let height = api.tiers().height(asked.wait_height).await?;
    let broadhash = api.chain().nethash().to_string();
    Ok(Answer::of(height.map(|height| Sync { broadhash, consensus: 100, height, syncing: false })))
}

#[derive(Serialize, ToSchema)]
struct Nothing {}

/// The one answer that may say `success: false` without an error.
#[derive(Serialize)]
struct Ping {
    success: bool,
}

async fn ping(State(api): State<Api>, asked: Asked) -> Result<Response, ApiError> {
    let tip = api.tiers().tip(asked.wait_height).await?;
    let profile = &api.chain().profile;
    let round_seconds = i64::from(profile.block_time_seconds) * i64::from(profile.delegates);
    let age = tip.value.map(|tip| api.now() - i64::from(tip.timestamp));
    let success = age.is_some_and(|age| age < round_seconds);
    Ok(json(StatusCode::OK, &Ping { success }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Version {
    build: &'static str,
    min_version: &'static str,
    version: &'static str,
}

async fn version() -> Answer<Version> {
    Answer::of_nobody(Version {
        build: "forebay",
        min_version: ">=0.1.0",
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Serialize, ToSchema)]
struct Peers {
    /// Always empty.
    peers: Vec<String>,
}

async fn peers(State(api): State<Api>, asked: Asked) -> Result<Answer<Peers>, ApiError> {
    api.check(&asked, &PEERS)?;
    Ok(Answer::of_nobody(Peers { peers: Vec::new() }))
}

async fn peer(State(api): State<Api>, asked: Asked) -> Result<Response, ApiError> {
    api.check(&asked, &PEER)?;
    Ok(ApiError::refused("Peer not found").into_response())
}

#[derive(Serialize, ToSchema)]
struct PeerCounts {
    connected: u32,
    disconnected: u32,
    banned: u32,
}

async fn counts() -> Answer<PeerCounts> {
    Answer::of_nobody(PeerCounts { connected: 0, disconnected: 0, banned: 0 })
}

#[derive(Serialize, ToSchema)]
struct AtHeight {
    height: Height,
}

async fn height(State(api): State<Api>, asked: Asked) -> Result<Answer<AtHeight>, ApiError> {
    Ok(Answer::of(api.tiers().height(asked.wait_height).await?.map(|height| AtHeight { height })))
}

async fn peer_list() -> Answer<Peers> {
    Answer::of_nobody(Peers { peers: Vec::new() })
}

async fn peer_ping() -> Answer<Nothing> {
    Answer::of_nobody(Nothing {})
}
