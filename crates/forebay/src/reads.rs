//! Reads on a data directory, whether or not a node is running on it.
//!
//! Beside a node: Redis first, PostgreSQL for what Redis does not keep. Without one: PostgreSQL alone, started for the
//! occasion and stopped by the last reader, never under a node that came meanwhile. Nor does a node that ends stop private
//! servers under a reader.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_fast::{At, FastError, FastErrorKind, FastOptions, FastTier, State};
use forebay_ledger::ids::Height;
use forebay_servers::{HeldBy, InUse, PostgresServer, PrivateServers, ServersError};
use forebay_slow::setup::Names;
use forebay_slow::{ErrorKind as SlowErrorKind, SlowReader};
use serde::Serialize;
use tokio_postgres::Config;

use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::{Brought, Home, private_writer};
use crate::screen::Screen;
use crate::session::interrupted;
use crate::signals::Signals;

/// Pause between two looks at a server that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What a look at a server may take where it is not waited for: it may be there, and not answer.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The kind of a failure: a server that is there and does not answer.
pub const SILENT: &str = "silent";
/// What is said of such a server where its figures would stand.
pub const NOT_ANSWERING: &str = "not answering";
/// The private Redis of a node that was killed is not asked: only a start may decide what holds of it.
const LEFT_BY_A_NODE: &str = "left running by a node; the next start drains it first";

/// Which tier answered, as `--json` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answered {
    /// Redis.
    Fast,
    /// PostgreSQL.
    Slow,
}

/// What can be read now.
pub struct Reads {
    /// Whose chain.
    pub chain: Chain,
    /// Who holds the data directory.
    pub holder: Option<HeldBy>,
    /// Redis, if it has the chain.
    pub fast: Option<FastTier>,
    /// Why it is not known what Redis has, where Redis should be.
    pub redis_silence: Option<String>,
    postgres: Postgres,
    connect_timeout: Duration,
    screen: Screen,
    /// Private servers.
    in_use: Option<InUse>,
}

/// Where PostgreSQL is. As the writer role, which may read everything.
enum Postgres {
    /// There.
    At(Box<Config>),
    /// The node's, which may be starting it, or do without it for a while. Looked for when it is needed.
    OfNode { servers: Box<PrivateServers>, names: Names },
}

/// What is wanted of the servers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Redis if the chain in it is ready, and PostgreSQL.
    Ready,
    /// The same, whatever state the chain in Redis is in.
    AnyState,
    /// PostgreSQL alone, for what only it has.
    Slow,
}

impl Reads {
    /// Finds the servers; starts PostgreSQL if they are private and no node runs. [`close`](Self::close) it in any case. A
    /// signal ends the wait for a node's servers.
    ///
    /// # Errors
    /// Configuration, unavailable, interrupted.
    pub async fn open(home: &Home, look: Look, screen: &Screen, signals: &Signals) -> anyhow::Result<Self> {
        let mut reads = Self::find(home, screen, signals, look).await?;
        if look == Look::Ready
            && let Some(fast) = &reads.fast
        {
            let state = match fast.head().await {
                Ok(head) => head.state,
                Err(error) => {
                    reads.close().await?;
                    return Err(error.into());
                }
            };
            if state != State::Ready {
                reads.note(format!("PostgreSQL answers: the chain in Redis is not ready ({state})"));
                reads.fast = None;
            }
        }
        Ok(reads)
    }

