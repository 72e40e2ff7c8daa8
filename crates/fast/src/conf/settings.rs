//! The list: each setting with its value, its reason, and what it means when a server differs.

use forebay_conf::{Expect, Grade, Section, Setting};

use super::{Place, RedisConf};
use crate::codec::account::INLINE_BYTES_MAX;

/// Entries of a compact hash: buckets are made for 32 and 64, and may grow fourfold before the next restore.
const BUCKET_ENTRIES_MIN: u64 = 128;
/// The longest single argument: a block's body, a call of a restore.
const ARGUMENT_BYTES_MIN: u64 = 512 << 20;
/// An answer to the node: a page of blocks, an outbox.
const ANSWER_BYTES: u64 = 256 << 20;
/// Connections of a node and its commands.
const CLIENTS_MIN: u64 = 64;

impl RedisConf {
    /// All settings, in the order of the file.
    #[must_use]
    pub fn settings(&self) -> Vec<Section> {
        vec![
            self.place(),
            self.persistence(),
            self.memory(),
            encodings(),
            freeing(),
            self.threads(),
            self.clients(),
            commands(),
            watching(),
        ]
    }

    fn place(&self) -> Section {
        let put = |name, value: String, reason| Setting::new(name, value, reason, Expect::Nothing, "");
        let settings = match &self.place {
            Place::Private { socket, directory, pid_file, log_file } => vec![
                put("port", "0".to_owned(), "No TCP at all."),
                put("unixsocket", quoted(socket), "The way in."),
                put("unixsocketperm", "700".to_owned(), "For the servers' account and root."),
                put(
                    "daemonize",
                    "no".to_owned(),
                    "The node starts it in a session of its own; it survives the node.",
                ),
                put("supervised", "no".to_owned(), "No service manager knows it."),
                put("pidfile", quoted(pid_file), "For people; the node asks the server itself."),
                put("logfile", quoted(log_file), "Rotated at each start."),
                put(
                    "dir",
                    quoted(directory),
                    "Where the append-only file lies; the next start knows the server by it.",
                ),
                put(
                    "proc-title-template",
                    "\"{title} {config-file}\"".to_owned(),
                    "Its title shows this file.",
                ),
            ],
            Place::Yours { bind, port, socket, directory } => {
                let mut settings = Vec::new();
                if self.tls.is_none() {
                    settings.push(put("bind", bind.clone(), "Only where the node is; never the world."));
                    settings.push(put("port", port.to_string(), "0 for none, where a Unix socket will do."));
                }
                if let Some(socket) = socket {
                    settings.push(put("unixsocket", quoted(socket), "Faster than TCP on one machine."));
                    settings.push(put(
                        "unixsocketperm",
                        "770".to_owned(),
                        "For the server's group: put the node into it.",
                    ));
                }
                settings.push(put(
                    "dir",
                    quoted(directory),
                    "A volume of its own: a full one must not stop PostgreSQL too.",
                ));
                settings.extend(self.tls_settings(bind, *port));
                settings
            }
        };
        Section { title: "Where it listens and writes", settings }
    }

    fn tls_settings(&self, bind: &str, port: u16) -> Vec<Setting> {
        let Some(tls) = &self.tls else { return Vec::new() };
        let put = |name, value: String, reason| Setting::new(name, value, reason, Expect::Nothing, "");
        vec![
            put("bind", bind.to_owned(), "Only where the node is; never the world."),
            put("port", "0".to_owned(), "Nothing in the clear."),
            put("tls-port", port.to_string(), "Encrypted: give the node a rediss:// address."),
            put("tls-cert-file", quoted(&tls.certificate), "The server's certificate."),
            put("tls-key-file", quoted(&tls.key), "Its key."),
            put("tls-ca-cert-file", quoted(&tls.authority), "Who signs certificates."),
            put("tls-auth-clients", "no".to_owned(), "Clients show a password, not a certificate."),
        ]
    }

