//! Clean and restore: the keys of the chain go, and come again from the slow tier's rows.
//!
//! The order is fixed: [`begin_clean`](FastTier::begin_clean) drops state and outbox (drain it before!),
//! [`clean`](FastTier::clean) removes all other keys of the chain, [`begin_restore`](FastTier::begin_restore) fixes the
//! buckets, [`Restore`] loads, and [`Restore::finish`] checks the counts and lets readers in. Every chunk is refused
//! unless the epoch holds the chain. A crash in any phase is answered by starting again with `begin_clean`.
//!
//! Redis works on a chunk while the next is read: what was handed over is written by `loader.rs`.

use std::collections::{BTreeMap, HashMap};

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, Height, TransactionId};
use forebay_ledger::keys::PublicKey;
use forebay_ledger::state::{RoundState, Tip, UndoRecord};

use crate::codec::account::AccountRecord;
use crate::codec::block::encode_block;
use crate::codec::round::encode_keys;
use crate::codec::undo::encode_undo;
use crate::connection::FastTier;
use crate::entry::OutboxEntry;
use crate::error::FastError;
use crate::head::{Position, State, position_fields};
use crate::keys::{Buckets, FORMAT_VERSION};
use crate::library::{Assumed, Function};
use crate::loader::Loader;
use crate::plan::{Pairs, Plan, fixed_keys};
use crate::step::{name_value, plan_round_state, rank_members};
use crate::working_set::take;

/// Rows of one call: long enough to amortize the round trip, short enough not to block other clients for long (about
/// 10 ms).
pub(crate) const ROWS_A_CALL: usize = 4096;
/// Ids that are sorted at once: 16 MB, of which some three wait or are written.
const IDS_SORTED: usize = 1 << 20;
/// Bytes of blocks in one call.
const BLOCK_BYTES_A_CALL: usize = 4 << 20;
/// Keys that one `SCAN` looks at.
const SCAN_COUNT: usize = 2000;
/// Buckets whose lengths one pipeline asks for.
const LENGTHS_A_CALL: u64 = 8192;

/// What is about to be loaded: decides the number of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Accounts.
    pub accounts: u64,
    /// Transactions of the chain.
    pub transactions: u64,
}

/// Where the slow tier stands, and so the restored chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredHead {
    /// The slow tier's position, which the next step follows.
    pub position: Position,
    /// Its newest block; `None`: it has none.
    pub tip: Option<Tip>,
    /// The genesis block's generator; `None` if the chain has no block.
    pub genesis_account: Option<Address>,
}

/// What a clean removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleaned {
    /// Keys removed.
    pub keys: u64,
}

impl FastTier {
    /// Ends the chain's state in Redis: readers and steps are refused from now on, and **the outbox is dropped**: drain
    /// it before. Works while memory is full.
    ///
    /// # Errors
    /// Fenced, unavailable, outcome unknown (call it again).
    pub async fn begin_clean(&self, epoch: u64) -> Result<(), FastError> {
        let args = [epoch.to_string(), FORMAT_VERSION.to_string()];
        self.call_as(epoch, "begin to clean", Function::BeginClean, &args).await
    }

    /// Removes all keys of the chain but the owner and the state. Keys of others are never touched: only those under
    /// the chain's own prefix, which the function checks again. `progress` gets the number of keys removed so far.
    ///
    /// # Errors
    /// Fenced, not ready (not being cleaned), unavailable, outcome unknown (call it again).
    pub async fn clean(&self, epoch: u64, mut progress: impl FnMut(u64)) -> Result<Cleaned, FastError> {
        let doing = "clean";
        let (mut cursor, mut removed) = (0u64, 0u64);
        let fixed = fixed_keys(self.keys());
        let args = [epoch.to_string(), self.keys().prefix().to_owned()].map(String::into_bytes);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(self.keys().pattern()).arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (u64, Vec<String>) = self.ask(doing, &scan).await?;
            let victims: Vec<String> = found.into_iter().filter(|key| !fixed.contains(key)).collect();
            if !victims.is_empty() {
                removed += victims.len() as u64;
                let keys: Vec<String> = fixed.iter().cloned().chain(victims).collect();
                let assumed = Assumed { doing, epoch, seq: 0, tip: "" };
                self.call(assumed, Function::Clean, &keys, &args).await?;
                progress(removed);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(Cleaned { keys: removed });
            }
        }
    }

    /// Begins to load into a cleaned Redis; fixes the number of buckets.
    ///
    /// # Errors
    /// Fenced, not ready (not being cleaned), out of memory.
    pub async fn begin_restore(&self, epoch: u64, expected: Expected) -> Result<Restore, FastError> {
        let buckets = Buckets::for_counts(expected.accounts, expected.transactions);
        let mut plan = Plan::new(self.keys());
        let fields = [
            ("state", State::Restoring.to_string()),
            ("account_buckets", buckets.accounts.to_string()),
            ("transaction_buckets", buckets.transactions.to_string()),
        ];
        plan.set_fields(self.keys().meta(), fields);
        self.write_plan(epoch, "begin to restore", Function::Write, State::Cleaning.word(), plan).await?;
        Ok(Restore {
            tier: self.clone(),
            epoch,
            buckets,
            loader: Loader::start(self.clone(), epoch, buckets),
            names: HashMap::new(),
            ids: Vec::new(),
            accounts: 0,
            transactions: 0,
        })
    }
}

