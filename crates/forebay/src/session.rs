//! A command that writes: the data directory's lock, the servers, the node; and their end in the right order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use forebay_fast::Holder;
use forebay_servers::{DataDirLock, PrivateServers, RedisProfile};
use forebay_store::{
    Node, NodeOptions, Observer, Phase, PhaseProgress, Profile, Running, Stopped, StoreError, WriteLog,
};
use tokio::task::JoinHandle;

use crate::args::OnHardLimit;
use crate::chain::Chain;
use crate::exit::Told;
use crate::home::{Brought, Connections, Home, host_name};
use crate::keeper::Keeper;
use crate::node_report::Reporter;
use crate::notify::service_manager;
use crate::observe::Observed;
use crate::screen::Screen;
use crate::servers_by_plan::servers_by_plan;
use crate::signals::Signals;

/// How long Redis is waited for at an end.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A running node of ours.
pub struct Session {
    /// The node.
    pub node: Node,
    /// Its chain.
    pub chain: Chain,
    /// Its servers.
    pub connections: Connections,
    running: Running,
    private: Option<PrivateServers>,
    keeper: Keeper,
    drain_max: Duration,
    screen: Screen,
    reporter: Reporter,
    reporting: JoinHandle<()>,
    observed: Observed,
    _lock: DataDirLock,
}

/// How long to wait for servers that are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For the configured time.
    Configured,
    /// As long as it takes.
    Endless,
}

impl Session {
    /// Takes the data directory, starts or adopts the servers, and runs the start sequence. When it returns, reads and
    /// writes work. `command` is what others are told about us.
    ///
    /// # Errors
    /// Held, configuration, unavailable, or what the start sequence found. Nothing of ours runs then; only a private Redis
    /// that keeps nothing on disk goes on, since it may hold what PostgreSQL lacks.
    pub async fn start(
        home: &Home,
        command: &str,
        patience: Patience,
        screen: &Screen,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        Self::start_observed(home, command, patience, screen, signals, &Observed::default()).await
    }

    /// The same, seen by `observed` from its first phase to its end.
    ///
    /// # Errors
    /// See [`Session::start`].
    pub async fn start_observed(
        home: &Home,
        command: &str,
        patience: Patience,
        screen: &Screen,
        signals: &Signals,
        observed: &Observed,
    ) -> anyhow::Result<Self> {
        let chain = Chain::load(&home.settings)?;
        observed.network(&chain.profile.name);
        let lock = home.lock(command)?;
        chain.remember(home.data_dir())?;
        // A file that cannot be opened is known before anything is started.
        let write_log = open_write_log(home)?;
        let private = match &home.brought {
            Brought::Yours(_) => None,
            Brought::Private => Some(home.private_servers().await?),
        };
        let limits = home.settings.limits.limits();
        let reporter = Reporter::new(home.data_dir(), &limits);
        let watched = Watched { screen, reporter: &reporter, observed };
        let starting = start_node(home, &chain, private.as_ref(), write_log, patience, watched);
        let started = tokio::select! {
            started = service_manager().patiently(starting) => started,
            () = signals.asked() => Err(interrupted("while the node was starting")),
        };
        if let Ok(started) = &started {
            observed.running(&started.node, &chain.profile, limits);
        }
        match started {
            Ok(started) => Ok(Self {
                observed: observed.clone(),
                reporting: reporter.follow(started.node.watch()),
                reporter,
                node: started.node,
                chain,
                connections: started.connections,
                running: started.running,
                keeper: started.keeper,
                private,
                drain_max: home.settings.drain_max(),
                screen: screen.clone(),
                _lock: lock,
            }),
            Err(error) => {
                observed.ended();
                reporter.stopping(None);
                if let Some(servers) = &private
                    && let Err(another) = stop_if_nothing_is_lost(servers, screen).await
                {
                    tracing::warn!(error = format!("{another:#}"), "the private servers did not stop");
                }
                Err(error)
            }
        }
    }

    /// Waits until the node ends by itself.
    ///
    /// # Errors
    /// What stopped it.
    pub async fn ended(&mut self) -> Result<Stopped, StoreError> {
        self.running.ended().await
    }

