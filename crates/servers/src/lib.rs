//! Private Redis and PostgreSQL servers: start, adopt, stop.
//!
//! Forebay can bring servers of its own, so that a node needs nothing but a data directory. They run in a session of
//! their own and outlive the node: after a crash of the node, what Redis had accepted is still there, and the next
//! start adopts both servers as they run. They listen on Unix sockets that only their account and root may use, never
//! on TCP. This crate knows nothing of the ledger; it hands out connection facts.
//!
//! ```no_run
//! # async fn example() -> Result<(), forebay_servers::ServersError> {
//! use forebay_servers::{PrivateServers, ServersOptions};
//!
//! let mut options = ServersOptions::new("/var/lib/forebay");
//! options.postgres.roles = vec!["forebay_owner".to_owned(), "forebay_writer".to_owned()];
//! options.postgres.database_owner = Some("forebay_owner".to_owned());
//!
//! let servers = PrivateServers::open(options).await?;
//! let (redis, postgres) = servers.start().await?;
//! println!("Redis is at {}", redis.redis_url());
//! let writer = postgres.connection_string("forebay_writer")?;
//! servers.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Tests of other crates use `testing::TestServers` (feature `testing`).

mod account;
mod binaries;
mod error;
mod in_use;
mod layout;
mod lock;
mod log_tail;
mod options;
mod postgres_config;
mod postgres_init;
mod postgres_server;
mod process;
mod redis_config;
mod redis_server;
mod secrets;
mod servers;
#[cfg(feature = "testing")]
pub mod testing;

pub use binaries::postgres_tool;
pub use error::{ErrorKind, Server, ServersError};
pub use in_use::InUse;
pub use lock::{DataDirLock, HeldBy, LockError};
pub use options::{
    Binaries, PostgresOptions, RedisOptions, RedisPasswords, RedisPlace, ServersOptions, Timeouts,
};
pub use postgres_server::{PostgresServer, SUPERUSER};
pub use redis_config::RedisProfile;
pub use redis_server::RedisServer;
pub use servers::PrivateServers;
