//! How much memory a chain takes in Redis: known before it is loaded.
//!
//! The figures follow Redis' own data structures: what a key, a bucket, an entry cost, each rounded up to the classes
//! in which the allocator hands memory out. They were measured on Redis 7.0 (64 bit, jemalloc 5.3) and hold while buckets
//! keep the compact encoding; tests compare the sum with a real Redis. Another server or allocator differs: a
//! [`Calibration`] is measured on it.

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;

use crate::codec::account::{AccountRecord, INLINE_BYTES_MAX};
use crate::codec::block::encode_block;
use crate::keys::Buckets;

/// An entry of Redis' hash tables: 24 bytes, in the class of 32.
const TABLE_ENTRY_BYTES: u64 = 32;
/// The object that a key's value is wrapped in.
const OBJECT_BYTES: u64 = 16;
/// A slot of a hash table.
const SLOT_BYTES: u64 = 8;
/// Smallest table.
const SLOTS_MIN: u64 = 4;
/// An empty compact hash: its header and its end.
const LISTPACK_BYTES: u64 = 7;
/// What an element of a compact hash has around its bytes, up to 63 of them.
const LISTPACK_ELEMENT_BYTES: u64 = 2;
/// An address or an id.
const ID_BYTES: u64 = 8;
/// The entry of an account whose record is elsewhere: address and marker.
const MARKER_ENTRY_BYTES: u64 = ID_BYTES + 2 * LISTPACK_ELEMENT_BYTES + 1;
/// A bucket's name without the chain's: `{}:a:` and the digits of its number.
const BUCKET_NAME_BYTES: u64 = 11;
/// The name of a key by id, as of blocks and long accounts.
const ID_NAME_BYTES: u64 = 25;
/// A delegate in both rankings: twice a node of a skip list, the member's 40 bytes, an entry of the table.
const DELEGATE_RANKS_BYTES: u64 = 2 * (64 + 48 + TABLE_ENTRY_BYTES + 2 * SLOT_BYTES);
/// A delegate's name: field, value, entry.
const DELEGATE_NAME_BYTES: u64 = 32 + 16 + TABLE_ENTRY_BYTES + 2 * SLOT_BYTES;
/// A kept block in the index by height: two texts and an entry.
const HEIGHT_BYTES: u64 = 16 + 32 + TABLE_ENTRY_BYTES + 2 * SLOT_BYTES;
/// An outbox entry, with its share of a stream's node.
const OUTBOX_ENTRY_BYTES: u64 = 260;
/// A running round, three forger lists, owner, meta and their keys.
const ROUND_BYTES: u64 = 3 * 4_096 + 12_288 + 2_048;
/// An empty Redis, where it does not say itself: what it reports as used at its start.
pub const SERVER_BYTES: u64 = 876_272;
/// What a connection of ours leaves used, and the function library.
const CONNECTIONS_BYTES: u64 = 410_000;

/// What is to be held. Sums of bytes are those of the encoded records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Letters of the chain's name, which stands in every key.
    pub chain_name_bytes: u64,
    /// Accounts, delegates included.
    pub accounts: u64,
    /// Registered delegates.
    pub delegates: u64,
    /// Accounts whose record is too long for a bucket, delegates not included.
    pub long_accounts: u64,
    /// Bytes of all records in buckets.
    pub inline_record_bytes: u64,
    /// Bytes of all records that are too long.
    pub long_record_bytes: u64,
    /// Bytes of all delegates' records.
    pub delegate_record_bytes: u64,
    /// Transactions of the chain.
    pub transactions: u64,
    /// The tip's height.
    pub height: u64,
    /// Blocks whose bodies are kept.
    pub blocks: u64,
    /// Bytes of those bodies.
    pub block_bytes: u64,
    /// Undo records.
    pub undo_records: u64,
    /// Their bytes.
    pub undo_bytes: u64,
    /// Outbox entries.
    pub outbox_entries: u64,
    /// Bytes of forger lists in them.
    pub outbox_list_bytes: u64,
}

impl Contents {
    /// Exactly these accounts and kept blocks; no transactions.
    #[must_use]
    pub fn of_sample(accounts: &[Account], blocks: &[Block]) -> Self {
        let mut contents = Self { accounts: accounts.len() as u64, ..Self::default() };
        for account in accounts {
            let record = AccountRecord::of(account);
            let bytes = match &record {
                AccountRecord::Inline(bytes)
                | AccountRecord::Side(bytes)
                | AccountRecord::Delegate(bytes) => bytes.len() as u64,
            };
            match record {
                AccountRecord::Inline(_) => contents.inline_record_bytes += bytes,
                AccountRecord::Side(_) => {
                    contents.long_accounts += 1;
                    contents.long_record_bytes += bytes;
                }
                AccountRecord::Delegate(_) => {
                    contents.delegates += 1;
                    contents.delegate_record_bytes += bytes;
                }
            }
        }
        contents.blocks = blocks.len() as u64;
        contents.block_bytes = blocks.iter().map(|block| encode_block(block).len() as u64).sum();
        contents
    }

