//! The account that the servers run as. Ordinary users run them as themselves. Root hands them to an unprivileged
//! account, because PostgreSQL refuses to run as root and Redis has no need to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::ServersError;

/// Accounts that root hands the servers to, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Who runs the servers and owns their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    gid: u32,
    /// Whether we are root and must hand things over.
    switch: bool,
}

impl Account {
    /// The account for data in `data_dir`: ourselves; as root the owner of what is there already, else an
    /// unprivileged one.
    pub(crate) fn for_data_dir(data_dir: &Path) -> Result<Self, ServersError> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid != 0 {
            return Ok(Self { name: name_of(uid), uid, gid, switch: false });
        }
        let mut existing =
            ["postgres", "redis"].iter().filter_map(|part| fs::metadata(data_dir.join(part)).ok());
        if let Some(owner) = existing.find(|meta| meta.is_dir() && meta.uid() != 0) {
            return Ok(Self { name: name_of(owner.uid()), uid: owner.uid(), gid: owner.gid(), switch: true });
        }
        let accounts = read_accounts();
        let found = UNPRIVILEGED.iter().find_map(|name| accounts.iter().find(|account| account.0 == *name));
        let (name, uid, gid) = found.cloned().ok_or(ServersError::NoAccount)?;
        Ok(Self { name, uid, gid, switch: true })
    }

    /// A command that runs as this account in `directory`, with a small environment in which messages are English.
    pub(crate) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env_clear().env("LC_ALL", "C").env("HOME", directory);
        for kept in ["PATH", "LD_LIBRARY_PATH", "TZ", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.stdin(std::process::Stdio::null());
        if self.switch {
            // The standard library drops root's supplementary groups too.
            command.gid(self.gid).uid(self.uid);
        }
        command
    }

    /// Makes sure that this account can enter `directory` and every directory above it.
    pub(crate) async fn check_traversable(&self, directory: &Path) -> Result<(), ServersError> {
        if !self.switch || self.can_enter(directory).await? {
            return Ok(());
        }
        let mut from_root: Vec<&Path> = directory.ancestors().collect();
        from_root.reverse();
        for ancestor in from_root {
            if !self.can_enter(ancestor).await? {
                return Err(ServersError::NotTraversable {
                    directory: ancestor.to_path_buf(),
                    account: self.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Asked of the kernel, not computed: access lists and mount options count too.
    async fn can_enter(&self, directory: &Path) -> Result<bool, ServersError> {
        let mut probe = self.command(Path::new("test"), Path::new("/"));
        let status = probe.arg("-x").arg(directory).status().await;
        Ok(status
            .map_err(ServersError::io("checking the access of the servers' account", directory))?
            .success())
    }

    /// Makes `path` a directory of this account that nobody else can enter (mode 0700).
    pub(crate) fn private_directory(&self, path: &Path) -> Result<(), ServersError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.own(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check_private(path),
            Err(error) => Err(ServersError::io("creating the directory", path)(error)),
        }
    }

    /// Checks an existing directory, and closes it to others.
    fn check_private(&self, path: &Path) -> Result<(), ServersError> {
        let meta = fs::symlink_metadata(path).map_err(ServersError::io("reading the directory", path))?;
        if !meta.is_dir() {
            return Err(ServersError::BadPath {
                path: path.to_path_buf(),
                reason: "it is not a directory of its own".to_owned(),
                remedy: "Move it away or choose another data directory".to_owned(),
            });
        }
        if meta.uid() != self.uid {
            // Made by root a moment ago (a start that was cut off before the owner changed), or a stranger's.
            if !(self.switch && meta.uid() == 0) {
                return Err(ServersError::WrongOwner {
                    path: path.to_path_buf(),
                    owner: meta.uid(),
                    user: self.uid,
                });
            }
            self.own(path)?;
        }
        if meta.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(ServersError::io("closing the directory to others", path))?;
        }
        Ok(())
    }

    /// Gives `path` itself (never what a symbolic link points to) to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), ServersError> {
        if !self.switch {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .map_err(ServersError::io("giving to the servers' account", path))
    }

    /// Replaces the file `path` as a whole: written beside it, flushed, renamed. Owned by this account, mode 0600.
    /// A planted symbolic link is replaced, not followed.
    pub(crate) fn write_file(&self, path: &Path, content: &[u8]) -> Result<(), ServersError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        let write = || -> io::Result<()> {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            self.own_file(&file)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            match path.parent() {
                Some(directory) => File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(ServersError::io("writing the file", path))
    }

    /// Opens a log to append to, owned by this account, mode 0600; never through a symbolic link.
    pub(crate) fn open_log(&self, path: &Path) -> Result<File, ServersError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        let open = || {
            let file = options.open(path)?;
            self.own_file(&file)?;
            Ok(file)
        };
        open().map_err(ServersError::io("opening the log", path))
    }

    fn own_file(&self, file: &File) -> io::Result<()> {
        if self.switch { fchown(file, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// Name, user id and group id of the local accounts.
fn read_accounts() -> Vec<(String, u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, uid, gid))
    };
    text.lines().filter_map(account).collect()
}

fn name_of(uid: u32) -> String {
    let known = read_accounts().into_iter().find(|account| account.1 == uid);
    known.map_or_else(|| format!("user id {uid}"), |account| account.0)
}
