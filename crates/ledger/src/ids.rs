//! Numbers that name things: addresses, block ids, transaction ids.
//!
//! Each is a u64 inside (the first eight bytes of a sha256, little endian; RULES 1). The reference node shows them as
//! decimal text, an address with the network's suffix.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::keys::PublicKey;

/// A block's position in the chain, starting at 1 for the genesis block.
pub type Height = u32;

/// Why a text is not an id or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not one to twenty decimal digits.
    #[error("\"{0}\" is not a decimal number of 1 to 20 digits")]
    NotDecimal(String),
    /// Above 2^64 - 1.
    #[error("\"{0}\" is larger than 18446744073709551615")]
    TooLarge(String),
    /// A zero in front of other digits.
    #[error("\"{0}\" starts with a zero")]
    LeadingZero(String),
    /// The network's letter is missing at the end of an address.
    #[error("\"{text}\" does not end in the network's address suffix \"{suffix}\"")]
    Suffix {
        /// What was given.
        text: String,
        /// What an address of the network ends in.
        suffix: char,
    },
}

fn parse_decimal(text: &str) -> Result<u64, IdError> {
    let shown = || text.chars().take(64).collect::<String>();
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(IdError::NotDecimal(shown()));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(IdError::LeadingZero(shown()));
    }
    text.parse().map_err(|_| IdError::TooLarge(shown()))
}

/// The first eight bytes of `sha256(bytes)`, little endian: how every id and address is made (RULES 1).
#[must_use]
pub fn short_hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The same 64 bits as PostgreSQL's `bigint` keeps them.
            #[must_use]
            pub fn to_bigint(self) -> i64 {
                self.0.cast_signed()
            }

            /// From the 64 bits that PostgreSQL's `bigint` keeps.
            #[must_use]
            pub fn from_bigint(bits: i64) -> Self {
                Self(bits.cast_unsigned())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number_id! {
    /// An account's number. Shown with the network's suffix: see [`Address::with_suffix`].
    Address
}
number_id! {
    /// A block's id.
    BlockId
}
number_id! {
    /// A transaction's id.
    TransactionId
}

macro_rules! decimal_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_decimal(text).map(Self)
            }
        }
    };
}

decimal_text!(BlockId);
decimal_text!(TransactionId);

impl Address {
    /// The address that belongs to a public key (RULES 1).
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self(short_hash(&key.0))
    }

    /// The text form, for example `12324540900396688540R`.
    #[must_use]
    pub fn with_suffix(self, suffix: char) -> String {
        format!("{}{suffix}", self.0)
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`IdError`]: no suffix, not decimal, a leading zero, or above 2^64 - 1.
    pub fn parse(text: &str, suffix: char) -> Result<Self, IdError> {
        let digits = text
            .strip_suffix(suffix)
            .ok_or_else(|| IdError::Suffix { text: text.chars().take(64).collect(), suffix })?;
        parse_decimal(digits).map(Self)
    }
}

/// Hashing of ids and addresses for tables in memory.
pub mod hashing {
    use std::hash::{BuildHasher, Hasher, RandomState};

    /// A multiplication, for keys that are one u64. Ids are parts of a sha256, but whoever makes them can choose among
    /// many; the seed and the factor, others for each table, keep them from being chosen to collide.
    #[derive(Debug, Clone)]
    pub struct IdHash {
        seed: u64,
        factor: u64,
    }

    impl Default for IdHash {
        fn default() -> Self {
            let random = RandomState::new();
            // Odd, so that no bit of a key is lost.
            Self { seed: random.hash_one(0u8), factor: random.hash_one(1u8) | 1 }
        }
    }

    impl BuildHasher for IdHash {
        type Hasher = IdHasher;

        fn build_hasher(&self) -> IdHasher {
            IdHasher { state: self.seed, factor: self.factor }
        }
    }

    /// See [`IdHash`].
    #[derive(Debug, Clone)]
    pub struct IdHasher {
        state: u64,
        factor: u64,
    }

    impl Hasher for IdHasher {
        fn finish(&self) -> u64 {
            self.state
        }

        fn write_u64(&mut self, word: u64) {
            // The halves of the product together depend on all bits of the key.
            let product = u128::from(self.state ^ word) * u128::from(self.factor);
            self.state = (product >> 64) as u64 ^ product as u64;
        }

        fn write(&mut self, bytes: &[u8]) {
            for chunk in bytes.chunks(8) {
                let word = chunk.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
                self.write_u64(word);
            }
        }
    }
}
