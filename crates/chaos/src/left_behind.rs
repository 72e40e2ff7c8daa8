//! Runs whose own process was killed: their node, servers and small disks are still there, and nobody needs them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use crate::process::{POLL, is_alive, signal};
use crate::servers::unmount_all;

/// How long the processes of a killed run may take to be gone.
const END_MAX: Duration = Duration::from_secs(10);

/// Ends what is left of runs below `place` whose directories are named `prefix`, anything, `-` and the id of the process
/// that made them, if that one is gone: processes, disks and files. A directory in which nothing runs is what a failed
/// run keeps, and stays.
///
/// # Errors
/// A process does not end, or a directory cannot be removed.
pub fn end_runs_left_behind(place: &Path, prefix: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(place).with_context(|| format!("reading {}", place.display()))?.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(prefix)?.rsplit('-').next()?.parse().ok());
        if owner.is_some_and(|owner: u32| !is_alive(owner)) {
            end_run(&entry.path())?;
        }
    }
    Ok(())
}

fn end_run(root: &Path) -> anyhow::Result<()> {
    let mut running = processes_below(root);
    if running.is_empty() {
        return Ok(());
    }
    let mut waited = Duration::ZERO;
    while !running.is_empty() && waited < END_MAX {
        // One that starts others meanwhile is not done at the first try.
        running.iter().try_for_each(|pid| signal(*pid, Signal::KILL))?;
        std::thread::sleep(POLL);
        waited += POLL;
        running = processes_below(root);
    }
    anyhow::ensure!(running.is_empty(), "processes {running:?} of {} do not end", root.display());
    unmount_all(root);
    match fs::remove_dir_all(root) {
        // Another test does the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("removing {}", root.display())),
    }
}

/// What a run starts. Whoever else is there, such as a person who reads a log, is none of it.
const PROGRAMS: [&str; 4] = ["redis-server", "valkey-server", "postgres", "forebay"];

/// Our programs that work in a directory below `root`, or name one among their arguments: servers do the one, nodes the other.
fn processes_below(root: &Path) -> Vec<u32> {
    let mark = format!("{}/", root.display());
    let is_below = |pid: &u32| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if !PROGRAMS.contains(&name.trim_end()) {
            return false;
        }
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        works_there || String::from_utf8_lossy(&arguments).contains(&mark)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() && is_alive(*pid)).filter(is_below).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Child, Command};

    use super::*;

    /// A program of this name that waits in a directory.
    fn waiting(place: &Path, name: &str, directory: &Path) -> Child {
        let program = place.join(name);
        if !program.exists() {
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        }
        Command::new(program).arg("600").current_dir(directory).spawn().unwrap()
    }

    #[test]
    fn a_killed_run_is_ended_and_what_a_failed_one_keeps_stays() {
        let place = tempfile::tempdir().unwrap();
        let mut ended = Command::new("true").spawn().unwrap();
        let gone = ended.id();
        ended.wait().unwrap();
        let run = |seed: u32, owner: u32| {
            let root = place.path().join(format!("run-{seed}-{owner}"));
            fs::create_dir_all(root.join("servers/redis")).unwrap();
            root
        };
        let (killed, kept, alive) = (run(1, gone), run(2, gone), run(3, std::process::id()));
        let mut left = waiting(place.path(), "redis-server", &killed.join("servers/redis"));
        let mut used = waiting(place.path(), "redis-server", &alive.join("servers/redis"));
        let mut person = waiting(place.path(), "less", &kept.join("servers/redis"));

        end_runs_left_behind(place.path(), "run-").unwrap();

        assert!(!killed.exists() && kept.exists() && alive.exists());
        assert!(!left.wait().unwrap().success());
        for other in [&mut used, &mut person] {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
