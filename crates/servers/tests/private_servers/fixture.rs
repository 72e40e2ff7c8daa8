//! A directory below which everything is ended and removed, and clients.

use std::path::{Path, PathBuf};

use forebay_servers::testing::{TestOptions, TestServers};
use forebay_servers::{PostgresServer, PrivateServers, RedisServer, SUPERUSER, ServersOptions};
use redis::aio::MultiplexedConnection;
use tokio_postgres::{Client, NoTls};

/// A place for data directories; whatever runs below it ends with it.
pub struct Place {
    servers: TestServers,
}

impl Place {
    pub async fn new() -> Self {
        let nothing = TestOptions { redis: false, postgres: false, ..TestOptions::default() };
        Self { servers: TestServers::with(nothing).await.unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.servers.data_dir()
    }

    /// Quick options for a data directory below this place.
    pub fn options(&self, name: &str) -> ServersOptions {
        options(self.path().join(name))
    }

    pub async fn open(&self, name: &str) -> PrivateServers {
        PrivateServers::open(self.options(name)).await.unwrap()
    }
}

pub fn options(data_dir: PathBuf) -> ServersOptions {
    let mut options = ServersOptions::new(data_dir);
    options.postgres.fsync = false;
    options.postgres.shared_buffers_bytes = Some(32 * 1024 * 1024);
    options
}

pub async fn redis(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.redis_url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub async fn set(server: &RedisServer, key: &str, value: &str) {
    redis::cmd("SET").arg(key).arg(value).exec_async(&mut redis(server).await).await.unwrap();
}

pub async fn get(server: &RedisServer, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query_async(&mut redis(server).await).await.unwrap()
}

pub async fn sql(server: &PostgresServer, role: &str) -> Client {
    let text = server.connection_string(role).unwrap();
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub async fn superuser(server: &PostgresServer) -> Client {
    sql(server, SUPERUSER).await
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
