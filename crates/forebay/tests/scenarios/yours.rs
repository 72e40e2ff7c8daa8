//! Servers beside the program, which outlive it and can be treated badly.

use std::path::Path;

use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

pub struct Yours {
    runtime: Runtime,
    pub servers: TestServers,
}

impl Yours {
    pub fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let servers = runtime
            .block_on(TestServers::with(TestOptions { postgres_fsync: true, ..TestOptions::default() }))
            .unwrap();
        Self { runtime, servers }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Kills PostgreSQL, its sessions too.
    pub fn kill_postgres(&self) {
        self.block_on(self.servers.kill_postgres());
    }

    /// Starts PostgreSQL again.
    pub fn restart_postgres(&mut self) {
        self.runtime.block_on(self.servers.restart_postgres()).unwrap();
    }

    /// Empties Redis.
    pub fn flush_redis(&self) {
        let client = redis::Client::open(self.servers.redis().redis_url()).unwrap();
        self.block_on(async {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
        });
    }

    /// What tells the program where they are.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        self.settings_through(self.servers.postgres().socket_dir())
    }

    /// The same with another directory for PostgreSQL's socket.
    pub fn settings_through(&self, socket_dir: &Path) -> [(&'static str, String); 3] {
        let postgres = self.servers.postgres();
        let address = |user: &str, password: &str, database: &str| {
            let (host, port) = (socket_dir.display(), postgres.port());
            format!("host={host} port={port} user={user} password={password} dbname={database}")
        };
        let admin = address(SUPERUSER, postgres.password(SUPERUSER).unwrap(), postgres.database());
        [
            ("FOREBAY_REDIS_URL", self.servers.redis().redis_url()),
            ("FOREBAY_POSTGRES_URL", address("mine_writer", "secret-word", "mine")),
            ("FOREBAY_POSTGRES_ADMIN_URL", admin),
        ]
    }

    /// A session of the superuser in the chain's database.
    pub fn administrator(&self) -> Client {
        self.block_on(async {
            let mut config = self.servers.postgres().config(SUPERUSER).unwrap();
            let (client, connection) = config.dbname("mine").connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        })
    }
}

/// Settings and more settings, as a command's environment takes them.
pub fn with<'a>(
    settings: &'a [(&'static str, String)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
}
