//! Where things are below the data directory.
//!
//! ```text
//! <data_dir>/            entered by anybody (when we create it), so that others can read node.lock
//!   node.lock            who is the node of this directory
//!   servers.lock         held while servers are started or stopped
//!   in-use.lock          held by whoever works with the servers without being the node
//!   sockets.json         where the sockets are, when the path is too long for them
//!   redis/               0700: redis.conf secrets.json redis.sock redis.log redis.pid appendonlydir/
//!   postgres/            0700: data/ forebay.conf pg_hba.conf secrets.json postgres.log .s.PGSQL.5432
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::error::ServersError;

/// PostgreSQL's port names its socket; nothing listens on TCP.
pub(crate) const POSTGRES_PORT: u16 = 5432;

/// The longest socket path that the kernel takes: `sun_path` has 108 bytes, one of them for the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How many names are tried for the short directory when others sit on ours.
const SHORT_NAMES_MAX: u32 = 16;

/// All paths of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) data_dir: PathBuf,
    /// Directory of Redis' socket.
    redis_sockets: PathBuf,
    /// Directory of PostgreSQL's socket.
    pub(crate) postgres_sockets: PathBuf,
}

impl Layout {
    /// The layout of `data_dir`, which exists and is canonical. Creates the two servers' directories, and a short
    /// one for the sockets where the path is too long or too unusual for them.
    pub(crate) fn prepare(data_dir: &Path, account: &Account) -> Result<Self, ServersError> {
        let direct = Self {
            data_dir: data_dir.to_path_buf(),
            redis_sockets: data_dir.join("redis"),
            postgres_sockets: data_dir.join("postgres"),
        };
        account.private_directory(&direct.redis_dir())?;
        account.private_directory(&direct.postgres_dir())?;
        // Beside the length: characters that connection strings and lists of directories would have to quote.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+~".contains(byte);
        let fits = |path: PathBuf| {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes.len() <= SOCKET_PATH_BYTES_MAX && bytes.iter().all(plain)
        };
        // PostgreSQL's lock file beside its socket is longer, but no socket.
        if fits(direct.redis_socket()) && fits(direct.postgres_socket()) {
            return Ok(direct);
        }
        let short = short_directory(data_dir, account)?;
        Ok(Self { redis_sockets: short.clone(), postgres_sockets: short, ..direct })
    }

    pub(crate) fn servers_lock(&self) -> PathBuf {
        self.data_dir.join("servers.lock")
    }

    pub(crate) fn in_use(&self) -> PathBuf {
        self.data_dir.join("in-use.lock")
    }

    pub(crate) fn redis_dir(&self) -> PathBuf {
        self.data_dir.join("redis")
    }

    pub(crate) fn redis_conf(&self) -> PathBuf {
        self.redis_dir().join("redis.conf")
    }

    pub(crate) fn redis_pid_file(&self) -> PathBuf {
        self.redis_dir().join("redis.pid")
    }

    pub(crate) fn redis_log(&self) -> PathBuf {
        self.redis_dir().join("redis.log")
    }

    pub(crate) fn redis_secrets(&self) -> PathBuf {
        self.redis_dir().join("secrets.json")
    }

    pub(crate) fn redis_append_only(&self) -> PathBuf {
        self.redis_dir().join("appendonlydir")
    }

    pub(crate) fn redis_socket(&self) -> PathBuf {
        self.redis_sockets.join("redis.sock")
    }

    pub(crate) fn postgres_dir(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    pub(crate) fn postgres_data(&self) -> PathBuf {
        self.postgres_dir().join("data")
    }

    pub(crate) fn postgres_log(&self) -> PathBuf {
        self.postgres_dir().join("postgres.log")
    }

    pub(crate) fn postgres_conf(&self) -> PathBuf {
        self.postgres_dir().join("forebay.conf")
    }

    pub(crate) fn postgres_hba(&self) -> PathBuf {
        self.postgres_dir().join("pg_hba.conf")
    }

    pub(crate) fn postgres_secrets(&self) -> PathBuf {
        self.postgres_dir().join("secrets.json")
    }

    pub(crate) fn postgres_socket(&self) -> PathBuf {
        self.postgres_sockets.join(format!(".s.PGSQL.{POSTGRES_PORT}"))
    }
}

/// Content of `sockets.json`.
#[derive(Debug, Serialize, Deserialize)]
struct SocketsRecord {
    directory: PathBuf,
}

/// A short private directory for the sockets of `data_dir`: the recorded one if it is still ours, else a new one.
fn short_directory(data_dir: &Path, account: &Account) -> Result<PathBuf, ServersError> {
    let record_path = data_dir.join("sockets.json");
    let recorded = fs::read(&record_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(SocketsRecord { directory }) = recorded
        && claim(&directory, data_dir, account)?
    {
        return Ok(directory);
    }
    for parent in short_parents(account) {
        for attempt in 0..SHORT_NAMES_MAX {
            let directory = parent.join(format!("forebay-{:016x}", path_hash(data_dir, attempt)));
            if claim(&directory, data_dir, account)? {
                let record = serde_json::to_vec(&SocketsRecord { directory: directory.clone() });
                let record =
                    record.map_err(|error| ServersError::io("writing", &record_path)(error.into()))?;
                account.write_file(&record_path, &record)?;
                return Ok(directory);
            }
        }
    }
    Err(ServersError::BadPath {
        path: data_dir.to_path_buf(),
        reason: format!(
            "sockets below it would have paths of more than {SOCKET_PATH_BYTES_MAX} bytes, and no short \
                         directory could be made for them in XDG_RUNTIME_DIR, /run or /tmp"
        ),
        remedy: "Choose a data directory with a shorter path".to_owned(),
    })
}

/// Where short directories may be. Not `TMPDIR`, which can be long too and differ from one start to the next.
fn short_parents(account: &Account) -> Vec<PathBuf> {
    let mut parents = Vec::new();
    if rustix::process::geteuid().is_root() {
        parents.push(PathBuf::from("/run"));
    } else if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        let own = fs::metadata(&runtime).is_ok_and(|meta| meta.is_dir() && meta.uid() == account.uid);
        // A margin for the names below it.
        if own && runtime.is_absolute() && runtime.as_os_str().len() < SOCKET_PATH_BYTES_MAX / 2 {
            parents.push(runtime);
        }
    }
    parents.push(PathBuf::from("/tmp"));
    parents
}

/// Whether `directory` is, or has just become, the private socket directory of `data_dir`. A file in it names the
/// data directory, so that two with the same hash cannot share it; a stranger's directory is left alone.
fn claim(directory: &Path, data_dir: &Path, account: &Account) -> Result<bool, ServersError> {
    let marker = directory.join("data-dir");
    let name = data_dir.as_os_str().as_encoded_bytes();
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            account.own(directory)?;
            account.write_file(&marker, name)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(directory).map_err(ServersError::io("reading", directory))?;
            let private = meta.is_dir() && meta.uid() == account.uid && meta.mode() & 0o077 == 0;
            Ok(private && fs::read(&marker).is_ok_and(|content| content == name))
        }
        // No such parent, or not writable: the next candidate.
        Err(_) => Ok(false),
    }
}

/// FNV-1a: a name that stays the same from start to start, no secret.
fn path_hash(path: &Path, attempt: u32) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes().iter().copied().chain(attempt.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
