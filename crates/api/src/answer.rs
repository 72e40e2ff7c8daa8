//! Answers: the body, the tier that it was read from, and the height that it shows. Failures in the family's form.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forebay_ledger::ids::Height;
use forebay_store::StoreError;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Names the tier that an answer was read from: `fast` or `slow`.
pub const TIER: HeaderName = HeaderName::from_static("x-forebay-tier");
/// Names the height that an answer shows.
pub const HEIGHT: HeaderName = HeaderName::from_static("x-forebay-height");

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Redis.
    Fast,
    /// PostgreSQL.
    Slow,
}

impl Tier {
    /// As headers name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
        }
    }
}

/// Data with where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// Who answered.
    pub tier: Tier,
    /// The tip's height there.
    pub height: Height,
    /// The data.
    pub value: T,
}

impl<T> Read<T> {
    /// The same place, other data.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Read<U> {
        Read { tier: self.tier, height: self.height, value: change(self.value) }
    }

    /// The same place, other data, or a failure.
    pub fn try_map<U>(self, change: impl FnOnce(T) -> Result<U, ApiError>) -> Result<Read<U>, ApiError> {
        Ok(Read { tier: self.tier, height: self.height, value: change(self.value)? })
    }
}

/// `{"success":true, …}` with the headers that say where it comes from.
#[derive(Debug)]
pub struct Answer<T> {
    body: T,
    from: Option<(Tier, Height)>,
    etag: Option<String>,
    cache: &'static str,
}

/// A failure as clients of the family know it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Always false.
    success: bool,
    /// For people, and compared by clients.
    error: String,
    /// A short, stable name; not with failures that the reference node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Answers may be kept by nobody: the next block changes them.
const CHANGES: &str = "no-cache";

impl<T: Serialize> Answer<T> {
    /// Data that were read.
    pub fn of(read: Read<T>) -> Self {
        Self { body: read.value, from: Some((read.tier, read.height)), etag: None, cache: CHANGES }
    }

    /// What no tier was asked for.
    pub fn of_nobody(body: T) -> Self {
        Self { body, from: None, etag: None, cache: CHANGES }
    }
}

impl<T> Answer<T> {
    /// A name for this content: who has it is told so, without the content.
    pub fn with_etag(mut self, etag: String) -> Self {
        self.etag = Some(etag);
        self
    }

    /// How long it may be kept.
    pub fn cached(mut self, cache: &'static str) -> Self {
        self.cache = cache;
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let Some(body) = success(&self.body) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        Answer { body: Written(body), from: self.from, etag: self.etag, cache: self.cache }.into_response()
    }
}

/// An answer's whole body as bytes, `{"success":true, …}`.
#[derive(Debug)]
pub struct Written(pub Vec<u8>);

impl Answer<Written> {
    /// A body that was read and is written already.
    pub fn of_written(read: Read<Written>) -> Self {
        Self { body: read.value, from: Some((read.tier, read.height)), etag: None, cache: CHANGES }
    }
}

impl IntoResponse for Answer<Written> {
    fn into_response(self) -> Response {
        let mut response = of_bytes(StatusCode::OK, self.body.0);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache));
        if let Some((tier, height)) = self.from {
            headers.insert(TIER, HeaderValue::from_static(tier.name()));
            headers.insert(HEIGHT, HeaderValue::from(height));
        }
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// What all answers begin with.
pub const SUCCESS: &[u8] = b"{\"success\":true";
/// Most answers about one thing fit.
const BODY_BYTES: usize = 1024;

/// `{"success":true, …}`, the body's fields being those of an object. `None`: it cannot be JSON, or is no object.
fn success(body: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    bytes.extend(SUCCESS);
    // The body's opening brace becomes the comma before its first field.
    serde_json::to_writer(&mut bytes, body).ok()?;
    match bytes.get(SUCCESS.len()..)? {
        b"{}" => drop(bytes.remove(SUCCESS.len())),
        [b'{', ..] => *bytes.get_mut(SUCCESS.len())? = b',',
        _ => return None,
    }
    Some(bytes)
}

/// A body as JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => of_bytes(status, bytes),
        // Our bodies are texts and numbers; those always become JSON.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn of_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// What the reference node tells with status 200.
    #[error("{0}")]
    Refused(String),
    /// Anything else, told by status too.
    #[error("{message}")]
    Failed {
        /// The status.
        status: u16,
        /// A short, stable name.
        reason: &'static str,
        /// For people.
        message: String,
        /// What to do; may be empty.
        remedy: String,
    },
}

impl ApiError {
    /// A failure that the family tells with status 200.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    /// A failure with a status.
    pub fn failed(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Failed { status: status.as_u16(), reason, message: message.into(), remedy: remedy.into() }
    }

    /// A request that cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::failed(StatusCode::BAD_REQUEST, "malformed", message, "Correct the request.")
    }

    /// A tier is away.
    pub fn away(tier: Tier, message: impl std::fmt::Display) -> Self {
        let (reason, name) = match tier {
            Tier::Fast => ("redis-away", "Redis"),
            Tier::Slow => ("postgres-away", "PostgreSQL"),
        };
        let message = format!("{name} cannot answer now: {message}");
        Self::failed(StatusCode::SERVICE_UNAVAILABLE, reason, message, "Try again in a moment.")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Refused(refusal) if refusal.code() == "previous-block" => StatusCode::CONFLICT,
            StoreError::OtherBranch { .. } => StatusCode::CONFLICT,
            StoreError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Request(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::failed(status, error.kind(), error.to_string(), error.remedy())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Refused(error) => {
                (StatusCode::OK, Failure { success: false, error, reason: None, remedy: None })
            }
            Self::Failed { status, reason, message, remedy } => (
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                Failure {
                    success: false,
                    error: message,
                    reason: Some(reason),
                    remedy: Some(remedy).filter(|remedy| !remedy.is_empty()),
                },
            ),
        };
        let mut response = json(status, &body);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A number as JavaScript writes it: whole ones without a point.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, ToSchema)]
#[schema(value_type = f64)]
pub struct JsNumber(pub f64);

impl Serialize for JsNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() <= EXACT_MAX {
            #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
            let whole = self.0 as i64;
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_is_an_object_whose_first_field_is_success() {
        let written = |body: serde_json::Value| success(&body).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(written(json!({})).unwrap(), r#"{"success":true}"#);
        assert_eq!(written(json!({"a": [{}], "b": 1})).unwrap(), r#"{"success":true,"a":[{}],"b":1}"#);
        assert_eq!(written(json!([1])), None);
    }
}
