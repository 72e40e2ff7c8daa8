//! The write log as a file: every attempt to bring operations to PostgreSQL, the failed ones too, one JSON object a line.
//!
//! PostgreSQL's own log (`forebay.operations`) holds what was committed, in the same transaction; it cannot hold what was
//! not. This file does, and its durations go to after COMMIT. It is a record for operators and nothing reads it back, so
//! that it never holds up the sync: a thread of its own writes, and what it cannot take is counted and named later.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use forebay_ledger::ids::{BlockId, Height};
use forebay_slow::{Committed, SlowOperation};
use serde_json::json;

use crate::error::StoreError;

mod line;

use line::line;

/// Lines that wait for the disk. 1,024: minutes of a live chain, some 500 KB.
const QUEUE_LINES: usize = 1024;
/// How long the end of the log waits for the disk.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How large the log may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLogLimits {
    /// Bytes of one file; the next line begins another one. 16 MiB.
    pub bytes_max: u64,
    /// Files in all, at least 1: `log`, `log.1` (the newest of the full ones), `log.2`, … 8.
    pub files_max: u32,
}

impl Default for WriteLogLimits {
    fn default() -> Self {
        Self { bytes_max: 16 << 20, files_max: 8 }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Committed and flushed.
    Ok(Committed),
    /// Not committed, or nobody knows yet: another attempt follows.
    Retry(Failure),
    /// Not committed, and not tried again.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure, a stable name.
    pub kind: &'static str,
    /// PostgreSQL's code, if it answered.
    pub sqlstate: Option<String>,
    /// What went wrong and what to do.
    pub message: String,
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        let slow = if let StoreError::Slow(slow) = error { Some(slow) } else { None };
        Self {
            kind: slow.map_or(error.kind(), |slow| slow.kind().name()),
            sqlstate: slow.and_then(|slow| slow.sqlstate()).map(str::to_owned),
            message: error.to_string(),
        }
    }
}

/// A tip: height (0 before the genesis block) and id.
pub type LoggedTip = (Height, Option<BlockId>);

/// One attempt to commit a batch of operations.
#[derive(Debug, Clone)]
pub struct LoggedAttempt<'a> {
    /// The writer's epoch.
    pub epoch: u64,
    /// The position before the batch; its first operation is the next.
    pub expected_seq: u64,
    /// The batch.
    pub operations: &'a [SlowOperation],
    /// The tip before the batch, and after each of its operations.
    pub tips: &'a [LoggedTip],
    /// Which try, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: SystemTime,
    /// How long it took, COMMIT included.
    pub duration: Duration,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// The log, open for writing. One process writes a log.
#[derive(Debug)]
pub struct WriteLog {
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    /// Disconnected when the thread has ended. Behind a lock so that the log can be shared; only the drop looks.
    ended: Mutex<Receiver<()>>,
}

impl WriteLog {
    /// Opens the log, with its folder if that is missing; lines are added to what is there.
    ///
    /// # Errors
    /// The file cannot be opened for writing, or no thread can be started.
    pub fn open(path: impl Into<PathBuf>, limits: WriteLogLimits) -> io::Result<Self> {
        let mut file = LogFile::open(path.into(), limits)?;
        Self::start(move |line, lost| file.record(line, lost))
    }

    /// Hands a line to the thread; never waits and never fails. What is in the file is flushed to the operating system
    /// line by line, not to the disk.
    pub fn record(&self, attempt: &LoggedAttempt<'_>) {
        let taken = self.lines.as_ref().is_some_and(|lines| lines.try_send(line(attempt)).is_ok());
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start(mut write: impl FnMut(&str, u64) + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(QUEUE_LINES);
        let (end, ended) = sync_channel::<()>(0);
        let lost = Arc::new(AtomicU64::new(0));
        let lost_here = Arc::clone(&lost);
        std::thread::Builder::new().name("write log".to_owned()).spawn(move || {
            let _end = end;
            for line in waiting {
                write(&line, lost_here.swap(0, Ordering::Relaxed));
            }
        })?;
        Ok(Self { lines: Some(lines), lost, ended: Mutex::new(ended) })
    }
}

impl Drop for WriteLog {
    /// Waits a moment for the lines that are still on their way.
    fn drop(&mut self) {
        self.lines = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(CLOSE_WAIT_MAX) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the write log's disk does not answer: its last lines may be missing");
        }
        let lines_lost = self.lost.load(Ordering::Relaxed);
        if lines_lost > 0 {
            tracing::warn!(lines_lost, "the write log's disk was too slow for its last lines");
        }
    }
}

/// The files.
struct LogFile {
    path: PathBuf,
    limits: WriteLogLimits,
    /// The newest file and its length; `None` after a failure, until it is opened again.
    open: Option<(File, u64)>,
    /// Lines lost since the last one that was written.
    lost: u64,
}

