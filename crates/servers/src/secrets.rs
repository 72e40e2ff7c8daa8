//! Generated passwords of the private PostgreSQL, one for each role, in a file that only the servers' account and
//! root can read. PostgreSQL cannot tell users on a Unix socket apart by their system account here: as root the
//! server runs as another account than the program, and the program itself has three roles.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::error::ServersError;

/// 192 bits: not to be guessed.
const PASSWORD_BYTES: usize = 24;

/// Role name → password.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Secrets {
    roles: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.roles.keys()).finish()
    }
}

impl Secrets {
    /// Reads the file; `None` when there is none.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, ServersError> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| ServersError::Secrets {
                path: path.to_path_buf(),
                reason: error.to_string(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ServersError::io("reading the passwords", path)(error)),
        }
    }

    /// Flushed to disk when this returns.
    pub(crate) fn save(&self, path: &Path, account: &Account) -> Result<(), ServersError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| ServersError::io("writing the passwords", path)(error.into()))?;
        text.push(b'\n');
        account.write_file(path, &text)
    }

    pub(crate) fn password(&self, role: &str) -> Option<&str> {
        self.roles.get(role).map(String::as_str)
    }

    /// Makes passwords for roles that have none; the roles that were new.
    pub(crate) fn add_missing(&mut self, roles: &[String]) -> io::Result<Vec<String>> {
        let mut new = Vec::new();
        for role in roles {
            if !self.roles.contains_key(role) {
                self.roles.insert(role.clone(), random_password()?);
                new.push(role.clone());
            }
        }
        Ok(new)
    }
}

fn random_password() -> io::Result<String> {
    let mut bytes = [0_u8; PASSWORD_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
