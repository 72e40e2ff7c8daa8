//! A chain behind an API that listens on a port of its own.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod oracle_answers;

use std::sync::Arc;
use std::time::Duration;

use forebay_api::{Api, ApiOptions, Chain, Limits, Listener, Locate, Server, TierOptions, WritePolicy};
use forebay_slow::lists::PoolOptions;
use forebay_store::Node;
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::{Bench, TestNode};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio_postgres::Config;

/// An API with a client.
pub struct Served {
    pub api: Api,
    pub server: Option<Server>,
    pub url: String,
    pub client: Client,
}

/// Something that is always in the same place.
pub fn at<T: Clone + Send + Sync + 'static>(place: T) -> Locate<T> {
    Arc::new(move || {
        let place = place.clone();
        Box::pin(async move { Ok(place) })
    })
}

/// PostgreSQL as the reader role.
pub fn reader(bench: &Bench) -> Config {
    let mut config = bench.servers.postgres().config("forebay_reader").unwrap();
    config.dbname("forebay");
    config
}

pub fn tier_options(bench: &Bench) -> TierOptions {
    TierOptions {
        redis: at(bench.options.redis_url.clone()),
        postgres: at(reader(bench)),
        wait_max: Duration::from_secs(10),
        redis_timeout: Duration::from_secs(5),
        pool: PoolOptions::default(),
    }
}

/// An API beside a bench.
pub fn api(
    bench: &Bench,
    node: Option<Node>,
    now: i64,
    tiers: TierOptions,
    limits: Limits,
    writes: WritePolicy,
) -> Api {
    let chain =
        Chain { profile: Arc::clone(&bench.options.profile), genesis: Arc::clone(&bench.options.genesis) };
    let clock: forebay_api::Clock = Arc::new(move || now);
    Api::new(ApiOptions { chain, tiers, node, clock, writes, lag_operations_max: 1000, limits })
}

impl Served {
    /// Beside a bench, with or without its node, at a moment that the clock says.
    pub async fn start(bench: &Bench, node: Option<Node>, now: i64) -> Self {
        Self::with(bench, node, now, tier_options(bench), Limits::default()).await
    }

    /// One that takes blocks from whoever says this token.
    pub async fn writable(bench: &Bench, node: Node, token: &str) -> Self {
        let writes = WritePolicy { token: Some(token.to_owned()), on_public_addresses: false };
        Self::of(api(bench, Some(node), NOW, tier_options(bench), Limits::default(), writes)).await
    }

    pub async fn with(
        bench: &Bench,
        node: Option<Node>,
        now: i64,
        tiers: TierOptions,
        limits: Limits,
    ) -> Self {
        Self::of(api(bench, node, now, tiers, limits, WritePolicy::default())).await
    }

    /// On a port of its own.
    pub async fn of(api: Api) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let url = listener.place().to_owned();
        let server = Server::start(&api, vec![listener]);
        Self { api, server: Some(server), url, client: Client::new() }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// Status and body; the body is text where it is no JSON.
    pub async fn json(&self, path: &str) -> (u16, Value) {
        body_of(self.get(path).await).await
    }
}

pub async fn body_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, body)
}

/// The oracle's first chain up to its last height, durable. `None`: its data are not there.
pub async fn oracle_at_its_end() -> Option<(Bench, TestNode)> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks).await;
    node.settle().await;
    Some((bench, node))
}

/// Waits for something that will come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "after 60 s not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A moment after every block of the oracle.
pub const LATER: i64 = NOW;
