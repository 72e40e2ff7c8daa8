//! Settings: file < environment < flags. A key that nobody knows is an error, wherever it stands.

mod bounds;
mod layers;
mod number;
pub mod schema;
pub mod secret;
mod suggest;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forebay_store::memory::Machine;
use forebay_store::{Limits, WriteLogLimits};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api_settings::ApiSettings;
use crate::args::{Common, Durability, LogFormat, OnHardLimit};

pub(crate) use self::bounds::{Bounded, SECONDS_MAX};
pub use self::layers::{Layers, Problem};
pub(crate) use self::number::{maybe_number, number};
pub(crate) use self::secret::password;

/// Names the configuration file; read before it, so no setting of it.
const CONFIG_VARIABLE: &str = "FOREBAY_CONFIG";

/// Settings of Forebay. `forebay.example.toml` explains each, and `forebay config show` tells which are in force.
// No `Debug`: some are passwords.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Directory of the chain: private servers with their data, the node's lock, what is remembered of the network. One
    /// chain a directory. For a service: /var/lib/forebay.
    pub data_dir: PathBuf,
    /// rise-mainnet, rise-testnet, rise-devnet, or the path of a profile (TOML). Needed once: the data directory remembers.
    pub network: Option<String>,
    /// File with the genesis block, the reference node's JSON. Needed once, as the network.
    pub genesis: Option<PathBuf>,
    /// Your Redis (7.0 or later; redis://, rediss://, redis+unix://) instead of a private one. Needs postgres_url.
    pub redis_url: Option<String>,
    /// Your PostgreSQL (15 or later), as the writer role. Needs redis_url.
    pub postgres_url: Option<String>,
    /// An administrator of your PostgreSQL: makes and upgrades database, roles and schema at each start.
    pub postgres_admin_url: Option<String>,
    /// What database and roles are called: with "forebay", forebay, forebay_owner, forebay_writer and forebay_reader.
    pub postgres_prefix: String,
    /// The password of redis_url's user. Advice: rather redis_password_file.
    pub redis_password: Option<String>,
    /// A file with the password of redis_url's user, that only forebay's user may read.
    pub redis_password_file: Option<PathBuf>,
    /// The password of postgres_admin_url's user. Advice: rather postgres_admin_password_file.
    pub postgres_admin_password: Option<String>,
    /// A file with the password of postgres_admin_url's user.
    pub postgres_admin_password_file: Option<PathBuf>,
    /// The writer's password. Advice: rather postgres_writer_password_file.
    pub postgres_writer_password: Option<String>,
    /// A file with the writer's password, that only forebay's user may read.
    pub postgres_writer_password_file: Option<PathBuf>,
    /// The reader's password, set when the administrator makes the roles.
    pub postgres_reader_password: Option<String>,
    /// A file with the reader's password.
    pub postgres_reader_password_file: Option<PathBuf>,
    /// What a private Redis keeps on disk. Advice: volatile for bulk loads only, which can be repeated.
    pub redis_profile: Durability,
    /// The most memory that Redis may use, bytes. Default: what the memory plan says. A private one is started with it; on yours
    /// it has to be set as maxmemory (`forebay redis-conf` writes it), and every start says where it is not.
    #[serde(deserialize_with = "maybe_number")]
    pub redis_memory_bytes_max: Option<u64>,
    /// The Redis program. Default: redis-server, else valkey-server, in PATH and the usual directories.
    pub redis_server: Option<PathBuf>,
    /// The directory of PostgreSQL's programs. Default: found; data that exist decide the version.
    pub postgres_bin_dir: Option<PathBuf>,
    /// How long commands wait for a server that is away, seconds. `run` waits as long as it takes.
    #[serde(deserialize_with = "number")]
    pub connect_timeout_seconds: u64,
    /// How long a stop may take to bring everything to PostgreSQL, seconds. Advice: less than the service manager waits.
    #[serde(deserialize_with = "number")]
    pub drain_seconds: u64,
    /// What the next start does after the node stopped because PostgreSQL was too far behind (exit code 8).
    pub on_hard_limit: OnHardLimit,
    /// A file that gets every attempt at PostgreSQL. One a data directory.
    pub write_log_file: Option<PathBuf>,
    /// Bytes of one file of the write log; a full one is rotated.
    #[serde(deserialize_with = "number")]
    pub write_log_bytes_max: u64,
    /// Files of the write log in all, at least 1; the oldest goes.
    #[serde(deserialize_with = "number")]
    pub write_log_files_max: u32,
    /// Where `run` answers /metrics, /livez and /readyz: an address and a port. Default: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// How log lines on stderr look.
    pub log_format: LogFormat,
    /// What is logged, in the form of RUST_LOG, which wins. Default: info for `run`, warn for other commands.
    pub log: Option<String>,
    /// Bounds of lag, batches, what is kept, and waiting.
    pub limits: LimitSettings,
    /// The HTTP API.
    pub api: ApiSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./forebay-data"),
            network: None,
            genesis: None,
            redis_url: None,
            postgres_url: None,
            postgres_admin_url: None,
            postgres_prefix: "forebay".to_owned(),
            redis_password: None,
            redis_password_file: None,
            postgres_admin_password: None,
            postgres_admin_password_file: None,
            postgres_writer_password: None,
            postgres_writer_password_file: None,
            postgres_reader_password: None,
            postgres_reader_password_file: None,
            redis_profile: Durability::Durable,
            redis_memory_bytes_max: None,
            redis_server: None,
            postgres_bin_dir: None,
            connect_timeout_seconds: 10,
            drain_seconds: 60,
            on_hard_limit: OnHardLimit::Rollback,
            write_log_file: None,
            write_log_bytes_max: WriteLogLimits::default().bytes_max,
            write_log_files_max: WriteLogLimits::default().files_max,
            metrics_listen: None,
            log_format: LogFormat::Auto,
            log: None,
            limits: LimitSettings::default(),
            api: ApiSettings::default(),
        }
    }
}

