//! The list: each setting with its value, its reason, and what it means when a server differs.

use std::fmt::Write as _;

const MIB: u64 = 1 << 20;
/// `shared_buffers` by memory: PostgreSQL's usual quarter would take too much beside a Redis that holds all accounts.
const SHARED_BUFFERS_SHARE: u64 = 8;
const SHARED_BUFFERS_MIN: u64 = 128 * MIB;
const SHARED_BUFFERS_MAX: u64 = 2048 * MIB;
/// Sessions of a node, its commands, and a few readers.
const CONNECTIONS_MIN: u64 = 20;
/// Columns of a comment.
const WIDTH: usize = 118;

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It costs time, or somebody's patience.
    Warn,
    /// It breaks a promise: what was answered as durable can be lost.
    Stop,
}

/// How a live server's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Not at all.
    Nothing,
    /// It must be this.
    Same(Grade),
    /// It must not be this.
    Not(&'static str, Grade),
    /// At least so much, in bytes, seconds, or as a number.
    AtLeast(u64, Grade),
}

impl Expect {
    /// How bad a difference is; `None`: it does not matter.
    #[must_use]
    pub fn grade(self) -> Option<Grade> {
        match self {
            Self::Nothing => None,
            Self::Same(grade) | Self::Not(_, grade) | Self::AtLeast(_, grade) => Some(grade),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, without quotes.
    pub value: String,
    /// Why it is so.
    pub reason: &'static str,
    /// How a live server is compared.
    pub expect: Expect,
    /// What happens when a server differs.
    pub risk: &'static str,
}

/// Settings that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// In the order of the file.
    pub settings: Vec<Setting>,
}

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
            comment(
                &mut text,
                "Written by `forebay postgres-conf` for this machine. Include it at the end of postgresql.conf: include = \
                 'forebay.conf'. `forebay postgres-conf --check` compares a server with it.",
            );
        }
        for section in self.settings() {
            let _ = writeln!(text, "\n# == {} ==", section.title);
            for setting in section.settings {
                let _ = writeln!(text);
                comment(&mut text, setting.reason);
                let _ = writeln!(text, "{} = '{}'", setting.name, setting.value.replace('\'', "''"));
            }
        }
        text
    }

    fn memory(&self) -> Section {
        let buffers = self.shared_buffers_bytes();
        let warn = |least| Expect::AtLeast(least, Grade::Warn);
        let kilobytes = |bytes: u64| format!("{}kB", bytes / 1024);
        Section {
            title: "Memory, by what this machine has beside Redis",
            settings: vec![
                setting(
                    "shared_buffers",
                    kilobytes(buffers),
                    "An eighth of the memory, at most 2 GiB: Redis answers most reads.",
                    warn(SHARED_BUFFERS_MIN),
                    "triggers read the same pages from the system again and again",
                ),
                setting(
                    "effective_cache_size",
                    kilobytes((self.memory_bytes / 2).max(buffers)),
                    "What the planner may count on.",
                    Expect::Nothing,
                    "",
                ),
                setting(
                    "maintenance_work_mem",
                    kilobytes((self.memory_bytes / 32).clamp(64 * MIB, 512 * MIB)),
                    "Indexes after a restored backup.",
                    Expect::Nothing,
                    "",
                ),
                setting(
                    "work_mem",
                    kilobytes(16 * MIB),
                    "Sums over a segment stay in memory.",
                    warn(4 * MIB),
                    "segments are sorted on disk",
                ),
                setting("huge_pages", "try", "Where the system has some.", Expect::Nothing, ""),
            ],
        }
    }
}

fn durability() -> Section {
    let stop = Expect::Same(Grade::Stop);
    Section {
        title: "A commit that was answered survives any crash",
        settings: vec![
            setting(
                "fsync",
                "on",
                "Written means on the disk.",
                stop,
                "a crash of the machine destroys the database, and Redis has trimmed what it would need",
            ),
            setting(
                "full_page_writes",
                "on",
                "A page that was half written is repaired.",
                stop,
                "a loss of power in the middle of a write leaves pages that nothing can repair",
            ),
            setting(
                "synchronous_commit",
                "on",
                "The node sets it for its own sessions too.",
                Expect::Not("off", Grade::Warn),
                "commits of other programs that were answered can be lost; the node's own sessions set it on",
            ),
            setting(
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
            setting(
                "max_wal_size",
                "4GB",
                "A checkpoint by time, not by size, while a chain is loaded.",
                warn(1024 * MIB),
                "checkpoints follow each other while a chain is loaded",
            ),
            setting("min_wal_size", "256MB", "Files are used again.", Expect::Nothing, ""),
            setting(
                "wal_compression",
                "on",
                "Full pages compress well.",
                Expect::Not("off", Grade::Warn),
                "twice the WAL, on the disk that COMMIT waits for",
            ),
            setting(
                "checkpoint_timeout",
                "15min",
                "Fewer full pages.",
                warn(300),
                "more full pages are written",
            ),
            setting("checkpoint_completion_target", "0.9", "Spread over the time.", Expect::Nothing, ""),
        ],
    }
}

fn planner() -> Section {
    Section {
        title: "Short statements of known shape",
        settings: vec![
            setting(
                "jit",
                "off",
                "Compiling them costs more than it gives; the node's sessions set it too.",
                Expect::Same(Grade::Warn),
                "each statement of other programs may be compiled for longer than it runs",
            ),
            setting("random_page_cost", "1.1", "Disks are solid state.", Expect::Nothing, ""),
        ],
    }
}

fn connections() -> Section {
    Section {
        title: "Connections",
        settings: vec![
            setting(
                "max_connections",
                "60",
                "The node takes a few, its commands one each.",
                Expect::AtLeast(CONNECTIONS_MIN, Grade::Warn),
                "the node or its commands cannot connect",
            ),
            setting(
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
            setting("log_checkpoints", "on", "How long, how often.", warn, risk),
            setting("log_lock_waits", "on", "Who keeps the node waiting.", warn, risk),
            setting("log_line_prefix", "%m [%p] %q%u@%d ", "When, who, where.", Expect::Nothing, ""),
        ],
    }
}

fn setting(
    name: &'static str,
    value: impl Into<String>,
    reason: &'static str,
    expect: Expect,
    risk: &'static str,
) -> Setting {
    Setting { name, value: value.into(), reason, expect, risk }
}

fn comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}