/// A restore under way. Feed it chunks of any size, in any order, each row once; rows are grouped by bucket and sent in
/// calls of their own size. A method returns when its rows wait to be written, and they may be refused later: the next
/// one says so, and every one after it. [`write_waiting`](Self::write_waiting) waits for all. What is dropped stops
/// writing.
#[derive(Debug)]
pub struct Restore {
    tier: FastTier,
    epoch: u64,
    buckets: Buckets,
    loader: Loader,
    /// Holders of each name: two rows with the same name may come in different chunks.
    names: HashMap<String, Vec<u64>>,
    /// Ids that wait until there are enough of them that a bucket gets many at once.
    ids: Vec<(TransactionId, Height)>,
    accounts: u64,
    transactions: u64,
}

impl Restore {
    /// Loads accounts, with what follows from them: rankings and names.
    ///
    /// # Errors
    /// Of these rows or of earlier ones: fenced, not ready (not restoring), out of memory, unavailable, outcome unknown.
    pub async fn load_accounts(&mut self, accounts: &[Account]) -> Result<(), FastError> {
        let mut plans = Vec::new();
        for chunk in accounts.chunks(ROWS_A_CALL) {
            plans.push(self.plan_accounts(chunk)?);
        }
        self.accounts += accounts.len() as u64;
        self.send("load accounts", plans).await
    }

    fn plan_accounts(&mut self, accounts: &[Account]) -> Result<Plan, FastError> {
        let keys = self.tier.keys();
        let mut plan = Plan::new(keys);
        let mut by_bucket: BTreeMap<u64, Pairs> = BTreeMap::new();
        let (mut delegates, mut by_vote, mut by_weight) = (Vec::new(), Vec::new(), Vec::new());
        let mut named = BTreeMap::new();
        for account in accounts {
            let field = account.address.0.to_be_bytes().to_vec();
            let record = AccountRecord::of(account);
            let pairs = by_bucket.entry(self.buckets.of_account(account.address)).or_default();
            pairs.push((field.clone(), record.bucket_value().to_vec()));
            match record {
                AccountRecord::Inline(_) => {}
                AccountRecord::Side(bytes) => plan.set(keys.long_account(account.address), bytes),
                AccountRecord::Delegate(bytes) => delegates.push((field, bytes)),
            }
            if let Some(members) = rank_members(account)? {
                by_vote.push(members.by_vote);
                by_weight.push(members.by_weight);
            }
            if let Some(delegate) = &account.delegate {
                let holders = self.names.entry(delegate.username.clone()).or_default();
                holders.push(account.address.0);
                named.insert(delegate.username.clone(), name_value(holders.clone()));
            }
        }
        for (bucket, pairs) in by_bucket {
            plan.set_fields(keys.account_bucket(bucket), pairs);
        }
        plan.set_fields(keys.delegates(), delegates);
        plan.add_members(keys.rank_vote(), by_vote);
        plan.add_members(keys.rank_weight(), by_weight);
        plan.set_fields(keys.names(), named);
        Ok(plan)
    }

