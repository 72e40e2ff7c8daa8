//! The memory plan of a data directory: what it follows from, what was measured before, and who is asked when it does not
//! suffice.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use forebay_fast::{Calibration, ServerFacts};
use forebay_slow::Census;
use forebay_slow::conf::PostgresConf;
use forebay_store::memory::{Machine, MemoryPlan, PlanInputs, RedisMemory};
use indicatif::{BinaryBytes, HumanCount};
use serde::{Deserialize, Serialize};

use crate::args::Durability;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::{Brought, Home};
use crate::screen::Screen;

/// How far a start looks ahead.
pub const HORIZON_DAYS: u32 = 30;
/// What a private PostgreSQL takes beside its shared buffers: processes, sorts.
const POSTGRES_BESIDE_BYTES: u64 = 64 << 20;
/// What `forebay memory --measure` found, below the data directory.
const MEASURED: &str = "memory-measured.json";

/// A Redis server that answers.
#[derive(Debug, Clone, Default)]
pub struct KnownRedis {
    /// What it says.
    pub facts: ServerFacts,
    /// What keys of others take in it, bytes.
    pub others_bytes: u64,
    /// Whether it is on this machine.
    pub is_here: bool,
}

/// Adds up for this chain; `redis`: the server, if it runs.
pub fn plan(
    home: &Home,
    chain: &Chain,
    census: Census,
    redis: Option<&KnownRedis>,
    horizon_days: u32,
) -> MemoryPlan {
    let private = matches!(home.brought, Brought::Private);
    let limits = home.settings.limits.limits();
    let machine = machine_of(redis);
    let memory_bytes = machine.as_ref().map_or(0, memory_bytes);
    MemoryPlan::new(&PlanInputs {
        census,
        chain_name_bytes: chain.profile.name.len() as u64,
        delegates_per_round: chain.profile.delegates,
        transactions_per_block_max: chain.profile.limits.transactions_per_block,
        limits: &limits,
        calibration: calibration(home.data_dir(), redis),
        is_durable: match redis {
            Some(redis) if !private => redis.facts.is_durable(),
            _ => home.settings.redis_profile == Durability::Durable,
        },
        horizon_days,
        redis: RedisMemory {
            // A private server's is set by the plan itself, unless the operator says it.
            maxmemory_bytes: match redis.filter(|_| !private) {
                Some(redis) => redis.facts.memory_bytes_max,
                None => 0,
            },
            allowed_bytes: home.settings.redis_memory_bytes_max.unwrap_or(0),
            resident_bytes: redis.filter(|redis| redis.is_here).map_or(0, |r| r.facts.memory_bytes_resident),
            used_bytes: redis.map_or(0, |redis| redis.facts.memory_bytes_used),
            others_bytes: redis.map_or(0, |redis| redis.others_bytes),
            system_bytes: redis.map_or(0, |redis| redis.facts.memory_bytes_system),
        },
        machine,
        api_bytes: home.settings.api.kept_bytes_max(),
        postgres_bytes: if private {
            PostgresConf { memory_bytes, is_private: true }.shared_buffers_bytes() + POSTGRES_BESIDE_BYTES
        } else {
            0
        },
    })
}

/// What this machine, or our control group, has in all.
pub fn memory_bytes(machine: &Machine) -> u64 {
    machine.cgroup.as_ref().map_or(machine.total_bytes, |group| group.limit_bytes)
}

/// The machine of Redis; `None`: another one.
fn machine_of(redis: Option<&KnownRedis>) -> Option<Machine> {
    match redis {
        None => Some(Machine::of_process(None)),
        Some(redis) if !redis.is_here => None,
        Some(redis) => {
            let pid = redis.facts.process_id;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // A server in a container says its number there; what we see under it may be anything.
            let is_it = name.contains("redis") || name.contains("valkey");
            Some(Machine::of_process(is_it.then_some(pid)))
        }
    }
}

/// Whether an address is on this machine.
pub fn is_here(redis_url: &str) -> bool {
    let Some((scheme, rest)) = redis_url.split_once("://") else { return false };
    if scheme.contains("unix") {
        return true;
    }
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let host = place.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    matches!(host, "localhost" | "[::1]" | "") || host.starts_with("127.")
}

/// What a measurement found, and on which server.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    redis_version: String,
    server_bytes: u64,
    accounts_permille: u64,
    transactions_permille: u64,
    blocks_permille: u64,
}

/// The last measurement, if it was made on the same version; else the built-in figures.
fn calibration(data_dir: &Path, redis: Option<&KnownRedis>) -> Calibration {
    let text = fs::read(data_dir.join(MEASURED)).ok();
    let measured: Option<Measured> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let measured =
        measured.filter(|measured| redis.is_none_or(|redis| redis.facts.version == measured.redis_version));
    match measured {
        Some(measured) => Calibration {
            server_bytes: measured.server_bytes,
            accounts_permille: measured.accounts_permille,
            transactions_permille: measured.transactions_permille,
            blocks_permille: measured.blocks_permille,
        },
        None => Calibration {
            server_bytes: redis
                .map(|redis| redis.facts.memory_bytes_at_start)
                .filter(|bytes| *bytes > 0)
                .unwrap_or(Calibration::default().server_bytes),
            ..Calibration::default()
        },
    }
}

