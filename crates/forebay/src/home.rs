//! A data directory and its servers: private ones, or yours.

use std::str::FromStr as _;
use std::time::Duration;

use forebay_servers::{
    Binaries, DataDirLock, HeldBy, PostgresOptions, PostgresServer, PrivateServers, RedisOptions,
    RedisProfile, RedisServer, SUPERUSER, ServersOptions, Timeouts,
};
use forebay_slow::setup::{Names, Passwords};
use forebay_store::Setup;
use tokio_postgres::Config;

use crate::args::Durability;
use crate::config::{Settings, secret};
use crate::exit::Told;

/// What `memory --measure` says while it holds the data directory: it is no node, and its Redis has no chain.
pub const MEASURING: &str = "memory --measure";

/// Where Redis and PostgreSQL are, and how PostgreSQL is set up.
#[derive(Clone)]
pub struct Connections {
    /// Redis' address.
    pub redis_url: String,
    /// PostgreSQL as the writer.
    pub postgres: Config,
    /// How to set it up; `None`: somebody else did.
    pub setup: Option<Setup>,
}

impl Connections {
    /// PostgreSQL as whoever is there already: before the setup the writer's role may be missing.
    pub fn before_setup(&self) -> Config {
        match &self.setup {
            Some(setup) => setup.admin.clone().dbname(&setup.names.database).to_owned(),
            None => self.postgres.clone(),
        }
    }

    /// Redis' address as it may be shown.
    pub fn redis_url_without_password(&self) -> String {
        // A Unix socket's user and password come after a question mark.
        let url = self.redis_url.split('?').next().unwrap_or_default();
        match url.split_once("://") {
            Some((scheme, rest)) => match rest.rsplit_once('@') {
                Some((_, place)) => format!("{scheme}://{place}"),
                None => url.to_owned(),
            },
            None => url.to_owned(),
        }
    }
}

/// Who brings the servers.
pub enum Brought {
    /// We do; they live in the data directory.
    Private,
    /// You do.
    Yours(Box<Connections>),
}

/// A data directory with its settings.
pub struct Home {
    /// All settings.
    pub settings: Settings,
    /// Who brings the servers.
    pub brought: Brought,
    /// Whether a start goes on with less memory than the plan wants.
    pub accept_low_memory: bool,
}

impl Home {
    /// Reads the addresses; touches nothing.
    ///
    /// # Errors
    /// Configuration: an address or a password file cannot be read.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        // Read when the API starts; a mistake in it is told before anything does.
        if let Some(url) = &settings.api.postgres_url {
            parse("api.postgres_url", url, settings.connect_timeout())?;
        }
        let brought = match (&settings.redis_url, &settings.postgres_url) {
            (Some(redis), Some(postgres)) => Brought::Yours(Box::new(yours(&settings, redis, postgres)?)),
            _ => Brought::Private,
        };
        Ok(Self { settings, brought, accept_low_memory: false })
    }

    /// The data directory.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.settings.data_dir
    }

    /// The node, or other command that writes, which holds the data directory now.
    ///
    /// # Errors
    /// The lock file cannot be read.
    pub fn holder(&self) -> anyhow::Result<Option<HeldBy>> {
        let holder = DataDirLock::holder(self.data_dir())?;
        Ok(holder.filter(|by| by.command != command_words(MEASURING)))
    }

    /// Takes the data directory for a command that writes.
    ///
    /// # Errors
    /// Held: by whom and since when.
    pub fn lock(&self, command: &str) -> anyhow::Result<DataDirLock> {
        Ok(DataDirLock::acquire(self.data_dir(), command)?)
    }

    /// Whether private servers were ever started here.
    ///
    /// # Errors
    /// Configuration: this user may not look into the data directory.
    pub fn has_private_data(&self) -> anyhow::Result<bool> {
        let data = self.data_dir().join("postgres/data");
        match std::fs::read_dir(&data) {
            // Files without a version are for the servers to refuse.
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let remedy = "Run this as root, or as the user that the node runs as.";
                let message = format!("{} cannot be looked into: {error}", data.display());
                Err(Told::configuration(message, remedy).into())
            }
        }
    }

    /// The private servers; starts nothing.
    ///
    /// # Errors
    /// The data directory cannot be used.
    pub async fn private_servers(&self) -> anyhow::Result<PrivateServers> {
        self.private_servers_for(Timeouts::default().lock).await
    }

    /// The same, for somebody who waits no longer than this for another program that starts or stops them.
    ///
    /// # Errors
    /// The data directory cannot be used.
    pub async fn private_servers_for(&self, lock_max: Duration) -> anyhow::Result<PrivateServers> {
        let names = self.names();
        let settings = &self.settings;
        let options = ServersOptions {
            redis: RedisOptions {
                profile: match settings.redis_profile {
                    Durability::Durable => RedisProfile::Durable,
                    Durability::Volatile => RedisProfile::Volatile,
                },
                maxmemory_bytes: settings.redis_memory_bytes_max,
                ..RedisOptions::default()
            },
            postgres: PostgresOptions {
                // Database and owner are made at setup, with the right owner; here only who logs in.
                database: "postgres".to_owned(),
                roles: vec![names.writer, names.reader],
                conf: Some(crate::server_conf::postgres_conf(true).text()),
                ..PostgresOptions::default()
            },
            binaries: self.binaries(),
            timeouts: Timeouts { lock: lock_max, ..Timeouts::default() },
            ..ServersOptions::new(settings.data_dir.clone())
        };
        Ok(PrivateServers::open(options).await?)
    }

    /// Where the servers' programs are.
    pub fn binaries(&self) -> Binaries {
        Binaries {
            redis_server: self.settings.redis_server.clone(),
            postgres_bin_dir: self.settings.postgres_bin_dir.clone(),
        }
    }

    /// How to connect to running private servers.
    ///
    /// # Errors
    /// Their passwords cannot be read.
    pub fn private_connections(
        &self,
        redis: &RedisServer,
        postgres: &PostgresServer,
    ) -> anyhow::Result<Connections> {
        Ok(Connections {
            redis_url: redis.redis_url(),
            postgres: self.private_writer(postgres)?,
            setup: Some(self.private_setup(postgres)?),
        })
    }

    /// How a private PostgreSQL is set up.
    ///
    /// # Errors
    /// Its password cannot be read.
    pub fn private_setup(&self, postgres: &PostgresServer) -> anyhow::Result<Setup> {
        let mut admin = postgres.config(SUPERUSER)?;
        admin.connect_timeout(self.settings.connect_timeout());
        Ok(Setup { admin, names: self.names(), passwords: Passwords::default() })
    }

    /// The writer's session on the private PostgreSQL.
    ///
    /// # Errors
    /// Its password cannot be read.
    pub fn private_writer(&self, postgres: &PostgresServer) -> anyhow::Result<Config> {
        private_writer(postgres, &self.names(), self.settings.connect_timeout())
    }

    /// What database and roles of private servers are called.
    pub fn names(&self) -> Names {
        Names::with_prefix(&self.settings.postgres_prefix)
    }
}

