//! The private Redis: adopt it when it runs, start it when it does not, stop it when asked.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::binaries::find_redis;
use crate::error::{Server, ServersError};
use crate::layout::Layout;
use crate::log_tail;
use crate::options::{RedisPasswords, RedisPlace};
use crate::process::{self, Halted, POLL, Process, Started};
use crate::redis_config::{RedisProfile, redis_conf};
use crate::secrets::Secrets;
use crate::servers::Home;

/// Users of a private Redis; the configuration names them too.
pub const NODE_USER: &str = "forebay-node";
/// Reads.
pub const READER_USER: &str = "forebay-reader";
/// Does everything.
pub const ADMIN_USER: &str = "forebay-admin";

/// How long one question to a running server may take before it counts as silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a long load is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A running private Redis. Dropping this leaves the server running; [`crate::PrivateServers::stop_redis`] ends it.
#[derive(Debug, Clone)]
pub struct RedisServer {
    layout: Layout,
    process: Process,
    is_adopted: bool,
    profile: RedisProfile,
    /// The node's password, if this server asks for one.
    password: Option<String>,
}

impl RedisServer {
    /// Where to connect as the node, as redis-rs reads it: `redis+unix:///path`, with user and password where the server
    /// has users. Not for logs. (redis-cli takes `-s` with the socket's path, and `--user` and `--pass` from
    /// `redis/secrets.json`.)
    pub fn redis_url(&self) -> String {
        url(&self.layout, self.password.as_deref().map(|password| (NODE_USER, password)))
    }

    /// The Unix socket. Only the servers' account and root may use it.
    pub fn socket(&self) -> PathBuf {
        self.layout.redis_socket()
    }

    /// Whether it ran already when we came.
    pub fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// What the server really does about persistence. An adopted one may differ from the options: it goes on as it
    /// was started until it is stopped and started again.
    pub fn profile(&self) -> RedisProfile {
        self.profile
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Whether that process still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_alive()
    }

    /// The server's own log.
    pub fn log_path(&self) -> PathBuf {
        self.layout.redis_log()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn process(&self) -> Process {
        self.process
    }
}

/// What answers on the socket.
enum Answer {
    /// Nobody listens.
    Nobody,
    /// Somebody listens and says nothing useful.
    Silence(String),
    /// It loads its data.
    Loading { percent: String },
    /// It serves.
    Ready { process: Process, profile: RedisProfile, has_users: bool },
}

/// The running server of this directory, if there is one.
pub(crate) async fn find(home: &Home) -> Result<Option<RedisServer>, ServersError> {
    if running_processes(home).is_empty() && matches!(ask(home).await?, Answer::Nobody) {
        return Ok(None);
    }
    wait_ready(home, None).await
}

/// Adopts or starts the server. The caller holds the servers' lock.
pub(crate) async fn start(home: &Home) -> Result<RedisServer, ServersError> {
    if let Some(server) = find(home).await? {
        if server.profile != home.options.redis.profile {
            tracing::warn!(running = %server.profile, wanted = %home.options.redis.profile,
                "the adopted Redis keeps the profile it was started with");
        }
        tracing::info!(pid = server.pid(), profile = %server.profile, "adopted the running private Redis");
        return Ok(server);
    }
    let program = find_redis(&home.options.binaries).await?;
    let left_over = home.layout.redis_append_only();
    let lay_aside = home.options.redis.profile == RedisProfile::Volatile && left_over.exists();
    let mut started = spawn(home, &program, lay_aside)?;
    let Some(mut server) = wait_ready(home, Some(&mut started)).await? else {
        return Err(start_failed(home, &mut started));
    };
    if lay_aside {
        stop_appending(home, &left_over).await?;
        server.profile = RedisProfile::Volatile;
    }
    tracing::info!(pid = server.pid(), profile = %server.profile, "started the private Redis");
    Ok(server)
}

/// Stops the server gracefully; `false` when none runs. In the durable profile everything acknowledged is on disk
/// when this returns; in the volatile one the data are gone.
pub(crate) async fn stop(home: &Home) -> Result<bool, ServersError> {
    let deadline = Instant::now() + home.options.timeouts.stop;
    let Some(process) = running_processes(home).first().copied() else {
        return Ok(false);
    };
    let (begun, mut halted) = (Instant::now(), Halted::default());
    while process.is_alive() && Instant::now() < deadline && !halted.is_for_good(process) {
        match connect(home).await {
            Ok((mut connection, _)) => {
                // A server that goes down closes the connection instead of answering; one that cannot says why.
                let command = redis::cmd("SHUTDOWN");
                if let Err(error) = command.query_async::<()>(&mut connection).await
                    && error.code().is_some()
                {
                    tracing::info!(%error, "Redis cannot stop yet");
                }
            }
            Err(_) => process
                .signal(Signal::TERM)
                .map_err(ServersError::io("stopping Redis", &home.layout.redis_dir()))?,
        }
        process.wait_gone_unless_halted(Duration::from_secs(1), &mut halted).await;
    }
    if process.is_alive() {
        return Err(ServersError::StopTimeout {
            server: Server::Redis,
            pid: process.pid,
            waited_s: begun.elapsed().as_secs(),
            halted: halted.is_for_good(process),
            log_path: home.layout.redis_log(),
        });
    }
    tracing::info!(pid = process.pid, "stopped the private Redis");
    Ok(true)
}

/// Processes of a Redis with our configuration file. Never trusted alone, but none means that nobody runs.
fn running_processes(home: &Home) -> Vec<Process> {
    let conf = format!(" {}", home.layout.redis_conf().to_string_lossy());
    // Children that rewrite the append-only file have another title; the end of the server ends them.
    process::find(|name, line| {
        let server = name.contains("redis") || name.contains("valkey") || line.contains("redis-server");
        server && !line.starts_with("redis-aof-rewrite") && line.ends_with(&conf)
    })
}

/// Writes the configuration, removes what a crash left and starts the process.
fn spawn(home: &Home, program: &Path, load_append_only: bool) -> Result<Started, ServersError> {
    let layout = &home.layout;
    for stale in [layout.redis_socket(), layout.redis_pid_file()] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServersError::io("removing what a crash left", &stale)(error));
            }
            _ => {}
        }
    }
    let conf = match &home.options.redis.conf {
        Some(conf) => conf.clone(),
        None => redis_conf(layout, &home.options.redis, load_append_only),
    };
    home.account.write_file(&layout.redis_conf(), conf.as_bytes())?;
    log_tail::rotate(&layout.redis_log());
    let arguments = [layout.redis_conf().into_os_string()];
    let arguments = arguments.each_ref().map(OsString::as_os_str);
    Started::spawn(&home.account, program, &arguments, &layout.redis_dir(), &layout.redis_log())
}

