//! A check of a live server finds each wrong setting, and tells what stops from what warns.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use forebay_fast::conf::{Expect, Finding, Grade, Place, RedisConf, Tls};
use forebay_fast::{FastOptions, FastTier};
use forebay_servers::testing::{TestOptions, TestServers};

use crate::common::Bench;

fn conf() -> RedisConf {
    RedisConf {
        place: Place::Yours {
            bind: "127.0.0.1".to_owned(),
            port: 6379,
            socket: None,
            directory: "/var/lib/redis".into(),
        },
        chain: "test".to_owned(),
        is_durable: true,
        loads_append_only: false,
        maxmemory_bytes: 1 << 30,
        maxmemory_bytes_min: 512 << 20,
        cores: 4,
        defragments: None,
        users: None,
        tls: None,
    }
}

/// The file's settings, without the place, as a server of a test is started with.
fn directives(conf: &RedisConf) -> Vec<(String, String)> {
    let sections = conf.settings().into_iter().skip(1);
    sections.flat_map(|section| section.settings).map(|s| (s.name.to_owned(), s.value)).collect()
}

async fn server(extra: &[(&str, &str)]) -> Bench {
    let mut redis_extra = directives(&conf());
    redis_extra.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options = TestOptions { postgres: false, redis_extra, ..TestOptions::default() };
    let servers = TestServers::with(options).await.unwrap();
    let url = servers.redis().redis_url();
    let tier = FastTier::connect(&url, "test", FastOptions::default()).await.unwrap();
    let raw = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    Bench { servers, tier, raw }
}

async fn findings(bench: &Bench) -> Vec<Finding> {
    conf().check(&bench.tier.live_server().await.unwrap())
}

fn shown(findings: &[Finding]) -> Vec<(&str, Grade)> {
    findings.iter().map(|finding| (finding.subject.as_str(), finding.grade)).collect()
}

/// A wrong value of every setting that is compared; whether it stops a start.
const WRONG: [(&str, &str, Grade); 32] = [
    ("appendonly", "no", Grade::Warn),
    ("appendfsync", "everysec", Grade::Warn),
    ("no-appendfsync-on-rewrite", "yes", Grade::Stop),
    ("save", "3600 1", Grade::Warn),
    ("aof-use-rdb-preamble", "no", Grade::Warn),
    ("aof-load-truncated", "no", Grade::Warn),
    ("aof-rewrite-incremental-fsync", "no", Grade::Warn),
    ("auto-aof-rewrite-percentage", "0", Grade::Warn),
    ("auto-aof-rewrite-min-size", "1mb", Grade::Warn),
    ("maxmemory", "200mb", Grade::Stop),
    ("maxmemory-policy", "allkeys-lru", Grade::Stop),
    ("maxmemory-clients", "100mb", Grade::Warn),
    ("hash-max-listpack-entries", "64", Grade::Stop),
    ("hash-max-listpack-value", "32", Grade::Stop),
    ("stream-node-max-bytes", "512", Grade::Warn),
    ("stream-node-max-entries", "5", Grade::Warn),
    ("lazyfree-lazy-eviction", "no", Grade::Warn),
    ("lazyfree-lazy-expire", "no", Grade::Warn),
    ("lazyfree-lazy-server-del", "no", Grade::Warn),
    ("lazyfree-lazy-user-del", "no", Grade::Warn),
    ("lazyfree-lazy-user-flush", "no", Grade::Warn),
    ("client-output-buffer-limit", "normal 1mb 1mb 60", Grade::Stop),
    ("client-query-buffer-limit", "2mb", Grade::Stop),
    ("proto-max-bulk-len", "1mb", Grade::Stop),
    ("maxclients", "40", Grade::Stop),
    ("timeout", "300", Grade::Warn),
    ("latency-monitor-threshold", "0", Grade::Warn),
    ("slowlog-log-slower-than", "-1", Grade::Warn),
    ("slowlog-max-len", "1", Grade::Warn),
    // Only at a start.
    ("enable-debug-command", "yes", Grade::Warn),
    ("enable-module-command", "yes", Grade::Warn),
    ("enable-protected-configs", "yes", Grade::Warn),
];

