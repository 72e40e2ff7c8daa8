//! A live server against the list.

use std::collections::HashMap;

use forebay_conf::{Finding, Grade, Setting};
use tokio_postgres::{Client, Config};

use super::settings::PostgresConf;
use crate::connection::connect;
use crate::error::SlowError;

/// Functions that our SQL and our sessions call: a server is accepted if it has them, whatever its number.
const FUNCTIONS: [(&str, &str); 3] = [
    ("pg_catalog.sha256(bytea)", "the triggers compare digests of the delegates"),
    ("pg_catalog.trim_array(anyarray, integer)", "it came with 14, and the triggers were written for 15"),
    ("pg_catalog.pg_advisory_lock(bigint)", "migrations run one at a time"),
];

const SERVER_VERSION: &str = "server_version";
const DATA_CHECKSUMS: &str = "data_checksums";

/// Compares a live server with the settings, the worst first; and its version. Reads only; any role may ask.
///
/// # Errors
/// Unavailable, Permission.
pub async fn check(config: &Config, conf: &PostgresConf) -> Result<(Vec<Finding>, String), SlowError> {
    let doing = "asking PostgreSQL how it is set up";
    let client = connect(config, doing, "set application_name = 'forebay check'").await?;
    let failed = |error| SlowError::from_postgres(doing, error);
    let settings: Vec<Setting> = conf.settings().into_iter().flat_map(|section| section.settings).collect();
    let live = live_settings(&client, &settings).await.map_err(failed)?;
    let version = version(&live);
    let mut findings = missing_functions(&client, &version).await.map_err(failed)?;
    findings.extend(of_kind(&client, &live).await.map_err(failed)?);
    findings.extend(settings.iter().filter_map(|setting| compare(setting, &live)));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    Ok((findings, version))
}

/// What a start does not accept, whatever the machine: what can lose a commit that was answered, and versions without our
/// functions. A standby may be promoted while it is waited for. Reads only; any role may ask.
///
/// # Errors
/// Unavailable, Permission.
pub async fn refusals(config: &Config) -> Result<Vec<Finding>, SlowError> {
    let doing = "asking PostgreSQL whether it keeps what it has answered";
    let client = connect(config, doing, "set application_name = 'forebay start'").await?;
    let failed = |error| SlowError::from_postgres(doing, error);
    let any = PostgresConf { memory_bytes: 0, is_private: false };
    let settings: Vec<Setting> = any
        .settings()
        .into_iter()
        .flat_map(|section| section.settings)
        .filter(|setting| setting.expect.grade() == Some(Grade::Stop))
        .collect();
    let live = live_settings(&client, &settings).await.map_err(failed)?;
    let mut findings = missing_functions(&client, &version(&live)).await.map_err(failed)?;
    findings.extend(settings.iter().filter_map(|setting| compare(setting, &live)));
    Ok(findings)
}

/// The values of these settings, and of two that are in no file.
async fn live_settings(
    client: &Client,
    settings: &[Setting],
) -> Result<HashMap<String, Live>, tokio_postgres::Error> {
    let mut names = vec![SERVER_VERSION, DATA_CHECKSUMS];
    names.extend(settings.iter().map(|setting| setting.name));
    let sql =
        "select name, setting, coalesce(unit, ''), source from pg_catalog.pg_settings where name = any($1)";
    let mut live = HashMap::new();
    for row in client.query(sql, &[&names]).await? {
        let found = Live { setting: row.try_get(1)?, unit: row.try_get(2)?, source: row.try_get(3)? };
        live.insert(row.try_get(0)?, found);
    }
    Ok(live)
}

fn version(live: &HashMap<String, Live>) -> String {
    live.get(SERVER_VERSION).map_or_else(String::new, |live| live.setting.clone())
}

async fn missing_functions(client: &Client, version: &str) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut findings = Vec::new();
    for (function, reason) in FUNCTIONS {
        let row = client.query_one("select to_regprocedure($1) is not null", &[&function]).await?;
        if !row.try_get::<_, bool>(0)? {
            findings.push(Finding {
                grade: Grade::Stop,
                subject: format!("function {function}"),
                expected: "there".to_owned(),
                found: format!("missing (version {version})"),
                risk: reason.to_owned(),
                remedy: "Use PostgreSQL 15 or later.".to_owned(),
            });
        }
    }
    Ok(findings)
}

/// A row of `pg_settings`.
struct Live {
    setting: String,
    unit: String,
    /// Where the value comes from: `session` and `client` say nothing about the server.
    source: String,
}

/// What is no setting of the file: role, checksums, encoding.
async fn of_kind(
    client: &Client,
    live: &HashMap<String, Live>,
) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let mut findings = Vec::new();
    let row = client
        .query_one("select pg_is_in_recovery(), pg_encoding_to_char(encoding) from pg_database where datname = current_database()", &[])
        .await?;
    if row.try_get(0)? {
        findings.push(Finding {
            grade: Grade::Stop,
            subject: "role".to_owned(),
            expected: "a primary".to_owned(),
            found: "a standby".to_owned(),
            risk: "it takes no writes".to_owned(),
            remedy: "Give the address of the primary.".to_owned(),
        });
    }
    let encoding: String = row.try_get(1)?;
    if encoding != "UTF8" {
        findings.push(Finding {
            grade: Grade::Warn,
            subject: "encoding".to_owned(),
            expected: "UTF8".to_owned(),
            found: encoding,
            risk: "names of delegates with other letters cannot be stored".to_owned(),
            remedy: "Make the database with `encoding 'UTF8' template template0`.".to_owned(),
        });
    }
    if live.get(DATA_CHECKSUMS).is_some_and(|live| live.setting == "off") {
        findings.push(Finding {
            grade: Grade::Warn,
            subject: "data_checksums".to_owned(),
            expected: "on".to_owned(),
            found: "off".to_owned(),
            risk: "a disk that changes bits is not noticed".to_owned(),
            remedy: "With the server stopped: pg_checksums --enable.".to_owned(),
        });
    }
    Ok(findings)
}

fn compare(setting: &Setting, live: &HashMap<String, Live>) -> Option<Finding> {
    let found = live.get(setting.name)?;
    if found.source == "session" || found.source == "client" {
        return None;
    }
    let number = || Some(found.setting.parse::<u64>().ok()?.saturating_mul(factor(&found.unit)));
    let grade = setting.expect.differs(&found.setting, found.setting == setting.value, number)?;
    Some(Finding {
        grade,
        subject: setting.name.to_owned(),
        expected: setting.value.clone(),
        found: format!(
            "{}{}",
            found.setting,
            if found.unit.is_empty() { String::new() } else { format!(" × {}", found.unit) }
        ),
        risk: setting.risk.to_owned(),
        remedy: format!(
            "alter system set {} = '{}'; then reload or restart the server.",
            setting.name, setting.value
        ),
    })
}

/// Bytes, or seconds, of a unit of `pg_settings`.
fn factor(unit: &str) -> u64 {
    match unit {
        "kB" => 1 << 10,
        "8kB" => 8 << 10,
        "16kB" => 16 << 10,
        "MB" => 1 << 20,
        "min" => 60,
        _ => 1,
    }
}