impl LogFile {
    fn open(path: PathBuf, limits: WriteLogLimits) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let open = Some(open_at_end(&path)?);
        Ok(Self { path, limits, open, lost: 0 })
    }

    /// Writes a line, after a note on lines lost before it. Trouble is reported when it begins and when it ends.
    fn record(&mut self, line: &str, lost_on_the_way: u64) {
        let in_trouble = self.lost > 0;
        self.lost += lost_on_the_way;
        let note =
            if self.lost > 0 { format!("{}\n", json!({ "linesLost": self.lost })) } else { String::new() };
        match self.append(&format!("{note}{line}\n")) {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::info!(lines_lost = self.lost, path = %self.path.display(), "the write log is written again");
                }
                self.lost = 0;
            }
            Err(error) => {
                if !in_trouble {
                    tracing::warn!(
                        %error,
                        path = %self.path.display(),
                        "the write log cannot be written; the sync goes on without it, and each new line tries again"
                    );
                }
                self.lost += 1;
            }
        }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let (mut file, mut length) = match self.open.take() {
            Some(open) => open,
            None => open_at_end(&self.path)?,
        };
        let bytes = text.len() as u64;
        if length > 0 && length.saturating_add(bytes) > self.limits.bytes_max {
            drop(file);
            rotate(&self.path, self.limits.files_max)?;
            (file, length) = open_at_end(&self.path)?;
        }
        if let Err(error) = file.write_all(text.as_bytes()) {
            // What was written of the line goes again; where that fails too, the next line begins on a new one.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.open = Some((file, length + bytes));
        Ok(())
    }
}

