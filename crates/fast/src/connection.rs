//! One connection to one Redis, made again when it broke.
//!
//! A connection that broke in the middle of a change may still deliver that change late, after a new connection asked
//! what happened. So the old connection is killed on the server before the new one is used, and with it the one that
//! transactions go over (`lane.rs`).

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use forebay_failpoint::reach;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::codec::block::Body;
use crate::error::{Effect, FastError};
use crate::facts::ServerFacts;
use crate::head::{Head, Position, State};
use crate::kept_by_block::{KeptBlocks, KeptByBlock};
use crate::keys::{Buckets, Keys};
use crate::lane::{self, Job};
use crate::library::{self, Answer, Assumed, Function};
use crate::plan::Plan;
use crate::shared_reads::SharedReads;

/// The oldest Redis that has Functions.
const REDIS_MAJOR_MIN: u32 = 7;

/// How to talk to Redis.
#[derive(Debug, Clone)]
pub struct FastOptions {
    /// An attempt to connect fails after this.
    pub connect_timeout: Duration,
    /// A call without an answer fails after this; a change then has an unknown outcome.
    pub response_timeout: Duration,
    /// What bodies of blocks may take that were read lately and are not read again; 0 keeps none. What only writes reads
    /// none.
    pub bodies_bytes_max: usize,
}

impl Default for FastOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(10),
            bodies_bytes_max: 16 << 20,
        }
    }
}

/// Whether an address can be read; nothing is connected to.
///
/// # Errors
/// Misconfigured: it is no address of a Redis.
pub fn check_address(url: &str) -> Result<(), FastError> {
    Client::open(url).map(drop).map_err(|error| FastError::of_connecting("read Redis' address", error))
}

/// One chain in one Redis. Clones share the connection; for large reads beside a writer, connect a second time.
///
/// Any number of programs may read. Changes need an epoch, taken with [`claim`](Self::claim), and each is refused
/// unless that epoch holds the chain at that moment.
#[derive(Clone)]
pub struct FastTier {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    client: Client,
    address: String,
    options: FastOptions,
    keys: Keys,
    link: Mutex<Link>,
    /// What transactions are handed to; there is none before the first.
    lane: OnceLock<mpsc::Sender<Job>>,
    /// What single reads are handed to; there is none before the first.
    shared_reads: OnceLock<SharedReads>,
    bodies: KeptByBlock<Body>,
    /// Where both work.
    runtime: Handle,
    /// Whoever has it opens the next connection. Never held by a call that goes over a live one.
    opening: tokio::sync::Mutex<()>,
    floor: Mutex<Option<Position>>,
    buckets: Mutex<Option<Buckets>>,
    runs: Mutex<Runs>,
    /// Whether a change was ever sent: a reader's old connection has nothing that could come late, and a reader may not
    /// have the right to end it.
    has_changed: AtomicBool,
}

/// Whether another run of the server is to be trusted as it is.
#[derive(Default)]
struct Runs {
    are_guarded: bool,
    unknown: Option<String>,
}

/// The live connection, and what is known about the one before.
#[derive(Default)]
struct Link {
    live: Option<MultiplexedConnection>,
    generation: u64,
    peer: Option<Peer>,
}

/// A connection as the server knows it. Client ids start again with each run of a server.
#[derive(Clone, PartialEq, Eq)]
struct Peer {
    run_id: String,
    client_id: i64,
    /// The connection that transactions go over.
    lane_client_id: Option<i64>,
}

impl std::fmt::Debug for FastTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastTier")
            .field("address", &self.shared.address)
            .field("keys", &self.shared.keys.prefix())
            .finish()
    }
}

