//! `forebay redis-conf`: a redis.conf for this machine and this chain, or what a live server does differently.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_fast::KeyScan;
use forebay_fast::conf::{Finding, Grade, Place, RedisConf, Tls, Users};
use forebay_store::memory::MemoryPlan;
use indicatif::HumanCount;
use serde_json::json;

use super::Context;
use super::memory::planned;
use crate::args::{Durability, RedisConfArgs};
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::Brought;
use crate::output::print;
use crate::planning::HORIZON_DAYS;
use crate::reads::Reads;
use crate::server_conf::{any_redis_conf, private_redis_conf};

/// Runs the command.
pub async fn run(context: &Context, args: RedisConfArgs) -> anyhow::Result<i32> {
    let chain = Chain::load(&context.home.settings)?;
    let plan = planned(context, HORIZON_DAYS, false).await?;
    if args.check {
        return check(context, &chain, &plan).await;
    }
    let conf = match &context.home.brought {
        Brought::Private => {
            let servers = context.home.private_servers().await?;
            private_redis_conf(&context.home, &chain, &servers, &plan).await?
        }
        Brought::Yours(_) => yours(context, &chain, &plan, args)?,
    };
    let text = conf.text();
    if context.output.json {
        print(&json!({ "file": text }).to_string())?;
    } else {
        print(text.trim_end())?;
    }
    Ok(Exit::Success as i32)
}

fn yours(
    context: &Context,
    chain: &Chain,
    plan: &MemoryPlan,
    args: RedisConfArgs,
) -> anyhow::Result<RedisConf> {
    let is_durable = context.home.settings.redis_profile == Durability::Durable;
    let users = match (&args.node_password_file, &args.reader_password_file) {
        (Some(node), Some(reader)) => Some(Users::with_passwords(&password(node)?, &password(reader)?, None)),
        _ => None,
    };
    let tls = match (args.tls_cert, args.tls_key, args.tls_ca) {
        (Some(certificate), Some(key), Some(authority)) => Some(Tls {
            certificate: absolute(certificate)?,
            key: absolute(key)?,
            authority: absolute(authority)?,
        }),
        _ => None,
    };
    Ok(RedisConf {
        place: Place::Yours {
            bind: args.bind,
            port: args.port,
            socket: args.socket.map(absolute).transpose()?,
            directory: absolute(args.dir)?,
        },
        users,
        tls,
        ..any_redis_conf(chain, is_durable, Some(plan))
    })
}

fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn password(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading the password file {}", file.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        let message = format!("the password file {} is empty", file.display());
        return Err(Told::configuration(message, "Write a long random password into it.").into());
    }
    Ok(password.to_owned())
}

async fn check(context: &Context, chain: &Chain, plan: &MemoryPlan) -> anyhow::Result<i32> {
    let reads = Reads::open_in_any_state(&context.home, &context.screen).await?;
    let outcome = async {
        let Some(fast) = &reads.fast else {
            let remedy = "Start the node, or give --redis-url and --postgres-url of your servers.";
            return Err(
                Told::new(Exit::Unavailable, "redis", "no Redis is running to be checked", remedy).into()
            );
        };
        let live = fast.live_server().await?;
        let is_durable = context.home.settings.redis_profile == Durability::Durable;
        let findings = any_redis_conf(chain, is_durable, Some(plan)).check(&live);
        let scanning = fast.scan_keys(|_| {});
        let scan = context.screen.while_long("looking for keys that expire", scanning).await?;
        Ok::<_, anyhow::Error>((live.facts.version, findings, scan))
    }
    .await;
    reads.close().await?;
    let (version, findings, scan) = outcome?;
    tell(context, &version, &findings, &scan)?;
    let stops = scan.expiring > 0 || findings.iter().any(|finding| finding.grade == Grade::Stop);
    Ok(if stops { Exit::Configuration } else { Exit::Success } as i32)
}

fn tell(context: &Context, version: &str, findings: &[Finding], scan: &KeyScan) -> anyhow::Result<()> {
    let stops = scan.expiring > 0 || findings.iter().any(|finding| finding.grade == Grade::Stop);
    let value = json!({
        "ok": !stops,
        "version": version,
        "findings": findings.iter().map(|finding| json!({
            "stops": finding.grade == Grade::Stop, "subject": finding.subject, "expected": finding.expected,
            "found": finding.found, "risk": finding.risk, "remedy": finding.remedy,
        })).collect::<Vec<_>>(),
        "keys": scan.ours,
        "keysExpiring": scan.expiring,
        "keysExpiringNames": scan.expiring_names,
        "keysOfOthers": scan.others,
    });
    context.output.result(&value, || {
        let mut lines: Vec<String> = findings
            .iter()
            .map(|finding| {
                super::postgres_conf::line(
                    finding.grade == Grade::Stop,
                    [&finding.subject, &finding.found, &finding.expected, &finding.risk, &finding.remedy],
                )
            })
            .collect();
        lines.push(match scan.expiring {
            0 => format!("none of {} keys of the chain expires", HumanCount(scan.ours)),
            expiring => format!(
                "STOP  {} of {} keys of the chain expire, for example {}\n      what to do: find the program that sets it; \
                 PERSIST takes it away",
                HumanCount(expiring),
                HumanCount(scan.ours),
                scan.expiring_names.join(", ")
            ),
        });
        lines.push(format!(
            "Redis {version}: {}",
            match (stops, findings.len()) {
                (true, _) => "a node does not start on it".to_owned(),
                (false, 0) => "as `forebay redis-conf` has it".to_owned(),
                (false, more) => format!("fit, with {more} differences"),
            }
        ));
        lines.join("\n")
    })
}