    fn persistence(&self) -> Section {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let durable = |grade| if self.is_durable { Expect::Same(grade) } else { Expect::Nothing };
        let title = if self.is_durable {
            "Profile durable: each write is on disk before it is acknowledged"
        } else {
            "Profile volatile: nothing is kept on disk; for bulk loads and tests"
        };
        Section {
            title,
            settings: vec![
                Setting::new(
                    "appendonly",
                    yes_no(self.is_durable || self.loads_append_only),
                    "The file that survives a crash of Redis.",
                    durable(Grade::Warn),
                    "what was acknowledged and is not in PostgreSQL yet is lost when Redis dies; the node calls it volatile",
                ),
                Setting::new(
                    "appendfsync",
                    "always",
                    "Flushed before the answer: what is accepted survives a loss of power.",
                    durable(Grade::Warn),
                    "what was acknowledged and is not in PostgreSQL yet is lost with the power; the node calls it volatile",
                ),
                Setting::new(
                    "no-appendfsync-on-rewrite",
                    "no",
                    "A rewrite is no reason to acknowledge what is not on disk.",
                    durable(Grade::Stop),
                    "while the file is rewritten, writes are acknowledged that a loss of power takes, and nobody is told",
                ),
                Setting::new(
                    "save",
                    "\"\"",
                    "No snapshots: PostgreSQL is the backup, and each would copy pages.",
                    Expect::Same(Grade::Warn),
                    "each snapshot forks and takes memory for copied pages that the plan does not count",
                ),
                Setting::new(
                    "aof-use-rdb-preamble",
                    "yes",
                    "A short file loads faster.",
                    durable(Grade::Warn),
                    "starts take longer",
                ),
                Setting::new(
                    "aof-load-truncated",
                    "yes",
                    "A write cut off by a crash was never acknowledged.",
                    durable(Grade::Warn),
                    "after a crash in the middle of a write Redis does not start by itself",
                ),
                Setting::new(
                    "aof-rewrite-incremental-fsync",
                    "yes",
                    "A rewrite is flushed bit by bit, not at its end.",
                    durable(Grade::Warn),
                    "a rewrite's end stops the server for a moment",
                ),
                Setting::new(
                    "auto-aof-rewrite-percentage",
                    "100",
                    "Rewritten when it has doubled.",
                    durable(Grade::Warn),
                    "the file grows, or is rewritten too often",
                ),
                Setting::new(
                    "auto-aof-rewrite-min-size",
                    "256mb",
                    "Small files are not worth a fork.",
                    durable(Grade::Warn),
                    "forks without need",
                ),
            ],
        }
    }

    fn memory(&self) -> Section {
        let maxmemory = Expect::NoneOrAtLeast(self.maxmemory_bytes_min, Grade::Stop);
        let mut settings = vec![
            Setting::new(
                "maxmemory",
                self.maxmemory_bytes.to_string(),
                "From the memory plan (`forebay memory`). At the limit writes are refused, whole; the node slows down before.",
                maxmemory,
                "the chain does not fit: Redis refuses writes in the middle of the load or later",
            ),
            Setting::new(
                "maxmemory-policy",
                "noeviction",
                "Every key is needed: nothing may ever be dropped.",
                Expect::Same(Grade::Stop),
                "at the limit Redis drops accounts and blocks of the chain",
            ),
            Setting::new(
                "maxmemory-clients",
                "0",
                "The node's connection is not to be closed for its size.",
                Expect::Same(Grade::Warn),
                "Redis may close the node's connection in the middle of a call",
            ),
        ];
        if self.defragments == Some(true) {
            settings.push(Setting::new(
                "activedefrag",
                "yes",
                "This server has it built in: memory that is fragmented comes back.",
                Expect::Same(Grade::Warn),
                "after weeks Redis takes more of the machine than it uses",
            ));
        }
        Section { title: "Memory: nothing is ever evicted", settings }
    }

    fn threads(&self) -> Section {
        // Redis works on one core; more threads than this only read and write sockets. Two cores are the node's.
        let threads = match self.cores {
            0..=3 => 1,
            4..=7 => 2,
            _ => 4,
        };
        let reason = "By this machine's cores: threads that write to sockets, beside the one that works.";
        let expect = Expect::Nothing;
        Section {
            title: "Threads",
            settings: vec![Setting::new("io-threads", threads.to_string(), reason, expect, "")],
        }
    }

    fn clients(&self) -> Section {
        let stop = Grade::Stop;
        Section {
            title: "Clients and their buffers",
            settings: vec![
                Setting::new(
                    "client-output-buffer-limit",
                    format!("normal {} {} 60", ANSWER_BYTES, ANSWER_BYTES / 2),
                    "A reader that does not read its answers is closed before it fills the memory.",
                    Expect::NoneOrAtLeast(ANSWER_BYTES / 4, stop),
                    "Redis closes the connection of a node that reads many blocks or a long outbox",
                ),
                Setting::new(
                    "client-query-buffer-limit",
                    "1gb",
                    "A call of a restore, or a large genesis block, comes in one piece.",
                    Expect::AtLeast(64 << 20, stop),
                    "Redis closes the node's connection when a large block is applied",
                ),
                Setting::new(
                    "proto-max-bulk-len",
                    "512mb",
                    "The longest single value.",
                    Expect::AtLeast(ARGUMENT_BYTES_MIN / 8, stop),
                    "Redis refuses a large block",
                ),
                Setting::new(
                    "maxclients",
                    "10000",
                    "More than enough.",
                    Expect::AtLeast(CLIENTS_MIN, stop),
                    "the node or its commands cannot connect",
                ),
                Setting::new(
                    "timeout",
                    "0",
                    "An idle connection stays.",
                    Expect::Same(Grade::Warn),
                    "idle connections are closed and made again",
                ),
                Setting::new(
                    "tcp-keepalive",
                    "60",
                    "A dead peer is noticed within a minute or two.",
                    Expect::Nothing,
                    "",
                ),
            ],
        }
    }
}

