//! Private servers that die are started again, under a start and under a running node. What the node does meanwhile is its
//! own affair: to it a server was away for a while.

use std::time::Duration;

use forebay_servers::{PostgresServer, PrivateServers, RedisServer, ServersError};
use tokio::task::JoinHandle;

/// Pause between two looks at a server's process.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause before a start that failed is tried again; doubled each time.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Its longest. A full disk is given room by people.
const AGAIN_MAX: Duration = Duration::from_secs(15);

/// Keeps servers running until it is ended or dropped.
#[derive(Default)]
pub struct Keeper {
    tasks: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// From now on this PostgreSQL is kept running.
    pub fn keep_postgres(&mut self, servers: &PrivateServers, server: PostgresServer) {
        let servers = servers.clone();
        self.tasks.push(tokio::spawn(keep("PostgreSQL", server, PostgresServer::is_running, move || {
            let servers = servers.clone();
            async move { servers.start_postgres().await }
        })));
    }

    /// From now on this Redis is kept running, with the configuration that `servers` has.
    pub fn keep_redis(&mut self, servers: &PrivateServers, server: RedisServer) {
        let servers = servers.clone();
        self.tasks.push(tokio::spawn(keep("Redis", server, RedisServer::is_running, move || {
            let servers = servers.clone();
            async move { servers.start_redis().await }
        })));
    }

    /// No start is under way, and none follows, when it returns.
    pub async fn end(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It was aborted: there is nothing else to learn.
            let _ = task.await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn keep<S, F: Future<Output = Result<S, ServersError>>>(
    name: &'static str,
    mut server: S,
    is_running: impl Fn(&S) -> bool,
    start: impl Fn() -> F,
) {
    let mut again = AGAIN_MIN;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if is_running(&server) {
            again = AGAIN_MIN;
            continue;
        }
        tracing::warn!(server = name, "a private server ended by itself; starting it again");
        match start().await {
            Ok(started) => {
                server = started;
                tracing::info!(server = name, "the private server runs again");
            }
            Err(error) => {
                tracing::error!(server = name, %error, again_in_s = again.as_secs(), "the private server does not start");
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
            }
        }
    }
}
