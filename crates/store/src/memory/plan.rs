//! The plan: what each part takes now, after some days, and at the limits; and what bounds it.

use forebay_fast::{Calibration, Contents, Footprint};
use forebay_slow::Census;

use super::machine::{Cgroup, Machine};
use crate::options::Limits;

/// A block's body beside its payload: header, ids, checksum.
const BODY_BYTES: u64 = 250;
/// What the fast tier's encoding of a transaction has beyond the signed bytes: ids, addresses.
const BODY_TRANSACTION_BYTES: u64 = 20;
/// A transfer's signed bytes.
const TRANSFER_BYTES: u64 = 117;
/// An undo record without accounts.
const UNDO_BYTES: u64 = 100;
/// A transaction changes two accounts; each stands in the undo record with address and mark.
const UNDO_ACCOUNTS: u64 = 2;
const UNDO_ACCOUNT_BYTES: u64 = 9;
/// A delegate in the undo record of a block that closes a round.
const UNDO_DELEGATE_BYTES: u64 = 150;
/// A key in a forger list.
const KEY_BYTES: u64 = 32;
/// The lag is counted in these: about what the node's own copy of a transaction takes.
const LAG_TRANSACTION_BYTES: u64 = 192;
/// Buffers of the node's connections (a restore's calls have up to 4 MiB, four on their way), and of a few dozen readers.
const CLIENT_BUFFERS_BYTES: u64 = 24 << 20;
/// With an append-only file: what is to be written out after one turn of the loop, twice the largest call.
const AOF_BUFFERS_BYTES: u64 = 8 << 20;
/// What the allocator holds beyond what is used, in hundredths, where the server does not say.
const FRAGMENTATION_PERCENT: u64 = 10;
/// Never taken for less or for more: a nearly empty server's own figure says nothing.
const FRAGMENTATION_PERCENT_MAX: u64 = 50;
/// Below this the server's own figure says nothing.
const FRAGMENTATION_TOLD_FROM_BYTES: u64 = 100 << 20;
/// Pages that writers touch while a child rewrites the append-only file are copied: half of all, as a bulk load does.
const FORK_PERCENT: u64 = 50;
/// The node itself, without its copy of the tail, what it remembers of the chain, and what its API keeps.
const NODE_BYTES: u64 = 80 << 20;
const DAY_SECONDS: u64 = 24 * 3600;
/// Growth is told as "for so many days" up to this.
const DAYS_MAX: u64 = 36_500;

/// Growth is not counted beyond this: no machine holds it, and sums of its bytes stay numbers.
const GROWN_MAX: u64 = 1 << 40;

/// Everything that a plan follows from.
#[derive(Debug, Clone)]
pub struct PlanInputs<'a> {
    /// The chain in PostgreSQL.
    pub census: Census,
    /// Letters of the chain's name.
    pub chain_name_bytes: u64,
    /// Forgers of a round.
    pub delegates_per_round: u32,
    /// The most transactions of a block.
    pub transactions_per_block_max: u32,
    /// What the node lets grow how far.
    pub limits: &'a Limits,
    /// Measured on the server in use, or built in.
    pub calibration: Calibration,
    /// Whether Redis keeps an append-only file.
    pub is_durable: bool,
    /// How many days ahead.
    pub horizon_days: u32,
    /// The server, as far as it is known.
    pub redis: RedisMemory,
    /// The machine that Redis runs on; `None`: another one, of which nothing is known.
    pub machine: Option<Machine>,
    /// What a PostgreSQL of ours will take on the same machine.
    pub postgres_bytes: u64,
    /// What the node's API may keep of blocks.
    pub api_bytes: u64,
}

/// What is known of a Redis server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedisMemory {
    /// Its `maxmemory`; 0: none.
    pub maxmemory_bytes: u64,
    /// What the operator allows it to use; 0: anything.
    pub allowed_bytes: u64,
    /// What it takes of the machine now; it is available to itself. 0: it does not run.
    pub resident_bytes: u64,
    /// What it says that it uses now.
    pub used_bytes: u64,
    /// What keys of others take in it.
    pub others_bytes: u64,
    /// RAM of its machine, as it says; 0: unknown.
    pub system_bytes: u64,
}

