//! Redis and PostgreSQL of a run: real servers, each behind a proxy, in directories of their own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_servers::{
    PostgresServer, PrivateServers, RedisOptions, RedisProfile, RedisServer, SUPERUSER, ServersOptions,
};
use forebay_slow::setup::Names;
use forebay_testkit::proxy::{Endpoint, Proxy};
use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls};

use crate::process::{family, signal, wait_gone};

/// Room for the append-only file of a run. What is free is filled when the disk has to be full.
const REDIS_DISK: &str = "size=512m";
/// Room for PostgreSQL's data and WAL.
const POSTGRES_DISK: &str = "size=1g";
/// A server that was killed is gone at once; one that shuts down writes a checkpoint.
const END_MAX: Duration = Duration::from_secs(60);

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
    redis: RedisServer,
    postgres: PostgresServer,
    /// In front of Redis.
    pub redis_proxy: Proxy,
    /// In front of PostgreSQL.
    pub postgres_proxy: Proxy,
    /// Database and roles.
    pub names: Names,
    root: PathBuf,
    /// Why there are no small disks of their own; `None`: there are.
    pub no_small_disks: Option<String>,
}

impl Servers {
    /// Starts both below `root`, each on a small disk of its own if we may mount one.
    ///
    /// # Errors
    /// A server does not start, a proxy cannot listen.
    pub async fn start(root: &Path) -> anyhow::Result<Self> {
        let names = Names::with_prefix("forebay");
        let mut options = ServersOptions::new(root.join("servers"));
        options.redis = RedisOptions { profile: RedisProfile::Durable, ..RedisOptions::default() };
        // Killed processes lose nothing that was written; only a machine's crash would need the flush.
        options.postgres.fsync = false;
        options.postgres.shared_buffers_bytes = Some(32 << 20);
        options.postgres.roles = vec![names.writer.clone(), names.reader.clone()];
        let small = [("min_wal_size", "32MB"), ("max_wal_size", "128MB"), ("deadlock_timeout", "200ms")];
        options.postgres.extra =
            small.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fs::create_dir_all(root.join("servers"))?;
        let no_small_disks = small_disks(root).err().map(|error| format!("{error:#}"));
        let private = PrivateServers::open(options).await?;
        let (redis, postgres) = private.start().await?;
        let redis_proxy =
            Proxy::start(Endpoint::Unix(root.join("redis.sock")), Endpoint::Unix(redis.socket())).await?;
        let socket = format!(".s.PGSQL.{}", postgres.port());
        let server = Endpoint::Unix(postgres.socket_dir().join(&socket));
        let postgres_proxy = Proxy::start(Endpoint::Unix(root.join(&socket)), server).await?;
        let root = root.to_owned();
        Ok(Self { private, redis, postgres, redis_proxy, postgres_proxy, names, root, no_small_disks })
    }

