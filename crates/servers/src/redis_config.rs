//! redis.conf of the private server: written anew at each start, every directive with its reason.

use std::fmt;
use std::fmt::Write as _;

use crate::layout::Layout;
use crate::options::RedisOptions;

/// What survives when Redis or the machine dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisProfile {
    /// Append-only file, flushed to disk before each acknowledgement: nothing acknowledged is lost.
    #[default]
    Durable,
    /// Nothing is written to disk: all data vanish with the process. For bulk loads and tests.
    Volatile,
}

impl fmt::Display for RedisProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Volatile => "volatile",
        })
    }
}

/// The whole text of redis.conf. `load_append_only` turns the append-only file on at the start in every profile:
/// what an earlier durable server left must be loaded before it is laid aside.
pub(crate) fn redis_conf(layout: &Layout, options: &RedisOptions, load_append_only: bool) -> String {
    let mut conf = Conf::new();
    let append_only = load_append_only || options.profile == RedisProfile::Durable;

    conf.section("One private server: a socket that only its owner may use, no TCP at all.");
    conf.set("port", "0");
    conf.path("unixsocket", &layout.redis_socket());
    conf.set("unixsocketperm", "700");
    conf.set("protected-mode", "yes");
    conf.set("enable-debug-command", "no");
    conf.set("enable-module-command", "no");
    conf.set("enable-protected-configs", "no");

    conf.section("In a session of its own: it survives the node and is adopted by the next one. Its title shows this file.");
    conf.set("daemonize", "no");
    conf.set("supervised", "no");
    conf.path("pidfile", &layout.redis_pid_file());
    conf.path("logfile", &layout.redis_log());
    conf.path("dir", &layout.redis_dir());
    conf.set("proc-title-template", "\"{title} {config-file}\"");

    conf.section(match options.profile {
        RedisProfile::Durable => {
            "Profile durable: each write is on disk before it is acknowledged. No snapshots beside that."
        }
        RedisProfile::Volatile => "Profile volatile: nothing is kept on disk.",
    });
    conf.set("save", "\"\"");
    conf.set("appendonly", if append_only { "yes" } else { "no" });
    conf.set("appendfsync", "always");
    conf.set("no-appendfsync-on-rewrite", "no");
    conf.set("aof-use-rdb-preamble", "yes");
    // A write cut off by a crash was never acknowledged.
    conf.set("aof-load-truncated", "yes");
    conf.set("aof-rewrite-incremental-fsync", "yes");
    conf.set("auto-aof-rewrite-percentage", "100");
    conf.set("auto-aof-rewrite-min-size", "256mb");

    conf.section("Nothing is ever evicted: at the limit writes are refused, whole.");
    conf.set("maxmemory", &options.maxmemory_bytes.unwrap_or(0).to_string());
    conf.set("maxmemory-policy", "noeviction");

    conf.section("Compact encodings for bucket hashes; one longer value turns a bucket into a hash table.");
    conf.set("hash-max-listpack-entries", "512");
    conf.set("hash-max-listpack-value", "64");

    conf.section("Large values are freed in the background, so that a clean does not stop the server.");
    for trigger in ["eviction", "expire", "server-del", "user-del", "user-flush"] {
        conf.set(&format!("lazyfree-lazy-{trigger}"), "yes");
    }

    conf.section("What an operator wants to see afterwards.");
    conf.set("latency-monitor-threshold", "100");
    conf.set("slowlog-log-slower-than", "10000");
    conf.set("slowlog-max-len", "256");

    if !options.extra.is_empty() {
        conf.section("Given by the caller.");
        for (name, value) in &options.extra {
            conf.set(name, value);
        }
    }
    conf.text
}

struct Conf {
    text: String,
}

impl Conf {
    fn new() -> Self {
        Self {
            text: "# Written by Forebay at each start of its private Redis. Changes here are lost.\n"
                .to_owned(),
        }
    }

    fn section(&mut self, reason: &str) {
        let _ = write!(self.text, "\n# {reason}\n");
    }

    fn set(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn path(&mut self, name: &str, path: &std::path::Path) {
        self.set(name, &quoted(path.as_os_str().as_encoded_bytes()));
    }
}

/// A value in double quotes, as redis.conf reads it: everything unusual as `\xHH`.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
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
    fn unusual_bytes_are_escaped() {
        assert_eq!(quoted("a b\"c\\d\u{e9}\n".as_bytes()), r#""a b\"c\\d\xc3\xa9\x0a""#);
    }
}
