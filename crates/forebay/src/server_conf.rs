//! The configuration of Redis and PostgreSQL for this data directory, and what a start checks of a live Redis.

use std::path::PathBuf;

use forebay_fast::FastTier;
use forebay_fast::conf::{Finding, Grade, LiveServer, Place, RedisConf, Users};
use forebay_servers::PrivateServers;
use forebay_slow::conf::PostgresConf;
use forebay_store::memory::{Machine, MemoryPlan};

use crate::args::Durability;
use crate::chain::Chain;
use crate::config::Settings;
use crate::exit::Told;
use crate::home::{Brought, Home};
use crate::planning::memory_bytes;

/// The redis.conf of the private server: what is started and what `forebay redis-conf` prints.
///
/// # Errors
/// No Redis program, or its passwords cannot be made.
pub async fn private_redis_conf(
    home: &Home,
    chain: &Chain,
    servers: &PrivateServers,
    plan: &MemoryPlan,
) -> anyhow::Result<RedisConf> {
    let place = servers.redis_place()?;
    let passwords = &place.passwords;
    let users = Users::with_passwords(&passwords.node, &passwords.reader, Some(&passwords.admin));
    Ok(RedisConf {
        chain: chain.profile.name.clone(),
        is_durable: home.settings.redis_profile == Durability::Durable,
        loads_append_only: place.loads_append_only,
        maxmemory_bytes: home.settings.redis_memory_bytes_max.unwrap_or_else(|| plan.maxmemory_bytes()),
        maxmemory_bytes_min: plan.counted_at_limit_bytes,
        cores: cores(),
        defragments: Some(servers.redis_defragments().await?),
        users: Some(users),
        tls: None,
        place: Place::Private {
            socket: place.socket,
            directory: place.directory,
            pid_file: place.pid_file,
            log_file: place.log_file,
        },
    })
}

/// Where a server of yours listens, and has its data, if nobody says otherwise.
pub const USUAL_BIND: &str = "127.0.0.1 -::1";
/// See [`USUAL_BIND`].
pub const USUAL_PORT: u16 = 6379;
/// See [`USUAL_BIND`].
pub const USUAL_DIRECTORY: &str = "/var/lib/redis";

/// What a check of a server compares, whoever brought it: the place and the users do not matter.
pub fn any_redis_conf(
    settings: &Settings,
    chain: &Chain,
    is_durable: bool,
    plan: Option<&MemoryPlan>,
) -> RedisConf {
    RedisConf {
        place: Place::Yours {
            bind: USUAL_BIND.to_owned(),
            port: USUAL_PORT,
            socket: None,
            directory: PathBuf::from(USUAL_DIRECTORY),
        },
        chain: chain.profile.name.clone(),
        is_durable,
        loads_append_only: false,
        maxmemory_bytes: settings
            .redis_memory_bytes_max
            .unwrap_or_else(|| plan.map_or(0, MemoryPlan::maxmemory_bytes)),
        maxmemory_bytes_min: plan.map_or(0, |plan| plan.counted_at_limit_bytes),
        cores: cores(),
        defragments: None,
        users: None,
        tls: None,
    }
}

/// What a live server does differently, the worst first. Without a plan, too little `maxmemory` is none of it.
pub fn differences(
    home: &Home,
    chain: &Chain,
    is_durable: bool,
    plan: Option<&MemoryPlan>,
    live: &LiveServer,
) -> Vec<Finding> {
    let mut findings = any_redis_conf(&home.settings, chain, is_durable, plan).check(live);
    findings.extend(more_than_allowed(home, live));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    findings
}

/// A server of yours whose own limit is not the one of the settings. Nobody but its operator may change it.
fn more_than_allowed(home: &Home, live: &LiveServer) -> Option<Finding> {
    let allowed = home.settings.redis_memory_bytes_max.filter(|bytes| *bytes > 0)?;
    let found = live.facts.memory_bytes_max;
    let is_yours = matches!(home.brought, Brought::Yours(_));
    (is_yours && (found == 0 || found > allowed)).then(|| Finding {
        grade: Grade::Warn,
        subject: "maxmemory".to_owned(),
        expected: format!("at most {allowed} (redis_memory_bytes_max)"),
        found: if found == 0 { "0 (no limit)".to_owned() } else { found.to_string() },
        risk: "this Redis may take more memory than the settings allow; the memory plan counts on no more than they do"
            .to_owned(),
        remedy: format!("CONFIG SET maxmemory {allowed}, and the same in its redis.conf (`forebay redis-conf` writes it)."),
    })
}

/// Settings of PostgreSQL on this machine.
pub fn postgres_conf(is_private: bool) -> PostgresConf {
    PostgresConf { memory_bytes: memory_bytes(&Machine::of_process(None)), is_private }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a start does not accept of a Redis; the rest is told in the log. Too little `maxmemory` is the memory plan's
/// business. Reads only.
///
/// # Errors
/// Configuration: what breaks a promise, and the remedy. Unavailable.
pub async fn check_at_start(
    home: &Home,
    fast: &FastTier,
    chain: &Chain,
    is_durable: bool,
) -> anyhow::Result<()> {
    let live = fast.live_server().await?;
    let findings = differences(home, chain, is_durable, None, &live);
    for finding in findings.iter().filter(|finding| finding.grade == Grade::Warn) {
        tracing::warn!(
            setting = finding.subject,
            expected = finding.expected,
            found = finding.found,
            risk = finding.risk,
            "Redis differs from what `forebay redis-conf` advises"
        );
    }
    if let Some(worst) = findings.iter().find(|finding| finding.grade == Grade::Stop) {
        return Err(Told::configuration(told(worst), worst.remedy.clone()).into());
    }
    // The server counts keys with a time to live; without any there is nothing to look for.
    if live.facts.keys_expiring > 0 {
        refuse_expiring_keys(fast).await?;
    }
    Ok(())
}

/// Looks at every key.
///
/// # Errors
/// Configuration: some of ours expire.
async fn refuse_expiring_keys(fast: &FastTier) -> anyhow::Result<()> {
    let scan = fast.scan_keys(|_| {}).await?;
    if scan.expiring == 0 {
        return Ok(());
    }
    Err(Told::configuration(
        format!(
            "{} keys of the chain have a time to live, for example {}: Redis would drop them",
            scan.expiring,
            scan.expiring_names.first().map_or("", String::as_str)
        ),
        "Find the program that sets it; `PERSIST <key>` takes it away.",
    )
    .into())
}

/// A finding in one sentence.
pub fn told(finding: &Finding) -> String {
    format!("Redis: {} is {}, not {}: {}", finding.subject, finding.found, finding.expected, finding.risk)
}