/// The administrator's session on a private PostgreSQL, on the chain's database.
///
/// # Errors
/// Its password cannot be read.
pub fn private_admin(home: &Home, postgres: &PostgresServer) -> anyhow::Result<Config> {
    let mut admin = postgres.config(SUPERUSER)?;
    admin.dbname(&home.names().database).connect_timeout(home.settings.connect_timeout());
    Ok(admin)
}

/// The writer's session on a private PostgreSQL.
///
/// # Errors
/// Its password cannot be read.
pub fn private_writer(
    postgres: &PostgresServer,
    names: &Names,
    connect_timeout: Duration,
) -> anyhow::Result<Config> {
    let mut writer = postgres.config(&names.writer)?;
    writer.dbname(&names.database).connect_timeout(connect_timeout);
    Ok(writer)
}

fn yours(settings: &Settings, redis: &str, postgres: &str) -> anyhow::Result<Connections> {
    let mut writer = parse("postgres_url", postgres, settings.connect_timeout())?;
    if let Some(password) = settings.writer_password()? {
        writer.password(password);
    }
    let mut names = Names::with_prefix(&settings.postgres_prefix);
    match writer.get_user() {
        Some(user) => user.clone_into(&mut names.writer),
        None => drop(writer.user(&names.writer)),
    }
    match writer.get_dbname() {
        Some(database) => database.clone_into(&mut names.database),
        None => drop(writer.dbname(&names.database)),
    }
    let setup = match &settings.postgres_admin_url {
        None => None,
        Some(url) => {
            let mut admin = parse("postgres_admin_url", url, settings.connect_timeout())?;
            if let Some(password) = settings.admin_password()? {
                admin.password(password);
            }
            if admin.get_dbname().is_none() {
                admin.dbname("postgres");
            }
            let writer_password =
                writer.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let passwords = Passwords { writer: writer_password, reader: settings.reader_password()? };
            Some(Setup { admin, names, passwords })
        }
    };
    let redis_url = match settings.redis_password()? {
        Some(password) => secret::with_password(redis, &password)?,
        None => redis.to_owned(),
    };
    // What the client says of it may show a part of the password.
    if forebay_fast::check_address(&redis_url).is_err() {
        return Err(Told::configuration(
            "redis_url cannot be read",
            "Give redis://user:password@host:port/database, rediss://… for TLS, or redis+unix:///path?user=…&pass=….",
        )
        .into());
    }
    Ok(Connections { redis_url, postgres: writer, setup })
}

/// PostgreSQL's address. The text may hold a password: it is in no message.
///
/// # Errors
/// Configuration: it is none.
pub fn parse(key: &str, url: &str, connect_timeout: Duration) -> anyhow::Result<Config> {
    let mut config = Config::from_str(url).map_err(|error| {
        Told::configuration(
            format!("{key} cannot be read: {error}"),
            "Give postgresql://user:password@host:port/database, or host=… user=… dbname=….",
        )
    })?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect_timeout);
    }
    if config.get_hosts().is_empty() {
        config.host("localhost");
    }
    Ok(config)
}

/// What we tell others about ourselves: the command without what may be secret.
pub fn command_words(words: &str) -> String {
    format!("forebay {words}")
}

/// The machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
