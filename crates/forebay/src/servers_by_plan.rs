//! The servers of a start, and the memory plan before anything is loaded: PostgreSQL first, which knows how much there is;
//! then the plan, and the operator where it does not suffice; then Redis.

use std::time::{Duration, Instant};

use forebay_fast::{FastError, FastErrorKind as Kind, FastTier};
use forebay_servers::PrivateServers;
use forebay_slow::Census;
use forebay_store::memory::{MemoryPlan, take_census_told};
use tokio_postgres::Config;

use crate::args::Durability;
use crate::chain::Chain;
use crate::commands::memory::{counted, known_redis};
use crate::home::{Brought, Connections, Home};
use crate::keeper::Keeper;
use crate::planning;
use crate::reads::connect_fast;
use crate::screen::Screen;
use crate::server_conf::{check_at_start, private_redis_conf};

/// Told each failure that a start waits over.
pub type Waits<'a> = &'a (dyn Fn(String) + Send + Sync);

/// An attempt at a server that is away, before the next one is told.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Between a question that Redis did not answer and the next attempt.
const AGAIN: Duration = Duration::from_millis(100);

/// Starts or adopts private servers, or finds yours, and plans Redis' memory. `limit`: how long a server that is away is
/// waited for; `None`: as long as it takes.
///
/// # Errors
/// Low memory, configuration, unavailable: nothing was loaded or removed.
pub async fn servers_by_plan(
    home: &Home,
    chain: &Chain,
    private: Option<&PrivateServers>,
    limit: Option<Duration>,
    screen: &Screen,
    waits: Waits<'_>,
) -> anyhow::Result<(Connections, MemoryPlan, Keeper)> {
    match (&home.brought, private) {
        (Brought::Yours(connections), _) => {
            let plan = plan_on_yours(home, chain, connections, limit, screen, waits).await?;
            Ok(((**connections).clone(), plan, Keeper::default()))
        }
        (Brought::Private, Some(servers)) => start_private(home, chain, servers, limit, screen, waits).await,
        (Brought::Private, None) => anyhow::bail!("private servers were not opened"),
    }
}

async fn plan_on_yours(
    home: &Home,
    chain: &Chain,
    connections: &Connections,
    limit: Option<Duration>,
    screen: &Screen,
    waits: Waits<'_>,
) -> anyhow::Result<MemoryPlan> {
    let postgres = connections.before_setup();
    let census = census(home, chain, &postgres, limit, screen, waits).await?;
    let asking = async |fast: &FastTier| {
        // First: what the plan asks for may be among the rights that are missing.
        check_at_start(home, fast, chain, fast.server_facts().await?.is_durable()).await?;
        known_redis(home, fast).await
    };
    let redis = patiently(&connections.redis_url, chain, limit, waits, asking).await?;
    let plan = planning::plan(home, chain, census, Some(&redis), planning::HORIZON_DAYS);
    planning::let_start(&plan, home.accept_low_memory, screen).await?;
    Ok(plan)
}

async fn start_private(
    home: &Home,
    chain: &Chain,
    servers: &PrivateServers,
    limit: Option<Duration>,
    screen: &Screen,
    waits: Waits<'_>,
) -> anyhow::Result<(Connections, MemoryPlan, Keeper)> {
    let mut keeper = Keeper::default();
    let postgres = screen.while_long("starting PostgreSQL", servers.start_postgres()).await?;
    keeper.keep_postgres(servers, postgres.clone());
    let census = census(home, chain, &home.private_writer(&postgres)?, limit, screen, waits).await?;
    let running = match servers.running_redis().await? {
        Some(redis) => {
            let asking = async |fast: &FastTier| known_redis(home, fast).await;
            Some(patiently(&redis.redis_url(), chain, limit, waits, asking).await?)
        }
        None => None,
    };
    let plan = planning::plan(home, chain, census, running.as_ref(), planning::HORIZON_DAYS);
    planning::let_start(&plan, home.accept_low_memory, screen).await?;

    let conf = private_redis_conf(home, chain, servers, &plan).await?;
    let with_conf = servers.with_redis_conf(conf.text());
    let redis = screen.while_long("starting Redis", with_conf.start_redis()).await?;
    if redis.is_adopted() {
        servers.set_redis_maxmemory(conf.maxmemory_bytes).await?;
    }
    let connections = home.private_connections(&redis, &postgres)?;
    keeper.keep_redis(&with_conf, redis);
    let is_durable = home.settings.redis_profile == Durability::Durable;
    let asking = async |fast: &FastTier| check_at_start(home, fast, chain, is_durable).await;
    patiently(&connections.redis_url, chain, limit, waits, asking).await?;
    Ok((connections, plan, keeper))
}

async fn census(
    home: &Home,
    chain: &Chain,
    postgres: &Config,
    limit: Option<Duration>,
    screen: &Screen,
    waits: Waits<'_>,
) -> anyhow::Result<Census> {
    let limits = home.settings.limits.limits();
    let counting = take_census_told(postgres, counted(chain), &limits, limit, waits);
    Ok(screen.while_long("planning Redis' memory: counting in PostgreSQL", counting).await?)
}

/// Asks Redis something; while it is away, or goes away before the answer, again for so long, with a word now and then.
async fn patiently<T>(
    url: &str,
    chain: &Chain,
    limit: Option<Duration>,
    waits: Waits<'_>,
    ask: impl AsyncFn(&FastTier) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        let connecting = connect_fast(url, chain, left.map_or(TOLD_EVERY, |left| left.min(TOLD_EVERY)));
        let error = match connecting.await {
            Ok(fast) => match ask(&fast).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            },
            Err(error) => error.into(),
        };
        let is_away = error.downcast_ref().is_some_and(|error: &FastError| error.kind() == Kind::Unavailable);
        if !is_away || left == Some(Duration::ZERO) {
            return Err(error);
        }
        tracing::warn!(waited_s = begun.elapsed().as_secs(), %error, "waiting for Redis");
        waits(error.to_string());
        tokio::time::sleep(AGAIN).await;
    }
}