#[tokio::test]
async fn each_wrong_setting_is_found_alone_and_with_its_grade() {
    let bench = server(&[]).await;
    assert_eq!(findings(&bench).await, []);
    for (name, wrong, grade) in WRONG.iter().filter(|(name, ..)| !name.starts_with("enable-")) {
        let right: Vec<String> = bench.command(&["CONFIG", "GET", name]).await;
        let _: () = bench.command(&["CONFIG", "SET", name, wrong]).await;
        let found = findings(&bench).await;
        assert_eq!(shown(&found), [(*name, *grade)], "{name} {wrong}: {found:?}");
        assert!(!found[0].risk.is_empty() && found[0].remedy.contains(name), "{found:?}");
        let _: () = bench.command(&["CONFIG", "SET", name, &right[1]]).await;
    }
    assert_eq!(findings(&bench).await, []);
    let extra: Vec<_> = WRONG.iter().filter(|(name, ..)| name.starts_with("enable-")).collect();
    let bench = server(&extra.iter().map(|(name, wrong, _)| (*name, *wrong)).collect::<Vec<_>>()).await;
    assert_eq!(shown(&findings(&bench).await), extra.iter().map(|(n, _, g)| (*n, *g)).collect::<Vec<_>>());
}

#[test]
fn every_setting_that_is_compared_has_a_wrong_value_above() {
    let compared: BTreeSet<&str> = conf()
        .settings()
        .into_iter()
        .flat_map(|section| section.settings)
        .filter(|setting| setting.expect != Expect::Nothing)
        .map(|setting| setting.name)
        .collect();
    let wrong: BTreeSet<&str> = WRONG.iter().map(|(name, ..)| *name).collect();
    assert_eq!(compared, wrong);
}

#[tokio::test]
async fn a_server_is_known_by_its_commands_not_by_its_name() {
    let bench = server(&[("rename-command", "FCALL_RO \"\""), ("rename-command", "XTRIM other")]).await;
    let found = findings(&bench).await;
    assert_eq!(shown(&found), [("command FCALL_RO", Grade::Stop), ("command XTRIM", Grade::Stop)]);
    // In a sentence: command XTRIM is missing or renamed (version 7.0.15), not there.
    assert!(
        found.iter().all(|f| f.found.starts_with("missing or renamed (version 7") && f.expected == "there")
    );
}

/// What a node's user lacks, each with what is found; the rest of the server is right.
async fn findings_of(bench: &Bench, rights: &[&str]) -> Vec<(String, String, Grade)> {
    let mut words = vec!["ACL", "SETUSER", "node", "reset", "on", ">x", "~{test}:*", "~{test.measure}:*"];
    words.extend(["+@all"].iter().chain(rights));
    let _: () = bench.command(&words).await;
    let url = format!("{}?user=node&pass=x", bench.servers.redis().redis_url());
    let tier = FastTier::connect(&url, "test", FastOptions::default()).await.unwrap();
    let found = conf().check(&tier.live_server().await.unwrap());
    found.into_iter().map(|finding| (finding.subject, finding.found, finding.grade)).collect()
}

#[tokio::test]
async fn each_missing_right_of_the_nodes_user_is_named() {
    let bench = server(&[]).await;
    assert_eq!(findings_of(&bench, &[]).await, []);
    let named = |rights: &str, grade| vec![("user node".to_owned(), format!("without {rights}"), grade)];
    for (refused, rights, grade) in [
        (&["-@transaction"][..], "+watch +unwatch +multi +discard +exec", Grade::Stop),
        (&["-exec"], "+exec", Grade::Stop),
        (&["-discard"], "+discard", Grade::Stop),
        (&["-hset", "-xadd"], "+hset +xadd", Grade::Stop),
        (&["-xrange"], "+xrange", Grade::Stop),
        (&["-fcall"], "+fcall", Grade::Stop),
        (&["-scan"], "+scan", Grade::Stop),
        (&["-client|kill"], "+client|kill", Grade::Stop),
        // The library is there already.
        (&["-function|load"], "+function|load", Grade::Warn),
        (&["-memory|usage"], "+memory|usage", Grade::Warn),
        (&["-module|list"], "+module|list", Grade::Warn),
        (&["resetkeys", "~{test}:*"], "~{test.measure}:*", Grade::Warn),
        (&["resetkeys", "%R~{test}:*", "~{test.measure}:*"], "~{test}:*", Grade::Stop),
        (&["resetkeys", "~{test}:[m-o]*", "~{test.measure}:*"], "~{test}:*", Grade::Stop),
    ] {
        assert_eq!(findings_of(&bench, refused).await, named(rights, grade), "{refused:?}");
    }
    // CONFIG is what the settings are compared by.
    let found = findings_of(&bench, &["-config|get"]).await;
    assert_eq!(found, [("CONFIG GET".to_owned(), "refused".to_owned(), Grade::Warn)]);
    let keys: u64 = bench.command(&["DBSIZE"]).await;
    assert_eq!(keys, 0, "asking writes nothing");
}

#[tokio::test]
async fn without_the_functions_the_right_to_load_them_is_needed() {
    let bench = server(&[]).await;
    let _: () = bench.command(&["FUNCTION", "FLUSH"]).await;
    let found = findings_of(&bench, &["-function|load"]).await;
    assert_eq!(found, [("user node".to_owned(), "without +function|load".to_owned(), Grade::Stop)]);
}

