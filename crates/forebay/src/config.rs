//! Settings: file < environment < flags. A key that nobody knows is an error, wherever it stands.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use forebay_store::{Limits, WriteLogLimits};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::api_settings::ApiSettings;
use crate::args::{Common, Durability, LogFormat, OnHardLimit};
use crate::exit::Told;

/// What the names of our variables start with.
const ENVIRONMENT_PREFIX: &str = "FOREBAY_";
/// Names the configuration file; read before it, so no setting of it.
const CONFIG_VARIABLE: &str = "FOREBAY_CONFIG";

/// All settings. `forebay.example.toml` explains each. No `Debug`: some are passwords.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Directory of the chain, its servers and their logs.
    pub data_dir: PathBuf,
    /// Name or file of the network.
    pub network: Option<String>,
    /// File of the genesis block.
    pub genesis: Option<PathBuf>,
    /// Your Redis.
    pub redis_url: Option<String>,
    /// Your PostgreSQL, as the writer.
    pub postgres_url: Option<String>,
    /// Your PostgreSQL, as an administrator.
    pub postgres_admin_url: Option<String>,
    /// What database and roles are called.
    pub postgres_prefix: String,
    /// The writer's password.
    pub postgres_writer_password: Option<String>,
    /// A file with the writer's password.
    pub postgres_writer_password_file: Option<PathBuf>,
    /// The reader's password, set at setup.
    pub postgres_reader_password: Option<String>,
    /// A file with the reader's password.
    pub postgres_reader_password_file: Option<PathBuf>,
    /// What a private Redis keeps on disk.
    pub redis_profile: Durability,
    /// `maxmemory` of a private Redis, bytes.
    #[serde(deserialize_with = "maybe_number")]
    pub redis_memory_bytes_max: Option<u64>,
    /// The Redis program.
    pub redis_server: Option<PathBuf>,
    /// The directory of PostgreSQL's programs.
    pub postgres_bin_dir: Option<PathBuf>,
    /// How long to wait for servers.
    #[serde(deserialize_with = "number")]
    pub connect_timeout_seconds: u64,
    /// How long a stop may take.
    #[serde(deserialize_with = "number")]
    pub drain_seconds: u64,
    /// What the guard's stop means for the next start.
    pub on_hard_limit: OnHardLimit,
    /// Where every attempt at PostgreSQL is written down; `None`: nowhere.
    pub write_log_file: Option<PathBuf>,
    /// Bytes of one file of the write log.
    #[serde(deserialize_with = "number")]
    pub write_log_bytes_max: u64,
    /// Files of the write log in all.
    #[serde(deserialize_with = "number")]
    pub write_log_files_max: u32,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are, as RUST_LOG.
    pub log: Option<String>,
    /// Bounds.
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
            log_format: LogFormat::Text,
            log: None,
            limits: LimitSettings::default(),
            api: ApiSettings::default(),
        }
    }
}

