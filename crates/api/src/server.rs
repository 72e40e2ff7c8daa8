//! Listening: TCP with or without TLS, Unix sockets, HTTP/1.1 and HTTP/2, and an end in order.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::Api;
use crate::answer::{ApiError, HEIGHT, TIER};
use crate::limits::{Guard, Limits, Peer, REQUEST_ID, guard};

/// How long a TLS client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection could not be accepted (too many files are open): long enough for some to end.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Streams on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 64;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("listening on {place}: {cause}")]
    Listen {
        /// Which address or socket.
        place: String,
        /// Why.
        cause: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

impl ServerError {
    /// What the operator can do, one sentence.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "Choose another address or socket, or end who listens there.",
            Self::Tls(_) => "Give a certificate chain and its private key as PEM files.",
        }
    }
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads PEM files.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Self, ServerError> {
        let told = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| told(&format!("{}: {error}", certificates.display())))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| told(&format!("{}: {error}", key.display())))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| told(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| told(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

/// Somewhere to listen.
pub struct Listener {
    kind: Kind,
    place: String,
}

enum Kind {
    Tcp(TcpListener, SocketAddr, Option<Tls>),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// A TCP address; port 0 takes a free one.
    ///
    /// # Errors
    /// It is taken, or not ours.
    pub async fn tcp(address: SocketAddr, tls: Option<Tls>) -> Result<Self, ServerError> {
        let failed = |cause| ServerError::Listen { place: address.to_string(), cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self { kind: Kind::Tcp(listener, bound, tls), place: format!("{scheme}://{bound}") })
    }

    /// A Unix socket that only our user may use. A stale one is replaced.
    ///
    /// # Errors
    /// Somebody listens there, or it is no socket.
    pub fn unix(path: &Path) -> Result<Self, ServerError> {
        let failed = |cause| ServerError::Listen { place: path.display().to_string(), cause };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { kind: Kind::Unix(listener, path.to_owned()), place: format!("unix:{}", path.display()) })
    }

    /// Where it listens, as people write it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The TCP address that it took.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(_, address, _) => Some(*address),
            Kind::Unix(..) => None,
        }
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address().is_none_or(|address| address.ip().is_loopback())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.kind {
            // Somebody may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

/// A running server.
pub struct Server {
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop_max: Duration,
}

impl Server {
    /// Serves an API on all listeners until [`Server::stop`].
    #[must_use]
    pub fn start(api: &Api, listeners: Vec<Listener>) -> Self {
        Self::start_with(api, listeners, Router::new())
    }

    /// The same with further routes behind the same layers (limits, request ids, access log, compression), so that what
    /// a benchmark compares with pays for them, too. They are not in the OpenAPI document.
    ///
    /// # Panics
    /// When one of them is a route of the API's own.
    #[must_use]
    pub fn start_with(api: &Api, listeners: Vec<Listener>, further: Router) -> Self {
        let limits = api.limits().clone();
        let (stop, stopping) = watch::channel(false);
        let stop_max = limits.request_timeout;
        let connections = Arc::new(Semaphore::new(limits.connections_max.max(1)));
        let idle = limits.idle_timeout;
        let app = app(api.router().merge(further), limits);
        let tasks = listeners
            .into_iter()
            .map(|listener| {
                tracing::info!(place = listener.place(), "the API listens");
                let accept = Accept { app: app.clone(), connections: Arc::clone(&connections), idle };
                tokio::spawn(accept.run(listener, stopping.clone(), api.clone()))
            })
            .collect();
        Self { stop, tasks, stop_max }
    }

    /// Accepts nothing more, ends event streams, lets requests under way be answered.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let abort = task.abort_handle();
            if tokio::time::timeout(self.stop_max, task).await.is_err() {
                tracing::warn!("some requests were not answered in time");
                abort.abort();
            }
        }
    }
}

