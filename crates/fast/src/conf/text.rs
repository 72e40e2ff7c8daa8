//! The file: sections, reasons, directives, users.

use std::fmt::Write as _;

use forebay_conf::{write_comment, write_sections};

use super::{Place, RedisConf};

impl RedisConf {
    /// The whole redis.conf.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let head = match self.place {
            Place::Private { .. } => {
                "Written by Forebay at each start of its private Redis; changes here are lost. `forebay redis-conf` prints it."
            }
            Place::Yours { .. } => {
                "Written by `forebay redis-conf` for this machine and this chain. `forebay redis-conf --check` compares a server with it."
            }
        };
        write_comment(&mut text, head);
        write_sections(&mut text, &self.settings(), |setting| format!("{} {}", setting.name, setting.value));
        if self.defragments != Some(true) {
            let _ = writeln!(text);
            write_comment(
                &mut text,
                match self.defragments {
                    Some(_) => {
                        "activedefrag: not built into this server (it needs the allocator that Redis brings itself)."
                    }
                    None => {
                        "activedefrag yes: give back fragmented memory, where the server was built with it (it refuses the line otherwise)."
                    }
                },
            );
        }
        self.write_users(&mut text);
        text
    }

    fn write_users(&self, text: &mut String) {
        let _ = writeln!(text, "\n# == Users ==");
        match &self.users {
            Some(users) => {
                for (reason, line) in users.lines(&self.chain) {
                    let _ = writeln!(text);
                    write_comment(text, reason);
                    let _ = writeln!(text, "user {line}");
                }
            }
            None => {
                let _ = writeln!(text);
                write_comment(
                    text,
                    "No passwords were given, so everybody who reaches this server may do everything. Give \
                     --node-password-file and --reader-password-file for a user of the node, a read-only user for other \
                     programs, and none for anybody else.",
                );
            }
        }
    }
}