/// See [`Limits`].
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Blocks that may be accepted and not yet in PostgreSQL. At the limit the writer waits.
    #[serde(deserialize_with = "number")]
    lag_blocks_max: usize,
    /// The same in bytes of blocks.
    #[serde(deserialize_with = "number")]
    lag_bytes_max: usize,
    /// Operations in one PostgreSQL transaction at most.
    #[serde(deserialize_with = "number")]
    batch_operations_max: usize,
    /// Bytes of blocks in one PostgreSQL transaction at most.
    #[serde(deserialize_with = "number")]
    batch_bytes_max: usize,
    /// Newest blocks that Redis keeps whole; older ones are read from PostgreSQL.
    #[serde(deserialize_with = "number")]
    blocks_kept: u32,
    /// Blocks below the durable height that can be taken back out of Redis alone. Default: two rounds of 101.
    #[serde(deserialize_with = "number")]
    undo_kept: u32,
    /// Outbox entries kept after they are durable, so that a PostgreSQL put back to an older state can be fed again.
    #[serde(deserialize_with = "number")]
    outbox_kept: usize,
    /// Memory for accounts that the node keeps at hand, bytes; a block that touches another one waits for Redis once more. Each
    /// takes 320 bytes, in two generations. Default: a sixteenth of the memory, 128000000 at least and 2147483648 at most.
    #[serde(deserialize_with = "maybe_number")]
    accounts_cached_bytes_max: Option<u64>,
    /// How long another node's heartbeat must stand still before its chain is taken over, seconds. The same on all nodes.
    #[serde(deserialize_with = "number")]
    takeover_after_seconds: u64,
    /// How long Redis may be away under a running node before the node stops, seconds.
    #[serde(deserialize_with = "number")]
    redis_away_seconds_max: u64,
    /// How long operations may wait without any progress of PostgreSQL before the node stops, seconds.
    #[serde(deserialize_with = "number")]
    no_progress_seconds_max: u64,
    /// How soon a block of a live chain should be in PostgreSQL, milliseconds; the log names one that took longer. A PostgreSQL
    /// without an answer for ten times as long is said to be silent.
    #[serde(deserialize_with = "number")]
    durable_within_ms: u64,
    /// How long a live chain may stay at lag_blocks_max before the node stops, seconds.
    #[serde(deserialize_with = "number")]
    grace_seconds: u64,
    /// A tip younger than this makes the chain live, seconds.
    #[serde(deserialize_with = "number")]
    live_within_seconds: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            lag_blocks_max: limits.lag_blocks_max,
            lag_bytes_max: limits.lag_bytes_max,
            batch_operations_max: limits.batch_operations_max,
            batch_bytes_max: limits.batch_bytes_max,
            blocks_kept: limits.blocks_kept,
            undo_kept: limits.undo_kept,
            outbox_kept: limits.outbox_kept,
            accounts_cached_bytes_max: None,
            takeover_after_seconds: limits.takeover_after.as_secs(),
            redis_away_seconds_max: limits.redis_away_max.as_secs(),
            no_progress_seconds_max: limits.no_progress_max.as_secs(),
            durable_within_ms: u64::try_from(limits.durable_within.as_millis()).unwrap_or(u64::MAX),
            grace_seconds: limits.grace.as_secs(),
            live_within_seconds: limits.live_within.as_secs(),
        }
    }
}

