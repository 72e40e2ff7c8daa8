//! Private servers to measure on, and chains on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_fast::Holder;
use forebay_generator::Network;
use forebay_servers::{PostgresServer, PrivateServers, RedisServer, SUPERUSER, ServersOptions};
use forebay_slow::setup::{ChainParameters, Names, Passwords, migrate, prepare};
use forebay_store::memory::Machine;
use forebay_store::{Limits, Node, NodeOptions, OnHardLimit, Running, Setup};
use tokio_postgres::{Client, Config, NoTls};

use crate::error::BenchError;
use crate::options::Durability;

/// As a node that nobody set up takes it.
fn accounts_cached_bytes() -> u64 {
    Limits::accounts_cached_bytes_by_memory(Machine::of_process(None).memory_bytes())
}

/// One PostgreSQL, and a Redis for each profile. All of them idle unless something is measured on them.
pub(crate) struct Arena {
    root: PathBuf,
    servers: Vec<PrivateServers>,
    postgres: PostgresServer,
    redis: Vec<(Durability, RedisServer)>,
    names: Names,
    next_database: AtomicU32,
}

type Started = (PostgresServer, Vec<(Durability, RedisServer)>);

/// `servers`: those that were opened, also after a failure.
async fn start_servers(
    root: &Path,
    profiles: &[Durability],
    names: &Names,
    servers: &mut Vec<PrivateServers>,
) -> Result<Started, BenchError> {
    let mut options = ServersOptions::new(root.join("p"));
    options.postgres.roles = vec![names.writer.clone(), names.reader.clone()];
    let opened = PrivateServers::open(options).await?;
    servers.push(opened.clone());
    let postgres = opened.start_postgres().await?;
    let mut redis = Vec::new();
    for profile in profiles {
        let mut options = ServersOptions::new(root.join(profile.name()));
        options.redis.profile = profile.redis();
        let opened = PrivateServers::open(options).await?;
        servers.push(opened.clone());
        redis.push((*profile, opened.start_redis().await?));
    }
    Ok((postgres, redis))
}

impl Arena {
    /// Starts the servers below a directory that must not exist yet. After a failure none of them runs, and it is gone.
    pub(crate) async fn start(root: &Path, profiles: &[Durability]) -> Result<Self, BenchError> {
        std::fs::create_dir(root).map_err(BenchError::io(format!("making {}", root.display())))?;
        let names = Names::with_prefix("forebay");
        let mut servers = Vec::new();
        match start_servers(root, profiles, &names, &mut servers).await {
            Ok((postgres, redis)) => Ok(Self {
                root: root.to_owned(),
                servers,
                postgres,
                redis,
                names,
                next_database: AtomicU32::new(0),
            }),
            Err(error) => {
                for started in &servers {
                    // What failed first is told.
                    let _ = started.stop().await;
                }
                let _ = std::fs::remove_dir_all(root);
                Err(error)
            }
        }
    }

    /// Ends the servers and removes what they wrote.
    pub(crate) async fn end(self) -> Result<(), BenchError> {
        for servers in &self.servers {
            servers.stop().await?;
        }
        let doing = format!("removing {}", self.root.display());
        std::fs::remove_dir_all(&self.root).map_err(BenchError::io(doing))
    }

    pub(crate) fn redis(&self, profile: Durability) -> Result<&RedisServer, BenchError> {
        let found = self.redis.iter().find(|(of, _)| *of == profile).map(|(_, server)| server);
        found
            .ok_or_else(|| BenchError::Other(format!("no Redis was started with profile {}", profile.name())))
    }

    /// A connection to a database of Redis beside those that nodes use.
    pub(crate) async fn redis_connection(
        &self,
        profile: Durability,
    ) -> Result<redis::aio::MultiplexedConnection, BenchError> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(self.redis(profile)?.redis_url())?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// The superuser of a database.
    pub(crate) fn admin(&self, database: &str) -> Result<Config, BenchError> {
        let mut config = self.postgres.config(SUPERUSER)?;
        config.dbname(database);
        Ok(config)
    }

    fn fresh_names(&self) -> Names {
        let number = self.next_database.fetch_add(1, Ordering::Relaxed);
        Names { database: format!("bench_{number}"), ..self.names.clone() }
    }

    fn passwords(&self) -> Result<Passwords, BenchError> {
        let password = |role: &str| self.postgres.password(role).map(|found| Some(found.to_owned()));
        Ok(Passwords { writer: password(&self.names.writer)?, reader: password(&self.names.reader)? })
    }

    fn writer_of(&self, database: &str) -> Result<Config, BenchError> {
        let mut config = self.postgres.config(&self.names.writer)?;
        config.dbname(database);
        Ok(config)
    }

