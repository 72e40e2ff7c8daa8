//! The private PostgreSQL: adopt it when it runs, start it when it does not, stop it when asked.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::binaries::{PostgresPrograms, compresses_by_lz4, find_postgres};
use crate::error::{Server, ServersError};
use crate::layout::{Layout, POSTGRES_PORT};
use crate::log_tail;
use crate::postgres_config::{PG_HBA, forebay_conf};
use crate::postgres_init::{data_major, initialise};
use crate::process::{self, Halted, POLL, Process, Started};
use crate::secrets::Secrets;
use crate::servers::Home;

/// Name of the superuser of a private PostgreSQL. The program itself works with lesser roles.
pub const SUPERUSER: &str = "forebay_admin";

/// How long one connection may take before the server counts as silent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a long recovery is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Pause before a start is tried again while sessions of a killed server still hold its shared memory.
const ORPHANS_PAUSE: Duration = Duration::from_millis(100);

/// A running private PostgreSQL. Dropping this leaves the server running; [`crate::PrivateServers::stop_postgres`]
/// ends it.
#[derive(Debug, Clone)]
pub struct PostgresServer {
    layout: Layout,
    process: Process,
    is_adopted: bool,
    secrets: Secrets,
    database: String,
}

impl PostgresServer {
    /// The directory of the Unix socket: `host` of a connection.
    pub fn socket_dir(&self) -> &Path {
        &self.layout.postgres_sockets
    }

    /// The port, which only names the socket.
    pub fn port(&self) -> u16 {
        POSTGRES_PORT
    }

    /// The database of the options.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How to connect as `role`: one of the options' roles or [`SUPERUSER`].
    ///
    /// # Errors
    /// [`ServersError::Secrets`] for a role without a password here.
    pub fn config(&self, role: &str) -> Result<Config, ServersError> {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(self.port()).user(role).password(self.password(role)?);
        config.dbname(&self.database);
        Ok(config)
    }

    /// The same as a connection string (`host=… port=… user=… password=… dbname=…`) for tokio-postgres and libpq.
    /// It holds the password: not for logs.
    ///
    /// # Errors
    /// [`ServersError::Secrets`] for a role without a password here.
    pub fn connection_string(&self, role: &str) -> Result<String, ServersError> {
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        Ok(format!(
            "host={} port={} user={} password={} dbname={}",
            quoted(&self.socket_dir().to_string_lossy()),
            self.port(),
            quoted(role),
            quoted(self.password(role)?),
            quoted(&self.database)
        ))
    }

    /// The password of `role`.
    ///
    /// # Errors
    /// [`ServersError::Secrets`] for a role without a password here.
    pub fn password(&self, role: &str) -> Result<&str, ServersError> {
        self.secrets.password(role).ok_or_else(|| no_password(&self.layout, role))
    }

    /// Whether it ran already when we came.
    pub fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Whether that process still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_alive()
    }

    /// The server's own log.
    pub fn log_path(&self) -> PathBuf {
        self.layout.postgres_log()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn process(&self) -> Process {
        self.process
    }
}

/// The running server of this directory, if there is one.
pub(crate) async fn find(home: &Home) -> Result<Option<PostgresServer>, ServersError> {
    wait_ready(home, None).await
}

/// Adopts or starts the server. The caller holds the servers' lock.
pub(crate) async fn start(home: &Home) -> Result<PostgresServer, ServersError> {
    let mut server = match find(home).await? {
        Some(server) => server,
        None => start_new(home).await?,
    };
    create_roles_and_database(home, &mut server).await?;
    let how = if server.is_adopted { "adopted the running" } else { "started the" };
    tracing::info!(pid = server.pid(), "{how} private PostgreSQL");
    Ok(server)
}