    /// Redis' address for the node: the proxy's.
    pub fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.root.join("redis.sock").display())
    }

    /// Redis' address without the proxy.
    pub fn direct_redis_url(&self) -> String {
        self.redis.redis_url()
    }

    /// PostgreSQL for the node as a role: behind the proxy. Holds the password.
    ///
    /// # Errors
    /// The role has no password here.
    pub fn postgres_url(&self, role: &str, database: &str) -> anyhow::Result<String> {
        let password = self.postgres.password(role)?;
        let (host, port) = (self.root.display(), self.postgres.port());
        Ok(format!("host={host} port={port} user={role} password={password} dbname={database}"))
    }

    /// PostgreSQL without the proxy, as the superuser.
    ///
    /// # Errors
    /// There is no password for it.
    pub fn direct_postgres(&self) -> anyhow::Result<Config> {
        let mut config = self.postgres.config(SUPERUSER)?;
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

    fn pid(&self, server: Server) -> Option<u32> {
        match server {
            Server::Redis => self.redis.is_running().then(|| self.redis.pid()),
            Server::Postgres => self.postgres.is_running().then(|| self.postgres.pid()),
        }
    }

    /// `kill -9`, without waiting for the end.
    ///
    /// # Errors
    /// The system forbids it.
    pub fn kill(&self, server: Server) -> anyhow::Result<()> {
        self.pid(server).map_or(Ok(()), |pid| signal(pid, Signal::KILL))
    }

    /// `kill -9`; gone when it returns. PostgreSQL's sessions follow in a moment.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill_and_wait(&self, server: Server) -> anyhow::Result<()> {
        let Some(pid) = self.pid(server) else { return Ok(()) };
        signal(pid, Signal::KILL)?;
        wait_gone(pid, END_MAX).await
    }

    /// Stops the server's processes where they stand; PostgreSQL's sessions too.
    ///
    /// # Errors
    /// The system forbids it.
    pub fn pause(&self, server: Server) -> anyhow::Result<()> {
        let Some(pid) = self.pid(server) else { return Ok(()) };
        signal(pid, Signal::STOP)?;
        // Now the postmaster forks no more: its children are all there are.
        family(pid).into_iter().try_for_each(|pid| signal(pid, Signal::STOP))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The system forbids it.
    pub fn resume(&self, server: Server) -> anyhow::Result<()> {
        let Some(pid) = self.pid(server) else { return Ok(()) };
        family(pid).into_iter().try_for_each(|pid| signal(pid, Signal::CONT))
    }

    /// A graceful end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&self, server: Server) -> anyhow::Result<()> {
        match server {
            Server::Redis => self.private.stop_redis().await?,
            Server::Postgres => self.private.stop_postgres().await?,
        };
        Ok(())
    }

    /// Starts the server if it does not run. It answers when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub async fn ensure(&mut self, server: Server) -> anyhow::Result<()> {
        match server {
            Server::Redis if !self.redis.is_running() => self.redis = self.private.start_redis().await?,
            Server::Postgres if !self.postgres.is_running() => {
                self.postgres = self.private.start_postgres().await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn directory(&self, server: Server) -> PathBuf {
        self.root.join("servers").join(match server {
            Server::Redis => "redis",
            Server::Postgres => "postgres",
        })
    }

    fn data(&self, server: Server) -> PathBuf {
        self.directory(server).join(match server {
            Server::Redis => "appendonlydir",
            Server::Postgres => "data",
        })
    }

    /// Keeps a copy of the server's files. Redis: as they are, cut off somewhere in the newest command; PostgreSQL: it
    /// must not run.
    ///
    /// # Errors
    /// The copy fails.
    pub fn keep_copy(&self, server: Server) -> anyhow::Result<PathBuf> {
        let copy = self.root.join(format!("older-{server:?}"));
        remove_tree(&copy)?;
        copy_tree(&self.data(server), &copy)?;
        Ok(copy)
    }

    /// Puts a kept copy in the place of the server's files. It must not run.
    ///
    /// # Errors
    /// It runs, or the copy fails.
    pub fn put_back(&self, server: Server, copy: &Path) -> anyhow::Result<()> {
        if self.pid(server).is_some() {
            bail!("{server:?} runs: its files cannot be exchanged");
        }
        let data = self.data(server);
        remove_tree(&data)?;
        copy_tree(copy, &data)
    }

    /// Takes all room on the server's disk.
    ///
    /// # Errors
    /// There is no disk of its own, or writing fails for another reason than the lack of room.
    pub fn fill_disk(&self, server: Server) -> anyhow::Result<()> {
        if let Some(reason) = &self.no_small_disks {
            bail!("no small disk: {reason}");
        }
        let mut filler = fs::File::create(self.filler(server))?;
        for size in [1 << 20, 4096, 1] {
            let zeros = vec![0; size];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn free_disk(&self, server: Server) -> anyhow::Result<()> {
        remove_tree(&self.filler(server))
    }

    fn filler(&self, server: Server) -> PathBuf {
        self.directory(server).join("filler")
    }

    /// Ends both at once, whatever they do, and gives the small disks back; copies of what is to be kept stay beside them.
    pub async fn end(&self, keep: bool) {
        for server in [Server::Redis, Server::Postgres] {
            let Some(pid) = self.pid(server) else { continue };
            let _ = self.resume(server);
            // PostgreSQL ends its sessions at SIGQUIT before it goes; Redis has no handler for it.
            let _ = signal(pid, if server == Server::Postgres { Signal::QUIT } else { Signal::KILL });
            let _ = wait_gone(pid, END_MAX).await;
        }
        if self.no_small_disks.is_none() {
            for server in [Server::Redis, Server::Postgres] {
                let directory = self.directory(server);
                let _ = self.free_disk(server);
                // A small disk lives in memory: what is to be kept moves to a real one.
                if keep {
                    let _ = copy_tree(&directory, &directory.with_extension("kept"));
                }
                let _ = Command::new("umount").arg("-l").arg(&directory).status();
            }
        }
    }
}

/// Mounts a small disk for each server.
fn small_disks(root: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may mount one");
    }
    for (name, size) in [("redis", REDIS_DISK), ("postgres", POSTGRES_DISK)] {
        let directory = root.join("servers").join(name);
        fs::create_dir_all(&directory)?;
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&directory).output()?;
        if !output.status.success() {
            bail!("mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

/// A copy with owners and modes.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("starting cp")?;
    if status.success() { Ok(()) } else { bail!("copying {} to {}: {status}", from.display(), to.display()) }
}
