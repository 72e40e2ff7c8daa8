//! What the machine, and the control group that we run in, still have for Redis.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits from here on mean "no limit": version 1 of control groups writes a number close to 2^63.
const UNLIMITED_FROM: u64 = 1 << 60;

/// The machine's memory, bytes, and the control group's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// RAM in all.
    pub total_bytes: u64,
    /// What could be used now without swapping: free, and caches that can go.
    pub available_bytes: u64,
    /// The tightest limit of a control group above us; `None`: no group has a limit.
    pub cgroup: Option<Cgroup>,
}

/// A control group with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Where its limit stands.
    pub file: PathBuf,
    /// Its limit, bytes.
    pub limit_bytes: u64,
    /// What its processes use, caches of files that can go not included, bytes.
    pub used_bytes: u64,
}

impl Cgroup {
    /// What is left.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }
}

impl Machine {
    /// This machine, as the given process sees it; `None`: as we do.
    #[must_use]
    pub fn of_process(pid: Option<u32>) -> Self {
        let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Self::read(Path::new("/proc"), Path::new("/sys/fs/cgroup"), &process)
    }

    /// What its processes may have in all, bytes: the control group's limit, else the RAM.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.cgroup.as_ref().map_or(self.total_bytes, |group| group.limit_bytes)
    }

    /// A machine by its `/proc` and its `/sys/fs/cgroup`. What cannot be read counts as no limit.
    #[must_use]
    pub fn read(proc: &Path, cgroups: &Path, process: &str) -> Self {
        let text = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
        let total_bytes = meminfo(&text, "MemTotal:").unwrap_or(u64::MAX);
        let available_bytes = meminfo(&text, "MemAvailable:").unwrap_or(total_bytes);
        let groups = fs::read_to_string(proc.join(process).join("cgroup")).unwrap_or_default();
        let cgroup = groups
            .lines()
            .flat_map(|line| limits_of(cgroups, line))
            // A limit above the machine's memory limits nothing.
            .filter(|group| group.limit_bytes < total_bytes)
            .min_by_key(Cgroup::available_bytes);
        Self { total_bytes, available_bytes, cgroup }
    }
}

fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The limits on the way from a process's group up to the root. A line of `/proc/PID/cgroup` is
/// `<hierarchy>:<controllers>:<path>`; version 2 has hierarchy 0 and no controllers.
fn limits_of(cgroups: &Path, line: &str) -> Vec<Cgroup> {
    let mut fields = line.splitn(3, ':');
    let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
    else {
        return Vec::new();
    };
    let unified = hierarchy == "0" && controllers.is_empty();
    let roots = match (unified, controllers.split(',').any(|controller| controller == "memory")) {
        (true, _) => vec![cgroups.to_path_buf(), cgroups.join("unified")],
        (false, true) => vec![cgroups.join("memory"), cgroups.join(controllers)],
        (false, false) => return Vec::new(),
    };
    // In a container the path is often that of the host: then only the root is there, which is the container's group.
    let path = Path::new(path.trim_start_matches('/'));
    let read = if unified { version_two } else { version_one };
    roots.iter().flat_map(|root| path.ancestors().filter_map(|part| read(&root.join(part)))).collect()
}

fn version_two(group: &Path) -> Option<Cgroup> {
    let file = group.join("memory.max");
    let limit_bytes = number(&file)?;
    let used = number(&group.join("memory.current"))?;
    Some(Cgroup { used_bytes: used.saturating_sub(statistic(group, "inactive_file")), limit_bytes, file })
}

fn version_one(group: &Path) -> Option<Cgroup> {
    let file = group.join("memory.limit_in_bytes");
    let limit_bytes = number(&file).filter(|limit| *limit < UNLIMITED_FROM)?;
    let used = number(&group.join("memory.usage_in_bytes"))?;
    Some(Cgroup {
        used_bytes: used.saturating_sub(statistic(group, "total_inactive_file")),
        limit_bytes,
        file,
    })
}

/// The number in a file; `None` where it is not there or says `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn statistic(group: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}
