//! Readers beside the node: safety is checked all the time, not only at the end.

use std::sync::Arc;
use std::time::Duration;

use forebay_fast::{FastOptions, FastTier, Position, ReadPoint};
use forebay_ledger::ids::{Address, BlockId, Height};
use tokio_postgres::{Client, Config, NoTls};

use crate::history::History;

/// Pause between two reads of Redis.
const REDIS_PAUSE: Duration = Duration::from_millis(15);
/// Pause between two looks at PostgreSQL, which count rows.
const POSTGRES_PAUSE: Duration = Duration::from_millis(100);
/// No answer within this is no answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Reads accounts that were there from the genesis block on, and the block at the tip. An answer must never be older than what
/// was acknowledged before the question, and never come from an empty store. Errors are fine. Only in the moments between an
/// older copy's coming and the node's noticing it, a reader knows no more than what it saw itself.
pub async fn read_redis(url: String, chain: String, addresses: Vec<Address>, history: Arc<History>) {
    let options =
        FastOptions { connect_timeout: ANSWER_MAX, response_timeout: ANSWER_MAX, ..FastOptions::default() };
    let tier = loop {
        match FastTier::connect(&url, &chain, options.clone()).await {
            Ok(tier) => break tier,
            Err(_) => tokio::time::sleep(REDIS_PAUSE).await,
        }
    };
    let mut reader = RedisReader { tier, seen: None, history };
    for address in addresses.iter().cycle() {
        tokio::time::sleep(REDIS_PAUSE).await;
        if let Some(height) = reader.read_account(*address).await {
            reader.read_block(height).await;
        }
    }
}

struct RedisReader {
    tier: FastTier,
    /// The newest operation that it got an answer from.
    seen: Option<Position>,
    history: Arc<History>,
}

/// What was known when a question was asked.
struct Asked {
    acknowledged: Position,
    rolled_back: u64,
}

impl RedisReader {
    fn asked(&self) -> Asked {
        let events = self.history.lock();
        let (epoch, seq) = events.acknowledged;
        Asked { acknowledged: Position { epoch, seq }, rolled_back: events.counts.given_up() }
    }

    /// The tip's height, if there was an answer.
    async fn read_account(&mut self, address: Address) -> Option<Height> {
        let asked = self.asked();
        let answer = self.tier.account(address).await.ok()?;
        self.judge(&asked, &answer.at);
        // Before the genesis block there is nothing to find.
        if answer.value.is_none() && (answer.at.height > 0 || asked.acknowledged.seq > 0) {
            let at = answer.at.position;
            self.history.violated(format!("a reader found no account {} at {at}: an empty store", address.0));
        }
        Some(answer.at.height)
    }

    async fn read_block(&mut self, height: Height) {
        let asked = self.asked();
        let Ok(answer) = self.tier.block_at(height).await else { return };
        self.judge(&asked, &answer.at);
        if answer.at.height != height || height < 2 {
            return;
        }
        // The tip is among the blocks that are kept, always.
        let id = answer.value.map(|block| block.id);
        let known = id.and_then(|id| self.history.lock().sent.get(&id).copied());
        if known != Some(height) {
            let at = answer.at.position;
            self.history.violated(format!("a reader found {id:?} at the tip's height {height}, at {at}"));
        }
    }

    fn judge(&mut self, asked: &Asked, at: &ReadPoint) {
        let found = at.position;
        let mut events = self.history.lock();
        events.reads_checked += 1;
        let floor = if events.redis_is_older { self.seen } else { Some(asked.acknowledged).max(self.seen) };
        // A recorded rollback goes back on purpose.
        let is_rolled_back = events.counts.given_up() != asked.rolled_back;
        drop(events);
        if is_rolled_back {
            self.tier.forget_floor();
        }
        // The rule for readers: nothing older than what was seen.
        self.tier.raise_floor(found);
        if floor.is_some_and(|floor| found < floor) && !is_rolled_back {
            self.history
                .violated(format!("a reader got operation {found}, but {floor:?} was acknowledged before"));
        }
        self.seen = Some(found);
    }
}

/// What PostgreSQL shows in one statement.
struct Look {
    position: (u64, u64),
    height: i32,
    tip: Option<BlockId>,
    blocks: i64,
    highest: Option<i32>,
    newest: Option<BlockId>,
}

const LOOK: &str = "select p.epoch, p.seq, p.height, p.block_id, (select count(*) from forebay.blocks), \
    (select max(height) from forebay.blocks), (select id from forebay.blocks order by height desc limit 1) \
    from forebay.position p";

/// Looks at PostgreSQL's position and chain: position and rows belong together, there is no gap, the tip is the one that
/// this operation left, what was called durable is there, and nothing goes back.
pub async fn watch_postgres(config: Config, history: Arc<History>) {
    let mut session: Option<Client> = None;
    let mut last: Option<(u64, u64)> = None;
    loop {
        tokio::time::sleep(POSTGRES_PAUSE).await;
        let (durable_before, was_older) = {
            let events = history.lock();
            (events.durable_seq, events.postgres_is_older)
        };
        let Some(client) = session.take() else {
            session = connect(&config).await;
            continue;
        };
        let Ok(Some(found)) = tokio::time::timeout(ANSWER_MAX, look(&client)).await else { continue };
        session = Some(client);
        let mut events = history.lock();
        events.reads_checked += 1;
        let (_, seq) = found.position;
        let tip = events.tips.get(&seq).copied();
        // What was claimed for a PostgreSQL that was put back since does not bind this one.
        let durable_seq = durable_before.min(events.durable_seq);
        let is_older = was_older || events.postgres_is_older;
        drop(events);
        if i64::from(found.height) != found.blocks
            || found.highest.unwrap_or(0) != found.height
            || found.newest != found.tip
        {
            history.violated(format!(
                "PostgreSQL is at height {} ({:?}), but has {} blocks up to height {:?} ({:?})",
                found.height, found.tip, found.blocks, found.highest, found.newest
            ));
        }
        if tip.is_some() && tip != found.tip {
            history.violated(format!(
                "PostgreSQL's tip after operation {seq} is {:?}, but the node said {tip:?}",
                found.tip
            ));
        }
        if !is_older && seq < durable_seq {
            history.violated(format!("operation {durable_seq} was called durable, PostgreSQL is at {seq}"));
        }
        if !is_older && last.is_some_and(|last| found.position < last) {
            history.violated(format!("PostgreSQL went from {last:?} back to {:?}", found.position));
        }
        last = Some(found.position);
    }
}

async fn connect(config: &Config) -> Option<Client> {
    let (client, connection) = tokio::time::timeout(ANSWER_MAX, config.connect(NoTls)).await.ok()?.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// `None`: no answer, or no schema yet.
async fn look(client: &Client) -> Option<Look> {
    let row = client.query_opt(LOOK, &[]).await.ok()??;
    let number = |index| row.try_get::<_, i64>(index).ok().map(i64::unsigned_abs);
    let id = |index| row.try_get::<_, Option<i64>>(index).ok().map(|id| id.map(BlockId::from_bigint));
    Some(Look {
        position: (number(0)?, number(1)?),
        height: row.try_get(2).ok()?,
        tip: id(3)?,
        blocks: row.try_get(4).ok()?,
        highest: row.try_get(5).ok()?,
        newest: id(6)?,
    })
}
