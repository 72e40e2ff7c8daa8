//! Blocks in and out. Each block is applied by itself, in order, and accepted before the next one is looked at; one that
//! the chain has already is accepted again, and nothing is done.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forebay_fast::{Position, decode_block};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, Height};
use forebay_ledger::json::block_from_value;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::refusal::Refusal;
use forebay_ledger::verify::CheckedBlock;
use forebay_store::{Node, StoreError};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError, json};
use crate::documents::Routes;
use crate::limits::Peer;
use crate::parameters::{Asked, Kind, Parameter, Schema};

const WAIT: Parameter = Parameter::optional(
    "wait",
    Kind::OneOf(&["durable"]),
    "Answer when PostgreSQL has it, or after the longest wait",
);
const GIVE: Schema = Schema { parameters: &[WAIT], closed: true };
const TAKE: Schema = Schema {
    parameters: &[
        Parameter::optional("count", Kind::Integer(Some(1), Some(1_000_000)), "How many blocks; 1"),
        Parameter::optional(
            "tip",
            Kind::Id,
            "Only if this is the newest block: a repeated request does nothing more",
        ),
        WAIT,
    ],
    closed: true,
};
/// Many blocks in one body, each with its length in four bytes in front.
const BYTES: &str = "application/octet-stream";

/// Who may write.
#[derive(Debug, Clone, Default)]
pub struct WritePolicy {
    /// What `Authorization: Bearer` has to say; without one only Unix sockets may.
    pub token: Option<String>,
    /// Whether addresses that other machines reach may be written to, with the token.
    pub on_public_addresses: bool,
}

/// The routes.
pub fn routes() -> Routes {
    Routes::new()
        .post::<Given, _, _>(
            "/v1/blocks",
            about("Gives one or many blocks to the chain", &GIVE),
            &["application/json", BYTES],
            give,
        )
        .delete::<Taken, _, _>("/v1/blocks/tip", about("Takes the newest blocks back", &TAKE), take_back)
}

impl Api {
    /// The node, if whoever asks may write.
    fn writable(&self, request: &Request) -> Result<Node, ApiError> {
        let off = |message: &str, remedy: &str| {
            Err(ApiError::failed(StatusCode::FORBIDDEN, "writes-off", message, remedy))
        };
        let Some(node) = self.node() else {
            return off("this process only reads", "Ask the one that runs the node.");
        };
        let policy = self.write_policy();
        let peer = request.extensions().get::<Peer>();
        match (peer, &policy.token) {
            (Some(Peer { address: None, .. }), _) => Ok(node.clone()),
            (Some(peer), Some(_)) if !peer.is_local && !policy.on_public_addresses => off(
                "writes are off on addresses that other machines reach",
                "Use a Unix socket or a local address.",
            ),
            (_, None) => {
                off("writes need a token, and none is set", "Set a write token, or use a Unix socket.")
            }
            (_, Some(token)) if is_told(request.headers(), token) => Ok(node.clone()),
            _ => Err(ApiError::failed(
                StatusCode::UNAUTHORIZED,
                "token",
                "the write token is missing or wrong",
                "Send Authorization: Bearer and the token.",
            )),
        }
    }
}

/// Compares hashes, so that the time it takes says nothing about the token.
fn is_told(headers: &HeaderMap, token: &str) -> bool {
    let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let told = told
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    told.is_some_and(|(_, told)| Sha256::digest(told.trim()) == Sha256::digest(token))
}

/// A block that was accepted.
#[derive(Debug, Serialize, ToSchema)]
struct Accepted {
    id: String,
    height: Height,
    /// Who accepted it.
    epoch: u64,
    /// The operation's number.
    seq: u64,
    /// The chain had it already, and nothing was done.
    known: bool,
}

/// Where the chain stands after a write.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Heights {
    /// Of the newest block in Redis.
    accepted_height: Height,
    /// Of the newest block in PostgreSQL.
    durable_height: Height,
    /// Whether PostgreSQL has all of this request.
    durable: bool,
    /// What an acceptance survives: `durable` or `volatile`.
    profile: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct Given {
    blocks: Vec<Accepted>,
    #[serde(flatten)]
    heights: Heights,
}

/// A block was refused; those before it stay accepted.
#[derive(Debug, Serialize)]
struct Refused {
    success: bool,
    error: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: String,
    /// Which block of the request, from 0.
    index: usize,
    blocks: Vec<Accepted>,
    #[serde(flatten)]
    heights: Heights,
}

/// What a block of a request is, checked as far as it goes without state.
enum Read {
    Checked(Box<CheckedBlock>),
    Genesis(Box<Block>),
    Refused(ApiError),
}

async fn give(State(api): State<Api>, asked: Asked, request: Request) -> Result<Response, ApiError> {
    let node = api.writable(&request)?;
    let given = api.check_ours(&asked, &GIVE)?;
    let is_bytes = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(BYTES.as_bytes()));
    let body = axum::body::to_bytes(request.into_body(), api.body_bytes_max()).await.map_err(|_| {
        ApiError::failed(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body is broken, or has more than {} bytes", api.body_bytes_max()),
            "Send fewer blocks at once.",
        )
    })?;
    let profile = std::sync::Arc::clone(&api.chain().profile);
    let checker = node.clone();
    let read = move || {
        let blocks = if is_bytes { from_bytes(&body, &profile) } else { from_json(&body, &profile) };
        blocks.map(|blocks| blocks.into_iter().map(|block| check(block, &checker)).collect::<Vec<_>>())
    };
    let blocks = tokio::task::spawn_blocking(read).await.map_err(|error| gone(&error))??;
    let mut accepted = Vec::with_capacity(blocks.len());
    let mut last = None;
    for (index, block) in blocks.into_iter().enumerate() {
        match apply(&api, &node, block).await {
            Ok((one, position)) => {
                accepted.push(one);
                last = Some(position);
            }
            Err(ApiError::Failed { status, reason, message, remedy }) => {
                let heights = heights(&node, last, false, &api).await;
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                let refused = Refused {
                    success: false,
                    error: message,
                    reason,
                    remedy,
                    index,
                    blocks: accepted,
                    heights,
                };
                return Ok(json(status, &refused));
            }
            Err(other) => return Err(other),
        }
    }
    let heights = heights(&node, last, given.text("wait").is_some(), &api).await;
    Ok(Answer::of_nobody(Given { blocks: accepted, heights }).into_response())
}

