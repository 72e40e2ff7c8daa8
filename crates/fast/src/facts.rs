//! What the server is and how it is set up.

use std::collections::HashMap;

/// Facts about a Redis server, from `INFO` and, where allowed, `CONFIG GET`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// For example `7.0.15`.
    pub version: String,
    /// Changes with each start of the server.
    pub run_id: String,
    /// True for a primary.
    pub is_primary: bool,
    /// The limit of its memory, bytes; 0: none.
    pub memory_bytes_max: u64,
    /// What it uses now, bytes.
    pub memory_bytes_used: u64,
    /// What it takes of the machine now, bytes.
    pub memory_bytes_resident: u64,
    /// What it used when it was empty, bytes.
    pub memory_bytes_at_start: u64,
    /// RAM of its machine, bytes; 0 if it does not say.
    pub memory_bytes_system: u64,
    /// Its process, on its machine; 0 if it does not say.
    pub process_id: u32,
    /// Keys with a time to live, in all its databases.
    pub keys_expiring: u64,
    /// What it does at the limit; must be `noeviction`.
    pub eviction_policy: String,
    /// Whether it keeps an append-only file.
    pub aof_enabled: bool,
    /// When it flushes that file: `always`, `everysec`, `no`; `None` if it does not say.
    pub append_fsync: Option<String>,
    /// The longest value that a compact hash may hold, bytes; `None` if it does not say.
    pub listpack_value_bytes_max: Option<u64>,
    /// The most entries that a compact hash may hold; `None` if it does not say.
    pub listpack_entries_max: Option<u64>,
}

impl ServerFacts {
    pub(crate) fn of_info(info: &str) -> Self {
        let lines: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| lines.get(name).copied().unwrap_or_default().to_owned();
        let number = |name: &str| lines.get(name).and_then(|value| value.parse().ok()).unwrap_or_default();
        Self {
            version: text("redis_version"),
            run_id: text("run_id"),
            is_primary: text("role") == "master",
            memory_bytes_max: number("maxmemory"),
            memory_bytes_used: number("used_memory"),
            memory_bytes_resident: number("used_memory_rss"),
            memory_bytes_at_start: number("used_memory_startup"),
            memory_bytes_system: number("total_system_memory"),
            process_id: lines.get("process_id").and_then(|value| value.parse().ok()).unwrap_or_default(),
            keys_expiring: lines
                .iter()
                .filter(|(name, _)| name.strip_prefix("db").is_some_and(|rest| rest.parse::<u32>().is_ok()))
                .filter_map(|(_, value)| value.split(',').find_map(|part| part.strip_prefix("expires=")))
                .filter_map(|count| count.parse::<u64>().ok())
                .sum(),
            eviction_policy: text("maxmemory_policy"),
            aof_enabled: text("aof_enabled") == "1",
            append_fsync: None,
            listpack_value_bytes_max: None,
            listpack_entries_max: None,
        }
    }

    pub(crate) fn add_settings(&mut self, settings: &HashMap<String, String>) {
        let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
        self.append_fsync = settings.get("appendfsync").cloned();
        self.listpack_value_bytes_max = number("hash-max-listpack-value");
        self.listpack_entries_max = number("hash-max-listpack-entries");
    }

    /// Why this server must not hold a chain; empty if it may. One sentence each, for the operator.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.eviction_policy != "noeviction" {
            problems.push(format!(
                "maxmemory-policy is \"{}\": Redis would drop data of the chain; set it to noeviction.",
                self.eviction_policy
            ));
        }
        if !self.is_primary {
            problems.push("this server is a replica; give the address of the primary.".to_owned());
        }
        problems
    }

    /// Whether what Redis acknowledged survives a loss of power.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.aof_enabled && self.append_fsync.as_deref() == Some("always")
    }
}
