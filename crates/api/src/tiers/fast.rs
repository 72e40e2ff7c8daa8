//! Redis as the API reads it: a connection of its own, so that answers do not queue behind the writer's, and a breaker,
//! so that requests do not queue behind a Redis that is away.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_fast::{At, FastError, FastErrorKind, FastOptions, FastTier, KeptBlocks, SharedCalls};

use super::{Locate, is_away};

/// While Redis is away, one request in so long tries it; the others are answered at once.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The connection, or why there is none.
pub struct FastLink {
    locate: Locate<String>,
    chain: String,
    options: FastOptions,
    state: Mutex<State>,
    /// Held by the one that tries.
    trying: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    tier: Option<FastTier>,
    url: String,
    away: Option<(Instant, String)>,
}

impl FastLink {
    pub(super) fn new(locate: Locate<String>, chain: String, options: FastOptions) -> Self {
        Self { locate, chain, options, state: Mutex::default(), trying: tokio::sync::Mutex::default() }
    }

    /// Reads; why it could not, if Redis cannot answer now.
    pub async fn read<T, F>(&self, read: impl Fn(FastTier) -> F) -> Result<At<T>, String>
    where
        F: Future<Output = Result<At<T>, FastError>>,
    {
        let tier = self.usable().await?;
        let began = Instant::now();
        let mut found = read(tier.clone()).await;
        // A connection that was cut, perhaps while nobody used it, says nothing of the server: the next attempt makes a new
        // one. What was waited for in vain is not waited for again.
        if found.as_ref().is_err_and(|error| error.kind() == FastErrorKind::Unavailable)
            && began.elapsed() < TRY_AGAIN
        {
            found = read(tier.clone()).await;
        }
        match found {
            Ok(found) => {
                // Whoever saw this is not shown an older state by a Redis that lost something.
                tier.raise_floor(found.at.position);
                Ok(found)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The connection, if it is thought to work.
    ///
    /// # Errors
    /// Why not.
    pub async fn usable(&self) -> Result<FastTier, String> {
        let (tier, away) = {
            let state = self.state();
            (state.tier.clone(), state.away.clone())
        };
        match (tier, away) {
            (Some(tier), None) => Ok(tier),
            (_, Some((since, why))) if since.elapsed() < TRY_AGAIN => Err(why),
            (_, Some((_, why))) => match self.trying.try_lock() {
                Ok(_trying) => self.try_again().await,
                Err(_) => Err(why),
            },
            // The first ones wait together for the first connection: nobody knows of an outage.
            (None, None) => {
                let _trying = self.trying.lock().await;
                let (tier, away) = {
                    let state = self.state();
                    (state.tier.clone(), state.away.clone())
                };
                match (tier, away) {
                    (Some(tier), None) => Ok(tier),
                    (_, Some((_, why))) => Err(why),
                    (None, None) => self.try_again().await,
                }
            }
        }
    }

    async fn try_again(&self) -> Result<FastTier, String> {
        let url = match (self.locate)().await {
            Ok(url) => url,
            Err(why) => return Err(self.away(why)),
        };
        let known = {
            let state = self.state();
            state.tier.clone().filter(|_| state.url == url)
        };
        let tier = match known {
            Some(tier) => tier,
            None => match FastTier::connect(&url, &self.chain, self.options.clone()).await {
                Ok(tier) => tier,
                Err(error) => return Err(self.failed(&error)),
            },
        };
        // An answer says that it is back; whether the chain in it is ready, each read asks.
        if let Err(error) = tier.head().await {
            return Err(self.failed(&error));
        }
        let mut state = self.state();
        state.tier = Some(tier.clone());
        state.url = url;
        state.away = None;
        Ok(tier)
    }

    /// Remembers a failure for those that come next, unless it concerns one read alone.
    pub fn failed(&self, error: &FastError) -> String {
        let why = error.to_string();
        if !is_away(error) {
            tracing::error!(%error, "a read of Redis failed");
            return why;
        }
        if error.kind() == FastErrorKind::Unavailable { self.away(why) } else { why }
    }

    /// How often reads shared a call, since this connection was first made.
    pub fn shared_calls(&self) -> SharedCalls {
        self.state().tier.as_ref().map(FastTier::shared_calls).unwrap_or_default()
    }

    /// How much is kept of the bodies of blocks that were read lately.
    pub fn kept_bodies(&self) -> KeptBlocks {
        let unconnected = KeptBlocks { bytes_max: self.options.bodies_bytes_max, ..KeptBlocks::default() };
        self.state().tier.as_ref().map_or(unconnected, FastTier::kept_bodies)
    }

    fn away(&self, why: String) -> String {
        let mut state = self.state();
        if state.away.is_none() {
            tracing::warn!(why, "Redis cannot answer; PostgreSQL answers where it can");
        }
        state.away = Some((Instant::now(), why.clone()));
        why
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
