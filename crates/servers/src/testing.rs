//! Servers for tests: fresh, private, removed at the end.
//!
//! ```no_run
//! # async fn example() -> Result<(), forebay_servers::ServersError> {
//! use forebay_servers::testing::TestServers;
//!
//! let servers = TestServers::start().await?; // both; or start_redis(), start_postgres(), or with(TestOptions …)
//! let redis = servers.redis().redis_url();
//! let postgres = servers.postgres().connection_string(forebay_servers::SUPERUSER)?;
//! # Ok(())
//! # } // dropped here: both are ended and their files removed
//! ```
//!
//! In `Cargo.toml` of the crate that tests:
//! `forebay-servers = { workspace = true, features = ["testing"] }` under `[dev-dependencies]`.
//!
//! PostgreSQL starts in a fraction of a second: a data directory is created once for each user and version, and
//! copied. It does not flush to disk unless asked. What a killed test leaves behind is removed by the next one.
//! `TestServers` may be used from any number of tests and threads at the same time.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Access, StatVfsMountFlags};
use rustix::process::Signal;

use crate::account::Account;
use crate::error::ServersError;
use crate::options::{PostgresOptions, ServersOptions};
use crate::postgres_server::PostgresServer;
use crate::process::{self, Process};
use crate::redis_config::RedisProfile;
use crate::redis_server::RedisServer;
use crate::servers::PrivateServers;

/// Small, so that many fit beside each other.
const SHARED_BUFFERS_BYTES: u64 = 32 * 1024 * 1024;

/// How long an end by signal may take before it is a kill.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Short: sockets lie below it.
const PREFIX: &str = "forebay-test-";

/// Where tests keep their files for a moment, instead of where [`scratch`] looks by itself.
const DIRECTORY_VARIABLE: &str = "TEST_SCRATCH_DIR";
/// A file system in memory.
const IN_MEMORY: &str = "/dev/shm";
const ON_DISK: &str = "/tmp";
/// What has to be free in memory, bytes: a few servers at a time, with some hundred megabytes each at most.
const IN_MEMORY_FREE_MIN: u64 = 6 << 30;

/// Where tests make the directories of their servers: in memory if there is room and programs may be started from there,
/// since making and removing a database of a thousand files takes a disk longer than most tests. Kills do not care: what
/// was written survives them in either place. `TEST_SCRATCH_DIR` names another directory, such as `/tmp`, the place
/// otherwise. A short path: sockets lie below it.
pub fn scratch() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => directory.into(),
        None if has_room_in_memory() => IN_MEMORY.into(),
        None => ON_DISK.into(),
    })
}

