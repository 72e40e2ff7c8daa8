//! Settings of the private PostgreSQL: `forebay.conf` (included by postgresql.conf) and `pg_hba.conf`, both written
//! anew at each start.

use std::fmt::Write as _;
use std::fs;

use crate::layout::{Layout, POSTGRES_PORT};
use crate::options::PostgresOptions;

const MIB: u64 = 1024 * 1024;

/// `shared_buffers` by memory: PostgreSQL's usual quarter would take too much beside a Redis that holds all accounts.
const SHARED_BUFFERS_SHARE: u64 = 8;
const SHARED_BUFFERS_MIN: u64 = 128 * MIB;
const SHARED_BUFFERS_MAX: u64 = 2048 * MIB;

/// Only our roles, only with their passwords, only over the socket.
pub(crate) const PG_HBA: &str = "\
# Written by Forebay at each start of its private PostgreSQL. Changes here are lost.
local all         all scram-sha-256
local replication all scram-sha-256
";

/// The text of forebay.conf, for a program that has lz4 or not.
pub(crate) fn forebay_conf(layout: &Layout, options: &PostgresOptions, has_lz4: bool) -> String {
    let mut conf = Conf {
        text: "# Written by Forebay at each start of its private PostgreSQL. Changes here are lost.\n"
            .to_owned(),
    };

    conf.section("A socket for its owner and root, no TCP at all.");
    conf.text("listen_addresses", "");
    conf.set("port", POSTGRES_PORT);
    conf.text("unix_socket_directories", &layout.postgres_sockets.to_string_lossy());
    conf.text("unix_socket_permissions", "0700");
    conf.text("hba_file", &layout.postgres_hba().to_string_lossy());
    conf.text("password_encryption", "scram-sha-256");
    conf.set("max_connections", 60);

    if let Some(settings) = &options.conf {
        let _ = write!(conf.text, "\n{settings}");
    } else {
        tuning(&mut conf, options);
    }

    if has_lz4 {
        conf.section("This program has lz4, which takes less time for full pages than pglz does.");
        conf.text("wal_compression", "lz4");
    }

    conf.section("To standard error, which is postgres.log; messages in English, as programs read them.");
    conf.text("logging_collector", "off");
    conf.text("log_destination", "stderr");
    conf.text("log_line_prefix", "%m [%p] %q%u@%d ");
    conf.text("log_timezone", "UTC");
    conf.text("lc_messages", "C");
    conf.text("log_checkpoints", "on");
    conf.text("log_lock_waits", "on");

    if !options.extra.is_empty() {
        conf.section("Given by the caller.");
        for (name, value) in &options.extra {
            conf.text(name, value);
        }
    }
    conf.text
}

/// What the server does, where the caller does not say it.
fn tuning(conf: &mut Conf, options: &PostgresOptions) {
    let memory = memory_bytes();
    let buffers = options
        .shared_buffers_bytes
        .unwrap_or_else(|| (memory / SHARED_BUFFERS_SHARE).clamp(SHARED_BUFFERS_MIN, SHARED_BUFFERS_MAX));
    let on_off = |on: bool| if on { "on" } else { "off" };

    conf.section("A commit that was answered survives any crash.");
    conf.text("fsync", on_off(options.fsync));
    conf.text("full_page_writes", on_off(options.fsync));
    // On in tests too: without flushing it costs nothing, and a killed process keeps its commits.
    conf.text("synchronous_commit", "on");

    conf.section("Bulk loads: few large checkpoints, compact WAL.");
    conf.set("max_wal_size", "'4GB'");
    conf.set("min_wal_size", "'256MB'");
    conf.text("wal_compression", "on");
    conf.set("checkpoint_timeout", "'15min'");
    conf.set("checkpoint_completion_target", "0.9");

    conf.section("Memory, by what this machine has.");
    conf.set("shared_buffers", kilobytes(buffers));
    conf.set("effective_cache_size", kilobytes((memory / 2).max(buffers)));
    conf.set("maintenance_work_mem", kilobytes((memory / 32).clamp(64 * MIB, 512 * MIB)));
    conf.set("work_mem", kilobytes(16 * MIB));
    conf.text("huge_pages", "try");

    conf.section(
        "Short statements of known shape: compiling them costs more than it gives. Disks are solid state.",
    );
    conf.text("jit", "off");
    conf.set("random_page_cost", "1.1");
}

struct Conf {
    text: String,
}

impl Conf {
    fn section(&mut self, reason: &str) {
        let _ = write!(self.text, "\n# {reason}\n");
    }

    fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name} = {value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        let quoted = value.replace('\\', "\\\\").replace('\'', "''");
        self.set(name, format!("'{quoted}'"));
    }
}

fn kilobytes(bytes: u64) -> String {
    format!("'{}kB'", bytes / 1024)
}

/// What this process may use: the machine's memory or the control group's limit.
fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(1024 * MIB)
}
