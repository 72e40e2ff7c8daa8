//! `forebay status`: where chain, node and servers stand. Works in every state.

use anyhow::Context as _;
use forebay_fast::{FastTier, ServerFacts, State};
use forebay_ledger::ids::Height;
use forebay_servers::HeldBy;
use forebay_slow::open_session;
use indicatif::HumanCount;
use serde::Serialize;
use tokio_postgres::Config;

use super::Context;
use crate::exit::{Exit, Told};
use crate::home::{Brought, Home};
use crate::node_report::NodeReport;
use crate::output::{counted, table};
use crate::reads::{Look, NOT_ANSWERING, Reads, SILENT};

/// Below the data directory.
const REDIS_FILES: &str = "redis/appendonlydir";
/// Of a private Redis that does not run, after a node that did not end in order or left operations in the outbox.
const IN_FILES: &str = "not running; the next start drains what its files have and PostgreSQL lacks";

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    network: String,
    genesis: String,
    data_dir: String,
    /// A node, or another command that writes, has the data directory.
    running: bool,
    /// `ready`, `starting` (and what exactly), `rewinding`, `stopping` or `stopped`.
    phase: String,
    holder: Option<Holder>,
    /// What the running node says of itself; null without one here.
    node: Option<NodeReport>,
    epoch: Option<u64>,
    fast: Option<TierStatus>,
    slow: Option<TierStatus>,
    /// Rollback files that the next start obeys.
    standing_orders: Vec<StandingOrder>,
    /// What PostgreSQL lacks; null if Redis cannot say.
    lag: Option<Lag>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    /// Why nothing is known of Redis, where one should be: `not answering`, `being started or stopped`,
    /// `not running; …`: its files may have more than PostgreSQL.
    redis_silence: Option<String>,
    /// The same of PostgreSQL.
    postgres_silence: Option<String>,
    /// Why `node` is not what the node would say now.
    node_silence: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holder {
    pid: u32,
    command: String,
    since_unix_ms: u64,
    #[serde(skip)]
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TierStatus {
    height: Height,
    block_id: Option<String>,
    epoch: u64,
    seq: u64,
}

/// What the next start gives up.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StandingOrder {
    file: String,
    epoch: u64,
    /// The last operation that stays.
    seq: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lag {
    blocks: i64,
    operations: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Redis {
    version: String,
    address: String,
    /// What survives a loss of power: `durable` or `volatile`.
    durability: &'static str,
    memory_bytes_used: u64,
    private: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Postgres {
    version: String,
    address: String,
    private: bool,
}

/// Runs the command.
pub async fn run(context: &Context) -> anyhow::Result<i32> {
    let status = context.read(Look::AnyState, async |reads| look(&context.home, reads).await).await?;
    context.output.result(&status, || text_of(&status))?;
    Ok(Exit::Success as i32)
}

async fn look(home: &Home, reads: &Reads) -> anyhow::Result<Status> {
    let private = matches!(home.brought, Brought::Private);
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION"),
        network: reads.chain.profile.name.clone(),
        genesis: reads.chain.genesis.id.to_string(),
        data_dir: std::path::absolute(home.data_dir())?.display().to_string(),
        running: reads.has_node(),
        phase: if reads.has_node() { "starting" } else { "stopped" }.to_owned(),
        holder: reads.holder.as_ref().map(holder),
        node: reads.holder.as_ref().and_then(|by| NodeReport::read(home.data_dir(), by.pid)),
        epoch: None,
        fast: None,
        slow: None,
        standing_orders: standing_orders(home, reads),
        lag: None,
        redis: None,
        postgres: None,
        redis_silence: reads.redis_silence.clone().or_else(|| {
            let may_have_more = private
                && !reads.has_node()
                && home.data_dir().join(REDIS_FILES).exists()
                && !NodeReport::left_nothing(home.data_dir());
            may_have_more.then(|| IN_FILES.to_owned())
        }),
        postgres_silence: None,
        node_silence: None,
    };
    status.node_silence = status.node.as_ref().and_then(NodeReport::silent_for_s).map(|silent_s| {
        format!(
            "its last report is {silent_s} s old: it stands still, or cannot write {} (a full disk?)",
            home.data_dir().display()
        )
    });
    let slow = look_at_slow(&mut status, reads, private);
    if let Err(silence) = reads.answered_in_time("PostgreSQL", slow).await {
        if !reads.has_node() {
            return Err(silence);
        }
        reads.note(format!("{silence:#}"));
        status.postgres_silence = Some(NOT_ANSWERING.to_owned());
    }
    if let Some(fast) = &reads.fast {
        let look = look_at_fast(&mut status, fast, private);
        if let Err(silence) = reads.answered_in_time("Redis", look).await {
            if !reads.has_node() {
                return Err(silence);
            }
            reads.note(format!("{silence:#}"));
            status.redis_silence = Some(NOT_ANSWERING.to_owned());
        }
    }
    // In the first phases of a start Redis still says what an earlier node left.
    if let Some(node) = &status.node {
        status.phase = match (node.phase.as_str(), node.phase_done.zip(node.phase_total)) {
            // Redis says more, when it answers.
            ("ready", _) if status.redis_silence.is_some() || reads.fast.is_none() => node.phase.clone(),
            ("ready", _) => status.phase.clone(),
            ("stopping" | "stopped", _) => "stopping".to_owned(),
            (phase, Some((done, total))) => format!("starting ({phase}, {done} of {total})"),
            (phase, None) => format!("starting ({phase})"),
        };
    }
    if let (Some(fast), Some(slow)) = (&status.fast, &status.slow) {
        status.lag = Some(Lag {
            blocks: i64::from(fast.height) - i64::from(slow.height),
            operations: fast.seq.saturating_sub(slow.seq),
        });
    }
    status.epoch = status.fast.as_ref().or(status.slow.as_ref()).map(|tier| tier.epoch);
    Ok(status)
}

fn standing_orders(home: &Home, reads: &Reads) -> Vec<StandingOrder> {
    match forebay_store::rollback_orders(home.data_dir(), &reads.chain.profile, reads.chain.genesis.id) {
        Ok(orders) => orders
            .into_iter()
            .map(|order| StandingOrder {
                file: order.path.display().to_string(),
                epoch: order.epoch,
                seq: order.seq,
            })
            .collect(),
        Err(error) => {
            reads.note(format!("the next start will refuse a rollback file: {error}"));
            Vec::new()
        }
    }
}

async fn look_at_slow(status: &mut Status, reads: &Reads, private: bool) -> anyhow::Result<()> {
    let doing = "asking PostgreSQL how far it is";
    let found = match reads.has_node() {
        // A node that is starting has not made the database yet; one that runs may have lost it for a while.
        true => match reads.slow_now().await {
            Ok(found) => found,
            Err(error) => {
                reads.note(format!("without PostgreSQL: {error:#}"));
                let told = error.downcast_ref::<Told>();
                status.postgres_silence =
                    told.filter(|told| told.kind == SILENT).map(|_| NOT_ANSWERING.to_owned());
                return Ok(());
            }
        },
        false => (reads.slow().await.context(doing)?, reads.postgres().await?),
    };
    let (reader, config) = found;
    let position = match reader.reads().position().await {
        Ok(position) => position,
        Err(error) if reads.has_node() => {
            reads.note(format!("PostgreSQL is not set up yet: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    status.slow = Some(TierStatus {
        height: position.height,
        block_id: position.block_id.map(|id| id.to_string()),
        epoch: position.epoch,
        seq: position.seq,
    });
    let version = server_version(&config).await.context(doing)?;
    status.postgres = Some(Postgres { version, address: address_of(&config), private });
    Ok(())
}

async fn look_at_fast(status: &mut Status, fast: &FastTier, private: bool) -> anyhow::Result<()> {
    let head = fast.head().await.context("asking Redis how far it is")?;
    let facts = fast.server_facts().await?;
    status.redis = Some(redis_of(&facts, fast.address(), private));
    status.phase = match head.state {
        State::Ready if private || is_held(fast).await? => "ready".to_owned(),
        State::Ready => "stopped".to_owned(),
        State::Rewinding => "rewinding".to_owned(),
        State::Damaged => "damaged".to_owned(),
        other => format!("starting ({other})"),
    };
    if !private && status.phase != "stopped" {
        status.running = true;
    }
    status.fast = head.state.has_outbox().then(|| TierStatus {
        height: head.tip.map_or(0, |tip| tip.height),
        block_id: head.tip.map(|tip| tip.id.to_string()),
        epoch: head.position.epoch,
        seq: head.position.seq,
    });
    Ok(())
}

async fn is_held(fast: &FastTier) -> anyhow::Result<bool> {
    Ok(fast.owner().await?.is_some_and(|owner| !owner.released))
}

fn holder(by: &HeldBy) -> Holder {
    Holder { pid: by.pid, command: by.command.clone(), since_unix_ms: by.since_unix_ms, text: by.to_string() }
}

fn redis_of(facts: &ServerFacts, address: &str, private: bool) -> Redis {
    Redis {
        version: facts.version.clone(),
        address: address.to_owned(),
        durability: if facts.is_durable() { "durable" } else { "volatile" },
        memory_bytes_used: facts.memory_bytes_used,
        private,
    }
}

async fn server_version(config: &Config) -> anyhow::Result<String> {
    let client = open_session(config, "asking PostgreSQL for its version").await?;
    Ok(client.query_one("show server_version", &[]).await?.try_get(0)?)
}

fn address_of(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}

fn text_of(status: &Status) -> String {
    let tier = |tier: &TierStatus| {
        let id = tier.block_id.as_deref().unwrap_or("none");
        format!(
            "height {}, block {id}, operation {}-{}",
            HumanCount(tier.height.into()),
            tier.epoch,
            tier.seq
        )
    };
    let mut lines = vec![
        ("network", format!("{}, genesis block {}", status.network, status.genesis)),
        ("data", status.data_dir.clone()),
        (
            "node",
            match &status.holder {
                Some(holder) => format!("{}; {}", status.phase, holder.text),
                None if status.running => format!("{}, by its heartbeat in Redis", status.phase),
                None => "not running".to_owned(),
            },
        ),
    ];
    if let Some(silence) = &status.node_silence {
        lines.push(("silence", silence.clone()));
    }
    let no_chain = match &status.redis_silence {
        Some(silence) => silence,
        None if status.redis.is_some() => "no complete chain in it now",
        None => "not running",
    };
    lines.push(("redis", status.fast.as_ref().map_or_else(|| no_chain.to_owned(), tier)));
    let no_chain = match &status.postgres_silence {
        Some(silence) => silence,
        None if status.postgres.is_some() => "no chain in it now",
        None => "not there now",
    };
    lines.push(("postgres", status.slow.as_ref().map_or_else(|| no_chain.to_owned(), tier)));
    for order in &status.standing_orders {
        lines.push((
            "order",
            format!(
                "the next start of a node, and of a command that starts one, goes back to operation {} by {}",
                order.seq, order.file
            ),
        ));
    }
    if let Some(lag) = &status.lag {
        let blocks = match u64::try_from(lag.blocks) {
            Ok(blocks) => counted(blocks, "block"),
            // Blocks that were taken back in Redis alone so far.
            Err(_) => format!("{} blocks", lag.blocks),
        };
        lines.push(("lag", format!("{blocks}, {}", counted(lag.operations, "operation"))));
    }
    if let Some(node) = &status.node {
        if status.lag.is_none() && node.tips.is_some() {
            lines.push(("lag", format!("{}, as the node says", counted(node.lag_operations, "operation"))));
        }
        if let Some(profile) = &node.profile {
            lines.push(("profile", profile.clone()));
        }
        if let (Some(p50), Some(p99)) = (node.durable_p50_ms, node.durable_p99_ms) {
            lines.push(("durable", format!("{p50} ms after accepted, 99 of 100 within {p99} ms")));
        }
        if node.lag_seconds > 0 {
            lines.push(("waiting", format!("the oldest operation for {} s", HumanCount(node.lag_seconds))));
        }
        if node.tips.is_some() {
            let counts = &node.counts;
            let pace = match node.pace.as_str() {
                "slowed" => format!("; slowed by {} ms before each block", node.pause_ms),
                "waiting" => "; none is taken before PostgreSQL has caught up".to_owned(),
                _ => String::new(),
            };
            lines.push((
                "blocks",
                format!(
                    "{} accepted since it was ready, {} transactions; {} taken back{pace}",
                    HumanCount(counts.blocks_accepted),
                    HumanCount(counts.transactions_accepted),
                    HumanCount(counts.blocks_taken_back),
                ),
            ));
        }
        let last_error = node.last_error.as_deref().unwrap_or("none that lasts");
        let then = if status.node_silence.is_some() { " when it last said" } else { "" };
        lines.push(("retries", format!("{}, last error: {last_error}{then}", HumanCount(node.retries))));
    }
    let whose = |private: bool| if private { "private" } else { "yours" };
    if let Some(redis) = &status.redis {
        let used = indicatif::HumanBytes(redis.memory_bytes_used);
        lines.push((
            "",
            format!(
                "Redis {}, {}, {}, {used}, {}",
                redis.version,
                whose(redis.private),
                redis.durability,
                redis.address
            ),
        ));
    }
    if let Some(postgres) = &status.postgres {
        lines.push((
            "",
            format!("PostgreSQL {}, {}, {}", postgres.version, whose(postgres.private), postgres.address),
        ));
    }
    lines.push(("version", status.version.to_owned()));
    table(&lines)
}
