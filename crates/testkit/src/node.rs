//! A node on servers of its own.

use std::sync::Arc;
use std::time::Duration;

use forebay_fast::{FastOptions, FastTier, Holder};
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::profile::NetworkProfile;
use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};
use forebay_slow::SlowReader;
use forebay_slow::setup::{Names, Passwords};
use forebay_store::verify::{Verification, VerifyInputs, verify};
use forebay_store::{Accepted, Limits, Node, NodeOptions, OnHardLimit, Running, Setup, Stopped, StoreError};
use tokio_postgres::{Client, Config, NoTls};

use crate::chain::NOW;

/// Real Redis and PostgreSQL, and what a node needs to start on them.
pub struct Bench {
    /// The servers; ended and removed when this is dropped.
    pub servers: TestServers,
    /// What nodes are started with.
    pub options: NodeOptions,
}

/// A node on a [`Bench`].
pub struct TestNode {
    /// The node.
    pub node: Node,
    /// Its loop.
    pub running: Running,
}

impl Bench {
    /// Fresh servers for a chain.
    pub async fn new(profile: Arc<NetworkProfile>, genesis: Arc<Block>) -> Self {
        Self::with(TestOptions::default(), profile, genesis).await
    }

    /// Fresh servers, set up as asked.
    pub async fn with(test: TestOptions, profile: Arc<NetworkProfile>, genesis: Arc<Block>) -> Self {
        let names = Names::with_prefix("forebay");
        let postgres_may_forget = !test.postgres_fsync;
        let servers = TestServers::with(TestOptions {
            postgres_roles: vec![names.writer.clone(), names.reader.clone()],
            ..test
        })
        .await
        .unwrap();
        let postgres = |role: &str| servers.postgres().config(role).unwrap();
        let password = |role: &str| Some(servers.postgres().password(role).unwrap().to_owned());
        let options = NodeOptions {
            redis_url: servers.redis().redis_url(),
            postgres: postgres(&names.writer),
            setup: Some(Setup {
                admin: postgres(SUPERUSER),
                passwords: Passwords { writer: password(&names.writer), reader: password(&names.reader) },
                names,
            }),
            profile,
            genesis,
            limits: Limits::default(),
            holder: Holder { host: "test".to_owned(), pid: std::process::id(), since_ms: 0 },
            holder_is_gone: true,
            connect_timeout: Some(Duration::from_secs(20)),
            rollback_dir: None,
            on_hard_limit: OnHardLimit::default(),
            postgres_may_forget,
            write_log: None,
            memory_planned_bytes: 0,
        };
        Self { servers, options }
    }

    /// Starts a node: claim, drain, clean, restore.
    ///
    /// # Errors
    /// What a start fails with.
    pub async fn start(&self) -> Result<TestNode, StoreError> {
        let (node, running) = Node::start(self.options.clone(), Arc::new(|_| ())).await?;
        Ok(TestNode { node, running })
    }

    /// The database's superuser: to look at everything, and to tamper with it.
    pub async fn admin(&self) -> Client {
        let mut config = self.servers.postgres().config(SUPERUSER).unwrap();
        config.dbname("forebay");
        connect(&config).await
    }

    /// A session of a role.
    pub async fn session(&self, role: &str) -> Client {
        connect(&self.servers.postgres().config(role).unwrap()).await
    }

    /// A reader of the fast tier beside the node.
    pub async fn fast(&self) -> FastTier {
        FastTier::connect(&self.options.redis_url, &self.options.profile.name, FastOptions::default())
            .await
            .unwrap()
    }

    /// All accounts of PostgreSQL, ascending by address.
    pub async fn slow_accounts(&self) -> Vec<Account> {
        let reader = SlowReader::connect(&self.options.postgres).await.unwrap();
        let mut all = Vec::new();
        reader
            .reads()
            .accounts(10_000, async |accounts: Vec<Account>| -> Result<(), StoreError> {
                all.extend(accounts);
                Ok(())
            })
            .await
            .unwrap();
        all
    }

    /// Compares the tiers, and with the chain when `deep`.
    pub async fn verify(&self, deep: bool) -> Verification {
        let inputs = VerifyInputs {
            fast: self.fast().await,
            postgres: self.options.postgres.clone(),
            profile: Arc::clone(&self.options.profile),
            genesis: Arc::clone(&self.options.genesis),
        };
        verify(&inputs, deep, |_| ()).await.unwrap()
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl TestNode {
    /// Hands a block in.
    ///
    /// # Errors
    /// The refusal, or why the node stopped.
    pub async fn apply(&self, block: &Block) -> Result<Accepted, StoreError> {
        let checked = self.node.check(block.clone())?;
        self.node.apply(checked, NOW).await
    }

    /// Hands blocks in that must be taken.
    pub async fn apply_all(&self, blocks: &[Block]) {
        for block in blocks {
            if let Err(error) = self.apply(block).await {
                let last = self.node.progress().last_error;
                panic!("block at height {}: {error}; the node: {last:?}", block.height);
            }
        }
    }

    /// Takes blocks back that must be there.
    pub async fn take_back_to(&mut self, height: u32) -> Accepted {
        match self.node.take_back_to(height).await {
            Ok(accepted) => accepted,
            Err(error) => panic!("back to {height}: {error}; the node: {:?}", self.running.ended().await),
        }
    }

    /// Waits until PostgreSQL has all that was accepted.
    pub async fn settle(&self) {
        if let Err(error) = self.node.until_durable(self.node.progress().position).await {
            panic!("{error}; the node: {:?}", self.node.progress().last_error);
        }
    }

    /// All accounts of Redis, ascending by address.
    pub async fn fast_accounts(&self) -> Vec<Account> {
        self.node.fast().all_accounts().await.unwrap().expect("nobody writes meanwhile").value
    }

    /// Stops as an operator does: drains first.
    ///
    /// # Errors
    /// What stopped it before.
    pub async fn stop(mut self) -> Result<Stopped, StoreError> {
        self.node.stop(Duration::from_secs(30)).await;
        self.running.ended().await
    }

    /// Stops at once: what is not durable stays in the outbox.
    ///
    /// # Errors
    /// What stopped it before.
    pub async fn stop_now(mut self) -> Result<Stopped, StoreError> {
        self.node.stop(Duration::ZERO).await;
        self.running.ended().await
    }
}
