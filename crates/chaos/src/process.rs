//! Signals to processes that this run has started, and to their children.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition outside of this process is looked at again.
pub const POLL: Duration = Duration::from_millis(10);

/// Sends a signal; a process that is gone is no error. The caller knows that the id is still that of its process.
///
/// # Errors
/// The system forbids it.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signalling process {}", pid.as_raw_nonzero())),
    }
}

/// A process and its children: PostgreSQL's sessions are children of the postmaster.
pub fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let child: u32 = entry.file_name().to_str()?.parse().ok()?;
        (parent(child) == Some(pid)).then_some(child)
    });
    std::iter::once(pid).chain(children).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold parentheses and blanks; then come state and parent.
    stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether it runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rfind(')').and_then(|end| stat.get(end + 1..)?.split_ascii_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// Waits until it has ended.
///
/// # Errors
/// It is still there after `limit`.
pub async fn wait_gone(pid: u32, limit: Duration) -> anyhow::Result<()> {
    let gone = async {
        while is_alive(pid) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(limit, gone).await.with_context(|| format!("process {pid} does not end"))
}