impl FastTier {
    /// Connects, and loads the function library if the server does not have exactly this one.
    ///
    /// `url`: `redis://[user:password@]host[:port][/db]`, `redis+unix:///path` or `unix:///path`. `chain`: the name in
    /// the keys' hash tag.
    ///
    /// # Errors
    /// Unavailable; misconfigured: the address, the rights, a chain name that cannot be a hash tag, Redis before 7.0.
    pub async fn connect(url: &str, chain: &str, options: FastOptions) -> Result<Self, FastError> {
        let keys = Keys::new(chain)?;
        let client =
            Client::open(url).map_err(|error| FastError::of_connecting("read Redis' address", error))?;
        let address = client.get_connection_info().addr().to_string();
        let shared = Shared {
            client,
            address,
            bodies: KeptByBlock::new(options.bodies_bytes_max),
            options,
            keys,
            link: Mutex::default(),
            lane: OnceLock::new(),
            shared_reads: OnceLock::new(),
            runtime: Handle::current(),
            opening: tokio::sync::Mutex::default(),
            floor: Mutex::new(None),
            buckets: Mutex::new(None),
            runs: Mutex::default(),
            has_changed: AtomicBool::new(false),
        };
        let tier = Self { shared: Arc::new(shared) };
        let version = tier.server_facts().await?.version;
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < REDIS_MAJOR_MIN) {
            return Err(FastError::Misconfigured {
                doing: format!("connect to Redis at {}", tier.shared.address),
                detail: format!("it is version {version}, 7.0 or later is needed"),
            });
        }
        Ok(tier)
    }

    /// The names of the chain's keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Host and port, or the socket's path; no password.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// What the server is and how it is set up.
    ///
    /// # Errors
    /// Unavailable or misconfigured.
    pub async fn server_facts(&self) -> Result<ServerFacts, FastError> {
        let doing = "ask Redis for its facts";
        let info: String = self.ask_any_run(doing, &redis::cmd("INFO")).await?;
        let mut facts = ServerFacts::of_info(&info);
        let mut config = redis::cmd("CONFIG");
        config.arg("GET").arg("appendfsync").arg("hash-max-listpack-*").arg("databases");
        // Hosted servers often forbid CONFIG; then these facts stay unknown.
        if let Ok(settings) = self.ask_any_run::<HashMap<String, String>>(doing, &config).await {
            facts.add_settings(&settings);
        }
        Ok(facts)
    }

    /// State, position and tip, in one atomic read. Answers in every state.
    ///
    /// # Errors
    /// Unavailable, corrupt, or a format that this program does not know.
    pub async fn head(&self) -> Result<Head, FastError> {
        let key = self.keys().meta();
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let fields: HashMap<String, String> = self.ask_any_run("read the head", &command).await?;
        let head = Head::of_fields(&key, &fields)?;
        self.remember_buckets(&head);
        Ok(head)
    }

    /// From now on, reads from a Redis that is older than this position fail as stale, in this and all clones. Steps
    /// raise it by themselves.
    pub fn raise_floor(&self, acknowledged: Position) {
        let mut floor = self.shared.floor.lock().unwrap_or_else(PoisonError::into_inner);
        *floor = (*floor).max(Some(acknowledged));
    }

    /// Accepts any position from now on: for a recorded rollback, which goes back on purpose.
    pub fn forget_floor(&self) {
        *self.shared.floor.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on, in this and all clones, reads and changes on another run of Redis than the one that is connected fail
    /// as [`FastErrorKind::AnotherRun`](crate::FastErrorKind::AnotherRun) until [`trust_run`](Self::trust_run): it may have
    /// started with an older copy of the data, which says of itself that all is well. [`owner`](Self::owner),
    /// [`head`](Self::head) and [`server_facts`](Self::server_facts) answer all the same.
    pub fn guard_runs(&self) {
        self.runs().are_guarded = true;
    }

    /// The run that is not trusted yet; `None`: all is as it was.
    #[must_use]
    pub fn unknown_run(&self) -> Option<String> {
        self.runs().unknown.clone()
    }

    /// Trusts a run, unless yet another one answers since.
    pub fn trust_run(&self, run_id: &str) {
        let mut runs = self.runs();
        if runs.unknown.as_deref() == Some(run_id) {
            runs.unknown = None;
        }
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is acknowledged by now, to be asked before a read is sent: a step that is acknowledged while the answer is on its
    /// way does not make that stale.
    pub(crate) fn acknowledged(&self) -> Option<Position> {
        *self.shared.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a head that is not ready, or older than what was acknowledged before it was asked for.
    pub(crate) fn readable(&self, head: &Head, acknowledged: Option<Position>) -> Result<(), FastError> {
        if head.state != State::Ready {
            return Err(FastError::NotReady { state: head.state });
        }
        match acknowledged {
            Some(floor) if head.position < floor => Err(FastError::Stale { floor, found: head.position }),
            _ => Ok(()),
        }
    }

    pub(crate) fn remember_buckets(&self, head: &Head) {
        let known = (head.buckets.accounts > 0 && head.buckets.transactions > 0).then_some(head.buckets);
        *self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// How the keys are spread, as last seen; asks when it is not known.
    pub(crate) async fn buckets(&self) -> Result<Buckets, FastError> {
        let known = *self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = known {
            return Ok(buckets);
        }
        let head = self.head().await?;
        if head.buckets.accounts == 0 || head.buckets.transactions == 0 {
            return Err(FastError::NotReady { state: head.state });
        }
        Ok(head.buckets)
    }

    /// One read.
    pub(crate) async fn ask<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        command: &Cmd,
    ) -> Result<T, FastError> {
        let link = self.trusted_link(doing).await?;
        self.ask_on(link, doing, command).await
    }

    /// The same, whichever run answers: to find out what it is.
    pub(crate) async fn ask_any_run<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        command: &Cmd,
    ) -> Result<T, FastError> {
        let link = self.link().await?;
        self.ask_on(link, doing, command).await
    }

    async fn ask_on<T: redis::FromRedisValue>(
        &self,
        (mut connection, generation): (MultiplexedConnection, u64),
        doing: &str,
        command: &Cmd,
    ) -> Result<T, FastError> {
        match command.query_async(&mut connection).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(doing, Effect::Read, error, generation)),
        }
    }

    /// Several reads in one round trip, not atomic. One value a command.
    pub(crate) async fn ask_all(&self, doing: &str, pipeline: &Pipeline) -> Result<Vec<Value>, FastError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let (mut connection, generation) = self.trusted_link(doing).await?;
        match pipeline.query_async(&mut connection).await {
            Ok(values) => Ok(values),
            Err(error) => Err(self.failed(doing, Effect::Read, error, generation)),
        }
    }

    /// Calls a function of the library; `Ok` says that it wrote.
    pub(crate) async fn call(
        &self,
        assumed: Assumed<'_>,
        function: Function,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<(), FastError> {
        let size = keys.iter().map(String::len).sum::<usize>() + args.iter().map(Vec::len).sum::<usize>();
        let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), size);
        command.arg("FCALL").arg(function.name()).arg(keys.len()).arg(keys).arg(args);
        self.change(assumed, &command).await
    }

    /// The same, with a plan after the function's own arguments.
    pub(crate) async fn call_with_plan(
        &self,
        assumed: Assumed<'_>,
        function: Function,
        own: &[Vec<u8>],
        plan: &Plan,
    ) -> Result<(), FastError> {
        self.change(assumed, &plan.call("FCALL", function.name(), own)).await
    }

    async fn change(&self, assumed: Assumed<'_>, command: &Cmd) -> Result<(), FastError> {
        reach("fast.before_call");
        let value = self.call_function(assumed.doing, Effect::Change, command).await?;
        reach("fast.after_call");
        Answer::of(assumed.doing, value)?.accepted(assumed)
    }

    /// The fields of meta and one answer for each read, all at one point of the chain's history.
    pub(crate) async fn read_together(&self, doing: &str, reads: Plan) -> Result<Vec<Value>, FastError> {
        let command = reads.call("FCALL_RO", Function::Read.name(), &[]);
        match self.call_function(doing, Effect::Read, &command).await? {
            Value::Array(values) => Ok(values),
            other => {
                Err(FastError::UnexpectedAnswer { doing: doing.to_owned(), detail: format!("{other:?}") })
            }
        }
    }

    async fn call_function(&self, doing: &str, effect: Effect, command: &Cmd) -> Result<Value, FastError> {
        let (mut connection, generation) = self.trusted_link(doing).await?;
        if effect == Effect::Change {
            self.shared.has_changed.store(true, Ordering::Release);
        }
        let mut answer = command.query_async::<Value>(&mut connection).await;
        if answer.as_ref().is_err_and(library::is_missing) {
            // Nothing ran: the server lost its functions, or is another one.
            load_library(&mut connection).await.map_err(|error| FastError::of_connecting(doing, error))?;
            answer = command.query_async::<Value>(&mut connection).await;
        }
        match answer {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(doing, effect, error, generation)),
        }
    }

    /// The connection, if it is to a run that is trusted.
    async fn trusted_link(&self, doing: &str) -> Result<(MultiplexedConnection, u64), FastError> {
        let link = self.link().await?;
        match self.unknown_run() {
            Some(run_id) => Err(FastError::AnotherRun { doing: doing.to_owned(), run_id }),
            None => Ok(link),
        }
    }

    /// The connection, made anew if there is none.
    async fn link(&self) -> Result<(MultiplexedConnection, u64), FastError> {
        if let Some(live) = self.live_link() {
            return Ok(live);
        }
        let doing = format!("connect to Redis at {}", self.shared.address);
        // Bounded: whoever opens may itself wait to be polled by the task that asks here.
        let options = &self.shared.options;
        let turn_max = options.connect_timeout + options.response_timeout;
        let Ok(_turn) = tokio::time::timeout(turn_max, self.shared.opening.lock()).await else {
            let error = io::Error::new(io::ErrorKind::TimedOut, "another attempt to connect is under way");
            return Err(FastError::of_connecting(&doing, error.into()));
        };
        if let Some(live) = self.live_link() {
            return Ok(live);
        }
        let old = self.lock_link().peer.clone();
        let (connection, peer) =
            self.open(old.as_ref()).await.map_err(|error| FastError::of_connecting(&doing, error))?;
        let mut link = self.lock_link();
        if link.peer.as_ref().is_some_and(|old| old.run_id != peer.run_id) {
            tracing::warn!(address = %self.shared.address, run_id = %peer.run_id, "another run of Redis answers now");
            let mut runs = self.runs();
            if runs.are_guarded {
                runs.unknown = Some(peer.run_id.clone());
            }
        }
        link.generation += 1;
        link.live = Some(connection.clone());
        link.peer = Some(peer);
        Ok((connection, link.generation))
    }

    /// Whether there is a connection that nothing went wrong with yet: a call over it waits for nobody before it is sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock_link().live.is_some()
    }

    fn live_link(&self) -> Option<(MultiplexedConnection, u64)> {
        let link = self.lock_link();
        link.live.as_ref().map(|connection| (connection.clone(), link.generation))
    }

    fn lock_link(&self) -> MutexGuard<'_, Link> {
        self.shared.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, old: Option<&Peer>) -> Result<(MultiplexedConnection, Peer), RedisError> {
        let (mut connection, peer) = self.dial().await?;
        if let Some(old) = old
            && old.run_id == peer.run_id
            && self.shared.has_changed.load(Ordering::Acquire)
        {
            let ids = [Some(old.client_id), old.lane_client_id].into_iter().flatten();
            for id in ids.filter(|id| *id != peer.client_id) {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("ID").arg(id);
                kill.query_async::<Value>(&mut connection).await?;
            }
        }
        load_library(&mut connection).await?;
        Ok((connection, peer))
    }

    /// A connection for questions that would disturb others on the tier's own.
    pub(crate) async fn open_beside(&self, doing: &str) -> Result<MultiplexedConnection, FastError> {
        let (connection, _) = self.dial().await.map_err(|error| FastError::of_connecting(doing, error))?;
        Ok(connection)
    }

    /// The user of the address.
    pub(crate) fn user(&self) -> &str {
        self.shared.client.get_connection_info().redis_settings().username().unwrap_or("default")
    }

    async fn dial(&self) -> Result<(MultiplexedConnection, Peer), RedisError> {
        let options = &self.shared.options;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.response_timeout));
        let mut connection = self.shared.client.get_multiplexed_async_connection_with_config(&config).await?;
        let client_id: i64 = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run_id = ServerFacts::of_info(&info).run_id;
        Ok((connection, Peer { run_id, client_id, lane_client_id: None }))
    }

    /// The connection for transactions, beside the tier's own: to the same run of Redis, and killed together with it.
    pub(crate) async fn open_lane(
        &self,
        doing: &str,
        generation: u64,
    ) -> Result<MultiplexedConnection, FastError> {
        let (connection, peer) = self.dial().await.map_err(|error| FastError::of_connecting(doing, error))?;
        let mut link = self.lock_link();
        let is_beside = link.generation == generation && link.live.is_some();
        match link.peer.as_mut().filter(|own| is_beside && own.run_id == peer.run_id) {
            Some(own) => {
                own.lane_client_id = Some(peer.client_id);
                self.shared.has_changed.store(true, Ordering::Release);
                Ok(connection)
            }
            None => {
                // The other connection is to a run that has ended, or was given up meanwhile.
                if link.generation == generation {
                    link.live = None;
                }
                let error = io::Error::new(io::ErrorKind::ConnectionReset, "Redis was connected to again");
                Err(FastError::of_connecting(doing, error.into()))
            }
        }
    }

    /// What transactions are handed to.
    pub(crate) fn lane(&self) -> &mpsc::Sender<Job> {
        self.shared.lane.get_or_init(|| lane::start(Arc::downgrade(&self.shared), &self.shared.runtime))
    }

    /// Bodies that were read lately.
    pub(crate) fn bodies(&self) -> &KeptByBlock<Body> {
        &self.shared.bodies
    }

    /// How much is kept of the bodies that were read lately, by this and all clones.
    #[must_use]
    pub fn kept_bodies(&self) -> KeptBlocks {
        self.shared.bodies.figures()
    }

    /// What single reads are handed to.
    pub(crate) fn shared_reads(&self) -> &SharedReads {
        let start = || SharedReads::start(Arc::downgrade(&self.shared), &self.shared.runtime);
        self.shared.shared_reads.get_or_init(start)
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Which of the tier's connections is the live one, if it is to a run that is trusted.
    pub(crate) async fn trusted_generation(&self, doing: &str) -> Result<u64, FastError> {
        self.trusted_link(doing).await.map(|(_, generation)| generation)
    }

    /// Decodes an error; gives the connection up if no later answer on it could be trusted.
    pub(crate) fn failed(
        &self,
        doing: &str,
        effect: Effect,
        error: RedisError,
        generation: u64,
    ) -> FastError {
        if error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error() {
            let mut link = self.lock_link();
            if link.generation == generation {
                link.live = None;
            }
        }
        FastError::of_answer(doing, effect, error)
    }
}

/// Loads the library unless the server has exactly this code. Who may not list or load functions goes on without: the
/// node that holds the chain has loaded it.
pub(crate) async fn load_library(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg(library::NAME).arg("WITHCODE");
    let loaded = match list.query_async::<Value>(connection).await {
        Ok(listing) => library::is_loaded(&listing),
        Err(error) if may_go_on_without(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    if loaded {
        return Ok(());
    }
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg("REPLACE").arg(library::code());
    match load.query_async::<Value>(connection).await {
        Err(error) if !may_go_on_without(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A reader's rights, a replica or full memory do not keep anybody from connecting; a call whose function is missing
/// says so.
fn may_go_on_without(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOPERM" | "READONLY" | "OOM" | "MISCONF"))
}
