//! Public keys, signatures and hashes: fixed byte strings, shown as lower-case hex.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a key, signature or hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, found {found}")]
pub struct HexError {
    /// How many digits the form has.
    pub expected: usize,
    /// What was there: a length, or the first letter that is not a digit.
    pub found: String,
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LENGTH: usize = $len;

            /// From a slice of exactly the right length; `None` otherwise.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Blocks have hundreds of these: no allocation, and not letter by letter.
                let mut digits = [0; 2 * $len];
                hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|error| HexError {
                    expected: $len * 2,
                    found: match error {
                        hex::FromHexError::InvalidHexCharacter { c, .. } => format!("the letter {c:?}"),
                        _ => format!("{} bytes of text", text.len()),
                    },
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

fixed_bytes! {
    /// An Ed25519 public key.
    PublicKey, 32
}
fixed_bytes! {
    /// An Ed25519 signature.
    Signature, 64
}
fixed_bytes! {
    /// A sha256.
    Hash, 32
}
