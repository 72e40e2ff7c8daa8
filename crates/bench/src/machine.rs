//! What the figures were measured on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::arena::{Arena, connect};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::row::{figure, median};

/// The machine and the versions.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// As the system names it.
    pub processor: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The system's.
    pub kernel: String,
    /// Mean number of processes that wanted to run during the minute before: above the number of cores, others worked too.
    pub load_average: f64,
    /// This program's.
    pub forebay: &'static str,
    /// Redis'.
    pub redis: String,
    /// PostgreSQL's.
    pub postgres: String,
    /// The median time of writing 4 KiB and flushing it where the servers keep their data, microseconds.
    pub fdatasync_us: f64,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Machine {
    pub(crate) async fn look(arena: &Arena, options: &BenchOptions) -> Result<Self, BenchError> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let postgres = connect(&arena.admin("postgres")?).await?;
        let version: String = postgres.query_one("show server_version", &[]).await?.try_get(0)?;
        let redis = match options.profiles.first() {
            Some(profile) => {
                let mut connection = arena.redis_connection(*profile).await?;
                let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
                field(&info, "redis_version").unwrap_or_default()
            }
            None => String::new(),
        };
        Ok(Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory.split(' ').next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            forebay: env!("CARGO_PKG_VERSION"),
            redis,
            postgres: version,
            fdatasync_us: fdatasync_us(&options.directory)?,
            optimised: !cfg!(debug_assertions),
        })
    }
}

/// As Redis and PostgreSQL flush: append, then fdatasync.
fn fdatasync_us(directory: &Path) -> Result<f64, BenchError> {
    const TRIES: usize = 50;
    let path = directory.join("fdatasync");
    let failed = || BenchError::io(format!("writing {}", path.display()));
    let mut file = File::create(&path).map_err(failed())?;
    let mut took = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        file.write_all(&[7; 4096]).map_err(failed())?;
        let began = Instant::now();
        file.sync_data().map_err(failed())?;
        took.push(figure(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)) / 1000.0);
    }
    std::fs::remove_file(&path).map_err(failed())?;
    Ok(median(took))
}
