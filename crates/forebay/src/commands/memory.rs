//! `forebay memory`: what Redis needs for this chain, and what there is.

use std::time::Duration;

use anyhow::Context as _;
use forebay_fast::{FastTier, Holder, ServerFacts};
use forebay_slow::Census;
use forebay_store::memory::{Chain as Counted, MemoryPlan, measure, take_census};
use serde_json::{Value, json};
use tokio_postgres::Config;

use super::Context;
use crate::args::MemoryArgs;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::{Brought, Home, MEASURING, command_words, host_name};
use crate::planning::{self, KnownRedis};
use crate::reads::{Look, Reads, connect_fast};

/// Runs the command.
pub async fn run(context: &Context, args: MemoryArgs) -> anyhow::Result<i32> {
    let plan = planned(context, args.horizon, args.measure).await?;
    let sufficient = plan.is_sufficient();
    context.output.result(&value_of(&plan), || {
        let verdict = match (sufficient, plan.is_sufficient_at_horizon()) {
            (true, true) => "It suffices.".to_owned(),
            (true, false) => format!("It suffices now, not for {} days.", plan.horizon_days),
            (false, _) => format!("Too little: {}.", planning::shortage(&plan)),
        };
        format!("{}\n\n{verdict}", planning::table(&plan))
    })?;
    Ok(if sufficient { Exit::Success } else { Exit::LowMemory } as i32)
}

/// The plan of this data directory, beside a node or without one.
pub async fn planned(context: &Context, horizon_days: u32, measuring: bool) -> anyhow::Result<MemoryPlan> {
    let home = &context.home;
    let chain = Chain::load(&home.settings)?;
    if matches!(home.brought, Brought::Private) && !home.has_private_data()? {
        if measuring {
            measure_alone(context, &chain, None).await?;
        }
        let census = forebay_store::memory::census_of_genesis(counted(&chain));
        return Ok(planning::plan(home, &chain, census, None, horizon_days));
    }
    let reads = Reads::open(home, Look::AnyState, &context.screen, &context.signals).await?;
    let outcome = look(context, &reads, horizon_days, measuring).await;
    reads.close().await?;
    outcome
}

async fn look(
    context: &Context,
    reads: &Reads,
    horizon_days: u32,
    measuring: bool,
) -> anyhow::Result<MemoryPlan> {
    let (home, chain) = (&context.home, &reads.chain);
    let postgres = match &home.brought {
        // As a start does: the writer may not be there before the first one.
        Brought::Yours(connections) if connections.setup.is_some() => connections.before_setup(),
        _ => reads.postgres().await?,
    };
    let census = count(context, home, chain, &postgres, Some(home.settings.connect_timeout())).await?;
    if measuring {
        let postgres = (census.counts.blocks > 1 || census.counts.accounts > 0).then_some(&postgres);
        match (&home.brought, &reads.fast) {
            (Brought::Yours(connections), Some(fast)) => {
                measure_on(context, &connections.redis_url, chain, postgres, fast).await?;
            }
            (Brought::Private, Some(fast)) => {
                let servers = home.private_servers().await?;
                let redis = servers.running_redis().await?.ok_or_else(|| {
                    let message = "the node's Redis ended a moment ago";
                    Told::new(Exit::Unavailable, "redis", message, "See `forebay status`, and try again.")
                })?;
                measure_on(context, &redis.redis_url(), chain, postgres, fast).await?;
            }
            (Brought::Private, None) => measure_alone(context, chain, postgres).await?,
            (Brought::Yours(_), None) => {
                anyhow::bail!("Redis does not answer, so nothing can be measured on it")
            }
        }
    }
    let redis = match &reads.fast {
        Some(fast) => Some(known_redis(home, fast).await?),
        None => None,
    };
    Ok(planning::plan(home, chain, census, redis.as_ref(), horizon_days))
}

/// Counts in PostgreSQL; a long count is told.
pub async fn count(
    context: &Context,
    home: &Home,
    chain: &Chain,
    postgres: &Config,
    limit: Option<Duration>,
) -> anyhow::Result<Census> {
    let limits = home.settings.limits.limits();
    let census = take_census(postgres, counted(chain), &limits, limit);
    Ok(context.screen.while_long("counting accounts and transactions in PostgreSQL", census).await?)
}

