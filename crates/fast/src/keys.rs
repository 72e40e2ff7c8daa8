//! The names of the keys. All of a chain's keys share one hash tag, so they live on one slot of a cluster.

use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};

use crate::error::FastError;

/// Version of the key space and the encodings; a Redis with another one is cleaned and restored.
pub const FORMAT_VERSION: u32 = 1;

/// Longest name of a chain.
const NAME_BYTES_MAX: usize = 64;
/// What is added to a chain's name for a measurement.
const MEASUREMENT_SUFFIX: &str = ".measure";

/// The name that a chain's measurement (`forebay memory --measure`) loads its sample under.
#[must_use]
pub fn measurement_of(chain: &str) -> String {
    let letters = NAME_BYTES_MAX - MEASUREMENT_SUFFIX.len();
    chain.chars().take(letters).chain(MEASUREMENT_SUFFIX.chars()).collect()
}

/// Accounts in a bucket when Redis was restored. Small enough that a bucket stays compact (Redis keeps a hash of up to
/// 128 entries compact in its oldest default) while the chain grows fourfold before the next restore.
const ACCOUNTS_PER_BUCKET: u64 = 32;
/// Entries of the transaction index are a third as long, so a bucket takes more of them.
const TRANSACTIONS_PER_BUCKET: u64 = 64;
/// Buckets that are not used cost nothing, so a young chain gets room to grow.
const ACCOUNT_BUCKETS_MIN: u64 = 1 << 12;
const TRANSACTION_BUCKETS_MIN: u64 = 1 << 14;
const BUCKETS_MAX: u64 = 1 << 26;

/// How many buckets accounts and transaction ids are spread over. Fixed when Redis is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Of the accounts.
    pub accounts: u64,
    /// Of the transaction index.
    pub transactions: u64,
}

impl Buckets {
    /// The numbers for so many accounts and transactions: about 32 accounts, 64 transaction ids a bucket.
    #[must_use]
    pub fn for_counts(accounts: u64, transactions: u64) -> Self {
        let buckets = |count: u64, per: u64, min: u64| count.div_ceil(per).clamp(min, BUCKETS_MAX);
        Self {
            accounts: buckets(accounts, ACCOUNTS_PER_BUCKET, ACCOUNT_BUCKETS_MIN),
            transactions: buckets(transactions, TRANSACTIONS_PER_BUCKET, TRANSACTION_BUCKETS_MIN),
        }
    }

    /// The bucket of an account: the address modulo the number of buckets.
    #[must_use]
    pub fn of_account(&self, address: Address) -> u64 {
        address.0.checked_rem(self.accounts).unwrap_or_default()
    }

    /// The bucket of a transaction: the id modulo the number of buckets.
    #[must_use]
    pub fn of_transaction(&self, id: TransactionId) -> u64 {
        id.0.checked_rem(self.transactions).unwrap_or_default()
    }
}

/// A bucket's key.
#[derive(Clone, Copy)]
pub(crate) struct BucketName<'a> {
    prefix: &'a str,
    kind: char,
    bucket: u64,
}

impl std::fmt::Display for BucketName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}:{}", self.prefix, self.kind, self.bucket)
    }
}

