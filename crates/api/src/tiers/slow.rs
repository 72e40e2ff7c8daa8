//! PostgreSQL as the API reads it: a pool of sessions, and a breaker in front of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay_slow::lists::{PoolOptions, ReadPool, ReadSession};
use forebay_slow::{ErrorKind, SlowError};
use tokio_postgres::Config;

use super::Locate;

/// While PostgreSQL is away, one request in so long tries it; the others are answered at once.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The pool, or why there is none.
pub struct SlowLink {
    locate: Locate<Config>,
    options: PoolOptions,
    state: Mutex<State>,
    trying: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    pool: Option<(Config, ReadPool)>,
    away: Option<(Instant, String)>,
}

impl SlowLink {
    pub(super) fn new(locate: Locate<Config>, options: PoolOptions) -> Self {
        Self { locate, options, state: Mutex::default(), trying: tokio::sync::Mutex::default() }
    }

    /// A session: a kept one whose connection is known to have ended is replaced.
    ///
    /// # Errors
    /// Unavailable, Resources, Permission.
    pub async fn session(&self) -> Result<ReadSession, SlowError> {
        let (pool, away) = {
            let state = self.state();
            (state.pool.clone(), state.away.clone())
        };
        match (pool, away) {
            (Some((_, pool)), None) => match pool.session().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => Err(self.away(error)),
                outcome => outcome,
            },
            (_, Some((since, why))) if since.elapsed() < TRY_AGAIN => Err(unavailable(why)),
            (_, Some((_, why))) => match self.trying.try_lock() {
                Ok(_trying) => self.try_again().await,
                Err(_) => Err(unavailable(why)),
            },
            // The first ones wait together for the first connection: nobody knows of an outage.
            (None, None) => {
                let _trying = self.trying.lock().await;
                let (pool, away) = {
                    let state = self.state();
                    (state.pool.clone(), state.away.clone())
                };
                match (pool, away) {
                    (Some((_, pool)), None) => pool.session().await,
                    (_, Some((_, why))) => Err(unavailable(why)),
                    (None, None) => self.try_again().await,
                }
            }
        }
    }

    async fn try_again(&self) -> Result<ReadSession, SlowError> {
        let config = match (self.locate)().await {
            Ok(config) => config,
            Err(why) => return Err(self.away(unavailable(why))),
        };
        let known = self.state().pool.clone().filter(|(known, _)| *known == config);
        let pool = match known {
            Some((_, pool)) => pool,
            None => ReadPool::new(&config, self.options)?,
        };
        match self.working(&pool).await {
            Ok(session) => {
                let mut state = self.state();
                state.pool = Some((config, pool));
                state.away = None;
                Ok(session)
            }
            Err(error) => Err(self.away(error)),
        }
    }

    /// A session that answers. After a restart of the server all kept ones are broken, and some do not know it yet.
    async fn working(&self, pool: &ReadPool) -> Result<ReadSession, SlowError> {
        let mut last = None;
        for _ in 0..=self.options.sessions_max {
            let mut session = pool.session().await?;
            let answered = session.lists().await.map(drop);
            match answered {
                Ok(()) => return Ok(session),
                Err(error) if error.kind() == ErrorKind::Unavailable => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| unavailable("no session answered".to_owned())))
    }

    fn away(&self, error: SlowError) -> SlowError {
        let mut state = self.state();
        if state.away.is_none() {
            tracing::warn!(%error, "PostgreSQL cannot answer lists");
        }
        state.away = Some((Instant::now(), error.to_string()));
        error
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(why: String) -> SlowError {
    SlowError::unavailable("reading PostgreSQL", why)
}