/// By the memory that this process has.
fn accounts_cached_bytes() -> u64 {
    Limits::accounts_cached_bytes_by_memory(Machine::of_process(None).memory_bytes())
}

impl LimitSettings {
    /// As the store takes them.
    #[allow(clippy::needless_update, reason = "a limit that has no setting keeps its default")]
    pub fn limits(self) -> Limits {
        Limits {
            lag_blocks_max: self.lag_blocks_max,
            lag_bytes_max: self.lag_bytes_max,
            batch_operations_max: self.batch_operations_max,
            batch_bytes_max: self.batch_bytes_max,
            blocks_kept: self.blocks_kept,
            undo_kept: self.undo_kept,
            outbox_kept: self.outbox_kept,
            accounts_cached_bytes_max: self.accounts_cached_bytes_max.unwrap_or_else(accounts_cached_bytes),
            takeover_after: Duration::from_secs(self.takeover_after_seconds),
            redis_away_max: Duration::from_secs(self.redis_away_seconds_max),
            no_progress_max: Duration::from_secs(self.no_progress_seconds_max),
            durable_within: Duration::from_millis(self.durable_within_ms),
            grace: Duration::from_secs(self.grace_seconds),
            live_within: Duration::from_secs(self.live_within_seconds),
            ..Limits::default()
        }
    }
}

impl Settings {
    /// Reads file, environment and flags, and checks what can be checked without doing anything.
    ///
    /// # Errors
    /// Configuration: which key, where it came from, what is wrong.
    pub fn load(common: &Common) -> anyhow::Result<Self> {
        let settings = Self::layers(common)?.settings()?;
        settings.check()?;
        Ok(settings)
    }

    /// Where settings come from, as this process finds it.
    ///
    /// # Errors
    /// Configuration: the file cannot be read.
    pub fn layers(common: &Common) -> anyhow::Result<Layers> {
        let file = common.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Layers::read(file.as_deref(), environment, &common.overrides)
    }

