//! A private PostgreSQL, the oracle's chains, and comparisons with its dumps.
#![allow(dead_code)]

pub mod chain;
pub mod dump;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use forebay_slow::SlowWriter;
use forebay_slow::setup::{ChainParameters, Names, Passwords, migrate, prepare};
use tokio_postgres::{Client, Config, NoTls};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// One server for all tests of a binary: each test makes a database of its own.
struct Server {
    directory: PathBuf,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Runs a program as the user `postgres` when we are root.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig=TERM", "--", program]);
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0
}

/// Starts the server when the shell's parent lives; stops it and removes its directory when the parent is gone.
const SUPERVISE: &str = r#"
    "$1"/postgres -D "$2/data" -c listen_addresses= -c "unix_socket_directories=$2" -c fsync=off \
        -c shared_buffers=128MB -c max_connections=200 2> "$2/log" &
    server=$!
    trap 'kill -INT $server' TERM INT
    wait $server; wait $server
    rm -rf "$2"
"#;

fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("forebay-slow-").tempdir().unwrap().keep();
        if is_root() {
            let changed = Command::new("chown").arg("postgres").arg(&directory).status().unwrap();
            assert!(changed.success());
        }
        let made = command(&format!("{BIN}/initdb"))
            .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D"])
            .arg(directory.join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let path = directory.clone();
        // The signal at the parent's death belongs to the thread that spawned: this one lives as long as the process.
        std::thread::spawn(move || {
            let mut shell = command("sh").args(["-c", SUPERVISE, "sh", BIN]).arg(&path).spawn().unwrap();
            shell.wait().unwrap();
        });
        Server { directory }
    })
}

/// A database with all set up, and the ways into it.
pub struct Database {
    pub names: Names,
    directory: &'static Path,
}

impl Database {
    /// Makes roles and database, migrates.
    pub async fn new(parameters: &ChainParameters) -> Self {
        let database = Self::unprepared().await;
        migrate(&database.admin(), &database.names, parameters).await.unwrap();
        database
    }

    /// Roles and an empty database.
    pub async fn unprepared() -> Self {
        let server = server();
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let names = Names::with_prefix(&format!("chain_{number}"));
        let database = Self { names, directory: &server.directory };
        let mut admin = database.config("postgres");
        admin.dbname("postgres");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while admin.connect(NoTls).await.is_err() {
            assert!(std::time::Instant::now() < deadline, "PostgreSQL did not start");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        prepare(&admin, &database.names, &Passwords::default()).await.unwrap();
        database
    }

    fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.directory).user(user).dbname(&self.names.database);
        config
    }

    pub fn admin(&self) -> Config {
        self.config("postgres")
    }

    pub fn writer(&self) -> Config {
        self.config(&self.names.writer)
    }

    pub fn reader(&self) -> Config {
        self.config(&self.names.reader)
    }

    /// A plain session.
    pub async fn client(&self, config: &Config) -> Client {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A writer that owns the chain with epoch 1.
    pub async fn writing(&self) -> SlowWriter {
        let writer = SlowWriter::connect(&self.writer()).await.unwrap();
        writer.take_over(1).await.unwrap();
        writer
    }
}
