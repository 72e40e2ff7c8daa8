//! pg_dump and pg_restore: how they are called, and how far they are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};

use super::Context;
use crate::exit::{Exit, Told};
use crate::screen::{BYTES, ROWS, Screen, Shown, how_far};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a plain line tells it.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where systems keep the certificates that they trust, in one file.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A connection that is driven in the background.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    Ok(forebay_slow::open_session(config, "connecting to PostgreSQL").await?)
}

/// A program of PostgreSQL's clients, told by its environment where to connect: arguments can be seen by everybody.
pub fn tool(program: &Path, config: &Config) -> Command {
    let mut command = Command::new(program);
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    if let Some(address) = config.get_hostaddrs().first() {
        command.env("PGHOSTADDR", address.to_string());
    }
    command.env("PGHOST", host).env("PGPORT", config.get_ports().first().unwrap_or(&5432).to_string());
    command.env("PGUSER", config.get_user().unwrap_or_default());
    command.env("PGDATABASE", config.get_dbname().unwrap_or_default());
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(password));
    }
    encrypt_as_we_do(&mut command, config);
    command.env("LC_ALL", "C").arg("--no-password");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Encrypted where our own sessions are, and as strictly checked (`slow/src/tls.rs`).
fn encrypt_as_we_do(command: &mut Command, config: &Config) {
    if config.get_ssl_mode() != SslMode::Require {
        command.env("PGSSLMODE", "disable");
        return;
    }
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let trusted =
        given.or_else(|| SYSTEM_CERTIFICATES.map(PathBuf::from).into_iter().find(|file| file.exists()));
    match trusted {
        Some(file) => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", file),
        // Our own sessions were refused already where nothing is trusted.
        None => command.env("PGSSLMODE", "require"),
    };
}

/// Rows of the chain's tables, about: what a bar counts to.
pub async fn rows_about(client: &Client) -> anyhow::Result<u64> {
    let sql =
        "select coalesce(sum(n_live_tup), 0)::bigint from pg_stat_user_tables where schemaname = 'forebay'";
    Ok(client.query_one(sql, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs())
}

/// What tells how far a tool is.
#[derive(Clone, Copy)]
pub enum Watched<'a> {
    /// The server counts rows that COPY has done; about so many in all.
    Rows {
        /// Asks the server.
        client: &'a Client,
        /// How many there are, about.
        total: u64,
    },
    /// The system knows how far the tool has read this file.
    File(&'a Path),
}

/// Runs a tool to its end, and shows how far it is.
///
/// # Errors
/// It failed: with what it said. Interrupted: it was ended.
pub async fn run(
    context: &Context,
    name: &'static str,
    mut command: Command,
    watched: Watched<'_>,
) -> anyhow::Result<()> {
    let server = match watched {
        Watched::Rows { client, .. } => Some(client),
        Watched::File(_) => None,
    };
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    let mut said = Vec::new();
    let mut stderr = child.stderr.take();
    let reading = async {
        if let Some(stderr) = &mut stderr {
            // What it could not say is missing in a message.
            let _ = stderr.read_to_end(&mut said).await;
        }
    };
    let working = async {
        let (status, ()) =
            tokio::join!(child_with_progress(&mut child, name, &context.screen, watched), reading);
        status
    };
    let status = tokio::select! {
        status = working => status?,
        () = context.signals.asked() => return Err(crate::session::interrupted(&format!("while {name} was working"))),
    };
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let is_server_gone = match server {
        Some(client) => client.batch_execute("").await.is_err(),
        None => false,
    };
    if is_server_gone {
        let message =
            format!("PostgreSQL went away while {name} was working; it ended with {status}: {said}");
        let remedy = "Nothing was changed. See why the server stopped (its log), and try again.";
        return Err(Told::new(Exit::Unavailable, "postgres", message, remedy).into());
    }
    Err(Told::new(
        Exit::Refused,
        "backup",
        format!("{name} ended with {status}: {said}"),
        "Nothing was changed. Check the file, its volume's free space, and that the tool is not older than the server.",
    )
    .into())
}

async fn child_with_progress(
    child: &mut Child,
    name: &'static str,
    screen: &Screen,
    watched: Watched<'_>,
) -> anyhow::Result<std::process::ExitStatus> {
    let (template, unit) = match watched {
        Watched::Rows { .. } => (ROWS, "rows"),
        Watched::File(_) => (BYTES, "bytes"),
    };
    let bar = (screen.shown() == Shown::Bars).then(|| screen.bar(template, Some(0)).with_prefix(name));
    let mut counter = Counter { watched, tables: HashMap::new(), done: 0 };
    let begun = Instant::now();
    let mut told = begun;
    loop {
        if let Ok(status) = tokio::time::timeout(LOOK_EVERY, child.wait()).await {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return Ok(status?);
        }
        let (done, total) = counter.look(child.id()).await;
        if let Some(bar) = &bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if told.elapsed() >= LINE_EVERY {
            told = Instant::now();
            let after = if done == total { "; indexes follow" } else { "" };
            let how_far = how_far(done, Some(total), begun.elapsed());
            screen.say(format!("{name}: {how_far} ({unit}{after})"));
        }
    }
}

/// Counts what a tool has done. A courtesy: what cannot be seen just now is no failure.
struct Counter<'a> {
    watched: Watched<'a>,
    tables: HashMap<u32, u64>,
    done: u64,
}

impl Counter<'_> {
    /// Done, and of how much.
    async fn look(&mut self, pid: Option<u32>) -> (u64, u64) {
        match &self.watched {
            Watched::Rows { client, total } => {
                let sql = "select relid, tuples_processed from pg_stat_progress_copy where datname = current_database()";
                for row in client.query(sql, &[]).await.unwrap_or_default() {
                    if let (Ok(table), Ok(done)) = (row.try_get::<_, u32>(0), row.try_get::<_, i64>(1)) {
                        let most = self.tables.entry(table).or_default();
                        *most = (*most).max(done.unsigned_abs());
                    }
                }
                let done = self.tables.values().sum();
                (done, done.max(*total))
            }
            Watched::File(file) => {
                let read = pid.and_then(|pid| read_position(pid, file)).unwrap_or_default();
                self.done = self.done.max(read);
                (self.done, std::fs::metadata(file).map_or(0, |meta| meta.len()).max(self.done))
            }
        }
    }
}

/// How far a process has read a file, as `/proc/<pid>/fdinfo` says.
fn read_position(pid: u32, file: &Path) -> Option<u64> {
    let file = file.canonicalize().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let descriptor =
        descriptors.flatten().find(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == file))?;
    let facts =
        std::fs::read_to_string(Path::new(&format!("/proc/{pid}/fdinfo")).join(descriptor.file_name()))
            .ok()?;
    facts.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}

/// The path beside a file, under which it is written until it is complete.
pub fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