    /// Contents of so many accounts and transactions as they are on average: a public key, every third with a vote, one in
    /// fifty too long for its bucket.
    #[must_use]
    pub fn typical(chain_name_bytes: u64, accounts: u64, delegates: u64, transactions: u64) -> Self {
        let plain = accounts.saturating_sub(delegates);
        let long = plain / 50;
        Self {
            chain_name_bytes,
            accounts,
            delegates,
            long_accounts: long,
            inline_record_bytes: (plain - long) * 42,
            long_record_bytes: long * 90,
            delegate_record_bytes: delegates * 120,
            transactions,
            ..Self::default()
        }
    }
}

/// How a server's figures differ from the built-in ones, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibration {
    /// What the server uses when it holds nothing, bytes.
    pub server_bytes: u64,
    /// Of accounts and delegates.
    pub accounts_permille: u64,
    /// Of the transaction index.
    pub transactions_permille: u64,
    /// Of blocks, undo records and the outbox.
    pub blocks_permille: u64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            server_bytes: SERVER_BYTES,
            accounts_permille: 1000,
            transactions_permille: 1000,
            blocks_permille: 1000,
        }
    }
}

/// Bytes that Redis reports as used, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The server itself, our connections and functions, the running round.
    pub server: u64,
    /// Accounts, in buckets and in keys of their own.
    pub accounts: u64,
    /// Delegates: records, rankings, names.
    pub delegates: u64,
    /// The transaction index.
    pub transactions: u64,
    /// Bodies of kept blocks.
    pub blocks: u64,
    /// Undo records.
    pub undo: u64,
    /// Outbox entries; the bodies they refer to are among the blocks.
    pub outbox: u64,
    /// The table of all keys.
    pub key_table: u64,
}

impl Footprint {
    /// Of these contents.
    #[must_use]
    pub fn of(contents: &Contents, calibration: &Calibration) -> Self {
        let buckets = Buckets::for_counts(contents.accounts, contents.transactions);
        let accounts = account_buckets(contents, buckets.accounts);
        let transactions = transaction_buckets(contents, buckets.transactions);
        let long = long_accounts(contents);
        let keys = accounts.keys
            + transactions.keys
            + contents.long_accounts
            + contents.blocks
            + contents.undo_records
            + 12;
        let scaled = |bytes: u64, permille: u64| bytes.saturating_mul(permille) / 1000;
        Self {
            server: calibration.server_bytes + CONNECTIONS_BYTES + ROUND_BYTES,
            accounts: scaled(accounts.bytes + long, calibration.accounts_permille),
            delegates: scaled(delegates(contents), calibration.accounts_permille),
            transactions: scaled(transactions.bytes, calibration.transactions_permille),
            blocks: scaled(blocks(contents), calibration.blocks_permille),
            undo: scaled(undo(contents), calibration.blocks_permille),
            outbox: scaled(
                contents.outbox_entries * OUTBOX_ENTRY_BYTES + contents.outbox_list_bytes,
                calibration.blocks_permille,
            ),
            key_table: table_bytes(keys),
        }
    }

    /// All of it: comparable with `used_memory`.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.server,
            self.accounts,
            self.delegates,
            self.transactions,
            self.blocks,
            self.undo,
            self.outbox,
            self.key_table,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// What the table of keys takes beside itself while it doubles.
    #[must_use]
    pub fn key_table_doubled(&self) -> u64 {
        self.key_table.saturating_mul(2)
    }
}

/// Keys of one kind and their bytes.
struct Kind {
    keys: u64,
    bytes: u64,
}

fn account_buckets(contents: &Contents, buckets: u64) -> Kind {
    let inline = contents.accounts.saturating_sub(contents.delegates + contents.long_accounts);
    let entries = inline * (ID_BYTES + 2 * LISTPACK_ELEMENT_BYTES)
        + contents.inline_record_bytes
        + (contents.delegates + contents.long_accounts) * MARKER_ENTRY_BYTES;
    spread(contents.chain_name_bytes, contents.accounts, entries, buckets)
}

fn transaction_buckets(contents: &Contents, buckets: u64) -> Kind {
    let entries = contents.transactions * (ID_BYTES + LISTPACK_ELEMENT_BYTES)
        + contents.transactions * height_bytes_in_thousand(contents.height) / 1000;
    spread(contents.chain_name_bytes, contents.transactions, entries, buckets)
}

/// Heights are kept as numbers of 1 to 5 bytes and a length; the mean over all heights up to the tip's.
fn height_bytes_in_thousand(tip: u64) -> u64 {
    const SIZES: [(u64, u64); 5] = [(0x80, 2), (0x1000, 3), (0x8000, 4), (0x80_0000, 5), (u64::MAX, 6)];
    let (mut from, mut bytes) = (0, 0);
    for (below, size) in SIZES {
        let heights = below.min(tip + 1).saturating_sub(from);
        bytes += heights * size * 1000;
        from = below;
    }
    bytes / (tip + 1)
}

