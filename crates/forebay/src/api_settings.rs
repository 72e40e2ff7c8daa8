//! The section `[api]`: what the HTTP API is set up with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use forebay_api::{Limits, Tls, WritePolicy, is_origin};
use forebay_slow::lists::PoolOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::config::{Bounded, Problem, SECONDS_MAX, number, password};
use crate::exit::Told;

/// The HTTP API of `run --listen` and `api`.
// No `Debug`: one of it is a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// What who gives blocks in has to say. Advice: rather write_token_file.
    write_token: Option<String>,
    /// A file with the token for writing, that only forebay's user may read.
    write_token_file: Option<PathBuf>,
    /// Whether addresses that other machines reach may be written to.
    #[serde(deserialize_with = "flag")]
    writes_on_public_addresses: bool,
    /// PEM file with the certificate chain.
    tls_certificates: Option<PathBuf>,
    /// PEM file with the certificate's key.
    tls_key: Option<PathBuf>,
    /// Your PostgreSQL as a role that reads. Default: as the reader role of postgres_url's server and database.
    pub postgres_url: Option<String>,
    /// Sessions of PostgreSQL for lists.
    #[serde(deserialize_with = "number")]
    postgres_sessions_max: usize,
    /// How long a list may take, seconds.
    #[serde(deserialize_with = "number")]
    statement_timeout_seconds: u64,
    /// How long a request may wait for a height, seconds.
    #[serde(deserialize_with = "number")]
    wait_seconds_max: u64,
    /// How long a request may take, seconds.
    #[serde(deserialize_with = "number")]
    request_timeout_seconds: u64,
    /// How long a connection may stay without a request, seconds.
    #[serde(deserialize_with = "number")]
    idle_timeout_seconds: u64,
    /// Connections at once.
    #[serde(deserialize_with = "number")]
    connections_max: usize,
    /// Requests at once.
    #[serde(deserialize_with = "number")]
    requests_max: usize,
    /// Streams of events at once.
    #[serde(deserialize_with = "number")]
    streams_max: usize,
    /// Requests a second of one address on average; 0: any number.
    #[serde(deserialize_with = "number")]
    requests_per_second_max: u32,
    /// Bytes of a request's body.
    #[serde(deserialize_with = "number")]
    body_bytes_max: usize,
    /// Bytes of the blocks that are kept as they were answered; 0: none.
    #[serde(deserialize_with = "number")]
    written_blocks_bytes_max: usize,
    /// Bytes of the bodies of blocks that were read lately and are not read again; 0: none.
    #[serde(deserialize_with = "number")]
    bodies_bytes_max: usize,
    /// Origins whose pages may read; empty: all.
    origins: Vec<String>,
    /// Whether each request is a line of the log.
    #[serde(deserialize_with = "flag")]
    access_log: bool,
}

impl Default for ApiSettings {
    fn default() -> Self {
        let (limits, pool) = (Limits::default(), PoolOptions::default());
        Self {
            write_token: None,
            write_token_file: None,
            writes_on_public_addresses: false,
            tls_certificates: None,
            tls_key: None,
            postgres_url: None,
            postgres_sessions_max: pool.sessions_max,
            statement_timeout_seconds: pool.statement_timeout.as_secs(),
            wait_seconds_max: 10,
            request_timeout_seconds: limits.request_timeout.as_secs(),
            idle_timeout_seconds: limits.idle_timeout.as_secs(),
            connections_max: limits.connections_max,
            requests_max: limits.requests_max,
            streams_max: limits.streams_max,
            requests_per_second_max: limits.requests_per_second_max,
            body_bytes_max: limits.body_bytes_max,
            written_blocks_bytes_max: limits.written_blocks_bytes_max,
            bodies_bytes_max: limits.bodies_bytes_max,
            origins: limits.origins,
            access_log: limits.access_log,
        }
    }
}

/// What the API takes at once: more than that needs another kind of server.
const AT_ONCE_MAX: u64 = 1_000_000;
/// Sessions of PostgreSQL: far more than one should have.
const SESSIONS_MAX: u64 = 10_000;
/// PostgreSQL counts the milliseconds of a statement in 31 bits.
const STATEMENT_SECONDS_MAX: u64 = i32::MAX as u64 / 1000;
/// Bytes of a request's body, or of what is kept: 1 TiB.
const BODY_BYTES_MAX: u64 = 1 << 40;