/// One thing that takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its name in `--json`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Right after the load.
    pub now_bytes: u64,
    /// The same after the horizon.
    pub at_horizon_bytes: u64,
    /// At the hard limits, with the chain as it is now.
    pub at_limit_bytes: u64,
    /// Whether Redis counts it as used; the rest is the machine's to give.
    pub is_counted: bool,
}

/// Something that bounds Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Its name in `--json`.
    pub name: &'static str,
    /// For people: where it stands.
    pub title: String,
    /// How much it allows in all.
    pub limit_bytes: u64,
    /// What others use of it, and what is held back for the node and its PostgreSQL.
    pub others_bytes: u64,
    /// What is left for Redis, in the unit of the need: the machine's bytes.
    pub available_bytes: u64,
}

/// What Redis needs, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What it is made of.
    pub parts: Vec<Part>,
    /// Redis' `used_memory` right after the load.
    pub needed_bytes: u64,
    /// The same after the horizon.
    pub needed_at_horizon_bytes: u64,
    /// What the machine must give at the hard limits, with the chain as it is now.
    pub needed_at_limit_bytes: u64,
    /// Of that, what Redis counts as used: `maxmemory` must not be lower.
    pub counted_at_limit_bytes: u64,
    /// The least that a bound leaves.
    pub available_bytes: u64,
    /// The most that Redis' `used_memory` can come to now on its machine, if it gets all that is free and nothing is held
    /// back for others; `u64::MAX`: nothing is known of the machine.
    pub room_bytes: u64,
    /// All bounds, the tightest first.
    pub bounds: Vec<Bound>,
    /// How many days ahead was looked.
    pub horizon_days: u32,
    /// Growth a day, bytes.
    pub growth_bytes_a_day: u64,
    /// The chain that this is for.
    pub census: Census,
}

impl MemoryPlan {
    /// Adds up.
    #[must_use]
    pub fn new(inputs: &PlanInputs<'_>) -> Self {
        let now = footprint(inputs, 0);
        let horizon = footprint(inputs, inputs.horizon_days);
        let limit = Footprint::of(&at_limits(inputs), &inputs.calibration);
        let parts = parts(inputs, &now, &horizon, &limit);
        let sum = |bytes: fn(&Part) -> u64, counted_only: bool| {
            let parts = parts.iter().filter(|part| part.is_counted || !counted_only);
            parts.map(bytes).fold(0, u64::saturating_add)
        };
        let counted_at_limit_bytes = sum(|part| part.at_limit_bytes, true);
        let needed_at_limit_bytes = sum(|part| part.at_limit_bytes, false);
        let bounds = bounds(inputs, needed_at_limit_bytes - counted_at_limit_bytes);
        Self {
            needed_bytes: sum(|part| part.now_bytes, true),
            needed_at_horizon_bytes: sum(|part| part.at_horizon_bytes, true),
            counted_at_limit_bytes,
            needed_at_limit_bytes,
            available_bytes: bounds.first().map_or(u64::MAX, |bound| bound.available_bytes),
            room_bytes: room(inputs),
            bounds,
            horizon_days: inputs.horizon_days,
            growth_bytes_a_day: footprint(inputs, 1).total().saturating_sub(now.total()),
            census: inputs.census,
            parts,
        }
    }

