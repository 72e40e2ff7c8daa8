//! The end of a server's own log, for error messages.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// As much as a person reads on a screen.
const LINES_MAX: usize = 20;
const BYTES_MAX: u64 = 16 * 1024;

/// A log larger than this is set aside at the next start of its server.
const ROTATE_BYTES: u64 = 32 * 1024 * 1024;

/// The length of the log now: what comes later belongs to the start that follows.
pub(crate) fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |meta| meta.len())
}

/// The last lines written after byte `from`.
pub(crate) fn since(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(BYTES_MAX))))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LINES_MAX)..).unwrap_or_default();
    if tail.is_empty() { "(nothing)".to_owned() } else { tail.join("\n") }
}

/// Keeps a log from growing for ever: a large one becomes `<log>.1`. Only while its server does not run.
pub(crate) fn rotate(log: &Path) {
    if length(log) > ROTATE_BYTES {
        let mut old = log.as_os_str().to_owned();
        old.push(".1");
        if let Err(error) = fs::rename(log, &old) {
            tracing::warn!(log = %log.display(), %error, "the log could not be set aside");
        }
    }
}
