//! `/api/blocks`: blocks, and where the chain stands.

use axum::extract::State;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::keys::Hash;
use forebay_slow::lists::BlockFilter;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::{Answer, ApiError, Written};
use crate::documents::Routes;
use crate::parameters::{Asked, Kind, NOTHING, Parameter, Schema};
use crate::tiers::{Standing, of_slow};
use crate::views;

const BLOCKS: Schema = Schema {
    parameters: &[
        Parameter::optional("limit", Kind::Integer(Some(1), Some(100)), "At most so many; 100"),
        Parameter::optional("orderBy", Kind::OneOf(&["height:asc", "height:desc"]), "height:desc"),
        Parameter::optional("offset", Kind::Integer(Some(0), None), "Skip so many"),
        Parameter::optional("generatorPublicKey", Kind::PublicKey, "Forged with this key"),
        Parameter::optional("totalAmount", Kind::Integer(Some(0), None), "With this sum of amounts"),
        Parameter::optional("totalFee", Kind::Integer(Some(0), None), "With this sum of fees"),
        Parameter::optional("reward", Kind::Integer(Some(0), None), "With this reward"),
        Parameter::optional("previousBlock", Kind::Id, "Following this block"),
        Parameter::optional("height", Kind::Integer(Some(1), None), "At this height"),
    ],
    closed: false,
};
const BLOCK: Schema =
    Schema { parameters: &[Parameter::required("id", Kind::Id, "The block's id")], closed: false };

/// The routes.
pub fn routes() -> Routes {
    let status = |summary| about("blocks", summary, &NOTHING);
    Routes::new()
        .get::<BlocksPage, _, _>(
            "/api/blocks",
            about("blocks", "Blocks that meet all conditions", &BLOCKS),
            list,
        )
        .get::<OneBlock, _, _>("/api/blocks/get", about("blocks", "A block", &BLOCK), block)
        .get::<AtHeight, _, _>("/api/blocks/getHeight", status("The tip's height"), height)
        .get::<ChainStatus, _, _>("/api/blocks/getStatus", status("Where the chain stands"), chain_status)
        .get::<Broadhash, _, _>("/api/blocks/getBroadhash", status("A hash of the newest ids"), broadhash)
        .get::<Epoch, _, _>("/api/blocks/getEpoch", status("Second 0 of all timestamps"), epoch)
        .get::<Nethash, _, _>("/api/blocks/getNethash", status("What names the network"), nethash)
        .get::<Milestone, _, _>("/api/blocks/getMilestone", status("Which reward is due"), milestone)
        .get::<Reward, _, _>("/api/blocks/getReward", status("The reward that is due"), reward)
        .get::<Supply, _, _>("/api/blocks/getSupply", status("All units in circulation"), supply)
}

#[derive(Serialize, ToSchema)]
struct BlocksPage {
    blocks: Vec<views::Block<views::Listed>>,
    count: u64,
}

async fn list(State(api): State<Api>, asked: Asked) -> Result<Answer<BlocksPage>, ApiError> {
    let given = api.check(&asked, &BLOCKS)?;
    let previous = given.id("previousBlock");
    let filter = BlockFilter {
        height: given.integer("height"),
        previous_block: previous.flatten().map(BlockId),
        reward: given.integer("reward"),
        total_amount: given.integer("totalAmount"),
        total_fee: given.integer("totalFee"),
        generator: given.key("generatorPublicKey"),
        ascending: given.text("orderBy") == Some("height:asc"),
        limit: given.count("limit", 100),
        offset: given.count("offset", 0),
    };
    let mut session = api.tiers().lists(asked.wait_height).await?;
    let lists = session.lists().await.map_err(|error| of_slow(&error))?;
    // An id that nothing can have is followed by nothing.
    let (count, blocks) = if previous == Some(None) {
        (0, Vec::new())
    } else {
        lists.blocks(&filter).await.map_err(|error| of_slow(&error))?
    };
    let tip = lists.height();
    let shown = |one: &forebay_slow::lists::ListedBlock| {
        views::Block::listed(&one.block, one.transactions_before, tip, api.chain())
    };
    Ok(Api::of_lists(&lists, BlocksPage { blocks: blocks.iter().map(shown).collect(), count }))
}