/// The router with its layers.
fn app(router: Router, limits: Limits) -> Router {
    let cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .expose_headers([TIER, HEIGHT, REQUEST_ID, header::ETAG, header::RETRY_AFTER])
        .allow_origin(if limits.origins.is_empty() {
            AllowOrigin::any()
        } else {
            AllowOrigin::list(limits.origins.iter().filter_map(|one| HeaderValue::from_str(one).ok()))
        })
        .max_age(Duration::from_secs(3600));
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                "defect",
                "this is a defect of forebay",
                "Please report it with the log.",
            )
            .into_response()
        }))
        .layer(CompressionLayer::new())
        .layer(cors)
        .layer(middleware::from_fn_with_state(Guard::new(limits), guard))
}

/// What the reference node says of unknown paths, as a page.
async fn not_found(method: Method, uri: Uri) -> Response {
    let mut path = String::with_capacity(uri.path().len());
    for letter in uri.path().chars() {
        match letter {
            '&' => path.push_str("&amp;"),
            '<' => path.push_str("&lt;"),
            '>' => path.push_str("&gt;"),
            '"' => path.push_str("&quot;"),
            '\'' => path.push_str("&#39;"),
            other => path.push(other),
        }
    }
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
         <body>\n<pre>Cannot {method} {path}</pre>\n</body>\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
    ];
    (StatusCode::NOT_FOUND, headers, page).into_response()
}

struct Accept {
    app: Router,
    connections: Arc<Semaphore>,
    idle: Duration,
}

impl Accept {
    async fn run(self, listener: Listener, mut stopping: watch::Receiver<bool>, api: Api) {
        let graceful = Arc::new(GracefulShutdown::new());
        let is_local = listener.is_local();
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = accept(&listener) => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            match accepted {
                Ok(Accepted::Plain(stream, address)) => {
                    self.serve(stream, Peer { address, is_local }, permit, &graceful);
                }
                Ok(Accepted::Tls(stream, address, tls)) => {
                    // Others need not wait for this one's handshake; it cannot be watched before it is done.
                    let peer = Peer { address, is_local };
                    let (service, idle) = (self.app.clone(), self.idle);
                    let (graceful, connections) = (Arc::clone(&graceful), Arc::clone(&self.connections));
                    tokio::spawn(async move {
                        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => {
                                let accept = Accept { app: service, connections, idle };
                                accept.serve(stream, peer, permit, &graceful);
                            }
                            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                            Err(_) => tracing::debug!("a TLS handshake took too long"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        api.end_streams();
        drop(listener);
        if let Some(graceful) = Arc::into_inner(graceful) {
            graceful.shutdown().await;
        }
    }

    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        permit: OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
    ) {
        let app = self.app.clone();
        let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            trim_slash(&mut request);
            app.clone().oneshot(request)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.idle);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .keep_alive_interval(self.idle)
            .keep_alive_timeout(self.idle);
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
}

enum Accepted {
    Plain(Stream, Option<std::net::IpAddr>),
    Tls(tokio::net::TcpStream, Option<std::net::IpAddr>, Tls),
}

type Stream = Box<dyn Both>;

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match &listener.kind {
        Kind::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            Ok(Accepted::Plain(Box::new(stream), None))
        }
        Kind::Tcp(listener, _, tls) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let address = Some(address.ip());
            Ok(match tls {
                Some(tls) => Accepted::Tls(stream, address, tls.clone()),
                None => Accepted::Plain(Box::new(stream), address),
            })
        }
    }
}

/// `/api/blocks/` is `/api/blocks`, as for the reference node.
fn trim_slash(request: &mut Request) {
    let path = request.uri().path();
    if path.len() < 2 || !path.ends_with('/') || path.starts_with("/docs") {
        return;
    }
    let trimmed = path.trim_end_matches('/');
    let trimmed = if trimmed.is_empty() { "/" } else { trimmed };
    let target = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    if let Ok(uri) = target.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
}