    async fn find(home: &Home, screen: &Screen, signals: &Signals, look: Look) -> anyhow::Result<Self> {
        let chain = Chain::load(&home.settings)?;
        let holder = home.holder()?;
        let connect_timeout = home.settings.connect_timeout();
        let asks_redis = look != Look::Slow;
        let (fast, postgres, in_use) = match &home.brought {
            Brought::Yours(connections) => {
                let fast = match asks_redis {
                    true => fast_tier(&connections.redis_url, &chain, connect_timeout, screen).await?,
                    false => Found::default(),
                };
                (fast, Postgres::At(Box::new(connections.postgres.clone())), None)
            }
            Brought::Private if holder.is_some() => {
                let servers = home.private_servers_for(connect_timeout).await?;
                let of_node = of_node(&servers, &chain, connect_timeout, screen, look);
                let (fast, in_use) = tokio::select! {
                    found = of_node => found?,
                    () = signals.asked() => return Err(interrupted("while waiting for the node's servers")),
                };
                (fast, Postgres::OfNode { servers: Box::new(servers), names: home.names() }, in_use)
            }
            Brought::Private => {
                if !home.has_private_data()? {
                    return Err(nothing_here(home.data_dir()).into());
                }
                let servers = home.private_servers().await?;
                // One that is there and stands still is not waited for as a start is.
                let look = async {
                    let postgres =
                        within("the private PostgreSQL", connect_timeout, servers.running_postgres());
                    // It does not answer, and is looked for only to be told of: one that is halted holds nobody up for long.
                    let redis = tokio::time::timeout(connect_timeout.min(LOOK_MAX), servers.running_redis());
                    let (postgres, redis) = tokio::join!(postgres, redis);
                    anyhow::Ok((postgres??.is_some(), !matches!(redis, Ok(Ok(None)))))
                };
                let (postgres_ran, redis_runs) = tokio::select! {
                    found = look => found?,
                    () = signals.asked() => return Err(interrupted("while looking for PostgreSQL")),
                };
                let (server, in_use) = servers.start_postgres_in_use().await?;
                let (writer, in_use) = or_leave(home.private_writer(&server), in_use).await?;
                screen.say(match postgres_ran {
                    true => "no node is running here: PostgreSQL alone answers, which was running already",
                    false => "no node is running here: PostgreSQL alone was started to answer",
                });
                if redis_runs {
                    screen.say("a node left its Redis running: what that has and PostgreSQL lacks comes at the next start");
                }
                let silence = redis_runs.then(|| LEFT_BY_A_NODE.to_owned());
                (Found { fast: None, silence }, Postgres::At(Box::new(writer)), Some(in_use))
            }
        };
        let Found { fast, silence } = fast;
        let (screen, redis_silence) = (screen.clone(), silence);
        Ok(Self { chain, holder, fast, redis_silence, postgres, connect_timeout, screen, in_use })
    }

    /// A note for people, on stderr.
    pub fn note(&self, text: impl AsRef<str>) {
        self.screen.say(text);
    }

    /// Whether a node was found to be running.
    pub fn has_node(&self) -> bool {
        self.holder.is_some()
    }