/// See [`Limits`].
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    #[serde(deserialize_with = "number")]
    lag_blocks_max: usize,
    #[serde(deserialize_with = "number")]
    lag_bytes_max: usize,
    #[serde(deserialize_with = "number")]
    batch_operations_max: usize,
    #[serde(deserialize_with = "number")]
    batch_bytes_max: usize,
    #[serde(deserialize_with = "number")]
    blocks_kept: u32,
    #[serde(deserialize_with = "number")]
    undo_kept: u32,
    #[serde(deserialize_with = "number")]
    outbox_kept: usize,
    #[serde(deserialize_with = "number")]
    takeover_after_seconds: u64,
    #[serde(deserialize_with = "number")]
    redis_away_seconds_max: u64,
    #[serde(deserialize_with = "number")]
    no_progress_seconds_max: u64,
    #[serde(deserialize_with = "number")]
    grace_seconds: u64,
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
            takeover_after_seconds: limits.takeover_after.as_secs(),
            redis_away_seconds_max: limits.redis_away_max.as_secs(),
            no_progress_seconds_max: limits.no_progress_max.as_secs(),
            grace_seconds: limits.grace.as_secs(),
            live_within_seconds: limits.live_within.as_secs(),
        }
    }
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
            takeover_after: Duration::from_secs(self.takeover_after_seconds),
            redis_away_max: Duration::from_secs(self.redis_away_seconds_max),
            no_progress_max: Duration::from_secs(self.no_progress_seconds_max),
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
        let environment = Environment::of_process();
        let file = common.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        let settings = Self::from_parts(file.as_deref(), environment, &common.overrides)?;
        settings.check()?;
        Ok(settings)
    }

    fn from_parts(
        file: Option<&Path>,
        environment: Environment,
        overrides: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            // Figment takes a missing file for an empty one.
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("reading the configuration file {}", file.display()))?;
            drop(text);
            figment = figment.merge(Toml::file_exact(file));
        }
        figment
            .merge(environment)
            .merge(Serialized::defaults(overrides))
            .extract()
            .context("reading the settings")
    }

    fn check(&self) -> anyhow::Result<()> {
        let wrong = |message: &str, remedy: &str| Err(Told::configuration(message, remedy).into());
        if self.redis_url.is_some() != self.postgres_url.is_some() {
            return wrong(
                "redis_url and postgres_url belong together: only one of them is given",
                "Give both to use your servers, or neither for private ones.",
            );
        }
        if self.postgres_admin_url.is_some() && self.postgres_url.is_none() {
            return wrong("postgres_admin_url is given without postgres_url", "Give postgres_url too.");
        }
        if self.write_log_bytes_max == 0 || self.write_log_files_max == 0 {
            return wrong(
                "write_log_bytes_max and write_log_files_max must be above 0",
                "Correct it, or leave write_log_file out for no such log.",
            );
        }
        let limits = &self.limits;
        if limits.lag_blocks_max == 0 || limits.lag_bytes_max == 0 || limits.takeover_after_seconds == 0 {
            return wrong(
                "limits.lag_blocks_max, limits.lag_bytes_max and limits.takeover_after_seconds must be above 0",
                "Correct the limit, or leave it out for its default.",
            );
        }
        Ok(())
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
}

/// A secret that is given as a text or as a file.
pub(crate) fn password(given: Option<&String>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (given, file) {
        (Some(text), _) => Ok(Some(text.clone())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("reading the password file {}", file.display()))?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Our variables as settings: `FOREBAY_LIMITS__UNDO_KEPT` is `limits.undo_kept`. All values are texts: a password of
/// digits stays what it is.
struct Environment(Dict);

impl Environment {
    fn of_process() -> Self {
        let ours = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::of(ours)
    }

    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut settings = Dict::new();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|_| name != CONFIG_VARIABLE) else {
                continue;
            };
            let key = key.to_ascii_lowercase();
            match key.split_once("__") {
                None => {
                    settings.insert(key, Value::from(value));
                }
                Some((section, key)) => {
                    let entry =
                        settings.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, section) = entry {
                        section.insert(key.to_owned(), Value::from(value));
                    }
                }
            }
        }
        Self(settings)
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variable (FOREBAY_ and the key in capitals)")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

/// A whole number, or the text of one, as the environment has it.
pub(crate) fn number<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<N, D::Error> {
    let wide = deserializer.deserialize_any(WholeNumber)?;
    N::try_from(wide).map_err(|_| de::Error::custom(format!("{wide} is too large")))
}

fn maybe_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    number(deserializer).map(Some)
}

struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 0 or more")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        text.trim().parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
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
        Settings::from_parts(Some(&path), Environment::of(variables), &flags)
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
            .map(|line| format!("{line}\n"))
            .collect();
        let settings = load(&uncommented, &[], &[]).unwrap();
        let defaults = Settings::default();
        assert_eq!(settings.data_dir, defaults.data_dir);
        assert_eq!(settings.drain_seconds, defaults.drain_seconds);
        assert_eq!(settings.connect_timeout_seconds, defaults.connect_timeout_seconds);
        assert_eq!(settings.limits.limits(), defaults.limits.limits());
        assert_eq!(settings.write_log_limits(), defaults.write_log_limits());
        assert!(settings.write_log_file.is_some() && defaults.write_log_file.is_none());
        assert!(settings.postgres_admin_url.is_some() && settings.redis_memory_bytes_max.is_some());
    }
}
