//! What the system says of this process. What it does not say is left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Figures of `/proc/self`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFigures {
    /// Whole seconds of processor time, user and system.
    pub cpu_seconds: Option<u64>,
    /// Bytes in memory.
    pub resident_bytes: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// How many may be.
    pub files_max: Option<u64>,
}

impl ProcessFigures {
    /// Now.
    pub fn now() -> Self {
        Self {
            cpu_seconds: cpu_seconds(),
            resident_bytes: resident_bytes(),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            files_max: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Seconds since 1970.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

fn cpu_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may contain anything; the fields after it are numbers.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) / clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_this_process_uses() {
        let figures = ProcessFigures::now();
        assert!(figures.resident_bytes.unwrap() > 1 << 20);
        assert!(figures.open_files.unwrap() >= 3 && figures.files_max.unwrap() > 3);
        assert!(figures.cpu_seconds.is_some());
    }
}