/// Opens a file to add lines to. A last line that a crash left unfinished is ended.
fn open_at_end(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

/// `log` becomes `log.1`, `log.1` becomes `log.2`, and so on; the oldest goes.
fn rotate(path: &Path, files_max: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let oldest = files_max.saturating_sub(1);
    // A limit that was lowered leaves more than one too many.
    for number in oldest.. {
        match std::fs::remove_file(numbered(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            removed => removed?,
        }
    }
    for number in (0..oldest).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use forebay_ledger::block::Block;
    use forebay_ledger::keys::{Hash, PublicKey, Signature};
    use forebay_slow::{BlockRow, Position};

    use serde_json::Value;

    use super::*;

    fn append(height: u32) -> SlowOperation {
        let block = Block {
            id: BlockId(u64::from(height) + 9_000_000_000_000_000_000),
            height,
            version: 0,
            timestamp: 0,
            previous_block: None,
            number_of_transactions: 0,
            total_amount: 0,
            total_fee: 0,
            reward: 0,
            payload_length: 0,
            payload_hash: Hash([0; 32]),
            generator_public_key: PublicKey([0; 32]),
            block_signature: Signature([0; 64]),
            transactions: Vec::new(),
        };
        SlowOperation::Append(BlockRow {
            block: Arc::new(block),
            transactions_before: 0,
            forgers: None,
            delegates_digest: None,
        })
    }

    /// Before the batch of the test below, and after each of its operations.
    const TIPS: &[LoggedTip] =
        &[(6, None), (7, None), (8, Some(BlockId(9_000_000_000_000_000_008))), (6, None), (7, None)];

    fn attempt(operations: &[SlowOperation], outcome: AttemptOutcome) -> LoggedAttempt<'_> {
        LoggedAttempt {
            epoch: 3,
            expected_seq: 10,
            operations,
            tips: TIPS,
            attempt: 2,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_251_199_987),
            duration: Duration::from_micros(12_345),
            outcome,
        }
    }

    fn failure() -> AttemptOutcome {
        AttemptOutcome::Retry(Failure {
            kind: "conflict",
            sqlstate: Some("40P01".to_owned()),
            message: "a \"deadlock\"\nwas found".to_owned(),
        })
    }

    fn lines(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Lines of a file that holds numbers.
    fn numbers(path: &Path) -> Vec<u64> {
        lines(path).iter().map(|line| line.as_u64().unwrap()).collect()
    }

    #[test]
    fn an_attempt_is_one_line_that_names_what_was_done_and_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/write.jsonl");
        let operations = [append(7), append(8), SlowOperation::TakeBack { to_height: 6 }, append(7)];
        let position = Position { epoch: 3, seq: 14, height: 7, block_id: None };
        let committed =
            Committed { position, blocks_inserted: 3, transactions_inserted: 0, blocks_deleted: 2 };
        let log = WriteLog::open(&path, WriteLogLimits::default()).unwrap();
        log.record(&attempt(&operations, failure()));
        log.record(&attempt(&operations, AttemptOutcome::Ok(committed)));
        drop(log);

        let run = |operation, from, to| json!({ "operation": operation, "fromSeq": from, "toSeq": to });
        let with = |mut value: Value, more: Value| {
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        let blocks = |from: u64, to: u64| {
            let id = |height: u64| (height + 9_000_000_000_000_000_000).to_string();
            json!({ "fromHeight": from, "toHeight": to, "firstId": id(from), "lastId": id(to),
                "blocks": to - from + 1, "transactions": 0 })
        };
        let taken_back = json!({ "fromHeight": 7, "toHeight": 8, "firstId": null,
            "lastId": "9000000000000000008", "blocks": 2 });
        let common = json!({
            "startedAt": "2024-02-29T23:59:59.987Z", "epoch": 3, "fromSeq": 11, "toSeq": 14, "attempt": 2,
            "durationMs": 12.345,
            "operations": [
                with(run("append", 11, 12), blocks(7, 8)),
                with(run("take-back", 13, 13), taken_back),
                with(run("append", 14, 14), blocks(7, 7)),
            ],
        });
        let retried = json!({ "outcome": "retry", "kind": "conflict", "sqlstate": "40P01",
            "message": "a \"deadlock\"\nwas found" });
        let ok =
            json!({ "outcome": "ok", "blocksInserted": 3, "transactionsInserted": 0, "blocksDeleted": 2 });
        assert_eq!(lines(&path), [with(common.clone(), retried), with(common, ok)]);
    }

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let limits = WriteLogLimits { bytes_max: 12, files_max: 3 };
        let mut file = LogFile::open(path.clone(), limits).unwrap();
        (100..=114).for_each(|number| file.record(&number.to_string(), 0));
        let numbered = |number: u32| numbers(&folder.path().join(format!("log.{number}")));
        assert_eq!(numbers(&path), [112, 113, 114]);
        assert_eq!((numbered(1), numbered(2)), (vec![109, 110, 111], vec![106, 107, 108]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);

        // Fewer files from now on, and a line longer than a file.
        drop(file);
        let mut file = LogFile::open(path.clone(), WriteLogLimits { bytes_max: 12, files_max: 2 }).unwrap();
        file.record("1234567890123456", 0);
        assert_eq!((numbers(&path), numbered(1)), (vec![1_234_567_890_123_456], vec![112, 113, 114]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let mut file = LogFile::open(path.clone(), WriteLogLimits { bytes_max: 12, files_max: 1 }).unwrap();
        file.record("1", 0);
        assert_eq!(numbers(&path), [1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn lines_are_added_to_what_is_there_and_an_unfinished_one_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "1\n2").unwrap();
        let limits = WriteLogLimits { bytes_max: 6, files_max: 2 };
        LogFile::open(path.clone(), limits).unwrap().record("3", 0);
        assert_eq!(numbers(&path), [1, 2, 3]);
        LogFile::open(path.clone(), limits).unwrap().record("4", 0);
        assert_eq!(numbers(&path), [4]);
    }

    #[test]
    fn a_full_disk_loses_lines_that_are_counted_and_the_log_goes_on_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        symlink("/dev/full", &path).unwrap();
        let mut file = LogFile::open(path.clone(), WriteLogLimits::default()).unwrap();
        (1..=3).for_each(|number| file.record(&number.to_string(), 0));
        assert_eq!(file.lost, 3);
        fs::remove_file(&path).unwrap();
        file.record("4", 2);
        file.record("5", 0);
        assert_eq!(lines(&path), [json!({ "linesLost": 5 }), json!(4), json!(5)]);
    }

    #[test]
    fn a_file_that_cannot_be_rotated_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::create_dir(folder.path().join("log.1")).unwrap();
        fs::write(folder.path().join("log.1/in the way"), "").unwrap();
        let mut file = LogFile::open(path.clone(), WriteLogLimits { bytes_max: 4, files_max: 3 }).unwrap();
        file.record("100", 0);
        fs::create_dir_all(folder.path().join("log.2/in the way")).unwrap();
        (101..=109).for_each(|number| file.record(&number.to_string(), 0));
        assert_eq!((numbers(&path), file.lost), (vec![100], 9));
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up() {
        let (release, held) = sync_channel::<()>(0);
        let (written, seen) = std::sync::mpsc::channel();
        let log = WriteLog::start(move |line, lost| {
            let _ = held.recv();
            written.send((line.to_owned(), lost)).unwrap();
        })
        .unwrap();
        let operations = [append(7)];
        let sent = QUEUE_LINES as u64 + 500;
        (0..sent).for_each(|_| log.record(&attempt(&operations, failure())));
        drop(release);
        drop(log);
        let (lines, lost) = seen.iter().fold((0, 0), |(lines, lost), (_, more)| (lines + 1, lost + more));
        assert!(lost >= 499 && lines + lost == sent, "{lines} lines, {lost} lost");
    }

    #[test]
    fn a_log_that_cannot_be_opened_says_so_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(WriteLog::open(folder.path(), WriteLogLimits::default()).is_err());
    }
}
