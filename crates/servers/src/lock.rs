//! Locks of the data directory, by `flock`: they vanish with the process, however it ends. The file's content says
//! who holds it and since when, and stays readable for others.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::process::Process;

/// Name of the node's lock inside the data directory.
const NODE_LOCK: &str = "node.lock";

/// A lock that is held but does not yet say by whom was taken in this very moment: look again so often.
const UNNAMED_HOLDER_RETRIES: u32 = 20;
const UNNAMED_HOLDER_PAUSE: Duration = Duration::from_millis(15);

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// The holder's process id; 0 when the holder has not said.
    pub pid: u32,
    /// When it took the lock, in milliseconds since 1970 (UTC).
    pub since_unix_ms: u64,
    /// What it is, in its own words.
    pub command: String,
}

impl HeldBy {
    fn this_process(command: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: std::process::id(),
            since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            command: command.to_owned(),
        }
    }

    pub(crate) fn unknown() -> Self {
        Self { pid: 0, since_unix_ms: 0, command: "unknown program".to_owned() }
    }

    /// When the lock was taken.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_unix_ms)
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("held by a process that has not said who it is");
        }
        let since = utc_text(self.since_unix_ms / 1000);
        write!(f, "held by process {} (`{}`) since {since}", self.pid, self.command)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the data directory {} is in use: {by}. Stop that program first, or choose another data directory", data_dir.display())]
    Held {
        /// The directory.
        data_dir: PathBuf,
        /// The holder.
        by: HeldBy,
    },
    /// The lock file cannot be used.
    #[error(
        "the lock {} cannot be used: {source}. Check the directory's owner and permissions", path.display()
    )]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The right to be the node of a data directory. Released when dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct DataDirLock {
    lock: LockFile,
}

impl DataDirLock {
    /// Takes the lock of `data_dir` (created when missing) or says who has it. `command` is what others will read:
    /// the holder's words about itself, such as its command line. Waits for nobody.
    ///
    /// # Errors
    /// [`LockError::Held`] with process, time and words of the holder; [`LockError::Io`].
    pub fn acquire(data_dir: &Path, command: &str) -> Result<Self, LockError> {
        let path = data_dir.join(NODE_LOCK);
        let attempt = fs::create_dir_all(data_dir).and_then(|()| LockFile::try_acquire(&path, command));
        match attempt {
            Ok(Ok(lock)) => Ok(Self { lock }),
            Ok(Err(by)) => Err(LockError::Held { data_dir: data_dir.to_path_buf(), by }),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// Who holds the lock of `data_dir` now, or `None`. Only a look: the answer may be old when it arrives.
    ///
    /// # Errors
    /// [`LockError::Io`] when the file exists and cannot be read.
    pub fn holder(data_dir: &Path) -> Result<Option<HeldBy>, LockError> {
        let path = data_dir.join(NODE_LOCK);
        match File::open(&path) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(None),
                Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&path).unwrap_or_else(HeldBy::unknown))),
                Err(TryLockError::Error(source)) => Err(LockError::Io { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.lock.path
    }
}

/// One locked file with its holder written in it.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _file: File,
}

impl LockFile {
    /// Who says in the file that it holds the lock.
    pub(crate) fn named_holder(path: &Path) -> HeldBy {
        read_holder(path).unwrap_or_else(HeldBy::unknown)
    }

    /// Takes the lock at once, or returns its holder.
    pub(crate) fn try_acquire(path: &Path, command: &str) -> io::Result<Result<Self, HeldBy>> {
        for _ in 0..UNNAMED_HOLDER_RETRIES {
            let file = open_for_lock(path)?;
            match file.try_lock() {
                Ok(()) => {
                    write_holder(&file, &HeldBy::this_process(command))?;
                    return Ok(Ok(Self { path: path.to_path_buf(), _file: file }));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // A content of an earlier holder, or none: the present one is just writing, or only looks.
            if let Some(by) = read_holder(path).filter(|by| Process::of(by.pid).is_some()) {
                return Ok(Err(by));
            }
            std::thread::sleep(UNNAMED_HOLDER_PAUSE);
        }
        Ok(Err(read_holder(path).unwrap_or_else(HeldBy::unknown)))
    }
}

/// Never truncates: the content belongs to whoever has the lock. Not through a symbolic link: we may be root.
fn open_for_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options.open(path)
}

fn write_holder(mut file: &File, by: &HeldBy) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.set_len(0)?;
    let mut text = serde_json::to_vec(by)?;
    text.push(b'\n');
    file.write_all_at(&text, 0)?;
    file.flush()
}

fn read_holder(path: &Path) -> Option<HeldBy> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// `2026-01-31T12:00:00Z` from seconds since 1970, by the civil calendar's arithmetic (days counted from March).
fn utc_text(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_civil_calendar() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_text(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc_text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc_text(1_704_067_199), "2023-12-31T23:59:59Z");
    }

    #[test]
    fn a_second_lock_is_told_who_holds_the_first_and_a_released_one_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirLock::acquire(dir.path(), "forebay run").unwrap();
        let Err(LockError::Held { by, .. }) = DataDirLock::acquire(dir.path(), "forebay replay") else {
            panic!("two holders")
        };
        assert_eq!((by.pid, by.command.as_str()), (std::process::id(), "forebay run"));
        assert!(by.since().elapsed().unwrap() < Duration::from_secs(60));
        assert_eq!(DataDirLock::holder(dir.path()).unwrap(), Some(by));
        drop(first);
        assert_eq!(DataDirLock::holder(dir.path()).unwrap(), None);
        DataDirLock::acquire(dir.path(), "forebay replay").unwrap();
    }

    #[test]
    fn a_lock_file_is_never_followed_through_a_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(NODE_LOCK)).unwrap();
        assert!(matches!(DataDirLock::acquire(dir.path(), "x"), Err(LockError::Io { .. })));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
