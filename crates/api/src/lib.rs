//! The chain's HTTP API, on both tiers.
//!
//! Start reading at [`Api`]: it is given where the tiers are, and, when it runs inside a node, the [`Node`] itself for
//! writes. `routes/` has the reference node's routes, `v1/` our own; `tiers/` reads, `views/` shows. `parameters.rs`
//! describes what may be asked, `documents.rs` makes the OpenAPI document from the same descriptions, `server.rs` listens.
//!
//! What is promised: nothing is answered that a tier did not say; each answer names its tier and height; a tier that is
//! away gives 503 with a reason, and is found again without a restart; no input gives a 500.

pub mod answer;
mod documents;
mod limits;
mod parameters;
mod routes;
mod server;
mod tiers;
mod v1;
mod views;

use std::sync::Arc;

use axum::Router;

use forebay_fast::SharedCalls;
use forebay_ledger::ids::Height;
use forebay_slow::lists::Lists;
use forebay_store::Node;
use tokio::sync::watch;

use crate::answer::{Answer, ApiError, Read, Tier};
use crate::documents::Routes;
use crate::parameters::{Asked, Given, Schema};
use crate::tiers::Tiers;
use crate::v1::Hub;

pub use forebay_fast::KeptBlocks;
pub use limits::{Limits, is_origin};
pub use server::{Listener, Server, ServerError, Tls};
pub use tiers::{Chain, Locate, TierOptions};
pub use v1::WritePolicy;

/// Seconds since the network's epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the API is made of.
pub struct ApiOptions {
    /// Which chain.
    pub chain: Chain,
    /// Where the tiers are.
    pub tiers: TierOptions,
    /// The node, when this is its process; without it nothing can be written.
    pub node: Option<Node>,
    /// What time it is.
    pub clock: Clock,
    /// Who may write.
    pub writes: WritePolicy,
    /// Operations that may be accepted and not durable: where the guard lets writes wait.
    pub lag_operations_max: u64,
    /// What clients can make grow.
    pub limits: Limits,
}

/// What reads cost and keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadFigures {
    /// Reads of Redis that shared calls.
    pub shared: SharedCalls,
    /// Blocks that are kept as they were answered.
    pub kept: KeptBlocks,
    /// Bodies of blocks that are kept as they were read.
    pub bodies: KeptBlocks,
}

/// The API of one chain. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    chain: Chain,
    tiers: Tiers,
    node: Option<Node>,
    clock: Clock,
    writes: WritePolicy,
    lag_operations_max: u64,
    limits: Limits,
    hub: Hub,
    /// One write of this API at a time: a take-back counts from the tip that it sees.
    turn: tokio::sync::Mutex<()>,
    /// Says when streams have to end.
    ending: watch::Sender<bool>,
}

impl Api {
    /// Makes the API; nothing is connected to before it is asked.
    #[must_use]
    pub fn new(options: ApiOptions) -> Self {
        let ApiOptions { chain, tiers, node, clock, writes, lag_operations_max, limits } = options;
        Self {
            inner: Arc::new(Inner {
                tiers: Tiers::new(chain.clone(), tiers, &limits),
                hub: Hub::new(limits.streams_max),
                chain,
                node,
                clock,
                writes,
                lag_operations_max,
                limits,
                turn: tokio::sync::Mutex::default(),
                ending: watch::Sender::new(false),
            }),
        }
    }

    /// All routes, without limits; [`Server`] adds those.
    pub fn router(&self) -> Router {
        let routes = Self::routes();
        let document = routes.document();
        let page = utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", document);
        routes.router.with_state(self.clone()).merge(page)
    }

    /// The description of all routes, OpenAPI 3.1, as JSON.
    #[must_use]
    pub fn document() -> serde_json::Value {
        // A document of texts and numbers always becomes JSON.
        serde_json::to_value(Self::routes().document()).unwrap_or_default()
    }

    /// What reads cost and keep, as it is now.
    #[must_use]
    pub fn figures(&self) -> ReadFigures {
        let (fast, written) = (self.tiers().fast(), self.tiers().written());
        ReadFigures { shared: fast.shared_calls(), kept: written.figures(), bodies: fast.kept_bodies() }
    }

    fn routes() -> Routes {
        routes::routes().merge(v1::routes())
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.inner.chain
    }

    pub(crate) fn tiers(&self) -> &Tiers {
        &self.inner.tiers
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.inner.node.as_ref()
    }

    pub(crate) fn write_policy(&self) -> &WritePolicy {
        &self.inner.writes
    }

    pub(crate) fn lag_operations_max(&self) -> u64 {
        self.inner.lag_operations_max
    }

    pub(crate) fn body_bytes_max(&self) -> usize {
        self.inner.limits.body_bytes_max
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    pub(crate) fn turn(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.turn
    }

    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.inner.ending.subscribe()
    }

    /// Ends all streams of events.
    pub(crate) fn end_streams(&self) {
        self.inner.ending.send_replace(true);
    }

    pub(crate) fn now(&self) -> i64 {
        (self.inner.clock)()
    }

    pub(crate) fn check(&self, asked: &Asked, schema: &Schema) -> Result<Given, ApiError> {
        asked.check(schema, self.inner.chain.profile.address_suffix)
    }

    /// The same for routes of our own, which tell a failure with a status.
    pub(crate) fn check_ours(&self, asked: &Asked, schema: &Schema) -> Result<Given, ApiError> {
        self.check(asked, schema).map_err(|error| match error {
            ApiError::Refused(message) => ApiError::malformed(message),
            other => other,
        })
    }

    /// The answer of a list.
    pub(crate) fn of_lists<T: serde::Serialize>(lists: &Lists<'_>, value: T) -> Answer<T> {
        Answer::of(Read { tier: Tier::Slow, height: lists.height(), value })
    }

    /// All units in circulation, as a double, as the reference node calculates with it.
    #[expect(clippy::cast_precision_loss, reason = "the reference node's numbers are doubles")]
    pub(crate) fn supply(&self, height: Height) -> f64 {
        self.chain().profile.supply(height) as f64
    }

    /// All units in circulation.
    pub(crate) fn exact_supply(&self, height: Height) -> i64 {
        i64::try_from(self.chain().profile.supply(height)).unwrap_or(i64::MAX)
    }

    /// Which reward is due, counted from 0.
    pub(crate) fn milestone(&self, height: Height) -> usize {
        let rewards = &self.chain().profile.rewards;
        rewards.iter().filter(|reward| reward.from_height <= height).count().saturating_sub(1)
    }

    /// Second 0 of all timestamps, with milliseconds, as JavaScript writes it.
    pub(crate) fn epoch(&self) -> String {
        let epoch = &self.chain().profile.epoch;
        match epoch.strip_suffix('Z') {
            Some(seconds) if !seconds.contains('.') => format!("{seconds}.000Z"),
            _ => epoch.clone(),
        }
    }

    /// Who missed more rounds in a row than this is listed only on demand; `None`: nobody is banned at this height.
    pub(crate) fn banned_above(&self, height: Height) -> Option<u32> {
        let profile = &self.chain().profile;
        profile
            .generation_two
            .filter(|_| profile.is_generation_two(height))
            .map(|two| two.missed_in_a_row_max)
    }
}
