//! The database and its three roles.

use tokio_postgres::{Client, Config};

use super::{identifier, literal};
use crate::connection::connect;
use crate::error::{ErrorKind, SlowError};

/// What the database and its roles are called. Chains in one cluster have different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The database.
    pub database: String,
    /// Owns database, schemas and triggers; cannot log in.
    pub owner: String,
    /// The program's role: inserts and deletes blocks and transactions, moves the position, reads.
    pub writer: String,
    /// For other programs: reads the views of schema `rise`.
    pub reader: String,
}

impl Names {
    /// Database `<prefix>`, roles `<prefix>_owner`, `<prefix>_writer`, `<prefix>_reader`.
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        Self {
            database: prefix.to_owned(),
            owner: format!("{prefix}_owner"),
            writer: format!("{prefix}_writer"),
            reader: format!("{prefix}_reader"),
        }
    }
}

/// Passwords of the roles that log in; without one the server's own rules decide (peer, trust).
#[derive(Clone, Default)]
pub struct Passwords {
    /// Of the writer.
    pub writer: Option<String>,
    /// Of the reader.
    pub reader: Option<String>,
}

/// Creates the roles and the database where they are missing, and sets what the roles may. `admin` is a superuser, or a
/// role with CREATEROLE and CREATEDB, connected to any database.
///
/// # Errors
/// Unavailable, Permission; Misuse when two names are equal.
pub async fn prepare(admin: &Config, names: &Names, passwords: &Passwords) -> Result<(), SlowError> {
    let doing = "preparing roles and database";
    if names.owner == names.writer || names.owner == names.reader || names.writer == names.reader {
        return Err(SlowError::new(ErrorKind::Misuse, doing, "owner, writer and reader must be three roles"));
    }
    let client = connect(admin, doing, "set application_name = 'forebay setup'").await?;
    let failed = |error| SlowError::from_postgres(doing, error);
    // One setup at a time in the cluster: roles belong to all databases.
    client.batch_execute("select pg_advisory_lock(hashtext('forebay setup'))").await.map_err(failed)?;

    role(&client, &names.owner, "nologin", None).await?;
    role(&client, &names.writer, "login", passwords.writer.as_deref()).await?;
    role(&client, &names.reader, "login", passwords.reader.as_deref()).await?;
    become_owner(&client, names).await?;
    let exists = client
        .query_opt("select from pg_database where datname = $1::text", &[&names.database])
        .await
        .map_err(failed)?;
    let database = identifier(&names.database);
    if exists.is_none() {
        let owner = identifier(&names.owner);
        let sql = format!("create database {database} owner {owner} encoding 'UTF8' template template0");
        client.batch_execute(&sql).await.map_err(failed)?;
    }
    let (owner, writer, reader) =
        (identifier(&names.owner), identifier(&names.writer), identifier(&names.reader));
    // A database that was there before may belong to somebody else: its schemas are the owner's all the same.
    client
        .batch_execute(&format!(
            "revoke all on database {database} from public; \
             grant connect, create on database {database} to {owner}; \
             grant connect on database {database} to {writer}, {reader}"
        ))
        .await
        .map_err(failed)
}

/// An administrator that is no superuser needs to be a member of the owner, to give it a database and to migrate as it.
async fn become_owner(client: &Client, names: &Names) -> Result<(), SlowError> {
    let doing = "becoming a member of the owner's role";
    let failed = |error| SlowError::from_postgres(doing, error);
    let superuser: bool = client
        .query_one("select rolsuper from pg_roles where rolname = current_user", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    if superuser {
        return Ok(());
    }
    let sql = format!("grant {} to current_user", identifier(&names.owner));
    client.batch_execute(&sql).await.map_err(failed)
}

async fn role(client: &Client, name: &str, login: &str, password: Option<&str>) -> Result<(), SlowError> {
    let doing = format!("preparing role {name}");
    let failed = |error| SlowError::from_postgres(&doing, error);
    let exists =
        client.query_opt("select from pg_roles where rolname = $1::text", &[&name]).await.map_err(failed)?;
    let quoted = identifier(name);
    if exists.is_none() {
        client.batch_execute(&format!("create role {quoted} {login}")).await.map_err(failed)?;
    }
    if let Some(password) = password {
        let sql = format!("alter role {quoted} password {}", literal(password));
        client.batch_execute(&sql).await.map_err(failed)?;
    }
    Ok(())
}
