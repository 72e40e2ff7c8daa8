//! Processes by identity. A process id alone is not one: after a crash or a reboot it may name a stranger, so every
//! signal goes to (id, start time), and a server is recognised by its command line.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Child;
use tokio::time::Instant;

use crate::account::Account;
use crate::binaries::find_setsid;
use crate::error::ServersError;
use crate::log_tail;

/// How often a condition outside of this process is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(15);

/// How long a halted process may be on the way to go on.
const HALTED_MAX: Duration = Duration::from_secs(5);

/// One life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks from boot to its start: differs when the id is given to a new process.
    start_ticks: u64,
}

impl Process {
    /// The living process with this id; `None` when there is none or only its zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::and_state_of(pid).map(|(process, _)| process)
    }

    fn and_state_of(pid: u32) -> Option<(Self, char)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may itself hold parentheses and blanks.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22 of proc(5); the iterator stands before field 4.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        (!matches!(state, 'Z' | 'X')).then_some((Self { pid, start_ticks }, state))
    }

    /// Whether somebody has stopped it (SIGSTOP, a debugger): it answers nothing, and ends by nothing but SIGKILL.
    fn is_halted(self) -> bool {
        Self::and_state_of(self.pid)
            .is_some_and(|(process, state)| process == self && matches!(state, 'T' | 't'))
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends `signal` to this very process; a process that has ended is no error.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Checked after opening: from here on the descriptor cannot turn into another process.
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until this process has ended; `false` when `timeout` passed first.
    pub(crate) async fn wait_gone(self, timeout: Duration) -> bool {
        self.wait_gone_unless(timeout, |_| false).await
    }

    /// The same, while it may end: one that stays halted does not.
    pub(crate) async fn wait_gone_unless_halted(self, timeout: Duration, halted: &mut Halted) -> bool {
        self.wait_gone_unless(timeout, |process| halted.is_for_good(process)).await
    }

    async fn wait_gone_unless(self, timeout: Duration, mut in_vain: impl FnMut(Self) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline || in_vain(self) {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

/// How long a process has been seen halted without a break.
#[derive(Debug, Default)]
pub(crate) struct Halted {
    since: Option<Instant>,
}

impl Halted {
    /// Whether it is to be expected that it stays so.
    pub(crate) fn is_for_good(&mut self, process: Process) -> bool {
        if !process.is_halted() {
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() >= HALTED_MAX
    }
}

/// A server that this process has started. Its end is known for certain, where a search by command line could miss
/// it for a moment (while a program is loaded it has none).
pub(crate) struct Started {
    child: Child,
    /// Length of the server's log before the start.
    pub(crate) log_start: u64,
}

impl Started {
    /// Starts `program` as `account` in a session of its own: neither the end of this process nor a signal from its
    /// terminal reaches it. What it prints goes to `log`.
    pub(crate) fn spawn(
        account: &Account,
        program: &Path,
        arguments: &[&OsStr],
        directory: &Path,
        log: &Path,
    ) -> Result<Self, ServersError> {
        // `setsid` replaces itself by the program, so the child is the server.
        let mut command = account.command(&find_setsid()?, directory);
        let (output, log_start) = (account.open_log(log)?, log_tail::length(log));
        let errors = output.try_clone().map_err(ServersError::io("opening the log", log))?;
        command.arg(program).args(arguments).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
        let child = command.spawn().map_err(ServersError::io("starting the server", program))?;
        Ok(Self { child, log_start })
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The same as words.
    pub(crate) fn end_text(&mut self) -> String {
        let status = self.ended().map_or_else(String::new, |status| format!(" ({status})"));
        format!("its process ended{status}")
    }
}

/// The command line of a process, its parts joined by blanks. Empty when it has none or is gone.
pub(crate) fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts: Vec<_> = raw.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    parts.join(" ").trim_end().to_owned()
}

/// All living processes for which `matches(name, command line)` holds.
pub(crate) fn find(matches: impl Fn(&str, &str) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if matches(name.trim_end(), &command_line(pid)) { Process::of(pid) } else { None }
    })
    .collect()
}

/// The living children of a process.
#[cfg(feature = "testing")]
pub(crate) fn children(pid: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|child| parent(*child) == Some(pid)).filter_map(Process::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_itself_and_an_ended_one_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        // The kernel shows the command line a moment after the program has been loaded.
        while find(|name, line| name == "sleep" && line == "sleep 60").is_empty() {
            assert!(process.is_alive());
        }
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_recycled_process_id_is_a_stranger() {
        let process = Process::of(std::process::id()).unwrap();
        let earlier = Process { start_ticks: process.start_ticks - 1, ..process };
        assert!(!earlier.is_alive());
        // Must not reach this test process.
        earlier.signal(Signal::KILL).unwrap();
    }
}