    /// What the types of single settings cannot say: bounds, and whether they fit together.
    ///
    /// # Errors
    /// Configuration: everything that is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(layers::as_error(&problems)),
        }
    }

    /// The same as a list, for who tells all problems.
    pub fn problems(&self) -> Vec<Problem> {
        bounds::problems(self)
    }

    /// How long commands but `run` wait for servers.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }

    /// How long a stop may take to drain.
    pub fn drain_max(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// How large the write log's files may grow.
    pub fn write_log_limits(&self) -> WriteLogLimits {
        WriteLogLimits { bytes_max: self.write_log_bytes_max, files_max: self.write_log_files_max }
    }

    /// The writer's password, if one is set beside the URL.
    pub fn writer_password(&self) -> anyhow::Result<Option<String>> {
        password(self.postgres_writer_password.as_ref(), self.postgres_writer_password_file.as_deref())
    }

    /// The reader's password, if one is set.
    pub fn reader_password(&self) -> anyhow::Result<Option<String>> {
        password(self.postgres_reader_password.as_ref(), self.postgres_reader_password_file.as_deref())
    }

    /// The administrator's password, if one is set beside the URL.
    pub fn admin_password(&self) -> anyhow::Result<Option<String>> {
        password(self.postgres_admin_password.as_ref(), self.postgres_admin_password_file.as_deref())
    }

    /// Redis' password, if one is set beside the URL.
    pub fn redis_password(&self) -> anyhow::Result<Option<String>> {
        password(self.redis_password.as_ref(), self.redis_password_file.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forebay.toml");
        std::fs::write(&path, file).unwrap();
        let variables = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags: BTreeMap<_, _> = flags.iter().copied().collect();
        Layers::read(Some(&path), variables, &flags)?.settings()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "data_dir = \"file\"\nnetwork = \"file\"\npostgres_prefix = \"file\"\ndrain_seconds = 5";
        let environment = [
            ("FOREBAY_DATA_DIR", "environment"),
            ("FOREBAY_NETWORK", "environment"),
            ("FOREBAY_LIMITS__UNDO_KEPT", "7"),
            ("FOREBAY_POSTGRES_WRITER_PASSWORD", "0123"),
            ("OTHER", "x"),
        ];
        let settings = load(file, &environment, &[("data_dir", "flag")]).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("flag"));
        assert_eq!(settings.network.as_deref(), Some("environment"));
        assert_eq!(settings.postgres_prefix, "file");
        assert_eq!(settings.drain_seconds, 5);
        assert_eq!(settings.limits.limits().undo_kept, 7);
        assert_eq!(settings.writer_password().unwrap().as_deref(), Some("0123"));
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_key() {
        for (file, environment, key) in [
            ("datadir = \"x\"", vec![], "datadir"),
            ("[limits]\nlag = 1", vec![], "lag"),
            ("", vec![("FOREBAY_DATADIR", "x")], "datadir"),
        ] {
            let error = format!("{:#}", load(file, &environment, &[]).err().unwrap());
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_an_error_that_says_so() {
        let error = format!("{:#}", load("drain_seconds = -1", &[], &[]).err().unwrap());
        assert!(error.contains("drain_seconds") && error.contains("whole number"), "{error}");
        let error = format!("{:#}", load("", &[("FOREBAY_DRAIN_SECONDS", "soon")], &[]).err().unwrap());
        assert!(error.contains("whole number") && error.contains("environment"), "{error}");
    }

    #[test]
    fn the_example_names_every_setting_with_its_default() {
        let text = include_str!("../../../forebay.example.toml");
        // A key is a comment without a space before it; sections are none.
        let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
        let uncommented: String = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix('#').filter(|key| is_key(key)).or(line.starts_with('[').then_some(line))
            })
            // Each of these stands beside a file with the same.
            .filter(|line| !line.starts_with("postgres_") || !line.contains("_password = "))
            .filter(|line| !line.starts_with("redis_password = "))
            .filter(|line| !line.starts_with("write_token = "))
            .map(|line| format!("{line}\n"))
            .collect();
        let settings = load(&uncommented, &[], &[]).unwrap();
        let defaults = Settings::default();
        assert_eq!(settings.data_dir, defaults.data_dir);
        assert_eq!(settings.drain_seconds, defaults.drain_seconds);
        assert_eq!(settings.connect_timeout_seconds, defaults.connect_timeout_seconds);
        let limits =
            |settings: &Settings| Limits { accounts_cached_bytes_max: 0, ..settings.limits.limits() };
        assert_eq!(limits(&settings), limits(&defaults));
        assert_eq!(settings.limits.accounts_cached_bytes_max, Some(640_000_000));
        assert_eq!(defaults.limits.limits().accounts_cached_bytes_max, accounts_cached_bytes());
        assert_eq!(settings.write_log_limits(), defaults.write_log_limits());
        assert!(settings.write_log_file.is_some() && defaults.write_log_file.is_none());
        assert!(settings.postgres_admin_url.is_some() && settings.redis_memory_bytes_max.is_some());
    }
}
