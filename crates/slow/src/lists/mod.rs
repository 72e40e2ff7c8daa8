//! Lists for an API: filtered, sorted, counted, by the reader role. Each is read in a snapshot, so that rows, counts and
//! the height that they are told with belong together. All values are bound; statements are prepared once a session.
//!
//! Nothing here writes, and nothing waits for long: sessions have a statement timeout, and the pool a limit.

mod accounts;
mod blocks;
mod delegates;
mod events;
mod transactions;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use forebay_ledger::ids::Height;
use forebay_ledger::state::Tip;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, IsolationLevel, Row, Statement};

use crate::error::{ErrorKind, SlowError};
use crate::reader::Reads;
use crate::tls;

pub use accounts::{ForgedBetween, GroupMember, GroupOfAccounts, RichAccount};
pub use blocks::{BlockFilter, ListedBlock};
pub use delegates::{FoundDelegate, Voter};
pub use events::ChainOperation;
pub use transactions::{Condition, ListedTransaction, TransactionFilter, TransactionOrder};

/// Statements that a session keeps prepared. Filters can be combined in many ways; beyond this all are forgotten.
const STATEMENTS_MAX: usize = 128;

/// How a pool of reading sessions behaves.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Sessions at once.
    pub sessions_max: usize,
    /// A statement that takes longer is ended by the server.
    pub statement_timeout: Duration,
    /// How long to wait for a free session, and for the server to let one in.
    pub wait_max: Duration,
}

impl Default for PoolOptions {
    /// 8 sessions: lists are bound by the server's processors. 5 s a statement, 2 s for a session.
    fn default() -> Self {
        Self { sessions_max: 8, statement_timeout: Duration::from_secs(5), wait_max: Duration::from_secs(2) }
    }
}

/// Reading sessions, made when they are needed and kept.
#[derive(Clone)]
pub struct ReadPool {
    pool: Pool,
}

/// A session of the pool; goes back to it when dropped.
pub struct ReadSession {
    client: deadpool_postgres::Client,
}

/// One state of the database: what it is read from, and how high it is.
pub struct Lists<'a> {
    transaction: deadpool_postgres::Transaction<'a>,
    height: Height,
    tip: Option<Tip>,
}

impl ReadPool {
    /// A pool for a role that may read the chain's tables. Connects when the first session is asked for.
    ///
    /// # Errors
    /// Misuse: options that make no pool. Untrusted: the certificates that are to be trusted cannot be read.
    pub fn new(config: &Config, options: PoolOptions) -> Result<Self, SlowError> {
        let doing = "making a pool of sessions";
        let (mut config, encryption) = tls::of_address(config, doing)?;
        config
            .application_name("forebay api")
            .connect_timeout(options.wait_max)
            // Whatever the role may do: these sessions only read.
            .options(format!(
                "-c default_transaction_read_only=on -c jit=off -c statement_timeout={} \
                 -c idle_in_transaction_session_timeout=60000",
                options.statement_timeout.as_millis()
            ));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, encryption, recycling);
        let pool = Pool::builder(manager)
            .max_size(options.sessions_max.max(1))
            .wait_timeout(Some(options.wait_max))
            .create_timeout(Some(options.wait_max))
            .recycle_timeout(Some(options.wait_max))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| SlowError::new(ErrorKind::Misuse, doing, error.to_string()))?;
        Ok(Self { pool })
    }

    /// A session: a kept one, or a new one.
    ///
    /// # Errors
    /// Unavailable: the server is away. Resources: all sessions are in use for too long.
    pub async fn session(&self) -> Result<ReadSession, SlowError> {
        let doing = "getting a session to read";
        match self.pool.get().await {
            Ok(client) => {
                if client.statement_cache.size() > STATEMENTS_MAX {
                    client.statement_cache.clear();
                }
                Ok(ReadSession { client })
            }
            Err(PoolError::Backend(error)) => Err(SlowError::from_postgres(doing, error)),
            Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                Err(SlowError::new(ErrorKind::Resources, doing, "all sessions are in use"))
            }
            Err(error) => Err(SlowError::new(ErrorKind::Unavailable, doing, error.to_string())),
        }
    }
}

impl ReadSession {
    /// Begins a repeatable-read transaction: everything until it is dropped is read from one state.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn lists(&mut self) -> Result<Lists<'_>, SlowError> {
        let doing = "beginning to read";
        let transaction = self
            .client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(|error| SlowError::from_postgres(doing, error))?;
        let tip = Reads::new(transaction.client()).tip().await?;
        Ok(Lists { transaction, height: tip.map_or(0, |tip| tip.height), tip })
    }
}

impl Lists<'_> {
    /// The tip's height; 0 before the genesis block.
    #[must_use]
    pub fn height(&self) -> Height {
        self.height
    }

    /// The newest block.
    #[must_use]
    pub fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Reads of single things in the same state.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads::new(self.transaction.client())
    }

    async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SlowError> {
        let failed = |error| SlowError::from_postgres(doing, error);
        let statement: Statement = self.transaction.prepare_cached(sql).await.map_err(failed)?;
        self.transaction.query(&statement, parameters).await.map_err(failed)
    }

    /// A query of one number.
    async fn count(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SlowError> {
        let rows = self.query(doing, sql, parameters).await?;
        let row = rows.first().ok_or_else(|| SlowError::new(ErrorKind::Server, doing, "no count"))?;
        let count: i64 = crate::columns::Columns { row, doing }.get(0)?;
        Ok(count.unsigned_abs())
    }
}

/// Values of a statement that is put together: each gets the next number.
#[derive(Default)]
struct Bound {
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Bound {
    fn add(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

/// A number as the tables keep it; what is larger is larger than anything there.
fn stored(height: Height) -> i32 {
    i32::try_from(height).unwrap_or(i32::MAX)
}
