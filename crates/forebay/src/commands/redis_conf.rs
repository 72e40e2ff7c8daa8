//! `forebay redis-conf`: a redis.conf for this machine and this chain, or what a live server does differently.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_fast::KeyScan;
use forebay_fast::conf::{Grade, Place, RedisConf, Tls, Users};
use forebay_store::memory::MemoryPlan;
use indicatif::HumanCount;
use serde_json::json;

use super::memory::planned;
use super::{Context, findings};
use crate::args::{Durability, RedisConfArgs, YoursArgs};
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::Brought;
use crate::output::print;
use crate::planning::HORIZON_DAYS;
use crate::reads::{Look, Reads};
use crate::server_conf::{
    USUAL_BIND, USUAL_DIRECTORY, USUAL_PORT, any_redis_conf, differences, private_redis_conf,
};

/// Runs the command.
pub async fn run(context: &Context, args: RedisConfArgs) -> anyhow::Result<i32> {
    let chain = Chain::load(&context.home.settings)?;
    if args.check {
        return check(context, &chain).await;
    }
    let is_private = matches!(context.home.brought, Brought::Private);
    if let Some(flag) = args.yours.given().filter(|_| is_private) {
        return Err(of_no_use(flag, context).into());
    }
    let plan = planned(context, HORIZON_DAYS, false).await?;
    let conf = if is_private {
        let servers = context.home.private_servers().await?;
        private_redis_conf(&context.home, &chain, &servers, &plan).await?
    } else {
        yours(context, &chain, &plan, args.yours)?
    };
    let text = conf.text();
    if context.output.json {
        print(&json!({ "file": text }).to_string())?;
    } else {
        print(text.trim_end())?;
    }
    Ok(Exit::Success as i32)
}

/// A private server has its place, its users and no network.
fn of_no_use(flag: &str, context: &Context) -> Told {
    Told::configuration(
        format!(
            "{flag} is for a server of yours, and {} has a private Redis, whose file nobody else writes",
            context.home.data_dir().display()
        ),
        "Give --redis-url and --postgres-url of your servers as well (Redis need not run yet), or leave the flag out.",
    )
}

fn yours(context: &Context, chain: &Chain, plan: &MemoryPlan, args: YoursArgs) -> anyhow::Result<RedisConf> {
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
    let settings = &context.home.settings;
    let usual = any_redis_conf(settings, chain, settings.redis_profile == Durability::Durable, Some(plan));
    Ok(RedisConf { place: place(args.bind, args.port, args.socket, args.dir)?, users, tls, ..usual })
}

fn place(
    bind: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    dir: Option<PathBuf>,
) -> anyhow::Result<Place> {
    Ok(Place::Yours {
        bind: bind.unwrap_or_else(|| USUAL_BIND.to_owned()),
        port: port.unwrap_or(USUAL_PORT),
        socket: socket.map(absolute).transpose()?,
        directory: absolute(dir.unwrap_or_else(|| PathBuf::from(USUAL_DIRECTORY)))?,
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

async fn check(context: &Context, chain: &Chain) -> anyhow::Result<i32> {
    let look = async |reads: &Reads| {
        let Some(fast) = &reads.fast else {
            let remedy = "Start the node, or give --redis-url and --postgres-url of your servers.";
            return Err(
                Told::new(Exit::Unavailable, "redis", "no Redis is running to be checked", remedy).into()
            );
        };
        let live = fast.live_server().await?;
        // Counting and looking at keys take rights, too.
        if live.missing_rights.iter().any(|missing| missing.grade == Grade::Stop) {
            return Ok((live, None));
        }
        let scanning = fast.scan_keys(|_| {});
        let scan = context.screen.while_long("looking for keys that expire", scanning).await?;
        Ok::<_, anyhow::Error>((live, Some(scan)))
    };
    let (live, scan) = context.read(Look::AnyState, look).await?;
    let plan = match &scan {
        Some(_) => Some(planned(context, HORIZON_DAYS, false).await?),
        None => None,
    };
    let is_durable = context.home.settings.redis_profile == Durability::Durable;
    let differences = differences(&context.home, chain, is_durable, plan.as_ref(), &live);
    let seen = scan.is_some();
    let scan = scan.unwrap_or_default();
    let stops = scan.expiring > 0 || differences.iter().any(|finding| finding.grade == Grade::Stop);
    let mut value = findings::value_of(&live.facts.version, &differences, stops);
    if let Some(object) = value.as_object_mut() {
        object.insert("keys".to_owned(), scan.ours.into());
        object.insert("keysExpiring".to_owned(), scan.expiring.into());
        object.insert("keysExpiringNames".to_owned(), json!(scan.expiring_names));
        object.insert("keysOfOthers".to_owned(), scan.others.into());
    }
    context.output.result(&value, || {
        let mut lines = findings::lines(&differences);
        lines.extend(seen.then(|| of_keys(&scan)));
        lines.push(findings::verdict(
            &format!("Redis {}", live.facts.version),
            stops,
            differences.len(),
            ["a node does not start on it", "as `forebay redis-conf` has it"],
        ));
        lines.join("\n")
    })?;
    Ok(if stops { Exit::Configuration } else { Exit::Success } as i32)
}

fn of_keys(scan: &KeyScan) -> String {
    match scan.expiring {
        0 => format!("none of {} keys of the chain expires", HumanCount(scan.ours)),
        expiring => format!(
            "STOP  {} of {} keys of the chain expire, for example {}\n      what to do: find the program that sets it; \
             PERSIST takes it away",
            HumanCount(expiring),
            HumanCount(scan.ours),
            scan.expiring_names.join(", ")
        ),
    }
}
