//! The servers' files: older copies, kept and put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use forebay_servers::RedisProfile;

use super::{Server, Servers};

/// Redis' snapshot in its directory.
const SNAPSHOT: &str = "dump.rdb";
/// The snapshot that an append-only file begins with.
const BASE: &str = "appendonly.aof.1.base.rdb";

impl Servers {
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

    /// Makes Redis write a snapshot, and keeps a copy of it.
    ///
    /// # Errors
    /// Redis does not write it, or the copy fails.
    pub async fn keep_snapshot(&self) -> anyhow::Result<PathBuf> {
        let copy = self.root.join("older.rdb");
        remove_tree(&copy)?;
        self.redis_command(&["SAVE"]).await?;
        copy_tree(&self.directory(Server::Redis).join(SNAPSHOT), &copy)?;
        Ok(copy)
    }

    /// Puts a kept snapshot in the place of all that Redis has on disk. It must not run.
    ///
    /// # Errors
    /// It runs, or the copy fails.
    pub fn put_snapshot(&self, copy: &Path) -> anyhow::Result<()> {
        if self.pid(Server::Redis).is_some() {
            bail!("Redis runs: its files cannot be exchanged");
        }
        let snapshot = self.directory(Server::Redis).join(SNAPSHOT);
        remove_tree(&snapshot)?;
        if self.profile == RedisProfile::Volatile {
            return copy_tree(copy, &snapshot);
        }
        // With an append-only file, the snapshot is what that begins with.
        let log = self.data(Server::Redis);
        for entry in fs::read_dir(&log)? {
            remove_tree(&entry?.path())?;
        }
        copy_tree(copy, &log.join(BASE))?;
        let manifest = log.join("appendonly.aof.manifest");
        // A copy first: it has the right owner.
        copy_tree(copy, &manifest)?;
        fs::write(&manifest, format!("file {BASE} seq 1 type b\n")).context("writing Redis' manifest")
    }
}

pub(super) fn remove_tree(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

/// A copy with owners and modes.
pub(super) fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("starting cp")?;
    if status.success() { Ok(()) } else { bail!("copying {} to {}: {status}", from.display(), to.display()) }
}