    /// Drains for at most the configured time, gives the chain up, stops private servers.
    ///
    /// # Errors
    /// What stopped the node before. Private servers stay then, for the next start to adopt.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        let drain_max = self.drain_max;
        self.stop_within(drain_max).await
    }

    /// The same within another time.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stop_within(mut self, drain_max: Duration) -> anyhow::Result<Stopped> {
        service_manager().stopping("draining what is accepted to PostgreSQL");
        service_manager()
            .patiently(async {
                self.node.stop(drain_max).await;
                let node = self.node.watch();
                let left = move || node.borrow().lag_operations as u64;
                let screen = self.screen.clone();
                let ending = self.running.ended();
                let ended = screen.while_counting_down("draining to PostgreSQL", left, ending).await;
                self.wind_up(ended).await
            })
            .await
    }

    /// After a failure: the node is stopped in order if it still runs. The failure that it ended with, if any, is the
    /// cause behind a caller's "stopped".
    pub async fn stop_after(self, failure: anyhow::Error) -> anyhow::Error {
        let was_stopped = matches!(failure.downcast_ref::<StoreError>(), Some(StoreError::Stopped(_)));
        match self.stop().await {
            Err(cause) if was_stopped => cause,
            // The caller was told the very same.
            Err(another) if is_said_by(&failure, &another) => failure,
            Err(another) => {
                tracing::warn!(error = format!("{another:#}"), "the node did not stop in order");
                failure
            }
            Ok(_) => failure,
        }
    }

    /// The node has ended: what belongs to it ends, too, and private servers are stopped.
    async fn wind_up(self, ended: Result<Stopped, StoreError>) -> anyhow::Result<Stopped> {
        // What ends from now on is to end.
        self.keeper.end().await;
        self.observed.ended();
        self.reporting.abort();
        // Its last report may be on the way.
        let _ = self.reporting.await;
        self.reporter.stopping(ended.as_ref().ok().map(|stopped| stopped.left_in_outbox as u64));
        let stopped = of_end(ended, "the node stopped")?;
        servers_after(&stopped, self.private.as_ref(), &self.screen).await?;
        Ok(stopped)
    }
}

/// The servers of a node that has ended in order.
async fn servers_after(
    stopped: &Stopped,
    private: Option<&PrivateServers>,
    screen: &Screen,
) -> anyhow::Result<()> {
    if stopped.left_in_outbox > 0 {
        screen.always(format!(
            "{} operations are accepted and not in PostgreSQL yet; the next start brings them there",
            stopped.left_in_outbox
        ));
    }
    match private {
        None => Ok(()),
        Some(servers) if stopped.left_in_outbox > 0 => stop_if_nothing_is_lost(servers, screen).await,
        Some(servers) => stop_private(servers, screen).await,
    }
}

/// What a start gives.
struct Started {
    node: Node,
    running: Running,
    connections: Connections,
    keeper: Keeper,
}

/// Who sees the phases of a start.
#[derive(Clone, Copy)]
struct Watched<'a> {
    screen: &'a Screen,
    reporter: &'a Reporter,
    observed: &'a Observed,
}

