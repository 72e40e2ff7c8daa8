//! `wrk`, the load generator: a process of its own, so that what it costs is not counted as the server's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::error::BenchError;

/// What it does and says.
const SCRIPT: &str = include_str!("wrk.lua");
/// Connections, each with one request at a time.
const CONNECTIONS: usize = 16;
/// Beyond the time of asking: connecting, and summing up.
const LONGER_MAX: Duration = Duration::from_secs(30);

/// The load generator's program.
///
/// # Errors
/// [`BenchError::NoLoadGenerator`]: it is not in PATH.
pub fn load_generator() -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join("wrk")).find(|file| file.is_file());
    found.ok_or(BenchError::NoLoadGenerator)
}

/// The generator with its script.
pub(super) struct Wrk {
    program: PathBuf,
    script: PathBuf,
}

/// What a measurement found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Answers a second.
    pub(super) rate: f64,
    /// 99 of 100 answers took at most so long, microseconds.
    pub(super) p99_us: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    requests: f64,
    duration_us: f64,
    p99_us: f64,
    errors: f64,
}

impl Wrk {
    /// Puts the script into a directory.
    pub(super) fn in_directory(directory: &Path) -> Result<Self, BenchError> {
        let script = directory.join("wrk.lua");
        std::fs::write(&script, SCRIPT).map_err(BenchError::io(format!("writing {}", script.display())))?;
        Ok(Self { program: load_generator()?, script })
    }

    /// Asks for the paths in a file, in random order, as fast as answers come.
    pub(super) async fn ask(
        &self,
        server: SocketAddr,
        paths: &Path,
        seconds: u32,
    ) -> Result<Asked, BenchError> {
        let mut command = Command::new(&self.program);
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"]).arg(&self.script);
        command.arg(format!("http://{server}")).arg("--").arg(paths).kill_on_drop(true);
        let time = Duration::from_secs(u64::from(seconds)) + LONGER_MAX;
        let output = tokio::time::timeout(time, command.output())
            .await
            .map_err(|_| BenchError::Other("wrk did not end".to_owned()))?
            .map_err(BenchError::io(format!("running {}", self.program.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told =
            || BenchError::Other(format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)));
        let line = text.lines().find(|line| line.starts_with('{')).ok_or_else(told)?;
        let summary: Summary = serde_json::from_str(line).map_err(|_| told())?;
        // One request that failed is a figure of something else.
        if summary.errors > 0.0 || summary.requests < 1.0 {
            return Err(told());
        }
        Ok(Asked { rate: summary.requests * 1e6 / summary.duration_us.max(1.0), p99_us: summary.p99_us })
    }
}
