//! The run: servers, node and load are started; then cycle after cycle a fault is done, healed, and progress awaited.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use forebay_generator::files::{write_genesis, write_profile};
use forebay_generator::{Chain, GenerationTwoOptions, Network, NetworkOptions};
use forebay_servers::RedisProfile;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::check::check;
use crate::clock;
use crate::driver::{Driver, DriverPlan, Order, View, Wish, chain_options};
use crate::faults::Performed;
use crate::history::History;
use crate::kind::FaultKind;
use crate::node::{NodePlan, NodeProcess, log_tail};
use crate::plan::{Cycle, Plan};
use crate::random::Random;
use crate::report::Report;
use crate::servers::{Server, Servers};
use crate::watch::{read_redis, watch_postgres};

/// Once all faults are healed, progress must be seen within this: the longest pause of the Syncer, and a recovery.
pub const LIVENESS_MAX: Duration = Duration::from_secs(90);
/// A start or an end that nothing disturbs.
pub const UNDISTURBED_MAX: Duration = Duration::from_secs(60);
/// Lines of a node's log that go into a report.
const LOG_LINES: usize = 12;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Decides everything that is random.
    pub seed: u64,
    /// No new cycle begins after this.
    pub duration: Option<Duration>,
    /// So many cycles.
    pub cycles: Option<u32>,
    /// Which faults.
    pub kinds: Vec<FaultKind>,
    /// What Redis keeps on disk.
    pub redis: RedisProfile,
    /// Holds each fault that is held for so long.
    pub hold: Option<Duration>,
    /// The program.
    pub node: PathBuf,
    /// Everything of the run is below it; must not exist.
    pub directory: PathBuf,
    /// Keep the directory of a good run too.
    pub keep: bool,
    /// Blocks a second, about.
    pub blocks_per_second: u64,
    /// Loses accepted blocks on purpose before the first cycle: a run that does not fail then could never fail.
    pub sabotage: bool,
}

/// A running run.
pub struct Supervisor {
    /// Redis and PostgreSQL.
    pub servers: Arc<Servers>,
    /// How nodes are started.
    pub nodes: NodePlan,
    /// The node that holds the chain.
    pub node: NodeProcess,
    /// Which of the two places it has.
    pub slot: usize,
    /// What happened.
    pub history: Arc<History>,
    pub(crate) orders: watch::Sender<Order>,
    pub(crate) view: watch::Receiver<View>,
    tasks: Vec<JoinHandle<()>>,
}

/// Runs all cycles, checks the end, and reports. The directory stays when something was not as it must be.
pub async fn run(options: &RunOptions, interrupted: &AtomicBool) -> Report {
    let begin = Instant::now();
    let redis = options.redis.to_string();
    let mut report = Report { seed: options.seed, redis, ..Report::default() };
    let history = Arc::new(History::default());
    match Supervisor::start(options, &history).await {
        Ok(mut supervisor) => {
            let outcome = supervisor.work(options, &mut report, interrupted, begin).await;
            if let Err(error) = outcome {
                history.violated(format!("{error:#}"));
            }
            let keep = options.keep || !history.is_clean();
            supervisor.end(&options.directory, keep).await;
        }
        Err(error) => history.violated(format!("the run did not start: {error:#}")),
    }
    let events = history.lock();
    report.finish(begin.elapsed(), &events, &options.directory);
    report
}

impl Supervisor {
    async fn start(options: &RunOptions, history: &Arc<History>) -> anyhow::Result<Self> {
        let root = &options.directory;
        fs::create_dir(root).with_context(|| format!("creating {}", root.display()))?;
        // The servers' account passes through.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        let network = Arc::new(network(options.seed)?);
        write_genesis(&mut fs::File::create(root.join("genesis.json"))?, &network)?;
        write_profile(&mut fs::File::create(root.join("profile.toml"))?, &network)?;
        let chain = Chain::new(Arc::clone(&network), chain_options("main"), now_unix_seconds())?;
        let servers = Arc::new(Servers::start(root, options.redis).await?);
        let nodes =
            NodePlan { program: options.node.clone(), root: root.clone(), faketime: clock::find_library() };
        clock::set(&nodes, 0)?;
        let node = nodes.spawn(&servers, 0, &[])?;
        let (orders, seen) =
            watch::channel(Order { feed: node.feed.clone(), node: 0, rest: false, wish: Wish::Anything });
        let plan = DriverPlan {
            chain,
            seed: options.seed,
            blocks_per_second: options.blocks_per_second,
            root: root.clone(),
            profile: options.redis,
        };
        let (driver, view) = Driver::new(plan, seen, Arc::clone(history))?;
        let name = network.profile.name.clone();
        let addresses = network.wallets.iter().map(|wallet| wallet.address).collect();
        let tasks = vec![
            tokio::spawn(driver.run()),
            tokio::spawn(read_redis(servers.direct_redis_url(), name, addresses, Arc::clone(history))),
            tokio::spawn(watch_postgres(servers.direct_postgres()?, Arc::clone(history))),
        ];
        Ok(Self { servers, nodes, node, slot: 0, history: Arc::clone(history), orders, view, tasks })
    }

