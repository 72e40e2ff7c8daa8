//! Whether a chain can be entrusted to this PostgreSQL: it keeps what it has answered, and the administrator's address
//! leads to the same database as the writer's. Asked before anything is changed.

use std::time::Duration;

use forebay_slow::ErrorKind as SlowErrorKind;
use forebay_slow::conf::refusals;
use forebay_slow::setup::{Identity, identity};
use tokio_postgres::Config;

use crate::error::StoreError;
use crate::options::Setup;

/// A server that was started again between two questions looks like two servers; a moment later it does not.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

const ONE_SERVER: &str = "Give both addresses of one server and one database (postgres_admin_url, postgres_url), or leave the \
     administrator's out when the database is set up already.";

/// Whether PostgreSQL keeps what it has answered (fsync, full_page_writes), and has the functions that our SQL calls.
///
/// # Errors
/// Configuration: what it does differently, and the remedy. PostgreSQL's.
pub async fn keeps_commits(config: &Config) -> Result<(), StoreError> {
    let Some(found) = refusals(config).await?.into_iter().next() else { return Ok(()) };
    Err(StoreError::Configuration {
        problem: format!(
            "PostgreSQL: {} is {}, not {}: {}",
            found.subject, found.found, found.expected, found.risk
        ),
        remedy: found.remedy,
    })
}

/// Before the setup, which may have to make the writer's role and the database first: they can be on one server.
///
/// # Errors
/// Configuration: they are on two. PostgreSQL's.
pub async fn lead_to_one_server(setup: &Setup, writer: &Config) -> Result<(), StoreError> {
    match identity(writer).await {
        Err(error) if matches!(error.kind(), SlowErrorKind::Permission | SlowErrorKind::WrongDatabase) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(theirs) => compare(&setup.admin, writer, theirs).await.map(drop),
    }
}

/// After the setup: the writer is let in where the administrator was, and finds what was made there.
///
/// # Errors
/// Configuration: it is not. PostgreSQL's.
pub(crate) async fn lead_to_one_database(setup: &Setup, writer: &Config) -> Result<(), StoreError> {
    let mut admin = setup.admin.clone();
    admin.dbname(&setup.names.database);
    let theirs = match identity(writer).await {
        Err(error) if matches!(error.kind(), SlowErrorKind::Permission | SlowErrorKind::WrongDatabase) => {
            return Err(StoreError::Configuration {
                problem: format!(
                    "the administrator has made role {} and database {}, and the writer's address is refused: {error}",
                    setup.names.writer, setup.names.database
                ),
                remedy: format!("{ONE_SERVER} If they are, see the server's rules for logins (pg_hba.conf)."),
            });
        }
        theirs => theirs?,
    };
    let (ours, theirs) = compare(&admin, writer, theirs).await?;
    if ours.database_oid == theirs.database_oid {
        return Ok(());
    }
    Err(StoreError::Configuration {
        problem: format!(
            "the administrator's address leads to database {}, the writer's to database {} of the same server",
            ours.database, theirs.database
        ),
        remedy: ONE_SERVER.to_owned(),
    })
}

/// Both, if they are on one server.
async fn compare(
    admin: &Config,
    writer: &Config,
    mut theirs: Identity,
) -> Result<(Identity, Identity), StoreError> {
    let mut ours = identity(admin).await?;
    if ours.has_same_files(&theirs) && !ours.is_same_server(&theirs) {
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
        (ours, theirs) = (identity(admin).await?, identity(writer).await?);
    }
    if ours.is_same_server(&theirs) {
        return Ok((ours, theirs));
    }
    let told = |identity: &Identity| {
        format!(
            "system identifier {}, started at {}",
            identity.system.as_deref().unwrap_or("unknown"),
            identity.started_at
        )
    };
    Err(StoreError::Configuration {
        problem: format!(
            "the administrator's address of PostgreSQL leads to another server ({}) than the writer's ({})",
            told(&ours),
            told(&theirs)
        ),
        remedy: ONE_SERVER.to_owned(),
    })
}
