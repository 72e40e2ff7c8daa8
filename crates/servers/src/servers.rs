//! The façade: one data directory, its two servers, and the lock under which they are started and stopped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::account::Account;
use crate::binaries::{compresses_by_lz4, defragments, find_redis};
use crate::error::{Server, ServersError};
use crate::in_use::{self, InUse, LeftToStop};
use crate::layout::Layout;
use crate::lock::LockFile;
use crate::options::{RedisPlace, ServersOptions};
use crate::postgres_config::forebay_conf;
use crate::postgres_server::{self, PostgresServer};
use crate::process::POLL;
use crate::redis_server::{self, RedisServer};

/// What every operation needs to know.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) options: ServersOptions,
    pub(crate) account: Account,
    pub(crate) layout: Layout,
}

/// The private servers of one data directory. Cheap to clone. Dropping it, and the handles it gives, leaves the
/// servers running: they end by [`stop`](Self::stop) alone.
#[derive(Debug, Clone)]
pub struct PrivateServers {
    home: Arc<Home>,
}

impl PrivateServers {
    /// Prepares the data directory (created when missing, open for others to enter but with private parts) and
    /// starts nothing.
    ///
    /// As root the servers get an unprivileged account: the owner of existing data, else `postgres`, else `nobody`.
    ///
    /// # Errors
    /// When the directory cannot be made, belongs to another user, or cannot be entered by the servers' account.
    pub async fn open(mut options: ServersOptions) -> Result<Self, ServersError> {
        let wanted = &options.data_dir;
        if !wanted.exists() {
            fs::create_dir_all(wanted).map_err(ServersError::io("creating the data directory", wanted))?;
            // Whatever the umask is: the servers' account and readers of node.lock pass through.
            fs::set_permissions(wanted, fs::Permissions::from_mode(0o755))
                .map_err(ServersError::io("opening the data directory", wanted))?;
        }
        let data_dir =
            wanted.canonicalize().map_err(ServersError::io("resolving the data directory", wanted))?;
        if data_dir.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
            return Err(ServersError::BadPath {
                path: data_dir,
                reason: "its name is not plain text, which the servers' configuration files cannot express"
                    .to_owned(),
                remedy: "Choose another data directory".to_owned(),
            });
        }
        let account = Account::for_data_dir(&data_dir)?;
        account.check_traversable(&data_dir).await?;
        let layout = Layout::prepare(&data_dir, &account)?;
        options.data_dir = data_dir;
        Ok(Self { home: Arc::new(Home { options, account, layout }) })
    }

    /// The canonical data directory.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.home.options.data_dir
    }

    /// Where the private Redis listens and writes. Makes the users' passwords when there are none yet.
    ///
    /// # Errors
    /// The passwords cannot be read or written.
    pub fn redis_place(&self) -> Result<RedisPlace, ServersError> {
        redis_server::place(&self.home)
    }

    /// The same servers with another configuration of Redis, for its next start.
    #[must_use]
    pub fn with_redis_conf(&self, conf: String) -> Self {
        let mut options = self.home.options.clone();
        options.redis.conf = Some(conf);
        let (account, layout) = (self.home.account.clone(), self.home.layout.clone());
        Self { home: Arc::new(Home { options, account, layout }) }
    }

    /// Sets `maxmemory` of the running private Redis: one that was adopted goes on with what it was started with.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn set_redis_maxmemory(&self, bytes: u64) -> Result<(), ServersError> {
        redis_server::set_maxmemory(&self.home, bytes).await
    }

    /// The settings that the private PostgreSQL is started with, as they stand in its file. The program is asked what it has
    /// built in; where there is none they are those for one that has nothing.
    pub async fn postgres_conf(&self) -> String {
        let options = &self.home.options;
        let has_lz4 = match postgres_server::programs(&self.home).await {
            Ok(programs) => compresses_by_lz4(&programs.postgres).await,
            Err(_) => false,
        };
        forebay_conf(&self.home.layout, &options.postgres, has_lz4)
    }

    /// Whether the Redis program that would be started has active defragmentation built in. It is asked, by a start that
    /// ends before it opens or writes anything.
    ///
    /// # Errors
    /// No such program.
    pub async fn redis_defragments(&self) -> Result<bool, ServersError> {
        defragments(&find_redis(&self.home.options.binaries).await?).await
    }

    /// Adopts or starts both servers, at the same time. Both answer when this returns.
    ///
    /// # Errors
    /// The first of the two that fails; the other may run, and is adopted at the next call.
    pub async fn start(&self) -> Result<(RedisServer, PostgresServer), ServersError> {
        let _lock = self.lock("starting both servers").await?;
        in_use::leave(&self.home, Server::Redis, false)?;
        in_use::leave(&self.home, Server::Postgres, false)?;
        let (redis, postgres) =
            tokio::join!(redis_server::start(&self.home), postgres_server::start(&self.home));
        Ok((redis?, postgres?))
    }

    /// Adopts or starts Redis alone. It has loaded its data when this returns.
    ///
    /// # Errors
    /// See [`ServersError`]; a failed start carries the end of the server's log.
    pub async fn start_redis(&self) -> Result<RedisServer, ServersError> {
        let _lock = self.lock("starting Redis").await?;
        in_use::leave(&self.home, Server::Redis, false)?;
        redis_server::start(&self.home).await
    }

    /// Adopts or starts PostgreSQL alone. Its recovery after a crash is done, and the database and roles of the
    /// options exist, when this returns.
    ///
    /// # Errors
    /// See [`ServersError`]; a failed start carries the end of the server's log.
    pub async fn start_postgres(&self) -> Result<PostgresServer, ServersError> {
        let _lock = self.lock("starting PostgreSQL").await?;
        in_use::leave(&self.home, Server::Postgres, false)?;
        postgres_server::start(&self.home).await
    }

    /// Works with the servers from now on, whichever run: [`stop_unless_in_use`](Self::stop_unless_in_use) leaves them
    /// running until [`InUse::leave`].
    ///
    /// # Errors
    /// [`ServersError::LockBusy`]: they are being stopped, for too long.
    pub async fn in_use(&self) -> Result<InUse, ServersError> {
        InUse::enter(self).await
    }

    /// The same, and adopts or starts PostgreSQL for it. One that was started ends with the last who works with it, unless
    /// a node adopts it meanwhile.
    ///
    /// # Errors
    /// See [`start_postgres`](Self::start_postgres). Nothing that was started is left running.
    pub async fn start_postgres_in_use(&self) -> Result<(PostgresServer, InUse), ServersError> {
        let in_use = InUse::enter(self).await?;
        let started = async {
            let _lock = self.lock("starting PostgreSQL for a read").await?;
            if postgres_server::find(&self.home).await?.is_none() {
                in_use::leave(&self.home, Server::Postgres, true)?;
            }
            postgres_server::start(&self.home).await
        }
        .await;
        match started {
            Ok(server) => Ok((server, in_use)),
            Err(error) => {
                if let Err(another) = in_use.leave().await {
                    tracing::warn!(error = %another, "PostgreSQL, which did not start well, does not stop");
                }
                Err(error)
            }
        }
    }

    /// The running Redis, or `None`; never starts one. Waits while it loads its data.
    ///
    /// # Errors
    /// When a process holds the data and does not answer.
    pub async fn running_redis(&self) -> Result<Option<RedisServer>, ServersError> {
        redis_server::find(&self.home).await
    }

    /// The running PostgreSQL, or `None`; never starts one. Waits while it recovers.
    ///
    /// # Errors
    /// When a process holds the data and does not answer.
    pub async fn running_postgres(&self) -> Result<Option<PostgresServer>, ServersError> {
        postgres_server::find(&self.home).await
    }

    /// Stops Redis, then PostgreSQL, gracefully. See [`stop_redis`](Self::stop_redis) for what stays.
    ///
    /// # Errors
    /// [`ServersError::StopTimeout`] when one is not gone in time; the other is stopped all the same.
    pub async fn stop(&self) -> Result<(), ServersError> {
        let _lock = self.lock("stopping both servers").await?;
        let redis = redis_server::stop(&self.home).await;
        let postgres = postgres_server::stop(&self.home).await;
        redis?;
        postgres?;
        Ok(())
    }

    /// The same, unless somebody works with them (see [`in_use`](Self::in_use)): then `false`, and the last one to leave
    /// stops them.
    ///
    /// # Errors
    /// [`ServersError::StopTimeout`].
    pub async fn stop_unless_in_use(&self) -> Result<bool, ServersError> {
        self.stop_as_left(LeftToStop::BOTH).await
    }

    pub(crate) async fn stop_what_is_left(&self) -> Result<(), ServersError> {
        self.stop_as_left(LeftToStop::default()).await.map(drop)
    }

    async fn stop_as_left(&self, more: LeftToStop) -> Result<bool, ServersError> {
        let _lock = self.lock("stopping servers").await?;
        let Some((left, alone)) = in_use::to_stop(&self.home, more)? else { return Ok(false) };
        let redis = if left.redis { redis_server::stop(&self.home).await } else { Ok(false) };
        let postgres = if left.postgres { postgres_server::stop(&self.home).await } else { Ok(false) };
        redis?;
        postgres?;
        alone.done(&self.home)?;
        Ok(true)
    }

    /// Stops Redis gracefully; `false` when none ran. With the durable profile all its data are on disk when this
    /// returns; with the volatile one they are gone, so drain first.
    ///
    /// # Errors
    /// [`ServersError::StopTimeout`].
    pub async fn stop_redis(&self) -> Result<bool, ServersError> {
        let _lock = self.lock("stopping Redis").await?;
        redis_server::stop(&self.home).await
    }

    /// Stops PostgreSQL by a fast shutdown (sessions are ended, a checkpoint is written); `false` when none ran.
    ///
    /// # Errors
    /// [`ServersError::StopTimeout`].
    pub async fn stop_postgres(&self) -> Result<bool, ServersError> {
        let _lock = self.lock("stopping PostgreSQL").await?;
        postgres_server::stop(&self.home).await
    }

    /// Two programs that start at once: one does it, the other waits here and then adopts.
    async fn lock(&self, doing: &str) -> Result<LockFile, ServersError> {
        let path = self.home.layout.servers_lock();
        let deadline = Instant::now() + self.home.options.timeouts.lock;
        loop {
            let attempt = LockFile::try_acquire(&path, doing);
            match attempt.map_err(ServersError::io("taking the lock of the servers", &path))? {
                Ok(lock) => return Ok(lock),
                Err(holder) if Instant::now() >= deadline => return Err(ServersError::LockBusy(holder)),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) async fn lock_for_template(&self) -> Result<LockFile, ServersError> {
        self.lock("preparing data for tests").await
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }
}
