//! Waiting until a tier has a height, for as long as is allowed.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use forebay_fast::At;
use forebay_ledger::ids::Height;

use super::{Tiers, of_slow};
use crate::answer::{ApiError, Tier};

/// Between two looks. Blocks come every few milliseconds at most, and a wait is a favour, not a subscription.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Tiers {
    /// Waits for Redis. The inner failure: it cannot answer.
    pub(super) async fn wait_fast(&self, height: Height) -> Result<Result<(), String>, ApiError> {
        let begun = Instant::now();
        loop {
            let head = self.fast.read(|fast| async move {
                let head = fast.readable_head().await?;
                Ok(At { at: head.point(), value: () })
            });
            match head.await {
                Err(away) => return Ok(Err(away)),
                Ok(found) if found.at.height >= height => return Ok(Ok(())),
                Ok(found) => self.go_on(begun, Tier::Fast, found.at.height, height).await?,
            }
        }
    }

    /// Waits for PostgreSQL.
    pub(super) async fn wait_slow(&self, height: Height) -> Result<(), ApiError> {
        let begun = Instant::now();
        loop {
            let mut session = self.slow.session().await.map_err(|error| of_slow(&error))?;
            let found = session.lists().await.map_err(|error| of_slow(&error))?.height();
            drop(session);
            if found >= height {
                return Ok(());
            }
            self.go_on(begun, Tier::Slow, found, height).await?;
        }
    }

    async fn go_on(&self, begun: Instant, tier: Tier, found: Height, wanted: Height) -> Result<(), ApiError> {
        if begun.elapsed() >= self.wait_max {
            return Err(ApiError::failed(
                StatusCode::PRECONDITION_FAILED,
                "height-not-reached",
                format!(
                    "the {} tier is at height {found}, not at {wanted}, after {} s",
                    tier.name(),
                    self.wait_max.as_secs()
                ),
                "Try again later, or without the header.",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }
}
