//! The servers' processes: killed, paused, ended, started again.

use std::time::Duration;

use rustix::process::Signal;

use super::{Server, Servers};
use crate::process::{family, signal, wait_gone};

/// A server that was killed is gone at once; one that shuts down writes a checkpoint.
const END_MAX: Duration = Duration::from_secs(60);

impl Servers {
    pub(super) fn pid(&self, server: Server) -> Option<u32> {
        match server {
            Server::Redis => Some(self.redis()).filter(|redis| redis.is_running()).map(|redis| redis.pid()),
            Server::Postgres => {
                Some(self.postgres()).filter(|postgres| postgres.is_running()).map(|postgres| postgres.pid())
            }
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

    /// `kill -9` of the server and of all its sessions, which could write for a while yet; all are gone when it returns.
    ///
    /// # Errors
    /// One does not end.
    pub async fn kill_with_sessions(&self, server: Server) -> anyhow::Result<()> {
        let Some(pid) = self.pid(server) else { return Ok(()) };
        signal(pid, Signal::STOP)?;
        // Now it forks no more: its children are all there are.
        let all = family(pid);
        all.iter().try_for_each(|pid| signal(*pid, Signal::KILL))?;
        for pid in all {
            wait_gone(pid, END_MAX).await?;
        }
        Ok(())
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
    pub async fn ensure(&self, server: Server) -> anyhow::Result<()> {
        let _one = self.starting.lock().await;
        if self.pid(server).is_some() {
            return Ok(());
        }
        match server {
            Server::Redis => {
                let redis = self.private.start_redis().await?;
                *self.redis() = redis;
            }
            Server::Postgres => {
                let postgres = self.private.start_postgres().await?;
                *self.postgres() = postgres;
            }
        }
        Ok(())
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
        self.unmount(keep);
    }
}