/// The form of what `views/written_block.rs` writes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used")]
struct OneBlock {
    block: views::Block<views::Single>,
}

async fn block(State(api): State<Api>, asked: Asked) -> Result<Answer<Written>, ApiError> {
    let given = api.check(&asked, &BLOCK)?;
    let not_found = || ApiError::refused("Block not found");
    let id = given.id("id").flatten().map(BlockId).ok_or_else(not_found)?;
    let found = api.tiers().written_block(id, asked.wait_height).await?;
    let found = found.try_map(|found| found.ok_or_else(not_found))?;
    let tip = found.height;
    // Confirmations grow with the tip: the content is one for a tag and a height.
    let etag = format!("W/\"{}-{tip}\"", found.value.tag());
    Ok(Answer::of_written(found.map(|block| Written(block.at_tip(tip)))).with_etag(etag))
}

#[derive(Serialize, ToSchema)]
struct AtHeight {
    height: Height,
}

async fn height(State(api): State<Api>, asked: Asked) -> Result<Answer<AtHeight>, ApiError> {
    Ok(Answer::of(api.tiers().height(asked.wait_height).await?.map(|height| AtHeight { height })))
}

#[derive(Serialize, ToSchema)]
struct ChainStatus {
    broadhash: String,
    epoch: String,
    fee: i64,
    height: Height,
    milestone: usize,
    nethash: String,
    reward: i64,
    supply: i64,
}

async fn chain_status(State(api): State<Api>, asked: Asked) -> Result<Answer<ChainStatus>, ApiError> {
    let standing = api.tiers().standing(asked.wait_height).await?;
    let (height, profile) = (standing.height, &api.chain().profile);
    Ok(Answer::of(standing.map(|standing| ChainStatus {
        broadhash: hash_of(&standing),
        epoch: api.epoch(),
        fee: profile.fees_at(height).transfer,
        height,
        milestone: api.milestone(height),
        nethash: api.chain().nethash().to_string(),
        reward: profile.reward(height),
        supply: api.exact_supply(height),
    })))
}

/// sha256 of the newest ids as texts, the newest first.
fn hash_of(standing: &Standing) -> String {
    let ids: String = standing.newest.iter().map(ToString::to_string).collect();
    Hash(Sha256::digest(ids.as_bytes()).into()).to_string()
}

#[derive(Serialize, ToSchema)]
struct Broadhash {
    broadhash: String,
}

async fn broadhash(State(api): State<Api>, asked: Asked) -> Result<Answer<Broadhash>, ApiError> {
    let standing = api.tiers().standing(asked.wait_height).await?;
    Ok(Answer::of(standing.map(|standing| Broadhash { broadhash: hash_of(&standing) })))
}

#[derive(Serialize, ToSchema)]
struct Epoch {
    epoch: String,
}

async fn epoch(State(api): State<Api>) -> Answer<Epoch> {
    Answer::of_nobody(Epoch { epoch: api.epoch() })
}

#[derive(Serialize, ToSchema)]
struct Nethash {
    nethash: String,
}

async fn nethash(State(api): State<Api>) -> Answer<Nethash> {
    Answer::of_nobody(Nethash { nethash: api.chain().nethash().to_string() })
}

#[derive(Serialize, ToSchema)]
struct Milestone {
    milestone: usize,
}

async fn milestone(State(api): State<Api>, asked: Asked) -> Result<Answer<Milestone>, ApiError> {
    let height = api.tiers().height(asked.wait_height).await?;
    Ok(Answer::of(height.map(|height| Milestone { milestone: api.milestone(height) })))
}

#[derive(Serialize, ToSchema)]
struct Reward {
    reward: i64,
}

async fn reward(State(api): State<Api>, asked: Asked) -> Result<Answer<Reward>, ApiError> {
    let height = api.tiers().height(asked.wait_height).await?;
    Ok(Answer::of(height.map(|height| Reward { reward: api.chain().profile.reward(height) })))
}

#[derive(Serialize, ToSchema)]
struct Supply {
    supply: i64,
}

async fn supply(State(api): State<Api>, asked: Asked) -> Result<Answer<Supply>, ApiError> {
    let height = api.tiers().height(asked.wait_height).await?;
    Ok(Answer::of(height.map(|height| Supply { supply: api.exact_supply(height) })))
}
