//! Where the tiers stand. Answers whatever is away.

use axum::extract::State;
use forebay_ledger::ids::Height;
use serde::Serialize;
use utoipa::ToSchema;

use super::about;
use crate::Api;
use crate::answer::Answer;
use crate::documents::Routes;
use crate::parameters::NOTHING;

/// The route.
pub fn routes() -> Routes {
    Routes::new().get::<TiersStatus, _, _>("/v1/status", about("Where the two tiers stand", &NOTHING), status)
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TiersStatus {
    network: String,
    nethash: String,
    version: &'static str,
    /// Whether blocks can be given in here.
    writable: bool,
    fast: TierStatus,
    slow: TierStatus,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TierStatus {
    /// Whether it answers.
    available: bool,
    height: Option<Height>,
    block_id: Option<String>,
    /// Why it does not.
    problem: Option<String>,
}

impl TierStatus {
    fn at(height: Height, id: Option<String>) -> Self {
        Self { available: true, height: Some(height), block_id: id, problem: None }
    }

    fn away(problem: String) -> Self {
        Self { available: false, height: None, block_id: None, problem: Some(problem) }
    }
}

async fn status(State(api): State<Api>) -> Answer<TiersStatus> {
    let head = api.tiers().fast().read(|fast| async move {
        let head = fast.readable_head().await?;
        Ok(forebay_fast::At { at: head.point(), value: head.tip })
    });
    let fast = match head.await {
        Ok(found) => TierStatus::at(found.at.height, found.value.map(|tip| tip.id.to_string())),
        Err(problem) => TierStatus::away(problem),
    };
    Answer::of_nobody(TiersStatus {
        network: api.chain().profile.name.clone(),
        nethash: api.chain().nethash().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        writable: api.node().is_some(),
        fast,
        slow: slow(&api).await,
    })
}

async fn slow(api: &Api) -> TierStatus {
    let read = async {
        let mut session = api.tiers().lists(None).await?;
        let lists = session.lists().await.map_err(|error| crate::tiers::of_slow(&error))?;
        Ok::<_, crate::answer::ApiError>(TierStatus::at(
            lists.height(),
            lists.tip().map(|tip| tip.id.to_string()),
        ))
    };
    read.await.unwrap_or_else(|error| TierStatus::away(error.to_string()))
}