    /// Whether the hard limits can be reached without anything being refused or killed.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.needed_at_limit_bytes <= self.available_bytes
    }

    /// Whether that still holds after the horizon.
    #[must_use]
    pub fn is_sufficient_at_horizon(&self) -> bool {
        self.needed_at_limit_bytes.saturating_add(self.growth_to_horizon()) <= self.available_bytes
    }

    /// For how many days it suffices at the present growth; `None`: no end in sight.
    #[must_use]
    pub fn days_left(&self) -> Option<u64> {
        let room = self.available_bytes.saturating_sub(self.needed_at_limit_bytes);
        room.checked_div(self.growth_bytes_a_day).filter(|days| *days < DAYS_MAX)
    }

    /// Whether the chain as it is now can be loaded at all, into what is free at this moment. Where somebody else has set
    /// `maxmemory`, that decides, not we.
    #[must_use]
    pub fn can_be_loaded(&self) -> bool {
        let is_set = self.bounds.iter().any(|bound| bound.name == MAXMEMORY);
        is_set || self.needed_bytes <= self.room_bytes
    }

    /// What `maxmemory` should be: room for the limits and the growth, a tenth on top, and no more than the machine has.
    /// A chain that is loaded from its first block grows by much more than its present growth says, so a server of ours
    /// gets half of what the machine has left, if that is more. Where all that is too little, it is what a load takes, as
    /// far as there is room for that.
    #[must_use]
    pub fn maxmemory_bytes(&self) -> u64 {
        let beside = self.needed_at_limit_bytes - self.counted_at_limit_bytes;
        let wanted = (self.counted_at_limit_bytes + self.growth_to_horizon()).saturating_mul(11) / 10;
        let machine = self.bounds.iter().filter(|bound| bound.name != MAXMEMORY);
        let machine = machine.map(|bound| bound.available_bytes).min().unwrap_or(u64::MAX);
        let machine = machine.saturating_sub(beside);
        let comfortable = wanted.max(if machine == u64::MAX { 0 } else { machine / 2 }).min(machine);
        // 0 would be no limit at all.
        comfortable.max(self.needed_to_load_bytes().min(self.room_bytes)).max(1)
    }

    /// What is loaded, and what a load takes for its time.
    fn needed_to_load_bytes(&self) -> u64 {
        let passing = self.parts.iter().filter(|part| PASSING.contains(&part.name));
        passing.map(|part| part.at_limit_bytes).fold(self.needed_bytes, u64::saturating_add)
    }

    fn growth_to_horizon(&self) -> u64 {
        self.needed_at_horizon_bytes.saturating_sub(self.needed_bytes)
    }
}

const MAXMEMORY: &str = "maxmemory";
const TABLE_RESIZE: &str = "tableResize";
const CLIENT_BUFFERS: &str = "clientBuffers";
const AOF_BUFFERS: &str = "aofBuffers";
/// Parts that a load needs, too, and that are free again after it.
const PASSING: [&str; 3] = [TABLE_RESIZE, CLIENT_BUFFERS, AOF_BUFFERS];

/// The chain after so many days, right after a load.
fn footprint(inputs: &PlanInputs<'_>, days: u32) -> Footprint {
    Footprint::of(&contents(inputs, days), &inputs.calibration)
}

fn contents(inputs: &PlanInputs<'_>, days: u32) -> Contents {
    let census = &inputs.census;
    let grown = |count: u64| match census.growth.seconds {
        0 => 0,
        seconds => u64::try_from(
            u128::from(count) * u128::from(days) * u128::from(DAY_SECONDS) / u128::from(seconds),
        )
        .map_or(GROWN_MAX, |grown| grown.min(GROWN_MAX)),
    };
    let new_accounts = grown(census.growth.accounts);
    let plain = census.counts.accounts.saturating_sub(census.counts.delegates);
    let (new_long, new_inline) = match plain {
        0 => (0, new_accounts),
        plain => {
            let long = new_accounts.saturating_mul(census.long_accounts) / plain;
            (long, new_accounts - long)
        }
    };
    let record = mean(census.inline_record_bytes, plain.saturating_sub(census.long_accounts), 42);
    let long_record = mean(census.long_record_bytes, census.long_accounts, 90);
    Contents {
        chain_name_bytes: inputs.chain_name_bytes,
        accounts: census.counts.accounts + new_accounts,
        delegates: census.counts.delegates,
        long_accounts: census.long_accounts + new_long,
        inline_record_bytes: census.inline_record_bytes + new_inline * record,
        long_record_bytes: census.long_record_bytes + new_long * long_record,
        delegate_record_bytes: census.delegate_record_bytes,
        transactions: census.counts.transactions + grown(census.growth.transactions),
        height: census.counts.blocks,
        blocks: census.recent_blocks,
        block_bytes: census.recent_blocks * BODY_BYTES
            + census.recent_payload_bytes
            + census.recent_transactions * BODY_TRANSACTION_BYTES,
        ..Contents::default()
    }
}

fn mean(bytes: u64, count: u64, otherwise: u64) -> u64 {
    bytes.checked_div(count).filter(|mean| *mean > 0).unwrap_or(otherwise)
}

