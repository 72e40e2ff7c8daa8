//! The file: sections, reasons, directives, users.

use std::fmt::Write as _;

use super::{Place, RedisConf};

/// Columns of a comment.
const WIDTH: usize = 118;

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
        comment(&mut text, head);
        for section in self.settings() {
            let _ = writeln!(text, "\n# == {} ==", section.title);
            for setting in section.settings {
                let _ = writeln!(text);
                comment(&mut text, setting.reason);
                let _ = writeln!(text, "{} {}", setting.name, setting.value);
            }
        }
        if self.defragments != Some(true) {
            let _ = writeln!(text);
            comment(
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
                    comment(text, reason);
                    let _ = writeln!(text, "user {line}");
                }
            }
            None => {
                let _ = writeln!(text);
                comment(
                    text,
                    "No passwords were given, so everybody who reaches this server may do everything. Give \
                     --node-password-file and --reader-password-file for a user of the node, a read-only user for other \
                     programs, and none for anybody else.",
                );
            }
        }
    }
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