#[tokio::test]
async fn a_replica_stops_a_start() {
    let bench = server(&[]).await;
    let _: () = bench.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(shown(&findings(&bench).await), [("role", Grade::Stop)]);
}

#[tokio::test]
async fn a_default_user_without_rights_would_lose_the_append_only_file() {
    let bench = server(&[]).await;
    let _: () = bench.command(&["ACL", "SETUSER", "other", "on", "nopass", "~*", "&*", "+@all"]).await;
    let url = format!("{}?user=other&pass=x", bench.servers.redis().redis_url());
    let tier = FastTier::connect(&url, "test", FastOptions::default()).await.unwrap();
    let _: () = bench.command(&["ACL", "SETUSER", "default", "-@all", "+acl"]).await;
    let found = conf().check(&tier.live_server().await.unwrap());
    assert_eq!(shown(&found), [("user default", Grade::Stop)], "{found:?}");
}

#[tokio::test]
async fn a_server_that_everybody_may_empty_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let bench = server(&[("port", &port), ("bind", "127.0.0.1")]).await;
    assert_eq!(shown(&findings(&bench).await), [("user default", Grade::Warn)]);
}

/// A module by hand: its name is all that it has.
const MODULE: &str = "
#include <string.h>
int RedisModule_OnLoad(void **context) {
    int (*get)(const char *, void *) = context[0];
    void (*attributes)(void *, const char *, int, int);
    if (get(\"RedisModule_SetModuleAttribs\", &attributes) != 0) return 1;
    attributes(context, NAME, 1, 1);
    return 0;
}";

fn compile_module(folder: &Path, name: &str) -> Option<String> {
    let source = folder.join(format!("{name}.c"));
    std::fs::write(&source, MODULE.replace("NAME", &format!("\"{name}\""))).unwrap();
    let library = folder.join(format!("{name}.so"));
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().ok()?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    std::os::unix::fs::PermissionsExt::set_mode(
        &mut std::fs::metadata(&library).unwrap().permissions(),
        0o755,
    );
    Some(library.display().to_string())
}

#[tokio::test]
async fn a_module_that_can_expire_keys_stops_a_start_and_any_other_is_told() {
    for (name, grade) in [("redisgears_2", Grade::Stop), ("harmless", Grade::Warn)] {
        let folder = tempfile::Builder::new().prefix("forebay-module-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let Some(library) = compile_module(folder.path(), name) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "cc is missing under CI=true");
            return eprintln!("skipped: no C compiler");
        };
        let bench = server(&[("loadmodule", &library)]).await;
        let found = findings(&bench).await;
        assert_eq!(shown(&found), [("module", grade)], "{found:?}");
    }
}

#[tokio::test]
async fn a_scan_finds_keys_of_ours_that_expire_and_weighs_those_of_others() {
    let bench = Bench::ready().await;
    let clean = bench.tier.scan_keys(|_| {}).await.unwrap();
    assert_eq!((clean.expiring, clean.others), (0, 0));
    assert_eq!(bench.tier.server_facts().await.unwrap().keys_expiring, 0);
    let _: () = bench.command(&["SET", "theirs", &"x".repeat(10_000), "PX", "600000"]).await;
    let theirs = bench.tier.scan_keys(|_| {}).await.unwrap();
    assert_eq!((theirs.expiring, theirs.others), (0, 1));
    assert!((10_000..20_000).contains(&theirs.others_bytes), "{theirs:?}");
    assert_eq!(bench.tier.server_facts().await.unwrap().keys_expiring, 1);
    let _: () = bench.command(&["EXPIRE", "{test}:meta", "600"]).await;
    let ours = bench.tier.scan_keys(|_| {}).await.unwrap();
    assert_eq!((ours.expiring, ours.expiring_names), (1, vec!["{test}:meta".to_owned()]));
}

#[test]
fn certificates_close_the_port_in_the_clear() {
    let tls = Tls { certificate: "/c.pem".into(), key: "/k.pem".into(), authority: "/a.pem".into() };
    let text = RedisConf { tls: Some(tls), ..conf() }.text();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "port 0",
        "tls-port 6379",
        "tls-cert-file \"/c.pem\"",
        "tls-key-file \"/k.pem\"",
        "tls-ca-cert-file \"/a.pem\"",
    ] {
        assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line}:\n{text}");
    }
    assert!(!lines.contains(&"port 6379"));
}

#[test]
fn every_directive_has_its_reason_above_it() {
    let text = conf().text();
    let lines: Vec<&str> = text.lines().collect();
    let directives = lines.iter().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (at, line) in directives {
        assert!(lines[at - 1].starts_with("# "), "{line}");
    }
}