/// Stops the server by a fast shutdown; `false` when none runs. All data are on disk when this returns.
pub(crate) async fn stop(home: &Home) -> Result<bool, ServersError> {
    let Some(process) = postmaster(home).map(|(process, _)| process).or_else(|| first_process(home)) else {
        return Ok(false);
    };
    let data = home.layout.postgres_data();
    process.signal(Signal::INT).map_err(ServersError::io("stopping PostgreSQL", &data))?;
    let (begun, mut halted) = (Instant::now(), Halted::default());
    if !process.wait_gone_unless_halted(home.options.timeouts.stop, &mut halted).await {
        return Err(ServersError::StopTimeout {
            server: Server::Postgres,
            pid: process.pid,
            waited_s: begun.elapsed().as_secs(),
            halted: halted.is_for_good(process),
            log_path: home.layout.postgres_log(),
        });
    }
    tracing::info!(pid = process.pid, "stopped the private PostgreSQL");
    Ok(true)
}

/// The programs that the server is started with.
pub(crate) async fn programs(home: &Home) -> Result<PostgresPrograms, ServersError> {
    find_postgres(&home.options.binaries, data_major(home)?).await
}

async fn start_new(home: &Home) -> Result<PostgresServer, ServersError> {
    let deadline = Instant::now() + home.options.timeouts.start;
    let programs = programs(home).await?;
    if data_major(home)?.is_none() {
        initialise(home, &programs).await?;
    }
    home.account.write_file(&home.layout.postgres_hba(), PG_HBA.as_bytes())?;
    let has_lz4 = compresses_by_lz4(&programs.postgres).await;
    let conf = forebay_conf(&home.layout, &home.options.postgres, has_lz4);
    home.account.write_file(&home.layout.postgres_conf(), conf.as_bytes())?;
    log_tail::rotate(&home.layout.postgres_log());
    loop {
        remove_misleading_lock_files(home, deadline).await?;
        let mut started = spawn(home, &programs)?;
        if let Some(server) = wait_ready(home, Some(&mut started)).await? {
            return Ok(server);
        }
        let log_path = home.layout.postgres_log();
        let log_tail = log_tail::since(&log_path, started.log_start);
        // Sessions outlive a killed postmaster for a moment, and must not meet a new one.
        if log_tail.contains("pre-existing shared memory block") && Instant::now() < deadline {
            tokio::time::sleep(ORPHANS_PAUSE).await;
            continue;
        }
        let reason = started.end_text();
        return Err(ServersError::StartFailed { server: Server::Postgres, reason, log_path, log_tail });
    }
}

fn spawn(home: &Home, programs: &PostgresPrograms) -> Result<Started, ServersError> {
    let (layout, data) = (&home.layout, home.layout.postgres_data());
    let arguments = [OsStr::new("-D"), data.as_os_str()];
    Started::spawn(
        &home.account,
        &programs.postgres,
        &arguments,
        &layout.postgres_dir(),
        &layout.postgres_log(),
    )
}