    /// Gives back what was started. Call it whatever happened in between.
    ///
    /// # Errors
    /// PostgreSQL does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.in_use {
            None => Ok(()),
            Some(in_use) => match in_use.leave().await {
                // What was left to us is in the file: it is done by whoever leaves next.
                Err(busy @ ServersError::LockBusy(_)) => {
                    self.screen.say(format!("not stopped after the read: {busy}"));
                    Ok(())
                }
                left => left.context("stopping private servers after the read"),
            },
        }
    }

    /// A read of Redis; `None` if Redis cannot answer now, and PostgreSQL has to.
    ///
    /// # Errors
    /// What is no reason to ask PostgreSQL instead.
    pub async fn fast<T>(
        &self,
        read: impl AsyncFn(&FastTier) -> Result<At<T>, FastError>,
    ) -> anyhow::Result<Option<At<T>>> {
        let Some(fast) = &self.fast else { return Ok(None) };
        match read(fast).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if may_ask_postgres(&error) => {
                self.screen.say(format!("PostgreSQL answers: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A session on PostgreSQL.
    ///
    /// # Errors
    /// Unavailable for longer than the configured time, permission, wrong database.
    pub async fn slow(&self) -> anyhow::Result<SlowReader> {
        connect_slow(&self.postgres().await?, self.connect_timeout).await
    }

    /// The same, if it is there at once. Beside a node that has lost it, `status` need not wait.
    ///
    /// # Errors
    /// Unavailable, permission, wrong database.
    pub async fn slow_now(&self) -> anyhow::Result<(SlowReader, Config)> {
        let config = self.postgres_within(Duration::ZERO).await?;
        Ok((connect_slow(&config, Duration::ZERO).await?, config))
    }

    /// A few questions to a server, for no longer than it may take to connect.
    ///
    /// # Errors
    /// Unavailable: it takes the connection and does not answer. What the questions end with.
    pub async fn answered_in_time<T>(
        &self,
        server: &str,
        questions: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        within(server, self.connect_timeout, questions).await?
    }

    /// Where PostgreSQL is.
    ///
    /// # Errors
    /// A node's own PostgreSQL is not there for longer than the configured time.
    pub async fn postgres(&self) -> anyhow::Result<Config> {
        self.postgres_within(self.connect_timeout).await
    }

    async fn postgres_within(&self, limit: Duration) -> anyhow::Result<Config> {
        match &self.postgres {
            Postgres::At(config) => Ok((**config).clone()),
            Postgres::OfNode { servers, names } => {
                let server = running_postgres(servers, limit).await?;
                private_writer(&server, names, self.connect_timeout)
            }
        }
    }

    /// Who does not have what was not found: without Redis, PostgreSQL alone, which may be behind.
    pub fn who_was_asked(&self) -> &'static str {
        if self.fast.is_some() { "the chain" } else { "PostgreSQL, which alone was asked," }
    }

    /// Why a command that needs Redis has none. `instead`: what may be done, then.
    pub fn without_fast(&self, instead: &str) -> anyhow::Error {
        let told = match &self.redis_silence {
            Some(silence) => Told::new(
                Exit::Unavailable,
                SILENT,
                format!("Redis, which is needed for this, is {silence}"),
                format!("See whether its process is stopped, or the machine overloaded{instead}."),
            ),
            None => Told::new(
                Exit::Unavailable,
                "not-ready",
                "Redis, which is needed for this, does not have the chain now",
                format!("Wait until the node is ready (`forebay status`){instead}."),
            ),
        };
        told.into()
    }

    /// The tip's height: Redis' if it can be asked, else PostgreSQL's.
    ///
    /// # Errors
    /// Neither answers.
    pub async fn tip_height(&self) -> anyhow::Result<Height> {
        if let Some(fast) = &self.fast {
            return Ok(fast.head().await?.tip.map_or(0, |tip| tip.height));
        }
        Ok(self.slow().await?.reads().tip().await?.map_or(0, |tip| tip.height))
    }
}

fn may_ask_postgres(error: &FastError) -> bool {
    matches!(error.kind(), FastErrorKind::Unavailable | FastErrorKind::NotReady | FastErrorKind::Stale)
}

/// Connects to PostgreSQL; tries again while it is away.
///
/// # Errors
/// Unavailable for longer than `limit`, permission, wrong database.
pub async fn connect_slow(config: &Config, limit: Duration) -> anyhow::Result<SlowReader> {
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed()).max(LOOK_MAX);
        match within("PostgreSQL", left, SlowReader::connect(config)).await? {
            Ok(reader) => return Ok(reader),
            Err(error)
                if matches!(error.kind(), SlowErrorKind::Unavailable | SlowErrorKind::Resources)
                    && begun.elapsed() < limit =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to Redis; tries again while it is away.
///
/// # Errors
/// Unavailable for longer than `limit`, misconfigured.
pub async fn connect_fast(url: &str, chain: &Chain, limit: Duration) -> Result<FastTier, FastError> {
    let begun = Instant::now();
    loop {
        let options = FastOptions { connect_timeout: limit.max(LOOK_AGAIN), ..FastOptions::default() };
        match FastTier::connect(url, &chain.profile.name, options).await {
            Err(error) if error.kind() == FastErrorKind::Unavailable && begun.elapsed() < limit => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// Redis, as far as it was found.
#[derive(Default)]
struct Found {
    fast: Option<FastTier>,
    silence: Option<String>,
}

/// Redis, if it can be reached; else a note for people, and PostgreSQL answers.
async fn fast_tier(url: &str, chain: &Chain, limit: Duration, screen: &Screen) -> anyhow::Result<Found> {
    match connect_fast(url, chain, limit).await {
        Ok(fast) => Ok(Found { fast: Some(fast), silence: None }),
        Err(error) if may_ask_postgres(&error) => {
            screen.say(format!("without Redis: {error}"));
            Ok(Found { fast: None, silence: Some(NOT_ANSWERING.to_owned()) })
        }
        Err(error) => Err(error.into()),
    }
}

/// The PostgreSQL of a node that may still be starting it.
async fn running_postgres(servers: &PrivateServers, limit: Duration) -> anyhow::Result<PostgresServer> {
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed()).max(LOOK_MAX);
        if let Some(server) = within("the node's PostgreSQL", left, servers.running_postgres()).await?? {
            return Ok(server);
        }
        if begun.elapsed() >= limit {
            return Err(Told::new(
                Exit::Unavailable,
                "postgres",
                format!("the node's PostgreSQL is not there after {} s", limit.as_secs()),
                "The node may be starting or stopping: look at its log, and try again.",
            )
            .into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What a node's private servers can be asked. `status` says what it can even of servers that cannot be read from.
async fn of_node(
    servers: &PrivateServers,
    chain: &Chain,
    limit: Duration,
    screen: &Screen,
    look: Look,
) -> anyhow::Result<(Found, Option<InUse>)> {
    let in_use = match servers.in_use().await {
        Ok(in_use) => in_use,
        Err(busy @ ServersError::LockBusy(_)) if look == Look::AnyState => {
            screen.say(busy.to_string());
            return Ok((Found { fast: None, silence: Some("being started or stopped".to_owned()) }, None));
        }
        Err(error) => return Err(error.into()),
    };
    let fast = match look {
        Look::Slow => Ok(Found::default()),
        Look::Ready | Look::AnyState => fast_of_node(servers, chain, limit, screen).await,
    };
    or_leave(fast, in_use).await.map(|(fast, in_use)| (fast, Some(in_use)))
}

/// Redis of a node, as far as it can be asked; else a note for people.
async fn fast_of_node(
    servers: &PrivateServers,
    chain: &Chain,
    limit: Duration,
    screen: &Screen,
) -> anyhow::Result<Found> {
    match within("the node's Redis", limit, servers.running_redis()).await {
        Ok(Ok(Some(redis))) => fast_tier(&redis.redis_url(), chain, limit, screen).await,
        Ok(Ok(None)) => Ok(Found::default()),
        Ok(Err(error)) => Err(error.into()),
        Err(silence) => {
            screen.say(format!("without Redis: {silence:#}"));
            Ok(Found { fast: None, silence: Some(NOT_ANSWERING.to_owned()) })
        }
    }
}

/// Private servers are not left in use by a read that fails before it begins.
async fn or_leave<T>(outcome: anyhow::Result<T>, in_use: InUse) -> anyhow::Result<(T, InUse)> {
    match outcome {
        Ok(value) => Ok((value, in_use)),
        Err(error) => {
            if let Err(another) = in_use.leave().await {
                tracing::warn!(error = %another, "private servers do not stop after a read that failed");
            }
            Err(error)
        }
    }
}

/// No longer than `limit`: a server whose process is stopped takes connections, and says nothing.
async fn within<T>(server: &str, limit: Duration, work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Told::new(
            Exit::Unavailable,
            SILENT,
            format!("{server} is there and does not answer within {} s", limit.as_secs_f32().ceil()),
            "See whether its process is stopped, it recovers from a crash, or the machine is overloaded; --connect-timeout sets how long to wait.",
        )
        .into()
    })
}

fn nothing_here(data_dir: &Path) -> Told {
    if data_dir.join("redis/appendonlydir").exists() {
        return Told::configuration(
            format!("{} has Redis' files and none of PostgreSQL's, which are the chain", data_dir.display()),
            "Put the directory `postgres` back there, or a backup (`forebay restore-backup`): a start without it begins with the \
             genesis block, and gives up what Redis has.",
        );
    }
    Told::configuration(
        format!("{} has no chain yet", data_dir.display()),
        "Start `forebay run` or `forebay replay` on it first, or choose another --data-dir.",
    )
}
