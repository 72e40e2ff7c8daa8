//! Who may log in, and what each may do.

use sha2::{Digest as _, Sha256};

use crate::keys::measurement_of;

/// The node's user.
pub const NODE_USER: &str = "forebay-node";
/// The user of other programs: reads the chain, changes nothing.
pub const READER_USER: &str = "forebay-reader";
/// The user that starts, stops and configures a private server.
pub const ADMIN_USER: &str = "forebay-admin";

/// Hashes of passwords. The default user is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    node: String,
    reader: String,
    admin: Option<String>,
}

impl Users {
    /// Of these passwords; `admin`: for private servers.
    #[must_use]
    pub fn with_passwords(node: &str, reader: &str, admin: Option<&str>) -> Self {
        let hash = |password: &str| {
            Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        Self { node: hash(node), reader: hash(reader), admin: admin.map(hash) }
    }

    /// The `user` lines: reason, then what comes after `user`.
    pub(super) fn lines(&self, chain: &str) -> Vec<(&'static str, String)> {
        let prefix = format!("{{{chain}}}:*");
        let scratch = format!("{{{}}}:*", measurement_of(chain));
        let mut lines = vec![
            (
                "Nobody comes in without a name. The rights are for Redis itself: it loads the append-only file as this \
                 user, and drops every transaction in it that the user may not do, without a word (seen on 7.0).",
                "default off ~* &* +@all".to_owned(),
            ),
            (
                "The node: the chain's keys and those of `forebay memory --measure`; of the dangerous commands those that it needs.",
                format!("{NODE_USER} on #{} ~{prefix} ~{scratch} resetchannels {NODE_RIGHTS}", self.node),
            ),
            (
                "Other programs: they read the chain's keys.",
                format!("{READER_USER} on #{} %R~{prefix} resetchannels {READER_RIGHTS}", self.reader),
            ),
        ];
        if let Some(admin) = &self.admin {
            lines.push((
                "Whoever starts, stops and configures this server.",
                format!("{ADMIN_USER} on #{admin} ~* &* +@all"),
            ));
        }
        lines
    }
}

/// Reads and writes of keys, functions, and of what Redis takes for dangerous: its facts, its settings to read, and to end
/// the node's own broken connection.
const NODE_RIGHTS: &str = "-@all +@read +@write +@connection +@transaction -@dangerous +fcall +fcall_ro +function|list +function|load \
     +info +config|get +client|kill +module|list +memory|usage +command +acl|whoami +acl|getuser";
const READER_RIGHTS: &str = "-@all +@read +@connection -@dangerous +fcall_ro +function|list +info +memory|usage +multi +exec +watch +acl|whoami";