/// Compact hashes that `count` entries fall into by chance: their number in a bucket follows Poisson's distribution, and
/// each bucket is rounded up to the allocator's class.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; what passes through is no amount and no id"
)]
fn spread(chain_name_bytes: u64, count: u64, entries_bytes: u64, buckets: u64) -> Kind {
    if count == 0 || buckets == 0 {
        return Kind { keys: 0, bytes: 0 };
    }
    let mean = count as f64 / buckets as f64;
    let entry = entries_bytes as f64 / count as f64;
    let longest = (mean + 12.0 * mean.sqrt() + 12.0) as u64;
    let mut chance = (-mean).exp();
    let (mut used, mut listpack) = (0.0, 0.0);
    for entries in 1..=longest {
        chance *= mean / entries as f64;
        used += chance;
        listpack += chance * class_around(LISTPACK_BYTES as f64 + entries as f64 * entry);
    }
    let keys = (used * buckets as f64).round();
    let each = key_bytes(chain_name_bytes + BUCKET_NAME_BYTES);
    Kind { keys: keys as u64, bytes: (listpack * buckets as f64) as u64 + keys as u64 * each }
}

/// The class of about so many bytes: entries differ in length, so the mean over sizes nearby.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; what passes through is no amount and no id"
)]
fn class_around(bytes: f64) -> f64 {
    const SHARES: [f64; 5] = [0.96, 0.98, 1.0, 1.02, 1.04];
    SHARES.iter().map(|share| class((bytes * share).round() as u64) as f64).sum::<f64>() / 5.0
}

fn long_accounts(contents: &Contents) -> u64 {
    let Some(mean) = contents.long_record_bytes.checked_div(contents.long_accounts) else { return 0 };
    let each = key_bytes(contents.chain_name_bytes + ID_NAME_BYTES) + text_bytes(mean);
    contents.long_accounts * each
}

fn delegates(contents: &Contents) -> u64 {
    let Some(mean) = contents.delegate_record_bytes.checked_div(contents.delegates) else { return 0 };
    let record = 16 + text_bytes(mean.max(INLINE_BYTES_MAX as u64)) + TABLE_ENTRY_BYTES + 2 * SLOT_BYTES;
    contents.delegates * (record + DELEGATE_RANKS_BYTES + DELEGATE_NAME_BYTES)
}

fn blocks(contents: &Contents) -> u64 {
    let Some(mean) = contents.block_bytes.checked_div(contents.blocks) else { return 0 };
    let fixed = key_bytes(contents.chain_name_bytes + ID_NAME_BYTES) + HEIGHT_BYTES;
    // Large texts are rounded up by a tenth on average, small ones to their class.
    let body =
        if mean < 16_384 { contents.blocks * text_bytes(mean) } else { contents.block_bytes / 10 * 11 };
    contents.blocks * fixed + body
}

fn undo(contents: &Contents) -> u64 {
    let Some(mean) = contents.undo_bytes.checked_div(contents.undo_records) else { return 0 };
    contents.undo_records * (key_bytes(contents.chain_name_bytes + BUCKET_NAME_BYTES) + text_bytes(mean))
}

/// A key without its value: name, entry, object.
fn key_bytes(name_bytes: u64) -> u64 {
    text_bytes(name_bytes) + TABLE_ENTRY_BYTES + OBJECT_BYTES
}

/// A text with its header and its final zero.
fn text_bytes(bytes: u64) -> u64 {
    class(bytes + if bytes < 32 { 2 } else { 4 })
}

fn table_bytes(entries: u64) -> u64 {
    entries.max(SLOTS_MIN).next_power_of_two().saturating_mul(SLOT_BYTES)
}

/// The class of jemalloc (quantum 16) that so many bytes come from: steps of 16 up to 128, then four a doubling.
fn class(bytes: u64) -> u64 {
    match bytes {
        0..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => {
            let spacing = 1_u64 << ((bytes - 1).ilog2() - 2);
            bytes.next_multiple_of(spacing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_jemalloc() {
        let pairs =
            [(1, 8), (9, 16), (65, 80), (129, 160), (200, 224), (257, 320), (1025, 1280), (20_000, 20_480)];
        for (bytes, expected) in pairs {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn a_calibration_scales_its_part_only() {
        let contents = Contents::typical(4, 100_000, 101, 1_000_000);
        let plain = Footprint::of(&contents, &Calibration::default());
        let doubled = Calibration { transactions_permille: 2000, ..Calibration::default() };
        let scaled = Footprint::of(&contents, &doubled);
        assert_eq!(scaled.transactions, plain.transactions * 2);
        assert_eq!(scaled.accounts, plain.accounts);
    }
}