/// Waits until the server serves. `None` when there is no process (any more). A server that was not `started` by us
/// is adopted.
async fn wait_ready(
    home: &Home,
    mut started: Option<&mut Started>,
) -> Result<Option<RedisServer>, ServersError> {
    let timeouts = &home.options.timeouts;
    let begin = Instant::now();
    let mut report_at = begin + REPORT_INTERVAL;
    let mut last_sign = begin;
    loop {
        let reason = match ask(home).await? {
            Answer::Ready { process, profile, has_users } => {
                let (layout, is_adopted) = (home.layout.clone(), started.is_none());
                let password = match has_users {
                    true => {
                        load_secrets(home)?.and_then(|secrets| secrets.password(NODE_USER).map(str::to_owned))
                    }
                    false => None,
                };
                return Ok(Some(RedisServer { layout, process, is_adopted, profile, password }));
            }
            Answer::Loading { percent } => {
                if timeouts.recovery.is_none_or(|limit| begin.elapsed() < limit) {
                    last_sign = Instant::now();
                }
                if Instant::now() >= report_at {
                    tracing::info!(percent, "Redis is loading its data");
                    report_at = Instant::now() + REPORT_INTERVAL;
                }
                "it is still loading its data".to_owned()
            }
            Answer::Nobody if has_ended(home, started.as_deref_mut()) => return Ok(None),
            Answer::Nobody => "nobody listens on its socket".to_owned(),
            Answer::Silence(reason) => reason,
        };
        if last_sign.elapsed() >= timeouts.start {
            return Err(ServersError::Unresponsive {
                server: Server::Redis,
                pid: running_processes(home).first().map_or(0, |process| process.pid),
                data: home.layout.redis_dir(),
                waited_s: begin.elapsed().as_secs(),
                reason,
                log_path: home.layout.redis_log(),
                log_tail: log_tail::since(&home.layout.redis_log(), started.map_or(0, |s| s.log_start)),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn has_ended(home: &Home, started: Option<&mut Started>) -> bool {
    started.is_none_or(|started| started.ended().is_some()) && running_processes(home).is_empty()
}

/// Asks who is on the socket. An error only when it is somebody else's server.
async fn ask(home: &Home) -> Result<Answer, ServersError> {
    let (mut connection, has_users) = match connect(home).await {
        Ok(found) => found,
        Err(error) if error.is_connection_refusal() || !home.layout.redis_socket().exists() => {
            return Ok(Answer::Nobody);
        }
        Err(error) => return Ok(Answer::Silence(error.to_string())),
    };
    let questions = async {
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let directory: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg("dir").query_async(&mut connection).await?;
        Ok::<_, redis::RedisError>((info, directory))
    };
    let (info, directory) = match questions.await {
        Ok(answers) => answers,
        Err(error) => return Ok(Answer::Silence(error.to_string())),
    };
    let found = directory.get(1).cloned().unwrap_or_default();
    if Path::new(&found) != home.layout.redis_dir() {
        let socket = home.layout.redis_socket();
        return Err(ServersError::ForeignServer { server: Server::Redis, socket, found });
    }
    if info_field(&info, "loading") == Some("1") {
        let percent = info_field(&info, "loading_loaded_perc").unwrap_or("0").to_owned();
        return Ok(Answer::Loading { percent });
    }
    let pid = info_field(&info, "process_id").and_then(|text| text.parse().ok());
    let profile = match info_field(&info, "aof_enabled") {
        Some("1") => RedisProfile::Durable,
        _ => RedisProfile::Volatile,
    };
    Ok(pid.and_then(Process::of).map_or_else(
        || Answer::Silence("it names a process that does not exist here".to_owned()),
        |process| Answer::Ready { process, profile, has_users },
    ))
}

/// A volatile server has loaded what a durable one left: from now on nothing is appended, and the old file is kept
/// under another name, so that a later durable start does not take it for the present.
async fn stop_appending(home: &Home, append_only: &Path) -> Result<(), ServersError> {
    let failed = |source| ServersError::Redis { doing: "turning the append-only file off", source };
    let (mut connection, _) = connect(home).await.map_err(failed)?;
    let mut command = redis::cmd("CONFIG");
    command
        .arg("SET")
        .arg("appendonly")
        .arg("no")
        .query_async::<()>(&mut connection)
        .await
        .map_err(failed)?;
    let aside = append_only.with_extension("before-volatile");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ServersError::io("removing the older append-only file", &aside)(error));
        }
        _ => {}
    }
    fs::rename(append_only, &aside).map_err(ServersError::io("laying the append-only file aside", &aside))?;
    tracing::warn!(kept = %aside.display(), "loaded the durable data; from now on Redis keeps nothing on disk");
    Ok(())
}

/// Connects as whoever may do everything; says whether the server has users. One that was started by an earlier version
/// has none, and one without our users does not know the password.
async fn connect(home: &Home) -> Result<(MultiplexedConnection, bool), redis::RedisError> {
    let secrets = load_secrets(home).ok().flatten();
    let admin = secrets.as_ref().and_then(|secrets| secrets.password(ADMIN_USER));
    if let Some(password) = admin {
        match connect_to(url(&home.layout, Some((ADMIN_USER, password)))).await {
            Ok(connection) => return Ok((connection, true)),
            Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => {}
            Err(error) => return Err(error),
        }
    }
    connect_to(url(&home.layout, None)).await.map(|connection| (connection, false))
}

async fn connect_to(url: String) -> Result<MultiplexedConnection, redis::RedisError> {
    let client = redis::Client::open(url)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn url(layout: &Layout, user: Option<(&str, &str)>) -> String {
    let path = percent_encoded(&layout.redis_socket());
    match user {
        Some((user, password)) => format!("redis+unix://{path}?user={user}&pass={password}"),
        None => format!("redis+unix://{path}"),
    }
}

/// See [`crate::PrivateServers::set_redis_maxmemory`].
pub(crate) async fn set_maxmemory(home: &Home, bytes: u64) -> Result<(), ServersError> {
    let failed = |source| ServersError::Redis { doing: "setting maxmemory", source };
    let (mut connection, _) = connect(home).await.map_err(failed)?;
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("maxmemory").arg(bytes).query_async::<()>(&mut connection).await.map_err(failed)
}

/// See [`crate::PrivateServers::redis_place`].
pub(crate) fn place(home: &Home) -> Result<RedisPlace, ServersError> {
    let (layout, path) = (&home.layout, home.layout.redis_secrets());
    let mut secrets = load_secrets(home)?.unwrap_or_default();
    let names = [NODE_USER, READER_USER, ADMIN_USER].map(str::to_owned);
    let new = secrets.add_missing(&names).map_err(ServersError::io("making passwords for", &path))?;
    if !new.is_empty() {
        secrets.save(&path, &home.account)?;
    }
    let password = |user| secrets.password(user).unwrap_or_default().to_owned();
    Ok(RedisPlace {
        socket: layout.redis_socket(),
        directory: layout.redis_dir(),
        pid_file: layout.redis_pid_file(),
        log_file: layout.redis_log(),
        passwords: RedisPasswords {
            node: password(NODE_USER),
            reader: password(READER_USER),
            admin: password(ADMIN_USER),
        },
        loads_append_only: layout.redis_append_only().exists(),
    })
}

fn load_secrets(home: &Home) -> Result<Option<Secrets>, ServersError> {
    Secrets::load(&home.layout.redis_secrets())
}

fn start_failed(home: &Home, started: &mut Started) -> ServersError {
    let log_path = home.layout.redis_log();
    let log_tail = log_tail::since(&log_path, started.log_start);
    let reason = started.end_text();
    ServersError::StartFailed { server: Server::Redis, reason, log_path, log_tail }
}

/// The value of `name:value` in the answer of INFO.
fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A path as it stands in a URL.
fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