fn has_room_in_memory() -> bool {
    let (Ok(kind), Ok(room)) = (rustix::fs::statfs(IN_MEMORY), rustix::fs::statvfs(IN_MEMORY)) else {
        return false;
    };
    let unfit = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC;
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    u64::try_from(kind.f_type) == Ok(TMPFS_MAGIC)
        && !room.f_flag.intersects(unfit)
        && room.f_bavail.saturating_mul(room.f_frsize) >= IN_MEMORY_FREE_MIN
        && available.is_some_and(|kib| kib << 10 >= IN_MEMORY_FREE_MIN)
        && rustix::fs::access(IN_MEMORY, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The kernel's number for it (`linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Which servers a test wants.
#[derive(Debug, Clone)]
pub struct TestOptions {
    /// Start Redis.
    pub redis: bool,
    /// Its profile; volatile by default.
    pub redis_profile: RedisProfile,
    /// Start PostgreSQL.
    pub postgres: bool,
    /// Flush PostgreSQL to disk: for tests that count on it after a machine's crash; a kill needs none.
    pub postgres_fsync: bool,
    /// Roles to create.
    pub postgres_roles: Vec<String>,
    /// Owner of the database `forebay`; `None` is the superuser.
    pub postgres_database_owner: Option<String>,
    /// More directives of redis.conf.
    pub redis_extra: Vec<(String, String)>,
    /// More settings of PostgreSQL.
    pub postgres_extra: Vec<(String, String)>,
}

impl Default for TestOptions {
    fn default() -> Self {
        Self {
            redis: true,
            redis_profile: RedisProfile::Volatile,
            postgres: true,
            postgres_fsync: false,
            postgres_roles: Vec::new(),
            postgres_database_owner: None,
            redis_extra: Vec::new(),
            postgres_extra: Vec::new(),
        }
    }
}

/// Servers in a temporary directory. Dropping this ends them and removes the directory.
#[derive(Debug)]
pub struct TestServers {
    servers: PrivateServers,
    redis: Option<RedisServer>,
    postgres: Option<PostgresServer>,
    root: PathBuf,
}

impl TestServers {
    /// Both servers: Redis volatile, PostgreSQL without flushing.
    ///
    /// # Errors
    /// What a start can fail with; a missing installation first of all.
    pub async fn start() -> Result<Self, ServersError> {
        Self::with(TestOptions::default()).await
    }

    /// Redis alone, volatile.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub async fn start_redis() -> Result<Self, ServersError> {
        Self::with(TestOptions { postgres: false, ..TestOptions::default() }).await
    }

    /// PostgreSQL alone, without flushing.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub async fn start_postgres() -> Result<Self, ServersError> {
        Self::with(TestOptions { redis: false, ..TestOptions::default() }).await
    }

    /// As asked.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub async fn with(test: TestOptions) -> Result<Self, ServersError> {
        remove_leftovers();
        let root = fresh_directory()?;
        let opened = prepare(&root, &test).await;
        let servers = opened.inspect_err(|_| drop(fs::remove_dir_all(&root)))?;
        // From here on a failure is cleaned up by the drop.
        let mut this = Self { servers, redis: None, postgres: None, root };
        match (test.redis, test.postgres) {
            (true, true) => {
                let (redis, postgres) = this.servers.start().await?;
                (this.redis, this.postgres) = (Some(redis), Some(postgres));
            }
            (true, false) => this.redis = Some(this.servers.start_redis().await?),
            (false, true) => this.postgres = Some(this.servers.start_postgres().await?),
            (false, false) => {}
        }
        Ok(this)
    }

    /// The Redis of this test.
    ///
    /// # Panics
    /// When it was not asked for or is stopped: a mistake in the test.
    #[expect(clippy::expect_used, reason = "a test that uses what it did not start must fail")]
    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("this test did not start Redis")
    }

    /// The PostgreSQL of this test.
    ///
    /// # Panics
    /// When it was not asked for or is stopped: a mistake in the test.
    #[expect(clippy::expect_used, reason = "a test that uses what it did not start must fail")]
    pub fn postgres(&self) -> &PostgresServer {
        self.postgres.as_ref().expect("this test did not start PostgreSQL")
    }

    /// The servers' façade: for stopping and starting in the middle of a test.
    pub fn servers(&self) -> &PrivateServers {
        &self.servers
    }

    /// The data directory, such as for `--data-dir` of the program.
    pub fn data_dir(&self) -> &Path {
        self.servers.data_dir()
    }

    /// Starts (or adopts) Redis again, after a kill or a stop.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub async fn restart_redis(&mut self) -> Result<&RedisServer, ServersError> {
        let server = self.servers.start_redis().await?;
        Ok(self.redis.insert(server))
    }

    /// Starts (or adopts) PostgreSQL again, after a kill or a stop.
    ///
    /// # Errors
    /// See [`start`](Self::start).
    pub async fn restart_postgres(&mut self) -> Result<&PostgresServer, ServersError> {
        let server = self.servers.start_postgres().await?;
        Ok(self.postgres.insert(server))
    }

    /// `kill -9` of Redis; it is gone when this returns.
    pub async fn kill_redis(&self) {
        if let Some(server) = &self.redis {
            kill(server.process()).await;
        }
    }

    /// `kill -9` of PostgreSQL, its sessions too; all are gone when this returns. Left alone they would go on for a moment,
    /// and commit what they have begun.
    pub async fn kill_postgres(&self) {
        if let Some(server) = &self.postgres {
            let sessions = process::children(server.process().pid);
            kill(server.process()).await;
            for session in sessions {
                kill(session).await;
            }
        }
    }
}

impl Drop for TestServers {
    fn drop(&mut self) {
        end_all_below(&self.root);
        // Sessions of a killed postmaster may write for a last moment.
        let begin = Instant::now();
        while let Err(error) = fs::remove_dir_all(&self.root) {
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            if begin.elapsed() > END_TIMEOUT {
                tracing::warn!(directory = %self.root.display(), %error, "a test's directory was not removed");
                return;
            }
            std::thread::sleep(process::POLL);
        }
    }
}

async fn kill(process: Process) {
    if process.signal(Signal::KILL).is_ok() {
        process.wait_gone(END_TIMEOUT).await;
    }
}

/// The options of a test, opened, with a copy of the prepared PostgreSQL data.
async fn prepare(root: &Path, test: &TestOptions) -> Result<PrivateServers, ServersError> {
    let mut options = small_options(root.join("d"));
    options.redis.profile = test.redis_profile;
    options.redis.extra = test.redis_extra.clone();
    options.postgres.fsync = test.postgres_fsync;
    options.postgres.roles = test.postgres_roles.clone();
    options.postgres.database_owner = test.postgres_database_owner.clone();
    options.postgres.extra.extend(test.postgres_extra.iter().cloned());
    let servers = PrivateServers::open(options).await?;
    if test.postgres {
        copy_template(&servers).await?;
    }
    Ok(servers)
}

