//! What one client, and all together, may ask for: rate, requests at once, time, size. And what every answer gets: an id,
//! a line in the access log, 304 for content that the client has.

mod rate;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::answer::{ApiError, HEIGHT, TIER};
use rate::Rates;

/// Names a request, in the answer and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What others may call their requests.
const REQUEST_ID_LETTERS_MAX: usize = 64;
/// The path of events: streams have a limit of their own, and no time.
pub const EVENTS_PATH: &str = "/v1/events";

/// Bounds of everything that clients can make grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted. 1,024: what a small machine's file descriptors allow.
    pub connections_max: usize,
    /// Requests at once; further ones are told to come again. 256.
    pub requests_max: usize,
    /// Streams of events at once. 128.
    pub streams_max: usize,
    /// Requests a second of one address, on average; 0: any number. Twice as many may come at once.
    pub requests_per_second_max: u32,
    /// How long an answer may take. 30 s: longer than any wait for a height, or a list.
    pub request_timeout: Duration,
    /// How long a request's head may take to come, and a connection stay without one. 30 s.
    pub idle_timeout: Duration,
    /// Bytes of a request's body. 64 MiB: a thousand blocks of RISE.
    pub body_bytes_max: usize,
    /// Bytes of the blocks that are kept as they were answered. 16 MiB: 900 blocks with 25 transactions each.
    pub written_blocks_bytes_max: usize,
    /// Bytes of the bodies of blocks that were read lately and are not read again. 16 MiB: 3,400 blocks with 25 transactions
    /// each.
    pub bodies_bytes_max: usize,
    /// Pages of these origins may read in a browser; empty: pages of any.
    pub origins: Vec<String>,
    /// Whether each request is a line of the log.
    pub access_log: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            requests_max: 256,
            streams_max: 128,
            requests_per_second_max: 0,
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            body_bytes_max: 64 << 20,
            written_blocks_bytes_max: 16 << 20,
            bodies_bytes_max: 16 << 20,
            origins: Vec::new(),
            access_log: true,
        }
    }
}

/// Whether it is an origin as browsers send it: `scheme://host` or `scheme://host:port`. Any other would fit no page.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, place)) = text.split_once("://") else { return false };
    let is_small = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
        && scheme.bytes().all(|letter| is_small(letter) || b"+-.".contains(&letter));
    // The colons of an address of version 6 stand in brackets.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|letter| is_small(letter) || b"-._".contains(&letter)),
    };
    is_scheme && is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it came to an address that only this machine reaches.
    pub is_local: bool,
}

/// The limits with what they count.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) limits: Arc<Limits>,
    requests: Arc<Semaphore>,
    rates: Arc<Rates>,
    ids: Arc<RequestIds>,
}

impl Guard {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            rates: Arc::new(Rates::new(limits.requests_per_second_max)),
            ids: Arc::default(),
            limits: Arc::new(limits),
        }
    }
}

/// The outermost layer.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = guard.ids.of(request.headers());
    let peer = request.extensions().get::<Peer>().copied();
    let (method, target) = (request.method().clone(), request.uri().to_string());
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = answer(&guard, peer, request, next).await;
    let mut response = unless_known(response, &method, known.as_ref());
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if guard.limits.access_log {
        log(&response, &id, peer, &method, &target, begun);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn log(
    response: &Response,
    id: &HeaderValue,
    peer: Option<Peer>,
    method: &Method,
    target: &str,
    begun: Instant,
) {
    let headers = response.headers();
    let text =
        |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    tracing::info!(
        target: "forebay_api::access",
        id = id.to_str().unwrap_or("-"),
        client = peer.and_then(|peer| peer.address).map_or_else(|| "unix".to_owned(), |address| address.to_string()),
        %method,
        target = target,
        status = response.status().as_u16(),
        tier = text(&TIER),
        height = text(&HEIGHT),
        duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
}

async fn answer(guard: &Guard, peer: Option<Peer>, request: Request, next: Next) -> Response {
    if let Some(address) = peer.and_then(|peer| peer.address)
        && !guard.rates.allows(address, Instant::now())
    {
        return ApiError::failed(
            StatusCode::TOO_MANY_REQUESTS,
            "rate",
            "too many requests from this address",
            "Ask more slowly.",
        )
        .into_response();
    }
    if request.uri().path() == EVENTS_PATH {
        return next.run(request).await;
    }
    let Ok(_one) = guard.requests.try_acquire() else {
        return ApiError::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many requests are being answered",
            "Try again in a moment.",
        )
        .into_response();
    };
    match tokio::time::timeout(guard.limits.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            format!("no answer within {} s", guard.limits.request_timeout.as_secs()),
            "Try again, or ask for less.",
        )
        .into_response(),
    }
}

/// 304 instead of content that the client has.
fn unless_known(response: Response, method: &Method, known: Option<&HeaderValue>) -> Response {
    let reads = method == Method::GET || method == Method::HEAD;
    let Some(etag) =
        response.headers().get(header::ETAG).filter(|_| reads && response.status() == StatusCode::OK)
    else {
        return response;
    };
    let weak = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let is_known = match (known.and_then(|known| known.to_str().ok()), etag.to_str()) {
        (Some(known), Ok(etag)) => known.trim() == "*" || known.split(',').any(|one| weak(one) == weak(etag)),
        _ => false,
    };
    if !is_known {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}

/// Gives requests names that differ from those of other runs.
struct RequestIds {
    run: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = u64::try_from(since.as_micros()).unwrap_or(0) ^ (u64::from(std::process::id()) << 40);
        Self { run, next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    /// What the client called it, if that is a name; else one of ours.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_name = |value: &&HeaderValue| {
            (1..=REQUEST_ID_LETTERS_MAX).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match headers.get(&REQUEST_ID).filter(is_name) {
            Some(given) => given.clone(),
            None => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                HeaderValue::from_str(&format!("{:016x}-{number:x}", self.run))
                    .unwrap_or_else(|_| HeaderValue::from_static("-"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn an_origin_is_what_browsers_send() {
        for origin in [
            "https://wallet.example",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://[::1]",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "",
            "*",
            "wallet.example",
            "https://",
            "https://wallet.example/",
            "https://*.example",
            "https://Wallet.example",
            "https://user@wallet.example",
            "https://wallet.example:0",
            "https://wallet.example:port",
            "https://wallet.example:",
            "https://wallet example",
            "https://wallet.example\n",
            "http://[wallet]",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