/// The names of one chain's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The keys of the chain with this name.
    ///
    /// # Errors
    /// [`FastError::Misconfigured`]: the name is not 1 to 64 of the letters `a-z A-Z 0-9 - _ .`.
    pub fn new(chain: &str) -> Result<Self, FastError> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if chain.is_empty() || chain.len() > NAME_BYTES_MAX || !chain.bytes().all(letter) {
            return Err(FastError::Misconfigured {
                doing: "name the keys of a chain".to_owned(),
                detail: format!("\"{chain}\" is not a name of 1 to 64 letters, digits, '-', '_' or '.'"),
            });
        }
        Ok(Self { prefix: format!("{{{chain}}}:") })
    }

    /// The keys of a measurement of this chain.
    pub(crate) fn of_measurement(&self) -> Self {
        let chain = self.prefix.trim_start_matches('{').trim_end_matches("}:");
        Self { prefix: format!("{{{}}}:", measurement_of(chain)) }
    }

    /// What all keys of the chain start with: `{<chain>}:`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A pattern for `SCAN` that matches exactly the keys with the prefix. The letters that a name may have, and
    /// braces, mean themselves in a pattern.
    #[must_use]
    pub fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    fn key(&self, rest: impl std::fmt::Display) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Hash: who holds the chain.
    #[must_use]
    pub fn owner(&self) -> String {
        self.key("owner")
    }

    /// String: the epoch that holds the chain, empty when it was given up. Transactions watch it: unlike the owner it
    /// changes with nothing else.
    #[must_use]
    pub fn fence(&self) -> String {
        self.key("fence")
    }

    /// Hash: state, position, tip, counts.
    #[must_use]
    pub fn meta(&self) -> String {
        self.key("meta")
    }

    /// Stream: operations that wait for the slow tier, and the newest that do not.
    #[must_use]
    pub fn outbox(&self) -> String {
        self.key("outbox")
    }

    /// Hash: accounts of one bucket, by address.
    #[must_use]
    pub fn account_bucket(&self, bucket: u64) -> String {
        self.account_bucket_name(bucket).to_string()
    }

    /// The same, not written down yet.
    pub(crate) fn account_bucket_name(&self, bucket: u64) -> BucketName<'_> {
        BucketName { prefix: &self.prefix, kind: 'a', bucket }
    }

    /// As [`transaction_bucket`](Self::transaction_bucket), not written down yet.
    pub(crate) fn transaction_bucket_name(&self, bucket: u64) -> BucketName<'_> {
        BucketName { prefix: &self.prefix, kind: 't', bucket }
    }

    /// String: the record of an account that is too long for its bucket.
    #[must_use]
    pub fn long_account(&self, address: Address) -> String {
        self.key(format_args!("x:{}", address.0))
    }

    /// Hash: all delegates' accounts, by address.
    #[must_use]
    pub fn delegates(&self) -> String {
        self.key("delegates")
    }

    /// Sorted set: delegates by vote descending, public key ascending.
    #[must_use]
    pub fn rank_vote(&self) -> String {
        self.key("rank:vote")
    }

    /// Sorted set: delegates by vote weight descending, public key ascending.
    #[must_use]
    pub fn rank_weight(&self) -> String {
        self.key("rank:weight")
    }

    /// Hash: addresses by delegate name.
    #[must_use]
    pub fn names(&self) -> String {
        self.key("names")
    }

    /// Hash: heights by transaction id, of one bucket.
    #[must_use]
    pub fn transaction_bucket(&self, bucket: u64) -> String {
        self.transaction_bucket_name(bucket).to_string()
    }

    /// String: a block's body.
    #[must_use]
    pub fn block(&self, id: BlockId) -> String {
        self.key(format_args!("b:{id}"))
    }

    /// Hash: ids of the kept blocks, by height.
    #[must_use]
    pub fn heights(&self) -> String {
        self.key("heights")
    }

    /// String: the undo record of the block at a height.
    #[must_use]
    pub fn undo(&self, height: Height) -> String {
        self.key(format_args!("u:{height}"))
    }

    /// String: a round's forger list.
    #[must_use]
    pub fn forgers(&self, round: u32) -> String {
        self.key(format_args!("forgers:{round}"))
    }

    /// List: the running round's blocks.
    #[must_use]
    pub fn round_blocks(&self) -> String {
        self.key("round:blocks")
    }

    /// List: the blocks that closed earlier rounds.
    #[must_use]
    pub fn closers(&self) -> String {
        self.key("round:closers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_name_cannot_break_the_hash_tag_or_the_pattern() {
        for name in ["", "a}b", "{a", "a*", "a b", "a?", "[a]", &"x".repeat(65)] {
            assert!(Keys::new(name).is_err(), "{name}");
        }
        let keys = Keys::new("rise-mainnet").unwrap();
        assert_eq!(keys.block(BlockId(u64::MAX)), "{rise-mainnet}:b:18446744073709551615");
    }

    #[test]
    fn a_measurement_has_keys_of_its_own() {
        assert_eq!(Keys::new("test").unwrap().of_measurement(), Keys::new("test.measure").unwrap());
        let longest = "x".repeat(64);
        let measured = measurement_of(&longest);
        assert_eq!(Keys::new(&longest).unwrap().of_measurement(), Keys::new(&measured).unwrap());
    }

    #[test]
    fn buckets_follow_the_counts() {
        let buckets = Buckets::for_counts(3_200_000, 64_000_000);
        assert_eq!(buckets, Buckets { accounts: 100_000, transactions: 1_000_000 });
        assert_eq!(Buckets::for_counts(0, 0).accounts, ACCOUNT_BUCKETS_MIN);
    }
}