fn small_options(data_dir: PathBuf) -> ServersOptions {
    let mut options = ServersOptions::new(data_dir);
    let extra = [("min_wal_size", "32MB"), ("max_wal_size", "1GB"), ("huge_pages", "off")];
    options.postgres = PostgresOptions {
        fsync: false,
        shared_buffers_bytes: Some(SHARED_BUFFERS_BYTES),
        extra: extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..PostgresOptions::default()
    };
    options
}

/// A directory whose name carries the process that owns it, so that others can tell when it is left over.
fn fresh_directory() -> Result<PathBuf, ServersError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = scratch().join(format!("{PREFIX}{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                    .map_err(ServersError::io("opening the test's directory", &path))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ServersError::io("creating the test's directory", &path)(error)),
        }
    }
}

/// Removes the directories, and ends the servers, of tests whose process is gone.
fn remove_leftovers() {
    let user = rustix::process::geteuid().as_raw();
    let places = [scratch(), Path::new(IN_MEMORY), Path::new(ON_DISK)];
    for entry in places.into_iter().flat_map(fs::read_dir).flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let own = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == user);
        if own && pid.is_some_and(|pid| Process::of(pid).is_none()) {
            end_all_below(&entry.path());
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Ends every server whose command line names a path below `root`, without any ceremony.
fn end_all_below(root: &Path) {
    let mark = format!(" {}/", root.display());
    let running = || {
        process::find(|name, line| {
            (name.contains("redis") || name.contains("valkey") || name == "postgres") && line.contains(&mark)
        })
    };
    // PostgreSQL ends its sessions at SIGQUIT before it goes; a stopped process has to wake up for that. Redis has
    // nothing that we want to keep.
    let begin = Instant::now();
    let mut first = true;
    loop {
        let processes = running();
        if processes.is_empty() {
            return;
        }
        for process in processes {
            let postgres = process::command_line(process.pid).contains(" -D ");
            let signal = if postgres && begin.elapsed() < END_TIMEOUT { Signal::QUIT } else { Signal::KILL };
            if first || signal == Signal::KILL {
                drop(process.signal(Signal::CONT));
                drop(process.signal(signal));
            }
        }
        first = false;
        std::thread::sleep(process::POLL);
    }
}

/// Puts a copy of ready-made PostgreSQL data into the data directory of a test that has not started.
async fn copy_template(servers: &PrivateServers) -> Result<(), ServersError> {
    let template = template().await?;
    let home = servers.home();
    let (target, account) = (home.layout.postgres_dir(), home.account.clone());
    let copy = move || {
        for part in ["data", "secrets.json"] {
            copy_tree(&template.join(part), &target.join(part), &account)?;
        }
        Ok(())
    };
    let copied = tokio::task::spawn_blocking(copy).await.map_err(io::Error::other);
    copied.and_then(|result| result).map_err(ServersError::io("copying prepared data", servers.data_dir()))
}

/// The directory of the ready-made data: made by the first who needs it, kept for later runs.
async fn template() -> Result<PathBuf, ServersError> {
    let programs = crate::binaries::find_postgres(&crate::options::Binaries::default(), None).await?;
    let user = rustix::process::geteuid().as_raw();
    let root = Path::new(ON_DISK).join(format!("forebay-template-{user}"));
    match fs::DirBuilder::new().mode(0o755).create(&root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(ServersError::io("creating the directory of prepared data", &root)(error));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&root).map_err(ServersError::io("reading", &root))?;
    if !meta.is_dir() || meta.uid() != user || meta.mode() & 0o022 != 0 {
        return Err(ServersError::WrongOwner { path: root, owner: meta.uid(), user });
    }
    let data_dir = root.join(format!("v1-{}", programs.major));
    let servers = PrivateServers::open(small_options(data_dir)).await?;
    let home = servers.home();
    let done = home.layout.postgres_dir().join("template-is-ready");
    // Locked for this process and all others: the first makes it, the rest wait for it.
    let _lock = servers.lock_for_template().await?;
    if !done.exists() {
        crate::postgres_server::start(home).await?;
        crate::postgres_server::stop(home).await?;
        home.account.write_file(&done, b"")?;
    }
    Ok(home.layout.postgres_dir())
}

fn copy_tree(from: &Path, to: &Path, account: &Account) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if meta.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()), account)?;
        }
    } else {
        fs::copy(from, to)?;
    }
    account.own(to).map_err(io::Error::other)
}
