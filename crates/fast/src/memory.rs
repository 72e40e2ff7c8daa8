//! How much memory a chain takes in Redis: known before it is loaded.
//!
//! The figures were measured on Redis 7.0 (64 bit, jemalloc) and carry a margin of about a tenth; a test compares the
//! sum with a real Redis. They hold while buckets keep the compact encoding.

/// An account in its bucket: key and vote included, one in fifty with a side key. Measured 63.
const ACCOUNT_BYTES: u64 = 70;
/// A delegate, besides its account: record in a hash table, two members of sorted sets, name.
const DELEGATE_BYTES: u64 = 600;
/// An id of the transaction index. Measured 17.
const TRANSACTION_ID_BYTES: u64 = 19;
/// A kept block without its transactions: body, undo record (a closing block's is long, one in a round), indexes, outbox
/// entry.
const BLOCK_BYTES: u64 = 2_000;
/// A transaction of a kept block: in the body, and two accounts in the undo record. Measured 245.
const BLOCK_TRANSACTION_BYTES: u64 = 280;
/// An empty Redis, its buffers for clients, forger lists, the running round.
const BASE_BYTES: u64 = 8 << 20;

/// What is to be held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Accounts, delegates included.
    pub accounts: u64,
    /// Registered delegates.
    pub delegates: u64,
    /// Transactions of the chain.
    pub transactions: u64,
    /// Blocks whose bodies are kept, those waiting in the outbox included.
    pub blocks: u64,
    /// Transactions in those blocks.
    pub block_transactions: u64,
}

/// Bytes of Redis' memory that the contents take, with a margin. Room for an AOF rewrite or a replica's buffer is not in
/// it.
#[must_use]
pub fn memory_bytes(contents: &Contents) -> u64 {
    [
        (contents.accounts, ACCOUNT_BYTES),
        (contents.delegates, DELEGATE_BYTES),
        (contents.transactions, TRANSACTION_ID_BYTES),
        (contents.blocks, BLOCK_BYTES),
        (contents.block_transactions, BLOCK_TRANSACTION_BYTES),
    ]
    .into_iter()
    .fold(BASE_BYTES, |sum, (count, bytes)| sum.saturating_add(count.saturating_mul(bytes)))
}
