//! Redis and PostgreSQL of a run: real servers, each behind a proxy, in directories of their own.

mod disks;
mod files;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use forebay_servers::{
    PostgresServer, PrivateServers, RedisOptions, RedisProfile, RedisServer, SUPERUSER, ServersOptions,
};
use forebay_slow::setup::Names;
use forebay_testkit::proxy::{Endpoint, Proxy};
use tokio_postgres::{Client, Config, NoTls};

pub use disks::Disk;
pub(crate) use disks::unmount_all;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The fast tier.
    Redis,
    /// The slow tier.
    Postgres,
}

/// The servers, and the proxies that the node connects to.
pub struct Servers {
    private: PrivateServers,
    /// As they were last started. Held for a look only.
    redis: Mutex<RedisServer>,
    postgres: Mutex<PostgresServer>,
    /// One start at a time: two faults may end in the same moment.
    starting: tokio::sync::Mutex<()>,
    /// In front of Redis.
    pub redis_proxy: Proxy,
    /// In front of PostgreSQL.
    pub postgres_proxy: Proxy,
    /// Database and roles.
    pub names: Names,
    root: PathBuf,
    /// Why there are no small disks of their own; `None`: there are.
    pub no_small_disks: Option<String>,
    /// What Redis keeps on disk.
    pub profile: RedisProfile,
}

impl Servers {
    /// Starts both below `root`; they and the nodes' data directories are on small disks if we may mount some.
    ///
    /// # Errors
    /// A server does not start, a proxy cannot listen.
    pub async fn start(root: &Path, profile: RedisProfile) -> anyhow::Result<Self> {
        let names = Names::with_prefix("forebay");
        let mut options = ServersOptions::new(root.join("servers"));
        options.redis = RedisOptions { profile, ..RedisOptions::default() };
        options.postgres.shared_buffers_bytes = Some(32 << 20);
        options.postgres.roles = vec![names.writer.clone(), names.reader.clone()];
        let small = [("min_wal_size", "32MB"), ("max_wal_size", "128MB"), ("deadlock_timeout", "200ms")];
        options.postgres.extra =
            small.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fs::create_dir_all(root.join("servers"))?;
        let no_small_disks = disks::mount(root).err().map(|error| format!("{error:#}"));
        let private = PrivateServers::open(options).await?;
        let (redis, postgres) = private.start().await?;
        let redis_proxy =
            Proxy::start(Endpoint::Unix(root.join("redis.sock")), Endpoint::Unix(redis.socket())).await?;
        let socket = format!(".s.PGSQL.{}", postgres.port());
        let server = Endpoint::Unix(postgres.socket_dir().join(&socket));
        let postgres_proxy = Proxy::start(Endpoint::Unix(root.join(&socket)), server).await?;
        let root = root.to_owned();
        let (redis, postgres) = (Mutex::new(redis), Mutex::new(postgres));
        let starting = tokio::sync::Mutex::default();
        Ok(Self {
            private,
            redis,
            postgres,
            starting,
            redis_proxy,
            postgres_proxy,
            names,
            root,
            no_small_disks,
            profile,
        })
    }

    /// Redis' address for the node: the proxy's.
    pub fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.root.join("redis.sock").display())
    }

    /// Redis' address without the proxy.
    pub fn direct_redis_url(&self) -> String {
        self.redis().redis_url()
    }

    /// PostgreSQL for the node as a role: behind the proxy. Holds the password.
    ///
    /// # Errors
    /// The role has no password here.
    pub fn postgres_url(&self, role: &str, database: &str) -> anyhow::Result<String> {
        let (password, port) = {
            let postgres = self.postgres();
            (postgres.password(role)?.to_owned(), postgres.port())
        };
        let host = self.root.display();
        Ok(format!("host={host} port={port} user={role} password={password} dbname={database}"))
    }

    /// PostgreSQL without the proxy, as the superuser.
    ///
    /// # Errors
    /// There is no password for it.
    pub fn direct_postgres(&self) -> anyhow::Result<Config> {
        let mut config = self.postgres().config(SUPERUSER)?;
        config.dbname(&self.names.database).connect_timeout(Duration::from_secs(5));
        Ok(config)
    }

    /// A session of the superuser in the chain's database, past the proxy.
    ///
    /// # Errors
    /// PostgreSQL does not take it.
    pub async fn administrator(&self) -> anyhow::Result<Client> {
        let (client, connection) =
            self.direct_postgres()?.connect(NoTls).await.context("connecting as the administrator")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A command to Redis, past the proxy.
    ///
    /// # Errors
    /// Redis does not take it.
    pub async fn redis_command(&self, words: &[&str]) -> anyhow::Result<redis::Value> {
        let client = redis::Client::open(self.direct_redis_url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (name, arguments) = words.split_first().context("an empty command")?;
        let mut command = redis::cmd(name);
        for argument in arguments {
            command.arg(argument);
        }
        command.query_async(&mut connection).await.with_context(|| format!("Redis: {}", words.join(" ")))
    }

    /// The proxy in front of a server.
    pub fn proxy(&self, server: Server) -> &Proxy {
        match server {
            Server::Redis => &self.redis_proxy,
            Server::Postgres => &self.postgres_proxy,
        }
    }

    /// What leads to the server works again, and its processes go on.
    ///
    /// # Errors
    /// The system forbids it.
    pub fn heal(&self, server: Server) -> anyhow::Result<()> {
        self.proxy(server).heal();
        self.resume(server)
    }

    fn redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn postgres(&self) -> MutexGuard<'_, PostgresServer> {
        self.postgres.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, server: Server) -> PathBuf {
        self.root.join("servers").join(match server {
            Server::Redis => "redis",
            Server::Postgres => "postgres",
        })
    }
}