/// Keeps a measurement for later plans.
///
/// # Errors
/// The data directory cannot be written to.
pub fn remember(data_dir: &Path, version: &str, measured: &Calibration) -> anyhow::Result<()> {
    let measured = Measured {
        redis_version: version.to_owned(),
        server_bytes: measured.server_bytes,
        accounts_permille: measured.accounts_permille,
        transactions_permille: measured.transactions_permille,
        blocks_permille: measured.blocks_permille,
    };
    let path = data_dir.join(MEASURED);
    fs::write(&path, serde_json::to_vec_pretty(&measured)?)
        .with_context(|| format!("remembering the measurement in {}", path.display()))
}

/// Lets a start go on, or not: the operator is asked on a terminal; without one it is refused.
///
/// # Errors
/// Low memory: refused, or the operator said no.
pub async fn let_start(plan: &MemoryPlan, accept_low_memory: bool, screen: &Screen) -> anyhow::Result<()> {
    if plan.is_sufficient() {
        if !plan.is_sufficient_at_horizon() {
            let days = plan.days_left().unwrap_or_default();
            screen.warn(format!(
                "Redis' memory suffices for about {days} days of the present growth: see `forebay memory`"
            ));
        }
        return Ok(());
    }
    let shortage = shortage(plan);
    if !plan.can_be_loaded() {
        return Err(refused(format!(
            "{shortage}; right now there is room for {} of what has to be loaded, so not even --accept-low-memory starts; to say \
             yourself how much Redis may take, set redis_memory_bytes_max; nothing was loaded",
            BinaryBytes(plan.room_bytes)
        ))
        .into());
    }
    if accept_low_memory {
        screen.warn_always(format!("{shortage}; --accept-low-memory: starting all the same"));
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(refused(format!("{shortage}; nobody can be asked here, so nothing was loaded")).into());
    }
    screen.always(format!("{}\n\n{shortage}.\n{}", table(plan), WHAT_WOULD_HAPPEN));
    let answer = tokio::task::spawn_blocking(ask).await?.context("reading the answer")?;
    if answer {
        Ok(())
    } else {
        Err(refused(format!("{shortage}; you said no, so nothing was loaded")).into())
    }
}

const WHAT_WOULD_HAPPEN: &str = "If you start all the same: at maxmemory Redis refuses blocks (the node slows down before; \
    blocks can be taken back);\nwithout maxmemory the machine swaps, or its kernel kills Redis. Nothing durable is lost.";

fn ask() -> io::Result<bool> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "Start all the same? [y/N] ")?;
    stderr.flush()?;
    drop(stderr);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The refusal of a start.
fn refused(message: String) -> Told {
    Told::new(
        Exit::LowMemory,
        "low-memory",
        message,
        "Give Redis more memory (maxmemory, redis_memory_bytes_max, the control group, the machine), lower limits.lag_bytes_max \
         or limits.blocks_kept, or start with --accept-low-memory. `forebay memory` shows the parts.",
    )
}

/// One sentence: what is needed and what there is.
pub fn shortage(plan: &MemoryPlan) -> String {
    let bound = plan.bounds.first().map_or_else(String::new, |bound| format!(" ({})", bound.title));
    format!(
        "Redis needs {} now and up to {} at the limits, and there are {}{bound}",
        BinaryBytes(plan.needed_bytes),
        BinaryBytes(plan.needed_at_limit_bytes),
        BinaryBytes(plan.available_bytes)
    )
}

/// The plan for people.
pub fn table(plan: &MemoryPlan) -> String {
    let horizon = format!("in {} days", plan.horizon_days);
    let mut lines = vec![row(["", "now", &horizon, "at the limits"])];
    let bytes = |bytes: u64| if bytes == 0 { "-".to_owned() } else { BinaryBytes(bytes).to_string() };
    let part = |part: &forebay_store::memory::Part| {
        row([part.title, &bytes(part.now_bytes), &bytes(part.at_horizon_bytes), &bytes(part.at_limit_bytes)])
    };
    lines.extend(plan.parts.iter().filter(|part| part.is_counted).map(part));
    lines.push(row([
        "= used_memory of Redis",
        &bytes(plan.needed_bytes),
        &bytes(plan.needed_at_horizon_bytes),
        &bytes(plan.counted_at_limit_bytes),
    ]));
    lines.extend(plan.parts.iter().filter(|part| !part.is_counted).map(part));
    lines.push(row(["= needed of the machine", "", "", &bytes(plan.needed_at_limit_bytes)]));
    lines.push(String::new());
    for bound in &plan.bounds {
        lines.push(format!(
            "{} for Redis: {} in all, {} for others; {}",
            BinaryBytes(bound.available_bytes),
            BinaryBytes(bound.limit_bytes),
            BinaryBytes(bound.others_bytes),
            bound.title
        ));
    }
    let counts = &plan.census.counts;
    lines.push(format!(
        "{} accounts, {} transactions, height {}; growing by {} a day{}",
        HumanCount(counts.accounts),
        HumanCount(counts.transactions),
        HumanCount(counts.blocks),
        BinaryBytes(plan.growth_bytes_a_day),
        plan.days_left().map_or_else(String::new, |days| format!(", enough for {} days", HumanCount(days)))
    ));
    lines.join("\n")
}

fn row(columns: [&str; 4]) -> String {
    let [name, now, horizon, limit] = columns;
    format!("{name:<40} {now:>13} {horizon:>13} {limit:>14}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_redis_is_on_this_machine() {
        for here in [
            "unix:///run/redis.sock",
            "redis+unix:///x?user=a",
            "redis://localhost:6379",
            "redis://u:p@127.0.0.1/0",
        ] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["redis://10.0.0.7:6379", "rediss://u:localhost@redis.example:6380/1"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
