//! Reads over both tiers. Single things come from Redis, and from PostgreSQL where Redis does not keep them or is away;
//! lists come from PostgreSQL. Each answer says who gave it and which height it shows.

mod fast;
mod row_ids;
mod single;
mod slow;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use forebay_fast::{At, FastError, FastErrorKind, FastOptions, KeptByBlock};
use forebay_ledger::ids::Height;
use forebay_slow::lists::{PoolOptions, ReadSession};
use forebay_slow::{ErrorKind, SlowError};
use tokio_postgres::Config;

use crate::answer::{ApiError, Read, Tier};
use crate::limits::Limits;

pub use fast::FastLink;
pub use row_ids::RowIds;
pub use single::{Chain, KeptAnswer, NumberedBlock, RankedDelegate, Standing};
pub use slow::SlowLink;

/// Finds a server's address; asked again while the server is away, since it may come back elsewhere.
pub type Locate<T> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<T, String>> + Send>> + Send + Sync>;

/// Where the two tiers are, and how patient reads are.
#[derive(Clone)]
pub struct TierOptions {
    /// Redis' address.
    pub redis: Locate<String>,
    /// PostgreSQL as a role that may read.
    pub postgres: Locate<Config>,
    /// How long a request may wait for a height that it names.
    pub wait_max: Duration,
    /// How long Redis may take to answer.
    pub redis_timeout: Duration,
    /// Sessions of PostgreSQL.
    pub pool: PoolOptions,
}

/// Both tiers, for any number of readers.
pub struct Tiers {
    chain: Chain,
    fast: FastLink,
    slow: SlowLink,
    row_ids: RowIds,
    written: KeptByBlock<KeptAnswer>,
    wait_max: Duration,
}

impl Tiers {
    /// Connects to nothing yet: whatever is away is looked for when it is asked.
    pub fn new(chain: Chain, options: TierOptions, limits: &Limits) -> Self {
        let reading = FastOptions {
            connect_timeout: options.redis_timeout,
            response_timeout: options.redis_timeout,
            bodies_bytes_max: limits.bodies_bytes_max,
        };
        Self {
            fast: FastLink::new(options.redis, chain.profile.name.clone(), reading),
            slow: SlowLink::new(options.postgres, options.pool),
            row_ids: RowIds::default(),
            written: KeptByBlock::new(limits.written_blocks_bytes_max),
            wait_max: options.wait_max,
            chain,
        }
    }

    /// The longest wait of a request.
    pub fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Redis.
    pub fn fast(&self) -> &FastLink {
        &self.fast
    }

    /// The blocks that are kept as they were answered.
    pub fn written(&self) -> &KeptByBlock<KeptAnswer> {
        &self.written
    }

    /// A read of Redis. `Ok(None)`: it cannot answer now, and PostgreSQL may be asked instead.
    async fn ask_fast<T, F>(
        &self,
        wait: Option<Height>,
        read: impl Fn(forebay_fast::FastTier) -> F,
    ) -> Result<Result<Read<T>, String>, ApiError>
    where
        F: Future<Output = Result<At<T>, FastError>>,
    {
        if let Some(height) = wait
            && let Err(away) = self.wait_fast(height).await?
        {
            return Ok(Err(away));
        }
        match self.fast.read(read).await {
            Ok(At { at, value }) => Ok(Ok(Read { tier: Tier::Fast, height: at.height, value })),
            Err(away) => Ok(Err(away)),
        }
    }

    /// A session of PostgreSQL for a list.
    ///
    /// # Errors
    /// It is away, or does not reach the height in time.
    pub async fn lists(&self, wait: Option<Height>) -> Result<ReadSession, ApiError> {
        if let Some(height) = wait {
            self.wait_slow(height).await?;
        }
        self.slow.session().await.map_err(|error| of_slow(&error))
    }
}

/// What a failure of PostgreSQL means to whoever asks.
pub fn of_slow(error: &SlowError) -> ApiError {
    use axum::http::StatusCode;
    match error.kind() {
        ErrorKind::Conflict => ApiError::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-slow",
            "the list took too long",
            "Ask for fewer rows, or filter by account, block or height.",
        ),
        ErrorKind::Resources => ApiError::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!("PostgreSQL has no room: {error}"),
            "Try again in a moment.",
        ),
        // Numbers that no row can have.
        ErrorKind::Constraint => ApiError::malformed("a number is out of range"),
        _ => {
            tracing::warn!(%error, "a read of PostgreSQL failed");
            ApiError::away(Tier::Slow, error)
        }
    }
}

/// Whether PostgreSQL may answer for a Redis that fails so. A damaged Redis is none to go on with either.
fn is_away(error: &FastError) -> bool {
    !matches!(error.kind(), FastErrorKind::Defect)
}
