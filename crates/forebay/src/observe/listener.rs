//! The listener: three paths, for monitors on a network that is trusted. It answers from the first moment of a start to
//! the end of the process.

use std::io;
use std::net::SocketAddr;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Observed;
use super::export::Export;
use crate::exit::Told;

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until it is dropped.
pub struct Listener {
    task: JoinHandle<()>,
    /// Where.
    pub address: SocketAddr,
}

#[derive(Clone)]
struct Shown {
    observed: Observed,
    export: Export,
}

impl Listener {
    /// Listens; port 0 takes any free one.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr, observed: Observed) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
        let address = listener.local_addr().map_err(|error| cannot_listen(address, &error))?;
        let shown = Shown { observed, export: Export::default() };
        let router = Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(shown);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the listener for monitors ended");
            }
        });
        Ok(Self { task, address })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The settings are what can be changed about it.
fn cannot_listen(address: SocketAddr, error: &io::Error) -> Told {
    let port = address.port();
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "Another program listens on port {port} (`ss -ltnp 'sport = :{port}'` names it): stop it, or choose another port with \
             --metrics-listen or metrics_listen."
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "This machine has no address {} (`ip addr` names those that it has): give one of them, or 0.0.0.0 or [::] for all, \
             with --metrics-listen or metrics_listen.",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "Port {port} needs a right that this account does not have: choose one from 1024 on with --metrics-listen or \
             metrics_listen."
        ),
        _ => "Choose another address with --metrics-listen or metrics_listen.".to_owned(),
    };
    Told::configuration(format!("listening for monitors on {address} (metrics_listen): {error}"), remedy)
}

async fn index() -> &'static str {
    "forebay: /metrics (Prometheus), /livez, /readyz (JSON)\n"
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown.export.text(&shown.observed);
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response()
}

/// The process answers, and its node has not ended. A slow or healing node lives: a restart would only begin anew.
async fn livez(State(shown): State<Shown>) -> Response {
    let seen = shown.observed.now();
    let silent = seen.node.as_ref().map(|node| node.node.progress().looked_at.elapsed().as_secs());
    let reason = match (seen.is_over, silent) {
        (true, _) => "the node has ended, the process is about to".to_owned(),
        (false, None) => "starting".to_owned(),
        (false, Some(seconds)) => format!("the loop looked at its limits {seconds} s ago"),
    };
    let body = Json(json!({ "live": !seen.is_over, "reason": reason }));
    (status_of(!seen.is_over), body).into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let readiness = shown.observed.now().readiness();
    (status_of(readiness.ready), Json(readiness)).into_response()
}

fn status_of(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
