//! Looks at every key of the server: does any of ours expire, how much is not ours, what do ours weigh.
//!
//! A scan goes on beside writers and readers; it sees every key that is there from its beginning to its end.

use redis::Value;

use crate::connection::FastTier;
use crate::error::FastError;
use crate::facts::ServerFacts;
use crate::head::State;
use crate::library::Function;
use crate::plan::Plan;
use crate::working_set::take;

/// Keys that one `SCAN` looks at.
const SCAN_COUNT: usize = 2000;
/// Names of expiring keys that are kept for a message.
const NAMED_MAX: usize = 10;
/// Keys of others that are weighed; the rest counts as their mean.
const OTHERS_WEIGHED_MAX: u64 = 500;

/// What a scan over all keys found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyScan {
    /// Keys of the chain.
    pub ours: u64,
    /// Those of them that have a time to live; must be 0.
    pub expiring: u64,
    /// The names of some of them.
    pub expiring_names: Vec<String>,
    /// Keys in the same database that are not the chain's.
    pub others: u64,
    /// About what those take, bytes.
    pub others_bytes: u64,
}

/// What the chain's keys weigh, by what they are for; bytes as `MEMORY USAGE` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// Accounts and delegates.
    pub accounts: u64,
    /// The transaction index.
    pub transactions: u64,
    /// Bodies of blocks and their index.
    pub blocks: u64,
}

impl FastTier {
    /// Looks at every key of the database. `progress` gets the number of keys seen so far.
    ///
    /// # Errors
    /// Unavailable, or rights that are missing.
    pub async fn scan_keys(&self, mut progress: impl FnMut(u64)) -> Result<KeyScan, FastError> {
        let doing = "look for keys that expire";
        let (mut scan, mut cursor, mut weighed) = (KeyScan::default(), 0_u64, 0_u64);
        loop {
            let (next, keys) = self.scan_page(doing, cursor, None).await?;
            let (ours, others): (Vec<String>, Vec<String>) =
                keys.into_iter().partition(|key| key.starts_with(self.keys().prefix()));
            scan.ours += ours.len() as u64;
            let lives: Vec<i64> = self.of_each(doing, &["PTTL"], &ours).await?;
            for (key, _) in ours.into_iter().zip(lives).filter(|(_, life)| *life >= 0) {
                scan.expiring += 1;
                if scan.expiring_names.len() < NAMED_MAX {
                    scan.expiring_names.push(key);
                }
            }
            scan.others += others.len() as u64;
            if weighed < OTHERS_WEIGHED_MAX && !others.is_empty() {
                // Whoever may not look at them counts them as nothing.
                let weights: Vec<Option<u64>> =
                    self.of_each(doing, &["MEMORY", "USAGE"], &others).await.unwrap_or_default();
                weighed += weights.len() as u64;
                scan.others_bytes += weights.into_iter().flatten().sum::<u64>();
            }
            progress(scan.ours + scan.others);
            cursor = next;
            if cursor == 0 {
                let mean = scan.others_bytes.checked_div(weighed).unwrap_or_default();
                scan.others_bytes += mean * scan.others.saturating_sub(weighed);
                return Ok(scan);
            }
        }
    }

    /// Weighs every key of the chain.
    ///
    /// # Errors
    /// Unavailable, or rights that are missing.
    pub async fn weigh_keys(&self) -> Result<Weights, FastError> {
        let doing = "weigh the keys of the chain";
        let (mut weights, mut cursor) = (Weights::default(), 0_u64);
        loop {
            let (next, keys) = self.scan_page(doing, cursor, Some(self.keys().pattern())).await?;
            let bytes: Vec<Option<u64>> = self.of_each(doing, &["MEMORY", "USAGE"], &keys).await?;
            for (key, bytes) in keys.iter().zip(bytes) {
                let name = key.strip_prefix(self.keys().prefix()).unwrap_or_default();
                let sum = match name.split(':').next().unwrap_or_default() {
                    "a" | "x" | "delegates" | "rank" | "names" => &mut weights.accounts,
                    "t" => &mut weights.transactions,
                    "b" | "heights" => &mut weights.blocks,
                    _ => continue,
                };
                *sum += bytes.unwrap_or_default();
            }
            cursor = next;
            if cursor == 0 {
                return Ok(weights);
            }
        }
    }

    /// What Redis says that it uses, and its `maxmemory`; bytes.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn memory_use(&self) -> Result<(u64, u64), FastError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let text: String = self.ask("ask Redis for its memory", &info).await?;
        let facts = ServerFacts::of_info(&text);
        Ok((facts.memory_bytes_used, facts.memory_bytes_max))
    }

    /// Removes the last traces of a chain that was cleaned: its state and its owner. For chains that were made to be weighed.
    ///
    /// # Errors
    /// Fenced, not ready (not being cleaned), unavailable.
    pub async fn forget(&self, epoch: u64) -> Result<(), FastError> {
        let mut plan = Plan::new(self.keys());
        plan.delete(self.keys().meta());
        plan.delete(self.keys().owner());
        plan.delete(self.keys().fence());
        self.write_plan(epoch, "forget a cleaned chain", Function::Trim, State::Cleaning.word(), plan).await
    }

    async fn scan_page(
        &self,
        doing: &str,
        cursor: u64,
        pattern: Option<String>,
    ) -> Result<(u64, Vec<String>), FastError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(SCAN_COUNT);
        if let Some(pattern) = pattern {
            scan.arg("MATCH").arg(pattern);
        }
        let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(doing, &scan).await?;
        // Names of others may be any bytes; ours are text.
        Ok((next, keys.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned()).collect()))
    }

    /// One command for each key, in one round trip.
    async fn of_each<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        command: &[&str],
        keys: &[String],
    ) -> Result<Vec<T>, FastError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            let mut words = command.iter();
            pipeline.cmd(words.next().copied().unwrap_or_default());
            words.for_each(|word| {
                pipeline.arg(*word);
            });
            pipeline.arg(key);
            if command.len() > 1 {
                pipeline.arg("SAMPLES").arg(0);
            }
        }
        let values: Vec<Value> = self.ask_all(doing, &pipeline).await?;
        let count = values.len();
        take::<T>(&mut values.into_iter(), count)
    }
}
