//! Blocks as they are: without confirmations, which change with each block. So they can be kept.

use axum::extract::{Path, State};
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_to_value;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, NOTHING, Parameter, Schema};
use crate::views::BlockTag;

const AT_HEIGHT: Schema = Schema {
    parameters: &[Parameter::required("height", Kind::Integer(Some(1), None), "The block at this height")],
    closed: false,
};

/// A block so deep is not taken back any more by a node that follows its network: two rounds of 101, as deep as Redis keeps
/// undo records.
const SETTLED_DEPTH: Height = 202;
/// For such a block, if its content is its id's: signatures of groups are not.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// For a younger one: it may be taken back, so whoever has it asks again, and is told that it is the same.
const ASK_AGAIN: &str = "no-cache";

/// The routes.
pub fn routes() -> Routes {
    Routes::new()
        .get::<PlainBlock, _, _>("/v1/blocks/{id}", about("A block by its id, as it is", &NOTHING), by_id)
        .get::<PlainBlock, _, _>(
            "/v1/blocks",
            about("The block at a height, as it is", &AT_HEIGHT),
            at_height,
        )
}

#[derive(Serialize, ToSchema)]
struct PlainBlock {
    /// As `/api/blocks/get` shows it, without `rowId` and `confirmations`.
    #[schema(value_type = Object)]
    block: Value,
}

fn not_found() -> ApiError {
    ApiError::failed(axum::http::StatusCode::NOT_FOUND, "not-found", "Block not found", "")
}

async fn by_id(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Answer<PlainBlock>, ApiError> {
    let id: BlockId = id.parse().map_err(|_| not_found())?;
    let found = api.tiers().block(id, asked.wait_height).await?;
    shown(&api, found.map(|found| found.map(|found| found.block)))
}

async fn at_height(State(api): State<Api>, asked: Asked) -> Result<Answer<PlainBlock>, ApiError> {
    let given = api.check_ours(&asked, &AT_HEIGHT)?;
    let height =
        given.integer("height").and_then(|height| Height::try_from(height).ok()).ok_or_else(not_found)?;
    let found = api.tiers().block_at(height, asked.wait_height).await?;
    // What stands at a height may change, unlike what an id names.
    Ok(shown(&api, found.map(|found| found.map(|found| found.block)))?.cached(ASK_AGAIN))
}

fn shown(
    api: &Api,
    found: crate::answer::Read<Option<forebay_ledger::block::Block>>,
) -> Result<Answer<PlainBlock>, ApiError> {
    let tip = found.height;
    let found = found.try_map(|found| found.ok_or_else(not_found))?;
    let (tag, height) = (BlockTag::of(&found.value), found.value.height);
    let answer =
        Answer::of(found.map(|block| PlainBlock { block: block_to_value(&block, &api.chain().profile) }));
    let is_settled = tag.is_id_alone() && tip.saturating_sub(height) >= SETTLED_DEPTH;
    Ok(answer.with_etag(format!("\"{tag}\"")).cached(if is_settled { FOREVER } else { ASK_AGAIN }))
}