    /// Loads the transaction index. Ids wait until there are enough of them: [`write_waiting`](Self::write_waiting) and
    /// [`finish`](Self::finish) write the rest.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_transactions(
        &mut self,
        transactions: &[(TransactionId, Height)],
    ) -> Result<(), FastError> {
        self.ids.extend(transactions);
        self.transactions += transactions.len() as u64;
        if self.ids.len() >= IDS_SORTED { self.hand_over_ids().await } else { Ok(()) }
    }

    /// Writes the ids that wait for company, and waits until everything that was handed over is written.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn write_waiting(&mut self) -> Result<(), FastError> {
        self.hand_over_ids().await?;
        self.loader.settle().await
    }

    async fn hand_over_ids(&mut self) -> Result<(), FastError> {
        let ids = std::mem::take(&mut self.ids);
        if ids.is_empty() { Ok(()) } else { self.loader.write_ids(ids).await }
    }

    /// Loads the newest blocks: bodies and height index.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_blocks(&mut self, blocks: &[Block]) -> Result<(), FastError> {
        let keys = self.tier.keys();
        let (mut plans, mut plan, mut bytes) = (Vec::new(), Plan::new(keys), 0);
        for block in blocks {
            let body = encode_block(block);
            bytes += body.len();
            plan.set(keys.block(block.id), body);
            plan.set_fields(keys.heights(), [(block.height.to_string(), block.id.to_string())]);
            if bytes >= BLOCK_BYTES_A_CALL {
                plans.push(std::mem::replace(&mut plan, Plan::new(keys)));
                bytes = 0;
            }
        }
        plans.push(plan);
        self.send("load blocks", plans).await
    }

    /// Loads bodies of blocks that are not among the newest ones of the chain: entries of the outbox refer to them.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_bodies(&mut self, blocks: impl Iterator<Item = &Block>) -> Result<(), FastError> {
        let keys = self.tier.keys();
        let plans: Vec<_> = blocks
            .map(|block| {
                let mut plan = Plan::new(keys);
                plan.set(keys.block(block.id), encode_block(block));
                plan
            })
            .collect();
        self.send("load blocks", plans).await
    }

    /// Loads the newest entries of the outbox, oldest first: all of them are durable. Their blocks' bodies are to be
    /// loaded, too.
    ///
    /// # Errors
    /// Outbox conflict: an entry does not come after the one before it. Else as [`load_accounts`](Self::load_accounts).
    pub async fn load_outbox(&mut self, entries: &[OutboxEntry]) -> Result<(), FastError> {
        let doing = "load the outbox";
        // The rows before them are written only while the outbox stays as it is.
        self.write_waiting().await?;
        let keys = fixed_keys(self.tier.keys());
        let assumed = Assumed { doing, epoch: self.epoch, seq: 0, tip: "" };
        for entry in entries {
            let mut args = vec![self.epoch.to_string().into_bytes(), entry.position.to_string().into_bytes()];
            for (name, value) in entry.to_fields() {
                args.extend([name.as_bytes().to_vec(), value]);
            }
            self.tier.call(assumed, Function::LoadEntry, &keys, &args).await?;
        }
        Ok(())
    }

    /// Loads undo records, each for the block at its height.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_undo_records(&mut self, records: &[(Height, UndoRecord)]) -> Result<(), FastError> {
        let keys = self.tier.keys();
        let mut plan = Plan::new(keys);
        records.iter().for_each(|(height, record)| plan.set(keys.undo(*height), encode_undo(record)));
        self.send("load undo records", vec![plan]).await
    }

    /// Loads the running round.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_round(&mut self, round: &RoundState) -> Result<(), FastError> {
        let mut plan = Plan::new(self.tier.keys());
        plan_round_state(&mut plan, self.tier.keys(), round);
        self.send("load the running round", vec![plan]).await
    }

    /// Loads an earlier round's forger list.
    ///
    /// # Errors
    /// As [`load_accounts`](Self::load_accounts).
    pub async fn load_forgers(&mut self, round: u32, forgers: &[PublicKey]) -> Result<(), FastError> {
        let mut plan = Plan::new(self.tier.keys());
        plan.set(self.tier.keys().forgers(round), encode_keys(forgers));
        self.send("load a forger list", vec![plan]).await
    }

    /// Counts what is in Redis, compares it with what was loaded, and lets readers and steps in.
    ///
    /// # Errors
    /// Corrupt: a count differs from what was loaded, or from the tip's number of transactions. Else as
    /// [`load_accounts`](Self::load_accounts).
    pub async fn finish(mut self, head: &RestoredHead) -> Result<(), FastError> {
        self.write_waiting().await?;
        let RestoredHead { position, tip, genesis_account } = head;
        let keys = self.tier.keys();
        let accounts = self.count(self.buckets.accounts, |bucket| keys.account_bucket(bucket)).await?;
        let transactions =
            self.count(self.buckets.transactions, |bucket| keys.transaction_bucket(bucket)).await?;
        let expected_transactions = tip.map_or(0, |tip| tip.transactions_total);
        for (what, found, expected) in [
            ("accounts", accounts, self.accounts),
            ("transactions", transactions, self.transactions),
            ("transactions of the tip", transactions, expected_transactions),
        ] {
            if found != expected {
                let detail = format!("Redis has {found} {what} after the restore, expected {expected}");
                return Err(FastError::Corrupt { key: keys.meta(), detail });
            }
        }
        let mut plan = Plan::new(keys);
        let mut fields = position_fields(*position, tip.as_ref());
        fields.push(("accounts", accounts.to_string()));
        fields.push(("durable", position.to_string()));
        fields.push(("durable_height", tip.map_or(0, |tip| tip.height).to_string()));
        fields.extend(genesis_account.map(|address| ("genesis", address.0.to_string())));
        fields.push(("state", State::Ready.to_string()));
        plan.set_fields(keys.meta(), fields);
        let states = State::Restoring.word();
        self.tier.write_plan(self.epoch, "finish the restore", Function::Write, states, plan).await
    }

    async fn count(&self, buckets: u64, key: impl Fn(u64) -> String) -> Result<u64, FastError> {
        let mut total = 0;
        let mut from = 0;
        while from < buckets {
            let to = (from + LENGTHS_A_CALL).min(buckets);
            let mut pipeline = redis::pipe();
            (from..to).for_each(|bucket| {
                pipeline.cmd("HLEN").arg(key(bucket));
            });
            let values = self.tier.ask_all("count what was restored", &pipeline).await?;
            let count = values.len();
            total += take::<u64>(&mut values.into_iter(), count)?.iter().sum::<u64>();
            from = to;
        }
        Ok(total)
    }

    async fn send(&mut self, doing: &'static str, plans: Vec<Plan>) -> Result<(), FastError> {
        self.loader.write(doing, plans).await
    }
}