async fn start_node(
    home: &Home,
    chain: &Chain,
    private: Option<&PrivateServers>,
    write_log: Option<Arc<WriteLog>>,
    patience: Patience,
    Watched { screen, reporter, observed }: Watched<'_>,
) -> anyhow::Result<Started> {
    let limit = (patience == Patience::Configured).then(|| home.settings.connect_timeout());
    // The plan asks both servers, and waits for them as long as the start may.
    let retries = AtomicU64::new(0);
    let tell = |last_error: Option<String>| {
        let failed = u64::from(last_error.is_some());
        let retries = retries.fetch_add(failed, Ordering::Relaxed) + failed;
        let step = PhaseProgress { retries, last_error, ..PhaseProgress::new(Phase::Setup, 0, None) };
        observed.step(step.clone());
        reporter.starting(step);
    };
    tell(None);
    let waits = |error| tell(Some(error));
    let (connections, plan, keeper) = servers_by_plan(home, chain, private, limit, screen, &waits).await?;
    let options = NodeOptions {
        redis_url: connections.redis_url.clone(),
        postgres: connections.postgres.clone(),
        setup: connections.setup.clone(),
        profile: Arc::clone(&chain.profile),
        genesis: Arc::clone(&chain.genesis),
        limits: home.settings.limits.limits(),
        holder: holder(),
        // The lock of the data directory is ours, and private servers serve this directory alone.
        holder_is_gone: private.is_some(),
        connect_timeout: limit,
        rollback_dir: Some(home.data_dir().to_path_buf()),
        postgres_may_forget: false,
        write_log,
        memory_planned_bytes: plan.needed_bytes,
        on_hard_limit: match home.settings.on_hard_limit {
            OnHardLimit::Rollback => forebay_store::OnHardLimit::Rollback,
            OnHardLimit::Keep => forebay_store::OnHardLimit::Keep,
        },
    };
    let phases = screen.phases();
    let observer: Observer = {
        let phases = Arc::clone(&phases);
        let (reporter, observed) = (reporter.clone(), observed.clone());
        Arc::new(move |progress| {
            phases.observe(progress.clone());
            observed.step(progress.clone());
            service_manager().starting(&progress);
            reporter.starting(progress);
        })
    };
    let started = Node::start(options, observer).await;
    phases.finish();
    let (node, running) = started.map_err(of_start).context("starting the node")?;
    if node.progress().profile == Profile::Volatile {
        screen.warn("this Redis keeps not everything on disk: what PostgreSQL lacks is lost when it or the machine dies");
    }
    Ok(Started { node, running, connections, keeper })
}

fn open_write_log(home: &Home) -> anyhow::Result<Option<Arc<WriteLog>>> {
    let Some(path) = &home.settings.write_log_file else { return Ok(None) };
    let log = WriteLog::open(path, home.settings.write_log_limits())
        .with_context(|| format!("opening write_log_file {}", path.display()))?;
    Ok(Some(Arc::new(log)))
}

/// Stops private servers, unless Redis may hold what PostgreSQL lacks and would forget it.
///
/// # Errors
/// They do not stop.
pub async fn stop_if_nothing_is_lost(servers: &PrivateServers, screen: &Screen) -> anyhow::Result<()> {
    let looking = tokio::time::timeout(ANSWER_MAX, servers.running_redis());
    let redis = match screen.while_long("asking Redis whether it keeps what it has", looking).await {
        Ok(found) => found?,
        Err(_) => {
            screen.warn_always(format!(
                "the private servers go on: Redis has not answered for {} s, and may hold what PostgreSQL lacks",
                ANSWER_MAX.as_secs()
            ));
            return Ok(());
        }
    };
    if redis.is_some_and(|redis| redis.profile() == RedisProfile::Volatile) {
        screen.warn_always(
            "the private servers go on: this Redis keeps nothing on disk, and may hold what PostgreSQL lacks",
        );
        return Ok(());
    }
    stop_private(servers, screen).await
}

/// Stops private servers, or leaves that to those who read from them.
async fn stop_private(servers: &PrivateServers, screen: &Screen) -> anyhow::Result<()> {
    let doing = "stopping the private servers";
    if !screen.while_long(doing, servers.stop_unless_in_use()).await.context(doing)? {
        screen.say("other commands still read from the private servers: the last of them stops these");
    }
    Ok(())
}

/// At a start a bad request is a bad setting: nobody asked for anything else yet.
fn of_start(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Request(problem) => {
            Told::configuration(problem, "Change the server's or the node's settings.").into()
        }
        other => other.into(),
    }
}

/// How the node ended, in words that do not repeat themselves.
///
/// # Errors
/// What stopped it.
pub fn of_end(ended: Result<Stopped, StoreError>, doing: &'static str) -> anyhow::Result<Stopped> {
    match ended {
        Err(error @ StoreError::Stopped(_)) => Err(error.into()),
        ended => ended.context(doing),
    }
}

fn is_said_by(failure: &anyhow::Error, another: &anyhow::Error) -> bool {
    let why = another.root_cause().to_string();
    failure.chain().any(|cause| cause.to_string() == why)
}

fn holder() -> Holder {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Holder {
        host: host_name(),
        pid: std::process::id(),
        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Somebody asked us to end before the work was done.
pub fn interrupted(when: &str) -> anyhow::Error {
    Told::new(crate::exit::Exit::Interrupted, "interrupted", format!("interrupted {when}"), "").into()
}
