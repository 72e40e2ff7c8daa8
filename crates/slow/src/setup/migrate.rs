//! Migrations of the data schema, and the code schema made anew when it differs.

use tokio_postgres::{Client, Config};

use super::identifier;
use super::parameters::ChainParameters;
use super::roles::Names;
use crate::connection::connect;
use crate::error::{ErrorKind, SlowError, kind_below};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Functions, triggers and views: one text, run in one transaction.
const CODE: [&str; 12] = [
    include_str!("../../sql/code/10_numbers.sql"),
    include_str!("../../sql/code/20_deltas.sql"),
    include_str!("../../sql/code/30_sums.sql"),
    include_str!("../../sql/code/40_attributes.sql"),
    include_str!("../../sql/code/50_rounds.sql"),
    include_str!("../../sql/code/60_checks.sql"),
    include_str!("../../sql/code/65_write_log.sql"),
    include_str!("../../sql/code/70_triggers.sql"),
    include_str!("../../sql/code/80_rise_views.sql"),
    include_str!("../../sql/code/85_rise_lookups.sql"),
    include_str!("../../sql/code/87_rise_history.sql"),
    include_str!("../../sql/code/90_log_views.sql"),
];

/// Brings the database to this version: data schema by numbered migrations (each in its own transaction), functions,
/// triggers, views and grants in one transaction when they differ, then the chain's row. `config` connects to the
/// database of `names` as its owner, or as a role that may become it. One at a time: others wait.
///
/// # Errors
/// Unavailable, Permission; WrongDatabase when it holds another chain or was made by a newer version.
pub async fn migrate(config: &Config, names: &Names, chain: &ChainParameters) -> Result<(), SlowError> {
    let doing = "migrating the database";
    let mut config = config.clone();
    config.dbname(&names.database);
    let settings = format!(
        "set application_name = 'forebay setup'; set client_min_messages = warning; set role {}; \
         select pg_advisory_lock(hashtext('forebay migrate'))",
        identifier(&names.owner)
    );
    let mut client = connect(&config, doing, &settings).await?;
    client
        .batch_execute("create schema if not exists forebay")
        .await
        .map_err(|error| SlowError::from_postgres(doing, error))?;
    client
        .batch_execute("revoke all on schema public from public")
        .await
        .or_else(|error| match error.as_db_error() {
            // The public schema may belong to somebody else: then it is not ours to close.
            Some(refused) if *refused.code() == tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE => {
                Ok(())
            }
            _ => Err(error),
        })
        .map_err(|error| SlowError::from_postgres(doing, error))?;
    let mut runner = embedded::migrations::runner().set_abort_missing(true);
    runner.set_migration_table_name("forebay.migrations");
    runner.run_async(&mut client).await.map_err(|error| {
        // Without an error of the server or of the connection it is the list of migrations that does not fit.
        let kind = kind_below(&error).unwrap_or(ErrorKind::WrongDatabase);
        SlowError::new(kind, doing, error.to_string()).with_cause(error)
    })?;
    recreate_code(&mut client, names).await?;
    let transaction = client.transaction().await.map_err(|error| SlowError::from_postgres(doing, error))?;
    chain.write(&transaction).await?;
    transaction.commit().await.map_err(|error| SlowError::from_postgres(doing, error))
}

/// Drops and makes the code schema and the views, unless they were made from the same text.
async fn recreate_code(client: &mut Client, names: &Names) -> Result<(), SlowError> {
    let doing = "making functions, triggers and views";
    let failed = |error| SlowError::from_postgres(doing, error);
    let code = format!("{}\n{}", CODE.join("\n"), grants(names));
    let transaction = client.transaction().await.map_err(failed)?;
    let row = transaction
        .query_one(
            "select encode(sha256(convert_to($1::text, 'UTF8')), 'hex'), \
                 obj_description(to_regnamespace('forebay_code')::oid, 'pg_namespace')",
            &[&code],
        )
        .await
        .map_err(failed)?;
    let checksum: String = row.try_get(0).map_err(failed)?;
    let stored: Option<String> = row.try_get(1).map_err(failed)?;
    if stored.as_deref() == Some(checksum.as_str()) {
        return Ok(());
    }
    let sql = format!(
        "drop schema if exists rise, forebay_log cascade; drop schema if exists forebay_code cascade; \
         create schema forebay_code; create schema rise; create schema forebay_log;\n{code}\n\
         comment on schema forebay_code is '{checksum}'"
    );
    transaction.batch_execute(&sql).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Who may do what: the whole list, made anew each time.
fn grants(names: &Names) -> String {
    let (writer, reader) = (identifier(&names.writer), identifier(&names.reader));
    format!(
        "revoke all on all tables in schema forebay from public, {writer}, {reader};
         revoke all on all functions in schema forebay_code, rise from public;
         revoke all on schema forebay, forebay_code, forebay_log, rise from public, {writer}, {reader};
         grant usage on schema forebay, forebay_log, rise to {writer};
         grant select on all tables in schema forebay, forebay_log, rise to {writer};
         grant insert, delete on forebay.blocks, forebay.transactions to {writer};
         grant update on forebay.position to {writer};
         grant usage on schema forebay, forebay_log, rise to {reader};
         grant select on forebay.chain, forebay.position, forebay.blocks, forebay.transactions, forebay.accounts,
             forebay.delegates, forebay.votes, forebay.multisignature_members, forebay.rounds, forebay.delegate_history
             to {reader};
         grant select on all tables in schema forebay_log, rise to {reader};
         grant execute on all functions in schema rise to {writer}, {reader};
         grant execute on function forebay_code.unsigned_text(bigint) to {writer}, {reader};"
    )
}