/// The chain as it is now, with the longest outbox that the limits allow, full undo records, and what those blocks may
/// add.
fn at_limits(inputs: &PlanInputs<'_>) -> Contents {
    let (limits, census) = (inputs.limits, &inputs.census);
    let mut contents = contents(inputs, 0);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let lag_blocks = count(limits.lag_blocks_max);
    let lag_transactions = (count(limits.lag_bytes_max) / LAG_TRANSACTION_BYTES)
        .min(lag_blocks.saturating_mul(inputs.transactions_per_block_max.into()));
    // Blocks that are durable are as full as the newest ones; the genesis block is never taken back.
    let kept_undo = u64::from(limits.undo_kept).min(census.counts.blocks.saturating_sub(1));
    let density = match census.growth.seconds {
        0 => 0,
        _ => census.growth.transactions / census.counts.blocks.saturating_sub(1).max(1),
    };
    let undo_transactions = lag_transactions.saturating_add(kept_undo.saturating_mul(density));
    let rounds = |blocks: u64| blocks / u64::from(inputs.delegates_per_round.max(1)) + 1;
    let plain = census.counts.accounts.saturating_sub(census.counts.delegates + census.long_accounts);
    let record = mean(census.inline_record_bytes, plain, 42);

    contents.blocks += lag_blocks;
    contents.block_bytes = contents
        .block_bytes
        .saturating_add(lag_blocks.saturating_mul(BODY_BYTES))
        .saturating_add(lag_transactions.saturating_mul(TRANSFER_BYTES + BODY_TRANSACTION_BYTES));
    contents.undo_records = lag_blocks + kept_undo;
    contents.undo_bytes = (contents.undo_records * UNDO_BYTES)
        .saturating_add(undo_transactions.saturating_mul(UNDO_ACCOUNTS * (UNDO_ACCOUNT_BYTES + record)))
        .saturating_add(rounds(contents.undo_records) * census.counts.delegates * UNDO_DELEGATE_BYTES);
    contents.outbox_entries = lag_blocks + count(limits.outbox_kept);
    contents.outbox_list_bytes =
        rounds(contents.outbox_entries) * u64::from(inputs.delegates_per_round) * KEY_BYTES;
    contents.transactions = contents.transactions.saturating_add(lag_transactions);
    // Each of them may pay to an account that was not there.
    contents.accounts = contents.accounts.saturating_add(lag_transactions);
    contents.inline_record_bytes = contents.inline_record_bytes.saturating_add(lag_transactions * 8);
    contents
}

fn parts(inputs: &PlanInputs<'_>, now: &Footprint, horizon: &Footprint, limit: &Footprint) -> Vec<Part> {
    let of = |name, title, bytes: fn(&Footprint) -> u64| Part {
        name,
        title,
        now_bytes: bytes(now),
        at_horizon_bytes: bytes(horizon),
        at_limit_bytes: bytes(limit),
        is_counted: true,
    };
    let others = inputs.redis.others_bytes;
    let at_limit = |name, title, at_limit_bytes| Part {
        name,
        title,
        now_bytes: 0,
        at_horizon_bytes: 0,
        at_limit_bytes,
        is_counted: true,
    };
    let mut parts = vec![
        of("server", "the server itself", |footprint| footprint.server),
        of("accounts", "accounts, votes included", |footprint| footprint.accounts),
        of("delegates", "delegates and rankings", |footprint| footprint.delegates),
        of("transactionIndex", "transaction index", |footprint| footprint.transactions),
        of("blocks", "blocks kept", |footprint| footprint.blocks),
        of("undo", "undo records", |footprint| footprint.undo),
        of("outbox", "outbox", |footprint| footprint.outbox),
        of("keyTable", "table of keys", |footprint| footprint.key_table),
        at_limit(TABLE_RESIZE, "the table while it doubles", limit.key_table_doubled()),
        at_limit(CLIENT_BUFFERS, "buffers of clients", CLIENT_BUFFERS_BYTES),
    ];
    if inputs.is_durable {
        parts.push(at_limit(AOF_BUFFERS, "buffers of the append-only file", AOF_BUFFERS_BYTES));
    }
    if others > 0 {
        let part = at_limit("otherData", "other data in this Redis", others);
        parts.push(Part { now_bytes: others, at_horizon_bytes: others, ..part });
    }
    let counted: u64 = parts.iter().map(|part| part.at_limit_bytes).fold(0, u64::saturating_add);
    let percent = |bytes: u64, percent: u64| bytes / 100 * percent;
    let beside = |name, title, bytes| Part { is_counted: false, ..at_limit(name, title, bytes) };
    parts.push(beside(
        "fragmentation",
        "fragmentation",
        percent(counted, fragmentation_percent(&inputs.redis)),
    ));
    if inputs.is_durable {
        parts.push(beside(
            "forkHeadroom",
            "copies while a child rewrites the file",
            percent(counted, FORK_PERCENT),
        ));
    }
    parts
}