    /// A database with an empty chain, and no node.
    pub(crate) async fn database(&self, network: &Network) -> Result<Database<'_>, BenchError> {
        let names = self.fresh_names();
        let parameters = ChainParameters::new(&network.profile, &network.genesis);
        prepare(&self.postgres.config(SUPERUSER)?, &names, &self.passwords()?).await?;
        migrate(&self.admin(&names.database)?, &names, &parameters).await?;
        let writer = self.writer_of(&names.database)?;
        Ok(Database { arena: self, writer, name: names.database })
    }

    /// An empty Redis and an empty database, for a node.
    pub(crate) async fn stage(
        &self,
        profile: Durability,
        network: &Arc<Network>,
        limits: Limits,
    ) -> Result<Stage<'_>, BenchError> {
        let mut connection = self.redis_connection(profile).await?;
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
        let names = self.fresh_names();
        let options = NodeOptions {
            redis_url: self.redis(profile)?.redis_url(),
            postgres: self.writer_of(&names.database)?,
            setup: Some(Setup {
                admin: self.postgres.config(SUPERUSER)?,
                passwords: self.passwords()?,
                names: names.clone(),
            }),
            profile: Arc::new(network.profile.clone()),
            genesis: Arc::new(network.genesis.clone()),
            limits: Limits { accounts_cached_bytes_max: accounts_cached_bytes(), ..limits },
            holder: Holder { host: "bench".to_owned(), pid: std::process::id(), since_ms: 0 },
            holder_is_gone: true,
            connect_timeout: Some(Duration::from_secs(60)),
            rollback_dir: None,
            on_hard_limit: OnHardLimit::default(),
            memory_planned_bytes: 0,
            postgres_may_forget: false,
            write_log: None,
        };
        Ok(Stage { arena: self, profile, options, database: names.database })
    }

    async fn drop_database(&self, name: &str) -> Result<(), BenchError> {
        let client = connect(&self.admin("postgres")?).await?;
        client.batch_execute(&format!("drop database if exists \"{name}\" with (force)")).await?;
        Ok(())
    }
}

/// A database of its own, for a control arm.
pub(crate) struct Database<'a> {
    arena: &'a Arena,
    pub(crate) writer: Config,
    pub(crate) name: String,
}

impl Database<'_> {
    /// The superuser, for whom no trigger fires.
    pub(crate) fn without_triggers(&self) -> Result<Config, BenchError> {
        let mut config = self.arena.admin(&self.name)?;
        config.options("-c session_replication_role=replica");
        Ok(config)
    }

    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        self.arena.drop_database(&self.name).await
    }
}

/// What a node is started on.
pub(crate) struct Stage<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) profile: Durability,
    pub(crate) options: NodeOptions,
    database: String,
}

/// A running node.
pub(crate) struct StagedNode {
    pub(crate) node: Node,
    running: Running,
}

impl Stage<'_> {
    /// Starts a node and waits until the genesis block is durable.
    pub(crate) async fn start(&self) -> Result<StagedNode, BenchError> {
        let (node, running) = Node::start(self.options.clone(), Arc::new(|_| ())).await?;
        node.until_durable(node.progress().position).await?;
        Ok(StagedNode { node, running })
    }

    /// The role that may only read.
    pub(crate) fn reader(&self) -> Result<Config, BenchError> {
        let mut config = self.arena.postgres.config(&self.arena.names.reader)?;
        config.dbname(&self.database);
        Ok(config)
    }

    pub(crate) async fn admin(&self) -> Result<Client, BenchError> {
        connect(&self.arena.admin(&self.database)?).await
    }

    /// Keeps the Syncer from committing anything, at no cost of processor time.
    pub(crate) async fn hold_postgres(&self) -> Result<Hold, BenchError> {
        let client = self.admin().await?;
        client.batch_execute("begin; lock table forebay.position in exclusive mode").await?;
        Ok(Hold { client })
    }

    /// Removes the database. The node must have ended.
    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        self.arena.drop_database(&self.database).await
    }
}

impl StagedNode {
    /// Waits until all that was accepted is durable, within the Syncer's pauses.
    pub(crate) async fn settle(&self) -> Result<(), BenchError> {
        self.node.until_durable(self.node.progress().position).await?;
        Ok(())
    }

    /// Ends the node; what is not durable is given up with the database.
    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        self.node.stop(Duration::from_secs(120)).await;
        self.running.ended().await?;
        Ok(())
    }
}

/// A lock that lets nothing be committed until it is released.
pub(crate) struct Hold {
    client: Client,
}

impl Hold {
    pub(crate) async fn release(self) -> Result<(), BenchError> {
        Ok(self.client.batch_execute("commit").await?)
    }
}

/// A session.
pub(crate) async fn connect(config: &Config) -> Result<Client, BenchError> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
