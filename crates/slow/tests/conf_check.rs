//! A check of a live PostgreSQL finds each wrong setting, and what can lose a commit stops.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};
use forebay_slow::conf::{Expect, Finding, Grade, PostgresConf, check};
use tokio_postgres::{Client, Config, NoTls};

fn conf() -> PostgresConf {
    PostgresConf { memory_bytes: 1 << 30, is_private: false }
}

/// A server with the file's settings; the rest of `extra` comes after them.
async fn server(extra: &[(&str, &str)]) -> (TestServers, Config) {
    let sections = conf().settings();
    let mut postgres_extra: Vec<(String, String)> = sections
        .into_iter()
        .flat_map(|section| section.settings)
        .map(|setting| (setting.name.to_owned(), setting.value))
        .collect();
    postgres_extra.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options = TestOptions { redis: false, postgres_extra, ..TestOptions::default() };
    let servers = TestServers::with(options).await.unwrap();
    let config = servers.postgres().config(SUPERUSER).unwrap();
    (servers, config)
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What is found, but what the test's own data directory lacks (checksums).
async fn findings(config: &Config) -> Vec<Finding> {
    let (findings, version) = check(config, &conf()).await.unwrap();
    assert!(!version.is_empty());
    findings.into_iter().filter(|finding| finding.subject != "data_checksums").collect()
}

fn shown(findings: &[Finding]) -> Vec<(String, Grade)> {
    findings.iter().map(|finding| (finding.subject.clone(), finding.grade)).collect()
}

/// A wrong value of every setting that is compared.
const WRONG: [(&str, &str, Grade); 14] = [
    ("fsync", "off", Grade::Stop),
    ("full_page_writes", "off", Grade::Stop),
    ("zero_damaged_pages", "on", Grade::Stop),
    ("synchronous_commit", "off", Grade::Warn),
    ("max_wal_size", "64MB", Grade::Warn),
    ("wal_compression", "off", Grade::Warn),
    ("checkpoint_timeout", "1min", Grade::Warn),
    ("work_mem", "1MB", Grade::Warn),
    ("jit", "on", Grade::Warn),
    ("password_encryption", "md5", Grade::Warn),
    ("log_checkpoints", "off", Grade::Warn),
    ("log_lock_waits", "off", Grade::Warn),
    // Only at a start.
    ("shared_buffers", "16MB", Grade::Warn),
    ("max_connections", "10", Grade::Warn),
];

#[tokio::test]
async fn each_wrong_setting_is_found_alone_and_with_its_grade() {
    let (_servers, config) = server(&[]).await;
    assert_eq!(findings(&config).await, []);
    let admin = connect(&config).await;
    let at_a_start = ["shared_buffers", "max_connections"];
    for (name, wrong, grade) in WRONG.iter().filter(|(name, ..)| !at_a_start.contains(name)) {
        admin.batch_execute(&format!("alter system set {name} = '{wrong}'")).await.unwrap();
        admin.batch_execute("select pg_reload_conf()").await.unwrap();
        // A reload reaches new sessions a moment later.
        let found = until(async || Some(findings(&config).await).filter(|found| !found.is_empty())).await;
        assert_eq!(shown(&found), [((*name).to_owned(), *grade)], "{name} {wrong}: {found:?}");
        assert!(!found[0].risk.is_empty() && found[0].remedy.contains(name), "{found:?}");
        admin.batch_execute(&format!("alter system reset {name}")).await.unwrap();
        admin.batch_execute("select pg_reload_conf()").await.unwrap();
        until(async || findings(&config).await.is_empty().then_some(())).await;
    }
    let (_servers, config) = server(&[("shared_buffers", "16MB"), ("max_connections", "10")]).await;
    let mut found = shown(&findings(&config).await);
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = ["max_connections", "shared_buffers"].map(|name| (name.to_owned(), Grade::Warn));
    assert_eq!(found, expected);
}

#[test]
fn every_setting_that_is_compared_has_a_wrong_value_above() {
    let sections = conf().settings();
    let compared: BTreeSet<&str> = sections
        .iter()
        .flat_map(|section| &section.settings)
        .filter(|setting| setting.expect != Expect::Nothing)
        .map(|setting| setting.name)
        .collect();
    assert_eq!(compared, WRONG.iter().map(|(name, ..)| *name).collect());
}

#[tokio::test]
async fn a_server_is_known_by_its_functions_not_by_its_number() {
    let (_servers, config) = server(&[]).await;
    let admin = connect(&config).await;
    admin
        .batch_execute(
            "set allow_system_table_mods = on; alter function pg_catalog.sha256(bytea) rename to not_sha256",
        )
        .await
        .unwrap();
    let found = findings(&config).await;
    let missing = "function pg_catalog.sha256(bytea)".to_owned();
    assert_eq!(shown(&found), [(missing, Grade::Stop)], "{found:?}");
    assert!(found[0].remedy.contains("PostgreSQL 15"), "{found:?}");
}

#[test]
fn the_file_has_a_reason_above_every_setting() {
    let text = conf().text();
    let lines: Vec<&str> = text.lines().collect();
    let settings = lines.iter().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (at, line) in settings {
        assert!(lines[at - 1].starts_with("# "), "{line}");
        assert!(line.contains(" = '"), "{line}");
    }
}

async fn until<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