/// Waits until the server takes connections. `None` when there is no process (any more). A server that was not
/// `started` by us is adopted.
async fn wait_ready(
    home: &Home,
    mut started: Option<&mut Started>,
) -> Result<Option<PostgresServer>, ServersError> {
    let timeouts = &home.options.timeouts;
    let begin = Instant::now();
    let mut report_at = begin + REPORT_INTERVAL;
    let mut last_sign = begin;
    loop {
        let reason = match postmaster(home) {
            Some((process, status)) if matches!(status.as_str(), "ready" | "standby") => {
                match greet(home).await? {
                    Ok(secrets) => {
                        let (layout, database) =
                            (home.layout.clone(), home.options.postgres.database.clone());
                        let is_adopted = started.is_none();
                        return Ok(Some(PostgresServer { layout, process, is_adopted, secrets, database }));
                    }
                    Err(reason) => reason,
                }
            }
            Some((_, status)) => {
                let waiting = matches!(status.as_str(), "starting" | "stopping");
                if waiting && timeouts.recovery.is_none_or(|limit| begin.elapsed() < limit) {
                    last_sign = Instant::now();
                }
                if Instant::now() >= report_at {
                    tracing::info!(status, "PostgreSQL is recovering or shutting down; waiting for it");
                    report_at = Instant::now() + REPORT_INTERVAL;
                }
                format!("its status is `{status}`")
            }
            None if has_ended(home, started.as_deref_mut()) => return Ok(None),
            None => "it has not written its postmaster.pid".to_owned(),
        };
        if last_sign.elapsed() >= timeouts.start {
            return Err(ServersError::Unresponsive {
                server: Server::Postgres,
                pid: first_process(home).map_or(0, |process| process.pid),
                data: home.layout.postgres_data(),
                waited_s: begin.elapsed().as_secs(),
                reason,
                log_path: home.layout.postgres_log(),
                log_tail: log_tail::since(&home.layout.postgres_log(), started.map_or(0, |s| s.log_start)),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn has_ended(home: &Home, started: Option<&mut Started>) -> bool {
    started.is_none_or(|started| started.ended().is_some()) && first_process(home).is_none()
}

/// The running postmaster and its status, by its own file and its command line.
fn postmaster(home: &Home) -> Option<(Process, String)> {
    let text = fs::read_to_string(home.layout.postgres_data().join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    let process = Process::of(pid)?;
    if !is_ours(home, &process::command_line(pid)) {
        return None;
    }
    // The eighth line appears a moment after the others.
    let status = text.lines().nth(7).map_or("starting", str::trim);
    Some((process, status.to_owned()))
}

/// Any process started on this data, also one that has not written its file yet.
fn first_process(home: &Home) -> Option<Process> {
    let found = process::find(|name, line| {
        matches!(name, "postgres" | "postmaster" | "setsid") && is_ours(home, line)
    });
    found.first().copied()
}

/// Whether a command line is that of a postmaster of our data. Its children have titles of their own.
fn is_ours(home: &Home, line: &str) -> bool {
    let data = format!(" -D {}", home.layout.postgres_data().to_string_lossy());
    line.ends_with(&data) || line.contains(&format!("{data} "))
}

/// Connects as the superuser and asks whose data it serves. The inner error is one to wait on.
async fn greet(home: &Home) -> Result<Result<Secrets, String>, ServersError> {
    let path = home.layout.postgres_secrets();
    let Some(secrets) = Secrets::load(&path)? else {
        return Err(ServersError::Secrets { path, reason: "the file is missing".to_owned() });
    };
    let client = match connect(home, &secrets).await? {
        Ok(client) => client,
        Err(reason) => return Ok(Err(reason)),
    };
    let answer = match timeout(CONNECT_TIMEOUT, client.query_one("show data_directory", &[])).await {
        Ok(Ok(row)) => row.try_get::<_, String>(0),
        Ok(Err(error)) => return Ok(Err(error.to_string())),
        Err(_) => return Ok(Err("it took a connection, but no question".to_owned())),
    };
    let found =
        answer.map_err(|source| ServersError::Postgres { doing: "asking the data directory", source })?;
    if Path::new(&found) != home.layout.postgres_data() {
        let socket = home.layout.postgres_socket();
        return Err(ServersError::ForeignServer { server: Server::Postgres, socket, found });
    }
    Ok(Ok(secrets))
}

/// A connection of the superuser to the maintenance database. The inner error is one to wait on.
async fn connect(home: &Home, secrets: &Secrets) -> Result<Result<Client, String>, ServersError> {
    let password = secrets.password(SUPERUSER).ok_or_else(|| no_password(&home.layout, SUPERUSER))?;
    let mut config = Config::new();
    config.host_path(&home.layout.postgres_sockets).port(POSTGRES_PORT);
    config.user(SUPERUSER).password(password).dbname("postgres").application_name("forebay-servers");
    match timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await {
        Ok(Ok((client, connection))) => {
            tokio::spawn(connection);
            Ok(Ok(client))
        }
        Ok(Err(error)) if error.code() == Some(&SqlState::INVALID_PASSWORD) => Err(ServersError::Secrets {
            path: home.layout.postgres_secrets(),
            reason: format!("PostgreSQL refuses the password of {SUPERUSER}"),
        }),
        Ok(Err(error)) => {
            Ok(Err(error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.to_string())))
        }
        Err(_) => Ok(Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Creates what the options ask for and is missing. Passwords are on disk before the roles that need them.
async fn create_roles_and_database(home: &Home, server: &mut PostgresServer) -> Result<(), ServersError> {
    let options = &home.options.postgres;
    let path = home.layout.postgres_secrets();
    let new = server.secrets.add_missing(&options.roles);
    let new = new.map_err(ServersError::io("making passwords for", &path))?;
    if !new.is_empty() {
        server.secrets.save(&path, &home.account)?;
    }
    let client = connect(home, &server.secrets).await?.map_err(|reason| ServersError::Unresponsive {
        server: Server::Postgres,
        pid: server.pid(),
        data: home.layout.postgres_data(),
        waited_s: 0,
        reason,
        log_path: server.log_path(),
        log_tail: log_tail::since(&server.log_path(), 0),
    })?;
    let failed = |source| ServersError::Postgres { doing: "creating roles and the database", source };
    let rows = client.query("select rolname::text from pg_roles", &[]).await.map_err(failed)?;
    let existing: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    for role in &options.roles {
        let verb = match (existing.contains(role), new.contains(role)) {
            (true, false) => continue,
            (true, true) => "alter",
            (false, _) => "create",
        };
        // Generated passwords are hexadecimal digits.
        let password = server.password(role)?;
        let statement = format!("{verb} role {} with login password '{password}'", identifier(role));
        client.batch_execute(&statement).await.map_err(failed)?;
    }
    let find_owner = "select pg_get_userbyid(datdba)::text from pg_database where datname = $1";
    let found = client.query_opt(find_owner, &[&options.database]).await.map_err(failed)?;
    let owner = found.map(|row| row.try_get::<_, String>(0)).transpose().map_err(failed)?;
    let database = identifier(&options.database);
    let statement = match (owner, &options.database_owner) {
        (None, None) => format!("create database {database}"),
        (None, Some(wanted)) => format!("create database {database} owner {}", identifier(wanted)),
        (Some(owner), Some(wanted)) if owner != *wanted => {
            format!("alter database {database} owner to {}", identifier(wanted))
        }
        (Some(_), _) => return Ok(()),
    };
    client.batch_execute(&statement).await.map_err(failed)
}

/// Removes lock files of a dead server whose process id is not free: it belongs to a stranger by now (usual in
/// containers, where ids are small) or to a zombie that init has not collected. PostgreSQL would take that for a
/// running server and refuse. When the id is free, PostgreSQL itself does the right thing. Sessions of the dead server
/// that still hold its shared memory are waited for: they must not meet a new one.
async fn remove_misleading_lock_files(home: &Home, deadline: Instant) -> Result<(), ServersError> {
    let path = home.layout.postgres_data().join("postmaster.pid");
    let sockets = &home.layout.postgres_sockets;
    let socket_lock = sockets.join(format!(".s.PGSQL.{POSTGRES_PORT}.lock"));
    for lock_file in [path, socket_lock] {
        let Ok(text) = fs::read_to_string(&lock_file) else {
            continue;
        };
        let pid: Option<u32> = text.lines().next().and_then(|line| line.trim().parse().ok());
        if !pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            continue;
        }
        while shared_memory_is_attached(&text) {
            if Instant::now() >= deadline {
                // PostgreSQL's own refusal says what is in the way.
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        tracing::info!(lock = %lock_file.display(), "removing the lock of a server that no longer runs");
        match fs::remove_file(&lock_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServersError::io("removing a stale lock", &lock_file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether processes still use the shared memory that a lock file names in its seventh line (`key id`).
fn shared_memory_is_attached(lock_text: &str) -> bool {
    let Some(id) = lock_text.lines().nth(6).and_then(|line| line.split_ascii_whitespace().nth(1)) else {
        return false;
    };
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    // key shmid perms size cpid lpid nattch …
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.nth(1) == Some(id) && fields.nth(4).is_some_and(|attached| attached != "0")
    })
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn no_password(layout: &Layout, role: &str) -> ServersError {
    ServersError::Secrets {
        path: layout.postgres_secrets(),
        reason: format!("it has none for the role {role}"),
    }
}
