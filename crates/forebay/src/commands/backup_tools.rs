//! pg_dump and pg_restore: how they are called, and how far they are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::HumanCount;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};

use super::Context;
use crate::exit::{Exit, Told};
use crate::screen::{Screen, Shown};

/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a plain line tells it.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str = "{prefix:>9} {bar:30} {human_pos} of {human_len} rows  {per_sec}  {eta} left";

/// A connection that is driven in the background.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// A program of PostgreSQL's clients, told by its environment where to connect: arguments can be seen by everybody.
pub fn tool(program: &Path, config: &Config) -> Command {
    let mut command = Command::new(program);
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    command.env("PGHOST", host).env("PGPORT", config.get_ports().first().unwrap_or(&5432).to_string());
    command.env("PGUSER", config.get_user().unwrap_or_default());
    command.env("PGDATABASE", config.get_dbname().unwrap_or_default());
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(password));
    }
    command.env("PGSSLMODE", match config.get_ssl_mode() {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        _ => "prefer",
    });
    command.env("LC_ALL", "C").arg("--no-password");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Rows of the chain's tables, about: what a bar counts to.
pub async fn rows_about(client: &Client) -> anyhow::Result<u64> {
    let sql = "select coalesce(sum(n_live_tup), 0)::bigint from pg_stat_user_tables where schemaname = 'forebay'";
    Ok(client.query_one(sql, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs())
}

/// Runs a tool to its end, and shows the rows that its COPY statements have done so far.
///
/// # Errors
/// It failed: with what it said. Interrupted: it was ended.
pub async fn run(
    context: &Context,
    name: &'static str,
    mut command: Command,
    watched: &Client,
    rows: u64,
) -> anyhow::Result<()> {
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
        let (status, ()) = tokio::join!(child_with_progress(&mut child, name, &context.screen, watched, rows), reading);
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
    watched: &Client,
    rows: u64,
) -> anyhow::Result<std::process::ExitStatus> {
    let bar = (screen.shown() == Shown::Bars).then(|| screen.bar(BAR, Some(rows)).with_prefix(name));
    let mut tables: HashMap<u32, u64> = HashMap::new();
    let mut told = Instant::now();
    loop {
        if let Ok(status) = tokio::time::timeout(LOOK_EVERY, child.wait()).await {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return Ok(status?);
        }
        // A courtesy: a server that does not answer just now is no failure of the tool.
        let sql = "select relid, tuples_processed from pg_stat_progress_copy where datname = current_database()";
        for row in watched.query(sql, &[]).await.unwrap_or_default() {
            if let (Ok(table), Ok(done)) = (row.try_get::<_, u32>(0), row.try_get::<_, i64>(1)) {
                let most = tables.entry(table).or_default();
                *most = (*most).max(done.unsigned_abs());
            }
        }
        let done: u64 = tables.values().sum();
        if let Some(bar) = &bar {
            bar.set_length(rows.max(done));
            bar.set_position(done);
        } else if told.elapsed() >= LINE_EVERY {
            told = Instant::now();
            screen.say(format!("{name}: {} of about {} rows", HumanCount(done), HumanCount(rows.max(done))));
        }
    }
}

/// The path beside a file, under which it is written until it is complete.
pub fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