fn gone(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::failed(
        StatusCode::SERVICE_UNAVAILABLE,
        "stopped",
        format!("the blocks were not checked: {error}"),
        "",
    )
}

fn malformed(index: usize, problem: &dyn std::fmt::Display) -> ApiError {
    ApiError::malformed(format!("block {index} of the request: {problem}"))
}

fn from_json(body: &[u8], profile: &NetworkProfile) -> Result<Vec<Block>, ApiError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::malformed(format!("not JSON: {error}")))?;
    let items = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    let read = |(index, item): (usize, &Value)| {
        block_from_value(item, profile).map_err(|problem| malformed(index, &problem))
    };
    items.iter().enumerate().map(read).collect()
}

/// Ids and senders are computed, whatever the bytes say.
fn from_bytes(mut body: &[u8], profile: &NetworkProfile) -> Result<Vec<Block>, ApiError> {
    let mut blocks = Vec::new();
    while !body.is_empty() {
        let index = blocks.len();
        let cut = || malformed(index, &"its bytes are cut short");
        let (length, rest) = body.split_first_chunk::<4>().ok_or_else(cut)?;
        let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        let mut block = decode_block(bytes).map_err(|problem| malformed(index, &problem))?;
        if block.previous_block.is_some() {
            for transaction in &mut block.transactions {
                transaction.sender = Address::of(&transaction.sender_public_key);
                transaction.id = transaction.computed_id();
            }
            block.id = block.computed_id();
        }
        let fits = block.transactions.len() <= profile.limits.transactions_per_block as usize
            || block.previous_block.is_none();
        if !fits {
            return Err(malformed(index, &"it has more transactions than a block may have"));
        }
        blocks.push(block);
        body = rest;
    }
    Ok(blocks)
}

fn check(block: Block, node: &Node) -> Read {
    if block.previous_block.is_none() {
        return Read::Genesis(Box::new(block));
    }
    match node.check(block) {
        Ok(checked) => Read::Checked(Box::new(checked)),
        Err(error) => Read::Refused(error.into()),
    }
}

async fn apply(api: &Api, node: &Node, block: Read) -> Result<(Accepted, Position), ApiError> {
    let done = |id: String, height, position: Position, known| {
        (Accepted { id, height, epoch: position.epoch, seq: position.seq, known }, position)
    };
    match block {
        Read::Refused(error) => Err(error),
        Read::Genesis(block) => {
            let genesis = api.chain().genesis.id;
            if block.id != genesis {
                return Err(StoreError::from(Refusal::SecondGenesis { genesis }).into());
            }
            Ok(done(genesis.to_string(), 1, node.progress().position, true))
        }
        Read::Checked(block) => {
            let _turn = api.turn().lock().await;
            let accepted = node.apply(*block, api.now()).await?;
            Ok(done(accepted.id.to_string(), accepted.height, accepted.position, !accepted.is_new))
        }
    }
}

/// Where the chain stands, after a wait if that is asked for.
async fn heights(node: &Node, last: Option<Position>, waits: bool, api: &Api) -> Heights {
    let position = last.unwrap_or_else(|| node.progress().position);
    if waits {
        // Too long, or the node stopped: the answer says that it is not durable.
        let _ = tokio::time::timeout(api.tiers().wait_max(), node.until_durable(position)).await;
    }
    let progress = node.progress();
    Heights {
        accepted_height: progress.tip.map_or(0, |tip| tip.height),
        durable_height: progress.durable.height,
        durable: progress.durable.seq >= position.seq,
        profile: progress.profile.name(),
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct Taken {
    /// The newest block since.
    tip: Accepted,
    #[serde(flatten)]
    heights: Heights,
}

async fn take_back(
    State(api): State<Api>,
    asked: Asked,
    request: Request,
) -> Result<Answer<Taken>, ApiError> {
    let node = api.writable(&request)?;
    let given = api.check_ours(&asked, &TAKE)?;
    let count = given.count("count", 1);
    let taken = {
        // From the look at the tip to the taking back, nobody else of this API writes.
        let _turn = api.turn().lock().await;
        let tip = node.progress().tip;
        let (height, id) = tip.map_or((0, String::new()), |tip| (tip.height, tip.id.to_string()));
        if given.text("tip").is_some_and(|expected| expected != id) {
            return Err(ApiError::failed(
                StatusCode::CONFLICT,
                "other-tip",
                format!("the newest block is {id} at height {height}"),
                "Look at the chain again; the request may have been done before.",
            ));
        }
        let to_height = height.checked_sub(count).filter(|height| *height > 0).ok_or_else(|| {
            StoreError::Request(format!(
                "{count} blocks cannot be taken back: the tip is at height {height}, and the genesis block stays"
            ))
        })?;
        node.take_back_to(to_height).await?
    };
    let heights = heights(&node, Some(taken.position), given.text("wait").is_some(), &api).await;
    let tip = Accepted {
        id: taken.id.to_string(),
        height: taken.height,
        epoch: taken.position.epoch,
        seq: taken.position.seq,
        known: false,
    };
    Ok(Answer::of_nobody(Taken { tip, heights }))
}
