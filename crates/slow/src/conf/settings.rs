//! The list: each setting with its value, its reason, and what it means when a server differs.

use forebay_conf::{Expect, Grade, Section, Setting, write_comment, write_sections};

const MIB: u64 = 1 << 20;
/// `shared_buffers` by memory: PostgreSQL's usual quarter would take too much beside a Redis that holds all accounts.
const SHARED_BUFFERS_SHARE: u64 = 8;
const SHARED_BUFFERS_MIN: u64 = 128 * MIB;
const SHARED_BUFFERS_MAX: u64 = 2048 * MIB;
/// Sessions of a node, its commands, and a few readers.
const CONNECTIONS_MIN: u64 = 20;

/// What the settings follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConf {
    /// Memory that the machine, or the control group, has; bytes.
    pub memory_bytes: u64,
    /// Whether it is a private server, whose log and sockets are set elsewhere.
    pub is_private: bool,
}

impl PostgresConf {
    /// What PostgreSQL takes for itself at its start, bytes.
    #[must_use]
    pub fn shared_buffers_bytes(&self) -> u64 {
        (self.memory_bytes / SHARED_BUFFERS_SHARE).clamp(SHARED_BUFFERS_MIN, SHARED_BUFFERS_MAX)
    }

    /// All settings, in the order of the file.
    #[must_use]
    pub fn settings(&self) -> Vec<Section> {
        let mut sections = vec![durability(), wal(), self.memory(), planner()];
        if !self.is_private {
            sections.push(connections());
            sections.push(log());
        }
        sections
    }

    /// The file, to be included by postgresql.conf.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.is_private {
            write_comment(
                &mut text,
                "Written by `forebay postgres-conf` for this machine. Include it at the end of postgresql.conf: include = \
                 'forebay.conf'. `forebay postgres-conf --check` compares a server with it.",
            );
        }
        write_sections(&mut text, &self.settings(), |setting| {
            format!("{} = '{}'", setting.name, setting.value.replace('\'', "''"))
        });
        text
    }

    fn memory(&self) -> Section {
        let buffers = self.shared_buffers_bytes();
        let warn = |least| Expect::AtLeast(least, Grade::Warn);
        let kilobytes = |bytes: u64| format!("{}kB", bytes / 1024);
        Section {
            title: "Memory, by what this machine has beside Redis",
            settings: vec![
                Setting::new(
                    "shared_buffers",
                    kilobytes(buffers),
                    "An eighth of the memory, at most 2 GiB: Redis answers most reads.",
                    warn(SHARED_BUFFERS_MIN),
                    "triggers read the same pages from the system again and again",
                ),
                Setting::new(
                    "effective_cache_size",
                    kilobytes((self.memory_bytes / 2).max(buffers)),
                    "What the planner may count on.",
                    Expect::Nothing,
                    "",
                ),
                Setting::new(
                    "maintenance_work_mem",
                    kilobytes((self.memory_bytes / 32).clamp(64 * MIB, 512 * MIB)),
                    "Indexes after a restored backup.",
                    Expect::Nothing,
                    "",
                ),
                Setting::new(
                    "work_mem",
                    kilobytes(16 * MIB),
                    "Sums over a segment stay in memory.",
                    warn(4 * MIB),
                    "segments are sorted on disk",
                ),
                Setting::new("huge_pages", "try", "Where the system has some.", Expect::Nothing, ""),
            ],
        }
    }
}

fn durability() -> Section {
    let stop = Expect::Same(Grade::Stop);
    Section {
        title: "A commit that was answered survives any crash",
        settings: vec![
            Setting::new(
                "fsync",
                "on",
                "Written means on the disk.",
                stop,
                "a crash of the machine destroys the database, and Redis has trimmed what it would need",
            ),
            Setting::new(
                "full_page_writes",
                "on",
                "A page that was half written is repaired.",
                stop,
                "a loss of power in the middle of a write leaves pages that nothing can repair",
            ),
            Setting::new(
                "synchronous_commit",
                "on",
                "The node sets it for its own sessions too.",
                Expect::Not("off", Grade::Warn),
                "commits of other programs that were answered can be lost; the node's own sessions set it on",
            ),
            Setting::new(
                "zero_damaged_pages",
                "off",
                "A damaged page is an error, never an empty one.",
                stop,
                "damaged blocks and accounts vanish without a word",
            ),
        ],
    }
}

fn wal() -> Section {
    let warn = |least| Expect::AtLeast(least, Grade::Warn);
    Section {
        title: "Bulk loads: few large checkpoints, compact WAL",
        settings: vec![
            Setting::new(
                "max_wal_size",
                "4GB",
                "A checkpoint by time, not by size, while a chain is loaded.",
                warn(1024 * MIB),
                "checkpoints follow each other while a chain is loaded",
            ),
            Setting::new("min_wal_size", "256MB", "Files are used again.", Expect::Nothing, ""),
            Setting::new(
                "wal_compression",
                "on",
                "Full pages compress well; `lz4`, where the server has it, takes the least time.",
                Expect::Not("off", Grade::Warn),
                "twice the WAL, on the disk that COMMIT waits for",
            ),
            Setting::new(
                "checkpoint_timeout",
                "15min",
                "Fewer full pages.",
                warn(300),
                "more full pages are written",
            ),
            Setting::new("checkpoint_completion_target", "0.9", "Spread over the time.", Expect::Nothing, ""),
        ],
    }
}

fn planner() -> Section {
    Section {
        title: "Short statements of known shape",
        settings: vec![
            Setting::new(
                "jit",
                "off",
                "Compiling them costs more than it gives; the node's sessions set it too.",
                Expect::Same(Grade::Warn),
                "each statement of other programs may be compiled for longer than it runs",
            ),
            Setting::new("random_page_cost", "1.1", "Disks are solid state.", Expect::Nothing, ""),
        ],
    }
}

fn connections() -> Section {
    Section {
        title: "Connections",
        settings: vec![
            Setting::new(
                "max_connections",
                "60",
                "The node takes a few, its commands one each.",
                Expect::AtLeast(CONNECTIONS_MIN, Grade::Warn),
                "the node or its commands cannot connect",
            ),
            Setting::new(
                "password_encryption",
                "scram-sha-256",
                "Passwords are not sent, and not kept in a way that can be used.",
                Expect::Same(Grade::Warn),
                "passwords can be found out by whoever reads the catalog",
            ),
        ],
    }
}

fn log() -> Section {
    let warn = Expect::Same(Grade::Warn);
    let risk = "slow moments leave no trace";
    Section {
        title: "What an operator wants to see afterwards",
        settings: vec![
            Setting::new("log_checkpoints", "on", "How long, how often.", warn, risk),
            Setting::new("log_lock_waits", "on", "Who keeps the node waiting.", warn, risk),
            Setting::new("log_line_prefix", "%m [%p] %q%u@%d ", "When, who, where.", Expect::Nothing, ""),
        ],
    }
}
