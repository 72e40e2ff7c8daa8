//! The API of a staged node on a port of its own, and behind the same layers the control arm: a handler that does
//! nothing but one `GET` of Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use forebay_api::{Api, ApiOptions, Chain, Limits, Listener, Locate, Server, TierOptions, WritePolicy};
use forebay_slow::lists::PoolOptions;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::arena::{Stage, StagedNode};
use crate::error::BenchError;
use crate::load::Load;

/// The control arm's paths begin so.
pub(super) const RAW: &str = "/bench/raw/";

/// A running server.
pub(super) struct Served {
    server: Server,
    pub(super) address: SocketAddr,
}

/// Which blocks the server keeps as it answered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    AsConfigured,
    Nothing,
}

impl Served {
    /// Serves on a free port of this machine. The access log is off: it would cost both arms the same, and so hide what
    /// differs.
    pub(super) async fn start(
        stage: &Stage<'_>,
        staged: &StagedNode,
        load: &Load,
        keep: Keep,
    ) -> Result<Self, BenchError> {
        let chain = Chain {
            profile: Arc::clone(&stage.options.profile),
            genesis: Arc::clone(&stage.options.genesis),
        };
        let now = load.now();
        let api = Api::new(ApiOptions {
            chain,
            tiers: TierOptions {
                redis: at(stage.options.redis_url.clone()),
                postgres: at(stage.reader()?),
                wait_max: Duration::from_secs(10),
                redis_timeout: Duration::from_secs(5),
                pool: PoolOptions::default(),
            },
            node: Some(staged.node.clone()),
            clock: Arc::new(move || now),
            writes: WritePolicy::default(),
            lag_operations_max: stage.options.limits.lag_blocks_max as u64,
            limits: limits(keep),
        });
        let redis = stage.arena.redis_connection(stage.profile).await?;
        let control = Router::new().route(&format!("{RAW}{{key}}"), get(raw)).with_state(redis);
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), None).await?;
        let no_address = || BenchError::Other("the API took no address".to_owned());
        let address = listener.address().ok_or_else(no_address)?;
        Ok(Self { server: Server::start_with(&api, vec![listener], control), address })
    }

    /// Asks once, and makes sure that Redis answered well: the body.
    pub(super) async fn answer(&self, path: &str) -> Result<Vec<u8>, BenchError> {
        let failed = || BenchError::io(format!("asking for {path}"));
        let mut stream = TcpStream::connect(self.address).await.map_err(failed())?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.map_err(failed())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map_err(failed())?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let (head, body) = bytes.split_at(end);
        let body = body.get(4..).unwrap_or_default();
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let is_fast = head.contains("x-forebay-tier: fast");
        if !head.starts_with("http/1.1 200") || !is_fast || !body.starts_with(b"{\"success\":true") {
            let body = String::from_utf8_lossy(body);
            return Err(BenchError::Other(format!("{path} was not answered from Redis: {head}\n{body}")));
        }
        Ok(body.to_vec())
    }

    pub(super) async fn stop(self) {
        self.server.stop().await;
    }
}

fn limits(keep: Keep) -> Limits {
    let limits = Limits { access_log: false, ..Limits::default() };
    match keep {
        Keep::AsConfigured => limits,
        Keep::Nothing => Limits { written_blocks_bytes_max: 0, bodies_bytes_max: 0, ..limits },
    }
}

fn at<T: Clone + Send + Sync + 'static>(place: T) -> Locate<T> {
    Arc::new(move || {
        let place = place.clone();
        Box::pin(async move { Ok(place) })
    })
}

/// The control arm.
async fn raw(State(mut redis): State<MultiplexedConnection>, Path(key): Path<String>) -> Response {
    match redis::cmd("GET").arg(key).query_async::<Option<Vec<u8>>>(&mut redis).await {
        Ok(Some(value)) => {
            ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], value).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
