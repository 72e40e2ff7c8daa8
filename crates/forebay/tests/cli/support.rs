//! The binary in a directory of its own, whose servers end with the test.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Nothing here takes longer, or something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The only line of stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one object on stdout:\n{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "\"{text}\" is not in:\n{}", self.stderr);
        self
    }
}

/// A data directory, and the oracle's first chain.
pub struct Place {
    root: tempfile::TempDir,
    pub oracle: PathBuf,
}

impl Place {
    /// `None`: the oracle's data are not there, and the test is skipped.
    pub fn new() -> Option<Self> {
        Some(Self::with_oracle(forebay_testkit::oracle::oracle_dir()?.join("chain")))
    }

    pub fn with_oracle(oracle: PathBuf) -> Self {
        // A short path for sockets, and open for the servers' own account.
        let root = tempfile::Builder::new()
            .prefix("forebay-cli-")
            .tempdir_in(forebay_servers::testing::scratch())
            .unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, oracle }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    }

    /// The oracle's blocks, one a line; line 0 is the genesis block.
    pub fn blocks(&self) -> Vec<String> {
        lines_of(&self.oracle.join("blocks.jsonl"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("FOREBAY_") || name == "RUST_LOG") {
                command.env_remove(name);
            }
        }
        command.args(arguments).env("FOREBAY_DATA_DIR", self.data_dir()).stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// The same on the oracle's network.
    pub fn run_here(&self, arguments: &[&str]) -> Ended {
        let genesis = self.oracle.join("genesis.json");
        let mut all = arguments.to_vec();
        all.extend(["--network", "rise-devnet", "--genesis", genesis.to_str().unwrap()]);
        self.run(&all)
    }

    /// Replays lines; the summary.
    #[track_caller]
    pub fn replay(&self, name: &str, lines: &[String]) -> Value {
        let file = self.write(name, lines);
        self.run_here(&["replay", file.to_str().unwrap(), "--json"]).with_code(0).json()
    }

    #[track_caller]
    pub fn dump(&self, tier: &str) -> String {
        self.run(&["dump", "accounts", "--tier", tier]).with_code(0).stdout
    }

    /// `forebay run` with a feed, ready.
    pub fn start_node(&self) -> RunningNode {
        self.start_node_with(&[])
    }

    /// The same, with settings as the environment gives them.
    pub fn start_node_with(&self, settings: &[(&str, &str)]) -> RunningNode {
        let genesis = self.oracle.join("genesis.json");
        let socket = self.path("feed.sock");
        let child = self
            .command(&["run", "--feed", socket.to_str().unwrap(), "--network", "rise-devnet", "--genesis"])
            .arg(genesis)
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        RunningNode::ready(child, socket)
    }

    /// Kills the private PostgreSQL, which cannot be started again before this is dropped.
    pub fn postgres_away(&self) -> PostgresAway {
        let (_, postgres) = self.server_pids().unwrap();
        let file = self.data_dir().join("postgres/data/PG_VERSION");
        let away = PostgresAway { version: fs::read_to_string(&file).unwrap(), file };
        // No program fits these data. What runs has read it already.
        fs::write(&away.file, "99\n").unwrap();
        kill_process(Pid::from_raw(postgres).unwrap(), Signal::KILL).unwrap();
        until("PostgreSQL is gone", || !is_alive(postgres));
        away
    }

    /// Process ids of the private Redis and PostgreSQL.
    pub fn server_pids(&self) -> Option<(i32, i32)> {
        Some((self.redis_pid()?, self.postgres_pid()?))
    }

    /// Neither runs.
    #[track_caller]
    pub fn assert_no_server(&self) {
        let running = (self.redis_pid(), self.postgres_pid());
        assert_eq!(running, (None, None), "private Redis and PostgreSQL are left behind");
    }

    /// Process id of the private Redis.
    pub fn redis_pid(&self) -> Option<i32> {
        self.server_pid("redis/redis.pid")
    }

    /// Process id of the private PostgreSQL.
    pub fn postgres_pid(&self) -> Option<i32> {
        self.server_pid("postgres/data/postmaster.pid")
    }

    /// As the server's own file names it.
    fn server_pid(&self, file: &str) -> Option<i32> {
        let text = fs::read_to_string(self.data_dir().join(file)).ok()?;
        text.lines().next()?.trim().parse().ok().filter(|pid| is_alive(*pid))
    }
}

/// See [`Place::postgres_away`].
pub struct PostgresAway {
    file: PathBuf,
    version: String,
}

impl Drop for PostgresAway {
    fn drop(&mut self) {
        fs::write(&self.file, &self.version).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for file in ["redis/redis.pid", "postgres/data/postmaster.pid"] {
            let text = fs::read_to_string(self.data_dir().join(file)).unwrap_or_default();
            if let Some(pid) =
                text.lines().next().and_then(|line| line.trim().parse().ok()).filter(|pid| is_alive(*pid))
            {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::QUIT);
                let begun = Instant::now();
                while is_alive(pid) && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

pub fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

pub fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks a child to end, whose stdin stays open meanwhile: how it ended. It is killed when it does not.
#[track_caller]
pub fn ends_by(signal: Signal, mut child: Child) -> Ended {
    let stdin = child.stdin.take();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end:\n{}", Ended::of(child.wait_with_output().unwrap()).stderr);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stdin);
    Ended::of(child.wait_with_output().unwrap())
}

/// A node in the background; killed when dropped.
pub struct RunningNode {
    child: Option<Child>,
    pub socket: PathBuf,
}

impl RunningNode {
    /// Waits until a child's feed is there.
    pub fn ready(child: Child, socket: PathBuf) -> Self {
        let node = Self { child: Some(child), socket };
        until("the feed's socket is there", || UnixStream::connect(&node.socket).is_ok());
        node
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub fn connect(&self) -> Connection {
        Connection::to(&self.socket)
    }

    /// How it ends by itself.
    pub fn ended(mut self) -> Ended {
        Ended::of(self.child.take().unwrap().wait_with_output().unwrap())
    }

    /// Asks it to end with a signal; how it ended.
    pub fn end(mut self, signal: Signal) -> Ended {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let mut stderr = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut stderr);
            eprintln!("the node's log:\n{stderr}");
        }
    }
}

/// A connection to a feed.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub fn to(socket: &Path) -> Self {
        Self { stream: BufReader::new(UnixStream::connect(socket).unwrap()) }
    }

    pub fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.receive()
    }
}

/// A block's line as a feed takes it.
pub fn asking(block: &str) -> String {
    format!("{{\"op\":\"block\",\"block\":{block}}}")
}

/// The children of a postmaster that serve clients.
pub fn sessions_of(postmaster: i32) -> Vec<i32> {
    let mut sessions = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let title = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if parent == Some(postmaster) && title.contains("forebay_writer") {
            sessions.push(pid);
        }
    }
    assert!(!sessions.is_empty(), "the node has a session on PostgreSQL");
    sessions
}