/// What the counting needs to know of a chain.
pub fn counted(chain: &Chain) -> Counted<'_> {
    Counted { profile: &chain.profile, genesis: &chain.genesis }
}

/// What a server says of itself. Keys of others are looked for in servers of yours only.
pub async fn known_redis(home: &Home, fast: &FastTier) -> anyhow::Result<KnownRedis> {
    let facts = fast.server_facts().await?;
    Ok(match &home.brought {
        Brought::Private => KnownRedis { facts, others_bytes: 0, is_here: true },
        Brought::Yours(connections) => KnownRedis {
            others_bytes: fast.scan_keys(|_| {}).await?.others_bytes,
            is_here: planning::is_here(&connections.redis_url),
            facts,
        },
    })
}

async fn measure_on(
    context: &Context,
    redis_url: &str,
    chain: &Chain,
    postgres: Option<&Config>,
    fast: &FastTier,
) -> anyhow::Result<()> {
    let holder = Holder { host: host_name(), pid: std::process::id(), since_ms: 0 };
    let measuring = measure(redis_url, postgres, &chain.profile.name, &holder);
    let measured = context.screen.while_long("measuring on Redis", measuring).await?;
    let ServerFacts { version, .. } = fast.server_facts().await?;
    context.screen.say(format!(
        "Redis {version}: accounts take {}, ids {}, blocks {} thousandths of the built-in figures",
        measured.accounts_permille, measured.transactions_permille, measured.blocks_permille
    ));
    planning::remember(context.home.data_dir(), &version, &measured)
}

/// Without a node the private Redis is started for it, under the data directory's lock.
async fn measure_alone(context: &Context, chain: &Chain, postgres: Option<&Config>) -> anyhow::Result<()> {
    let home = &context.home;
    let _lock = home.lock(&command_words(MEASURING))?;
    let servers = home.private_servers().await?;
    // One that runs goes on, and ends with whoever has it.
    let (redis, is_ours) = match servers.running_redis().await? {
        Some(redis) => (redis, false),
        None => (servers.start_redis().await?, true),
    };
    let outcome = async {
        let fast = connect_fast(&redis.redis_url(), chain, home.settings.connect_timeout()).await?;
        measure_on(context, &redis.redis_url(), chain, postgres, &fast).await
    }
    .await;
    if is_ours {
        servers.stop_redis().await.context("stopping Redis after the measurement")?;
    }
    outcome
}

/// The plan for machines.
pub fn value_of(plan: &MemoryPlan) -> Value {
    let parts: Vec<_> = plan
        .parts
        .iter()
        .map(|part| {
            json!({
                "name": part.name, "bytes": part.now_bytes, "atHorizonBytes": part.at_horizon_bytes,
                "atLimitBytes": part.at_limit_bytes, "countedByRedis": part.is_counted,
            })
        })
        .collect();
    let bounds: Vec<_> = plan
        .bounds
        .iter()
        .map(|bound| {
            json!({
                "name": bound.name, "limitBytes": bound.limit_bytes, "othersBytes": bound.others_bytes,
                "availableBytes": bound.available_bytes, "title": bound.title,
            })
        })
        .collect();
    let census = &plan.census;
    json!({
        "neededBytes": plan.needed_bytes,
        "neededAtHorizonBytes": plan.needed_at_horizon_bytes,
        "neededAtLimitBytes": plan.needed_at_limit_bytes,
        "countedAtLimitBytes": plan.counted_at_limit_bytes,
        "availableBytes": plan.available_bytes,
        "sufficient": plan.is_sufficient(),
        "sufficientAtHorizon": plan.is_sufficient_at_horizon(),
        "horizonDays": plan.horizon_days,
        "growthBytesADay": plan.growth_bytes_a_day,
        "daysLeft": plan.days_left(),
        "maxmemoryBytes": plan.maxmemory_bytes(),
        "parts": parts,
        "bounds": bounds,
        "counts": {
            "accounts": census.counts.accounts, "delegates": census.counts.delegates, "votes": census.counts.votes,
            "transactions": census.counts.transactions, "blocks": census.counts.blocks,
            "blocksKept": census.recent_blocks,
        },
    })
}
