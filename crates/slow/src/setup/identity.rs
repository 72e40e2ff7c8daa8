//! Which server, and which database of it, an address leads to.

use tokio_postgres::Config;

use crate::connection::connect;
use crate::error::SlowError;

/// Where an address leads. Two copies of a server's files have one system identifier, and two starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the server's files, for as long as they live; `None`: this role may not ask.
    pub system: Option<String>,
    /// When the server was started, as it says.
    pub started_at: String,
    /// The database's name there.
    pub database: String,
    /// Its number in those files.
    pub database_oid: u32,
}

impl Identity {
    /// Whether it is one server, started once. Databases may differ.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.has_same_files(other) && self.started_at == other.started_at
    }

    /// Whether both have the same files, or copies of them, as far as anybody may say.
    #[must_use]
    pub fn has_same_files(&self, other: &Self) -> bool {
        match (&self.system, &other.system) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

/// Asks where an address leads. Any role may.
///
/// # Errors
/// Unavailable, Permission, WrongDatabase.
pub async fn identity(config: &Config) -> Result<Identity, SlowError> {
    let doing = "asking PostgreSQL which server and database it is";
    let failed = |error| SlowError::from_postgres(doing, error);
    let client = connect(config, doing, "set application_name = 'forebay start'").await?;
    let row = client
        .query_one(
            "select pg_postmaster_start_time()::text, datname::text, oid, \
             has_function_privilege('pg_catalog.pg_control_system()', 'execute') \
             from pg_catalog.pg_database where datname = current_database()",
            &[],
        )
        .await
        .map_err(failed)?;
    let may_ask: bool = row.try_get(3).map_err(failed)?;
    let system = if may_ask {
        let sql = "select system_identifier::text from pg_catalog.pg_control_system()";
        client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)?
    } else {
        None
    };
    Ok(Identity {
        system,
        started_at: row.try_get(0).map_err(failed)?,
        database: row.try_get(1).map_err(failed)?,
        database_oid: row.try_get(2).map_err(failed)?,
    })
}