fn encodings() -> Section {
    let stop = Grade::Stop;
    let warn = |minimum| Expect::AtLeast(minimum, Grade::Warn);
    let larger = "hashes of the chain take five times the memory, and the plan does not hold";
    Section {
        title: "Compact encodings, as the key layout wants them (docs/redis-keys.md)",
        settings: vec![
            Setting::new(
                "hash-max-listpack-entries",
                "512",
                "Buckets have 32 accounts or 64 ids, and stay compact while the chain grows.",
                Expect::AtLeast(BUCKET_ENTRIES_MIN, stop),
                larger,
            ),
            Setting::new(
                "hash-max-listpack-value",
                "64",
                "The longest record in a bucket; one longer value would turn all of it into a table.",
                Expect::AtLeast(INLINE_BYTES_MAX as u64, stop),
                larger,
            ),
            Setting::new(
                "list-max-listpack-size",
                "-2",
                "The running round's blocks: nodes of 8 KiB.",
                Expect::Nothing,
                "",
            ),
            Setting::new(
                "zset-max-listpack-entries",
                "128",
                "Rankings have more and are skip lists.",
                Expect::Nothing,
                "",
            ),
            Setting::new(
                "stream-node-max-bytes",
                "4096",
                "The outbox: an old node goes as a whole.",
                warn(1024),
                "the outbox takes more memory",
            ),
            Setting::new(
                "stream-node-max-entries",
                "100",
                "The same.",
                warn(10),
                "the outbox takes more memory",
            ),
        ],
    }
}

fn freeing() -> Section {
    let put = |name| {
        let risk = "a clean or a large delete stops the server for a moment";
        Setting::new(name, "yes", "Freed in the background.", Expect::Same(Grade::Warn), risk)
    };
    Section {
        title: "Large values are freed in the background, so that a clean does not stop the server",
        settings: vec![
            put("lazyfree-lazy-eviction"),
            put("lazyfree-lazy-expire"),
            put("lazyfree-lazy-server-del"),
            put("lazyfree-lazy-user-del"),
            put("lazyfree-lazy-user-flush"),
        ],
    }
}

fn commands() -> Section {
    let put = |name, reason, risk| Setting::new(name, "no", reason, Expect::Same(Grade::Warn), risk);
    Section {
        title: "Commands that nobody needs here",
        settings: vec![
            put(
                "enable-debug-command",
                "DEBUG can stop or corrupt a server.",
                "whoever may run DEBUG can corrupt the data",
            ),
            put(
                "enable-module-command",
                "A module could expire or change keys.",
                "whoever may load modules can run any code",
            ),
            put(
                "enable-protected-configs",
                "Paths are not changed at run time.",
                "whoever may set settings can write files elsewhere",
            ),
        ],
    }
}

fn watching() -> Section {
    let warn = Expect::Same(Grade::Warn);
    let risk = "slow moments leave no trace";
    Section {
        title: "What an operator wants to see afterwards",
        settings: vec![
            Setting::new(
                "latency-monitor-threshold",
                "100",
                "Milliseconds: LATENCY LATEST shows what took longer.",
                warn,
                risk,
            ),
            Setting::new(
                "slowlog-log-slower-than",
                "10000",
                "Microseconds: SLOWLOG GET shows commands that took longer.",
                warn,
                risk,
            ),
            Setting::new(
                "slowlog-max-len",
                "256",
                "So many of them.",
                Expect::AtLeast(128, Grade::Warn),
                risk,
            ),
        ],
    }
}

/// A path in double quotes, as redis.conf reads it: everything unusual as `\xHH`.
fn quoted(path: &std::path::Path) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("\"");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_bytes_in_paths_are_escaped() {
        let path = std::path::Path::new("a b\"c\\d\u{e9}\n");
        assert_eq!(quoted(path), r#""a b\"c\\d\xc3\xa9\x0a""#);
    }
}
