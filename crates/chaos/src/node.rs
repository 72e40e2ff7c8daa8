//! A node as an operator runs it: the program, in a process of its own.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::process::signal;
use crate::servers::Servers;

/// How long a successor watches a silent holder; short, so that a run sees many take-overs.
pub const TAKEOVER_SECONDS: u64 = 2;

/// How nodes of a run are started.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The program.
    pub program: PathBuf,
    /// Directory of the run.
    pub root: PathBuf,
    /// A library that shows another wall clock, if there is one.
    pub faketime: Option<PathBuf>,
}

/// A node's process.
pub struct NodeProcess {
    child: Child,
    pid: u32,
    /// Where it takes operations.
    pub feed: PathBuf,
    /// Where it says what it does.
    pub log: PathBuf,
    /// What the log had before.
    log_from: usize,
}

impl NodePlan {
    /// The file that the faked clock is read from.
    pub fn clock_file(&self) -> PathBuf {
        self.root.join("clock")
    }

    /// Starts a node. `slot` tells two nodes apart: each has a data directory, a feed and a log of its own. `settings` go
    /// beyond what all nodes of a run have.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(
        &self,
        servers: &Servers,
        slot: usize,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<NodeProcess> {
        let feed = self.root.join(format!("feed-{slot}.sock"));
        let log = self.root.join(format!("node-{slot}.log"));
        let log_from = fs::metadata(&log).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or_default());
        let output =
            OpenOptions::new().create(true).append(true).open(&log).context("opening the node's log")?;
        let names = &servers.names;
        let mut command = Command::new(&self.program);
        command.args(["run", "-v", "--feed"]).arg(&feed);
        command.arg("--data-dir").arg(self.data_dir(slot));
        command.arg("--network").arg(self.root.join("profile.toml"));
        command.arg("--genesis").arg(self.root.join("genesis.json"));
        command.arg("--redis-url").arg(servers.redis_url());
        command.arg("--postgres-url").arg(servers.postgres_url(&names.writer, &names.database)?);
        let superuser = forebay_servers::SUPERUSER;
        command.arg("--postgres-admin-url").arg(servers.postgres_url(superuser, "postgres")?);
        // Small windows: take-backs leave Redis' undo records, and entries leave the outbox, within a short run.
        for (limit, value) in [
            ("UNDO_KEPT", 24),
            ("OUTBOX_KEPT", 400),
            ("BLOCKS_KEPT", 400),
            ("TAKEOVER_AFTER_SECONDS", TAKEOVER_SECONDS),
        ] {
            command.env(format!("FOREBAY_LIMITS__{limit}"), value.to_string());
        }
        for (name, value) in settings {
            command.env(format!("FOREBAY_{name}"), value);
        }
        command.env("RUST_BACKTRACE", "1");
        if let Some(library) = &self.faketime {
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", self.clock_file());
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let pid = child.id().context("the node ended at once")?;
        Ok(NodeProcess { child, pid, feed, log, log_from })
    }

    /// A node's data directory.
    pub fn data_dir(&self, slot: usize) -> PathBuf {
        self.root.join(format!("node-{slot}"))
    }
}

impl NodeProcess {
    /// How it ended; `None`: it runs.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether these words are in what it has logged.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn has_logged(&self, words: &str) -> anyhow::Result<bool> {
        Ok(self.count_logged(words)? > 0)
    }

    /// How often it has logged these words.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn count_logged(&self, words: &str) -> anyhow::Result<usize> {
        let text = fs::read(&self.log).context("reading a node's log")?;
        let own = text.get(self.log_from..).unwrap_or_default();
        Ok(String::from_utf8_lossy(own).matches(words).count())
    }

    /// Sends a signal, if it still runs.
    ///
    /// # Errors
    /// The system forbids it.
    pub fn signal(&mut self, wanted: Signal) -> anyhow::Result<()> {
        // Not reaped yet, so the id is still its own.
        if self.ended()?.is_none() { signal(self.pid, wanted) } else { Ok(()) }
    }

    /// `kill -9`; gone when it returns.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait().await.context("waiting for a killed node")?;
        Ok(())
    }

    /// Waits for its end by itself.
    ///
    /// # Errors
    /// It runs on after `limit`.
    pub async fn wait_end(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        Ok(ended.with_context(|| format!("the node did not end within {} s", limit.as_secs()))??)
    }
}

/// The last lines of a log.
pub fn log_tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
