//! Who works with the servers without being their node: commands that read, beside a node or without one. Nobody stops a
//! server under them.
//!
//! Each holds a shared lock on one file. Whoever wants to stop servers meanwhile leaves that to them: the file says which
//! ones the last of them stops. What it says is changed, and obeyed, under the servers' lock alone. A killed process loses
//! its lock; what was left to it is done by the next one that leaves.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use tokio::time::Instant;

use crate::error::{Server, ServersError};
use crate::lock::LockFile;
use crate::process::POLL;
use crate::servers::{Home, PrivateServers};

/// Keeps [`PrivateServers::stop_unless_in_use`] from stopping the servers. It ends by [`leave`](Self::leave): dropped, it
/// stops nothing that was left to it.
#[derive(Debug)]
pub struct InUse {
    servers: PrivateServers,
    file: File,
}

impl InUse {
    /// Waits for whoever is just stopping them.
    pub(crate) async fn enter(servers: &PrivateServers) -> Result<Self, ServersError> {
        let home = servers.home();
        let file = open(home)?;
        let deadline = Instant::now() + home.options.timeouts.lock;
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self { servers: servers.clone(), file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let by = LockFile::named_holder(&home.layout.servers_lock());
                    return Err(ServersError::LockBusy(by));
                }
                Err(TryLockError::Error(error)) => return Err(failed(home)(error)),
            }
        }
    }

    /// Works with them no longer. The last one stops what was left to it.
    ///
    /// # Errors
    /// [`ServersError::StopTimeout`].
    pub async fn leave(self) -> Result<(), ServersError> {
        let home = self.servers.home();
        self.file.unlock().map_err(failed(home))?;
        // Whoever found our lock had written before: it is seen now.
        if LeftToStop::read(&self.file).map_err(failed(home))?.is_nothing() {
            return Ok(());
        }
        self.servers.stop_what_is_left().await
    }
}

/// What the last one stops: the file's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeftToStop {
    pub(crate) redis: bool,
    pub(crate) postgres: bool,
}

impl LeftToStop {
    pub(crate) const BOTH: Self = Self { redis: true, postgres: true };

    fn is_nothing(self) -> bool {
        self == Self::default()
    }

    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 2];
        let count = file.read_at(&mut bytes, 0)?;
        let says = |letter| bytes.get(..count).is_some_and(|read| read.contains(&letter));
        Ok(Self { redis: says(b'r'), postgres: says(b'p') })
    }

    fn write(self, file: &File) -> io::Result<()> {
        let text: Vec<u8> = [(self.redis, b'r'), (self.postgres, b'p')]
            .into_iter()
            .filter_map(|(is_left, letter)| is_left.then_some(letter))
            .collect();
        // On a full disk the old ones stay.
        file.write_all_at(&text, 0)?;
        file.set_len(text.len() as u64)
    }
}

/// Leaves a server to the last one, or takes it back from them. The caller has the servers' lock.
pub(crate) fn leave(home: &Home, server: Server, is_left: bool) -> Result<(), ServersError> {
    if !is_left && !home.layout.in_use().exists() {
        return Ok(());
    }
    let file = open(home)?;
    let mut left = LeftToStop::read(&file).map_err(failed(home))?;
    match server {
        Server::Redis => left.redis = is_left,
        Server::Postgres => left.postgres = is_left,
    }
    left.write(&file).map_err(failed(home))
}

/// What may be stopped now, nobody being there, and the lock that keeps others out until it is. `None`: somebody is there,
/// and it is left to them. The caller has the servers' lock.
pub(crate) fn to_stop(home: &Home, more: LeftToStop) -> Result<Option<(LeftToStop, Alone)>, ServersError> {
    let file = open(home)?;
    let before = LeftToStop::read(&file).map_err(failed(home))?;
    let left = LeftToStop { redis: before.redis || more.redis, postgres: before.postgres || more.postgres };
    // Written first: who leaves a moment later sees it.
    let written = if left != before { left.write(&file) } else { Ok(()) };
    match file.try_lock() {
        // Nobody has to be told, so it does not matter whether that could be written (a full disk).
        Ok(()) => Ok(Some((left, Alone { file }))),
        Err(TryLockError::WouldBlock) => written.map(|()| None).map_err(failed(home)),
        Err(TryLockError::Error(error)) => Err(failed(home)(error)),
    }
}

/// Nobody else works with the servers.
pub(crate) struct Alone {
    file: File,
}

impl Alone {
    /// All that was left is stopped.
    pub(crate) fn done(self, home: &Home) -> Result<(), ServersError> {
        LeftToStop::default().write(&self.file).map_err(failed(home))
    }
}

/// Not through a symbolic link: we may be root.
fn open(home: &Home) -> Result<File, ServersError> {
    let path = home.layout.in_use();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = options.create(true).truncate(false).open(&path).map_err(failed(home))?;
            home.account.own(&path)?;
            Ok(file)
        }
        opened => opened.map_err(failed(home)),
    }
}

fn failed(home: &Home) -> impl FnOnce(io::Error) -> ServersError {
    let path = home.layout.in_use();
    move |error| ServersError::io("telling others that the servers are in use", &path)(error)
}