    async fn work(
        &mut self,
        options: &RunOptions,
        report: &mut Report,
        interrupted: &AtomicBool,
        begin: Instant,
    ) -> anyhow::Result<()> {
        self.wait_for_progress("the first start").await?;
        if options.sabotage {
            self.lose_accepted_blocks().await?;
            self.wait_for_progress("sabotage").await?;
        }
        for mut cycle in Plan::new(options.seed, suitable(&options.kinds, options.redis)) {
            let is_over = options.duration.is_some_and(|limit| begin.elapsed() >= limit)
                || options.cycles.is_some_and(|limit| cycle.number > limit)
                || interrupted.load(Ordering::Relaxed);
            if is_over {
                break;
            }
            if let Some(hold) = options.hold {
                cycle.fault.hold_ms = u64::try_from(hold.as_millis())?;
            }
            let shown = serde_json::to_string(&cycle)?;
            self.cycle(&cycle, report).await.with_context(|| format!("cycle {shown}"))?;
        }
        self.finish(options).await
    }

    async fn cycle(&mut self, cycle: &Cycle, report: &mut Report) -> anyhow::Result<()> {
        let begin = Instant::now();
        tokio::time::sleep(Duration::from_millis(cycle.load_ms)).await;
        let performed = self.perform(cycle).await?;
        self.heal().await?;
        let healed = Instant::now();
        if let Performed::Skipped(reason) = performed {
            report.skipped(cycle.fault.kind, reason);
            return Ok(());
        }
        self.wait_for_progress(&cycle.name()).await?;
        let recovery = healed.elapsed();
        self.history.lock().is_over();
        if let Performed::Kept { rolled_back } = performed {
            let now = self.history.lock().counts.rolled_back;
            if now > rolled_back {
                bail!("{} blocks were rolled back, though there was no order to", now - rolled_back);
            }
        }
        report.done(cycle, recovery);
        let (number, name, height) = (cycle.number, cycle.name(), self.view.borrow().height);
        let (recovery, all) = (recovery.as_millis(), begin.elapsed().as_millis());
        eprintln!("{number:>4} {name:<46} progress after {recovery:>5} ms of {all:>5} ms, height {height}");
        Ok(())
    }

    /// Everything works again; what the fault itself did not undo is undone here.
    async fn heal(&mut self) -> anyhow::Result<()> {
        self.node.signal(Signal::CONT)?;
        for server in [Server::Redis, Server::Postgres] {
            self.servers.heal(server)?;
            self.servers.ensure(server).await?;
        }
        Ok(())
    }

    /// # Errors
    /// The node ended by itself.
    pub fn still_runs(&mut self, when: &str) -> anyhow::Result<()> {
        match self.node.ended()? {
            None => Ok(()),
            Some(status) => bail!("{}", self.ended_text(status, when)),
        }
    }

    fn ended_text(&self, status: ExitStatus, when: &str) -> String {
        format!(
            "the node ended by itself ({status}) after {when}; its log:\n{}",
            log_tail(&self.node.log, LOG_LINES)
        )
    }

    /// The end of the node's log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.node.log, LOG_LINES)
    }

    /// The operation that PostgreSQL is at.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn durable_seq(&self) -> anyhow::Result<u64> {
        let client = self.servers.administrator().await?;
        let row = client.query_one("select seq from forebay.position", &[]).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    /// Starts a node in a place, and makes it the one that is driven.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_node(&mut self, slot: usize) -> anyhow::Result<()> {
        self.start_node_with(slot, &[])
    }

    /// The same with settings of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_node_with(&mut self, slot: usize, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.node = self.nodes.spawn(&self.servers, slot, settings)?;
        self.slot = slot;
        self.drive_node();
        Ok(())
    }

    /// The driver goes to the node that holds the chain now: a process that it has not talked to.
    pub fn drive_node(&self) {
        self.orders.send_modify(|order| {
            order.feed.clone_from(&self.node.feed);
            order.node += 1;
        });
    }

    /// Rest, the checker, a graceful end, the checker again.
    async fn finish(&mut self, options: &RunOptions) -> anyhow::Result<()> {
        self.rest().await?;
        let network = network(options.seed)?;
        let now = network.profile.network_time(now_unix_seconds());
        check(&self.servers, &options.directory, &network, now, &self.history)
            .await
            .context("checking the end")?;
        self.node.signal(Signal::TERM)?;
        let status = self.node.wait_end(UNDISTURBED_MAX).await?;
        if !status.success() {
            bail!("{}", self.ended_text(status, "SIGTERM at the end"));
        }
        Ok(())
    }

    async fn end(mut self, directory: &Path, keep: bool) {
        for task in &self.tasks {
            task.abort();
        }
        // Ended already, or never to be asked anything again.
        let _ = self.node.signal(Signal::CONT);
        let _ = self.node.kill().await;
        self.servers.end(keep).await;
        if !keep {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Those that can be done with such a Redis.
fn suitable(kinds: &[FaultKind], redis: RedisProfile) -> Vec<FaultKind> {
    kinds.iter().copied().filter(|kind| kind.suits(redis)).collect()
}

/// Small rounds: their ends are frequent. Half of the seeds have the second generation's rules.
fn network(seed: u64) -> anyhow::Result<Network> {
    let mut random = Random::new(seed, 3);
    let two = GenerationTwoOptions { first_round: 3, missed_in_a_row_max: 1 };
    let options = NetworkOptions {
        name: "chaos".to_owned(),
        delegates: u32::try_from(random.between(7, 11)).unwrap_or(7),
        standby_delegates: 6,
        accounts: 60,
        generation_two: random.percent(50).then_some(two),
        ..NetworkOptions::default()
    };
    Ok(Network::from_seed(&seed.to_string(), &options)?)
}

fn now_unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Faults and how often, in a stable order.
pub type ByKind<T> = BTreeMap<FaultKind, T>;
