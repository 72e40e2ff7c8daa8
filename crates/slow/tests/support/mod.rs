//! A database of its own for each test, the oracle's chains, and comparisons with its dumps.
#![allow(dead_code)]

pub mod chain;

#[allow(unused_imports, reason = "not every test compares dumps")]
pub use forebay_testkit::dump;

use forebay_servers::SUPERUSER;
use forebay_servers::testing::TestServers;
use forebay_slow::SlowWriter;
use forebay_slow::setup::{ChainParameters, Names, Passwords, migrate, prepare};
use tokio_postgres::{Client, Config, NoTls};

const PASSWORD: &str = "it's a \\ secret";

/// A server with a database where all is set up, and the ways into it. Ends when it is dropped.
pub struct Database {
    pub names: Names,
    pub servers: TestServers,
}

impl Database {
    /// Makes roles and database, migrates.
    pub async fn new(parameters: &ChainParameters) -> Self {
        let database = Self::unprepared().await;
        migrate(&database.admin(), &database.names, parameters).await.unwrap();
        database
    }

    /// Roles and an empty database.
    pub async fn unprepared() -> Self {
        let database = Self {
            names: Names::with_prefix("chain"),
            servers: TestServers::start_postgres().await.unwrap(),
        };
        prepare(&database.superuser(), &database.names, &passwords()).await.unwrap();
        database
    }

    /// The superuser, in a database that is not the chain's.
    pub fn superuser(&self) -> Config {
        self.servers.postgres().config(SUPERUSER).unwrap()
    }

    /// The superuser, in the chain's database.
    pub fn admin(&self) -> Config {
        let mut config = self.superuser();
        config.dbname(&self.names.database);
        config
    }

    pub fn writer(&self) -> Config {
        let mut config = self.admin();
        config.user(&self.names.writer).password(PASSWORD);
        config
    }

    pub fn reader(&self) -> Config {
        let mut config = self.admin();
        config.user(&self.names.reader).password(PASSWORD);
        config
    }

    /// A plain session.
    pub async fn client(&self, config: &Config) -> Client {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A writer that owns the chain with epoch 1.
    pub async fn writing(&self) -> SlowWriter {
        let writer = SlowWriter::connect(&self.writer()).await.unwrap();
        writer.take_over(0, 1).await.unwrap();
        writer
    }
}

pub fn passwords() -> Passwords {
    Passwords { writer: Some(PASSWORD.to_owned()), reader: Some(PASSWORD.to_owned()) }
}