/// What a filled server says of itself, within reason.
fn fragmentation_percent(redis: &RedisMemory) -> u64 {
    if redis.used_bytes < FRAGMENTATION_TOLD_FROM_BYTES {
        return FRAGMENTATION_PERCENT;
    }
    let over = redis.resident_bytes.saturating_sub(redis.used_bytes);
    (over.saturating_mul(100) / redis.used_bytes).clamp(FRAGMENTATION_PERCENT, FRAGMENTATION_PERCENT_MAX)
}

/// What is free, without what the allocator will hold beside it.
fn room(inputs: &PlanInputs<'_>) -> u64 {
    let redis = &inputs.redis;
    let free = match &inputs.machine {
        Some(machine) => {
            let group = machine.cgroup.as_ref().map_or(u64::MAX, Cgroup::available_bytes);
            machine.available_bytes.min(group).saturating_add(redis.resident_bytes)
        }
        None if redis.system_bytes > 0 => redis.system_bytes,
        None => return u64::MAX,
    };
    free / (100 + fragmentation_percent(redis)) * 100
}

fn bounds(inputs: &PlanInputs<'_>, beside_bytes: u64) -> Vec<Bound> {
    let mut bounds = Vec::new();
    let redis = &inputs.redis;
    let limits = [("maxmemory", redis.maxmemory_bytes), ("redis_memory_bytes_max", redis.allowed_bytes)];
    // The tighter one; both are in what Redis counts as used.
    let limits = limits.into_iter().filter(|(_, bytes)| *bytes > 0);
    if let Some((title, limit_bytes)) = limits.min_by_key(|(_, bytes)| *bytes) {
        bounds.push(Bound {
            name: MAXMEMORY,
            title: format!("{title}, which does not count fragmentation and copies"),
            limit_bytes,
            others_bytes: 0,
            available_bytes: limit_bytes.saturating_add(beside_bytes),
        });
    }
    let held_back = NODE_BYTES
        + inputs.api_bytes
        + crate::resident::bytes_max(&inputs.census.counts, inputs.limits)
        + inputs.postgres_bytes
        + u64::try_from(inputs.limits.lag_bytes_max).unwrap_or(u64::MAX / 4);
    let bound = |name, title, limit_bytes: u64, free_bytes: u64| {
        // What Redis has already is its own.
        let available_bytes = free_bytes.saturating_add(redis.resident_bytes).saturating_sub(held_back);
        Bound {
            name,
            title,
            limit_bytes,
            others_bytes: limit_bytes.saturating_sub(available_bytes),
            available_bytes: available_bytes.min(limit_bytes),
        }
    };
    match &inputs.machine {
        Some(machine) => {
            let title = "the machine's memory".to_owned();
            bounds.push(bound("machine", title, machine.total_bytes, machine.available_bytes));
            if let Some(group) = &machine.cgroup {
                let title = format!("the control group's limit, {}", group.file.display());
                bounds.push(bound("cgroup", title, group.limit_bytes, group.available_bytes()));
            }
        }
        None if redis.system_bytes > 0 => bounds.push(Bound {
            name: "machine",
            title: "the memory of Redis' machine, as it says".to_owned(),
            limit_bytes: redis.system_bytes,
            others_bytes: 0,
            available_bytes: redis.system_bytes,
        }),
        None => {}
    }
    bounds.sort_by_key(|bound| bound.available_bytes);
    bounds
}