impl ApiSettings {
    /// What is wrong with settings whose types are right.
    pub fn problems(&self) -> Vec<Problem> {
        let bounded = |name, value, least, most| Bounded { name, value, least, most };
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let numbers = [
            bounded("api.postgres_sessions_max", wide(self.postgres_sessions_max), 1, SESSIONS_MAX),
            bounded(
                "api.statement_timeout_seconds",
                self.statement_timeout_seconds,
                1,
                STATEMENT_SECONDS_MAX,
            ),
            bounded("api.wait_seconds_max", self.wait_seconds_max, 0, SECONDS_MAX),
            bounded("api.request_timeout_seconds", self.request_timeout_seconds, 1, SECONDS_MAX),
            bounded("api.idle_timeout_seconds", self.idle_timeout_seconds, 1, SECONDS_MAX),
            bounded("api.connections_max", wide(self.connections_max), 1, AT_ONCE_MAX),
            bounded("api.requests_max", wide(self.requests_max), 1, AT_ONCE_MAX),
            bounded("api.streams_max", wide(self.streams_max), 1, AT_ONCE_MAX),
            bounded("api.body_bytes_max", wide(self.body_bytes_max), 1, BODY_BYTES_MAX),
            bounded("api.written_blocks_bytes_max", wide(self.written_blocks_bytes_max), 0, BODY_BYTES_MAX),
            bounded("api.bodies_bytes_max", wide(self.bodies_bytes_max), 0, BODY_BYTES_MAX),
        ];
        let origins = self.origins.iter().filter(|origin| !is_origin(origin)).map(|origin| Problem {
            message: format!("api.origins: \"{origin}\" is no origin that a browser sends"),
            remedy: "Give scheme://host or scheme://host:port, in small letters and without a path; [] is all of them."
                .to_owned(),
        });
        numbers.iter().filter_map(Bounded::problem).chain(origins).collect()
    }

    /// What blocks may take that are kept for the next answer.
    pub fn kept_bytes_max(&self) -> u64 {
        (self.written_blocks_bytes_max as u64).saturating_add(self.bodies_bytes_max as u64)
    }

    /// What clients can make grow.
    pub fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            requests_max: self.requests_max,
            streams_max: self.streams_max,
            requests_per_second_max: self.requests_per_second_max,
            request_timeout: Duration::from_secs(self.request_timeout_seconds),
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            body_bytes_max: self.body_bytes_max,
            written_blocks_bytes_max: self.written_blocks_bytes_max,
            bodies_bytes_max: self.bodies_bytes_max,
            origins: self.origins.clone(),
            access_log: self.access_log,
        }
    }

    /// Sessions of PostgreSQL.
    pub fn pool(&self) -> PoolOptions {
        PoolOptions {
            sessions_max: self.postgres_sessions_max,
            statement_timeout: Duration::from_secs(self.statement_timeout_seconds),
            ..PoolOptions::default()
        }
    }

    /// The longest wait for a height.
    pub fn wait_max(&self) -> Duration {
        Duration::from_secs(self.wait_seconds_max)
    }

    /// Where the token stands, if it does in a file.
    pub fn write_token_file(&self) -> Option<&Path> {
        self.write_token_file.as_deref()
    }

    /// Who may write.
    ///
    /// # Errors
    /// The token's file cannot be read, or the token is empty.
    pub fn writes(&self) -> anyhow::Result<WritePolicy> {
        let token = password(self.write_token.as_ref(), self.write_token_file.as_deref())?;
        if token.as_ref().is_some_and(|token| token.trim().is_empty()) {
            return Err(Told::configuration("api.write_token is empty", "Give a long random text.").into());
        }
        Ok(WritePolicy { token, on_public_addresses: self.writes_on_public_addresses })
    }

    /// Certificate and key, if they are given.
    ///
    /// # Errors
    /// One without the other, or files that cannot be used.
    pub fn tls(&self) -> anyhow::Result<Option<Tls>> {
        match (&self.tls_certificates, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificates), Some(key)) => Ok(Some(read_tls(certificates, key)?)),
            _ => Err(Told::configuration(
                "api.tls_certificates and api.tls_key belong together: only one of them is given",
                "Give both, or neither for plain HTTP.",
            )
            .into()),
        }
    }
}

fn read_tls(certificates: &Path, key: &Path) -> anyhow::Result<Tls> {
    Tls::from_files(certificates, key)
        .map_err(|error| Told::configuration(&error, error.remedy()))
        .context("reading certificate and key of the API")
}

/// `true` or `false`, as a text too: the environment has texts only.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Flag(bool),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Flag(flag) => Ok(flag),
        Either::Text(text) => {
            text.trim().parse().map_err(|_| de::Error::custom(format!("\"{text}\" is not true or false")))
        }
    }
}
