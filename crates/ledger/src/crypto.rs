//! Ed25519 as the reference node's libsodium (1.0.18) accepts it, and key pairs to sign with.
//!
//! A data layer may not fork from the chain that it follows, so the verdict on a signature must be libsodium's for
//! every input, hostile ones included: `S` below the group order, `R` not of small order, the public key canonically
//! encoded and not of small order, and the equation without cofactor, its result compared with `R` byte by byte.
//! Each signature is checked singly. There is deliberately no batch equation: a batch accepts signatures with
//! small-order parts that single checks refuse. The speed comes from the cores, from a cache of decoded keys, and from
//! divisions that some checks do together.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer, SigningKey};
use rayon::prelude::*;
use sha2::{Digest, Sha256, Sha512};

use crate::keys::{Hash, PublicKey, Signature};

/// Whether the signature of the 32 bytes is valid by libsodium's rules. Never panics, whatever the bytes are.
#[must_use]
pub fn verify(key: &PublicKey, message: &Hash, signature: &Signature) -> bool {
    DecodedKey::decode(key).is_some_and(|decoded| decoded.verify(message, signature))
}

/// One signature to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureCheck {
    /// Whose signature it should be.
    pub key: PublicKey,
    /// What was signed.
    pub message: Hash,
    /// What is claimed to be the signature.
    pub signature: Signature,
}

/// Checks signatures on many cores and keeps the keys that it decoded, a bounded number of them.
///
/// Share one between threads; it never changes a verdict, only how long it takes.
#[derive(Debug)]
pub struct Checker {
    cache: KeyCache,
}

impl Default for Checker {
    fn default() -> Self {
        Self::with_capacity(DEFAULT_CACHED_KEYS_MAX)
    }
}

impl Checker {
    /// A checker that keeps at most about `keys_max` decoded keys (some 250 bytes each).
    #[must_use]
    pub fn with_capacity(keys_max: usize) -> Self {
        Self { cache: KeyCache::with_capacity(keys_max) }
    }

    /// The same verdict as [`verify`].
    #[must_use]
    pub fn verify(&self, check: &SignatureCheck) -> bool {
        self.cache.get(&check.key).is_some_and(|key| key.verify(&check.message, &check.signature))
    }

    /// Checks all, on all cores of rayon's current pool.
    ///
    /// # Errors
    /// The index of the first one that is not valid.
    pub fn verify_all(&self, checks: &[SignatureCheck]) -> Result<(), usize> {
        let bad = if checks.len() < PARALLEL_MIN {
            self.first_bad(checks)
        } else {
            let pieces = PIECES_PER_THREAD * rayon::current_num_threads();
            let piece = checks.len().div_ceil(pieces).clamp(PIECE_MIN, PIECE_MAX);
            let first_bad = |(at, checks): (usize, &[SignatureCheck])| {
                self.first_bad(checks).map(|index| at * piece + index)
            };
            checks.par_chunks(piece).enumerate().find_map_first(first_bad)
        };
        bad.map_or(Ok(()), Err)
    }

    /// Each check has an equation of its own. What they share is arithmetic: the right sides are divided by their last
    /// coordinate, all with one inversion, which is a tenth of a single check.
    fn first_bad(&self, checks: &[SignatureCheck]) -> Option<usize> {
        let sides = checks
            .iter()
            .map(|check| self.cache.get(&check.key)?.right_side(&check.message, &check.signature));
        // All before the first one that cannot be valid.
        let sides: Vec<EdwardsPoint> = sides.map_while(|side| side).collect();
        let encoded = EdwardsPoint::compress_batch_alloc(&sides);
        let mut compared = checks.iter().zip(sides.iter().zip(&encoded));
        compared
            .position(|(check, (side, encoded))| !is_left_side(&check.signature, side, encoded))
            .or((sides.len() < checks.len()).then_some(sides.len()))
    }
}

/// Below this many checks, waking other threads costs more than it gives (one check takes some 30 µs).
const PARALLEL_MIN: usize = 4;
/// Checks that a thread takes at a time: some, so that they share an inversion, and not so many that a thread waits long for
/// the last piece of another.
const PIECE_MIN: usize = 2;
const PIECE_MAX: usize = 16;
const PIECES_PER_THREAD: usize = 2;
/// Decoded keys kept by default: some 16 MiB.
const DEFAULT_CACHED_KEYS_MAX: usize = 65_536;

/// A key that signatures can be valid under, ready for use.
#[derive(Debug, Clone, Copy)]
struct DecodedKey {
    encoded: PublicKey,
    /// The point, negated: what the equation takes.
    negated: EdwardsPoint,
}

impl DecodedKey {
    /// Refuses, for good, a key that is not canonical, not a point, or of small order.
    fn decode(key: &PublicKey) -> Option<Self> {
        if !is_canonical(key) {
            return None;
        }
        let point = CompressedEdwardsY(key.0).decompress()?;
        (!point.is_small_order()).then(|| Self { encoded: *key, negated: -point })
    }

    /// The equation `R = S B - H(R, A, M) A`, the right side encoded and compared with `R` byte by byte.
    ///
    /// So `R` need not be decoded (which `ed25519_dalek`'s `verify_strict` spends an eighth of its time on): one that
    /// is no point or not canonical equals no encoding, and one of small order is seen on the right side.
    fn verify(&self, message: &Hash, signature: &Signature) -> bool {
        self.right_side(message, signature)
            .is_some_and(|side| is_left_side(signature, &side, &side.compress()))
    }

    /// The equation's right side; `None` where `S` is not below the group's order.
    fn right_side(&self, message: &Hash, signature: &Signature) -> Option<EdwardsPoint> {
        let (r, s) = signature.0.split_at(32);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(<[u8; 32]>::try_from(s).ok()?))?;
        let challenge = Sha512::new().chain_update(r).chain_update(self.encoded.0).chain_update(message.0);
        let challenge = Scalar::from_bytes_mod_order_wide(&challenge.finalize().into());
        Some(EdwardsPoint::vartime_double_scalar_mul_basepoint(&challenge, &self.negated, &s))
    }
}

/// Whether `R` is what the right side encodes to, and not of small order.
fn is_left_side(signature: &Signature, side: &EdwardsPoint, encoded: &CompressedEdwardsY) -> bool {
    let (r, _) = signature.0.split_at(32);
    encoded.as_bytes().as_slice() == r && !side.is_small_order()
}

/// Whether the encoded `y` is below the field's prime 2^255 - 19; the top bit is the sign of `x`.
fn is_canonical(key: &PublicKey) -> bool {
    let [low, middle @ .., high] = key.0;
    !(low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f)
}

/// Locks are held for a look-up only; with more shards than cores, threads seldom meet.
const SHARDS: usize = 32;

/// Decoded keys in shards of two generations each. When the young generation is full it becomes the old one, and what
/// was old and not asked for since is dropped: close to "least recently used", without a list to maintain.
#[derive(Debug)]
struct KeyCache {
    shards: Vec<Mutex<Shard>>,
    young_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<PublicKey, DecodedKey>,
    old: HashMap<PublicKey, DecodedKey>,
}

impl KeyCache {
    fn with_capacity(keys_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            young_max: (keys_max / SHARDS / 2).max(1),
        }
    }

    /// The decoded key; `None` for one that no signature can be valid under. Refused keys are not kept, so that
    /// hostile ones cannot push out good ones.
    fn get(&self, key: &PublicKey) -> Option<DecodedKey> {
        let [selector, ..] = key.0;
        // The first byte of a key is as good as random.
        let Some(shard) = self.shards.get(usize::from(selector) % SHARDS) else {
            return DecodedKey::decode(key);
        };
        if let Some(found) = shard.lock().unwrap_or_else(PoisonError::into_inner).find(key, self.young_max) {
            return Some(found);
        }
        let decoded = DecodedKey::decode(key)?;
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert(*key, decoded, self.young_max);
        Some(decoded)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap()).map(|s| s.young.len() + s.old.len()).sum()
    }
}

impl Shard {
    fn find(&mut self, key: &PublicKey, young_max: usize) -> Option<DecodedKey> {
        if let Some(found) = self.young.get(key) {
            return Some(*found);
        }
        let found = self.old.remove(key)?;
        self.insert(*key, found, young_max);
        Some(found)
    }

    fn insert(&mut self, key: PublicKey, decoded: DecodedKey, young_max: usize) {
        if self.young.len() >= young_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, decoded);
    }
}

/// A key pair that signs. The secret part is never printed and is wiped when dropped.
#[derive(Clone)]
pub struct KeyPair {
    signing: SigningKey,
}

impl KeyPair {
    /// The pair that belongs to a passphrase: the seed is sha256 of its UTF-8 bytes (RULES 1).
    #[must_use]
    pub fn from_passphrase(passphrase: &str) -> Self {
        Self::from_seed(&Sha256::digest(passphrase.as_bytes()).into())
    }

    /// The pair that belongs to a 32-byte Ed25519 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// Signs 32 bytes; the same bytes give the same signature.
    #[must_use]
    pub fn sign(&self, message: &Hash) -> Signature {
        Signature(self.signing.sign(&message.0).to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_stays_within_its_limit_and_keeps_what_is_used() {
        let cache = KeyCache::with_capacity(256);
        let used = KeyPair::from_passphrase("used all the time").public_key();
        for n in 0..2_000 {
            assert!(cache.get(&KeyPair::from_passphrase(&n.to_string()).public_key()).is_some());
            assert!(cache.get(&used).is_some());
            assert!(cache.len() <= 256);
        }
        let [selector, ..] = used.0;
        assert!(cache.shards[usize::from(selector) % SHARDS].lock().unwrap().young.contains_key(&used));
    }

    #[test]
    fn keys_without_valid_signatures_are_not_kept() {
        let cache = KeyCache::with_capacity(256);
        assert!(cache.get(&PublicKey([0; 32])).is_none());
        assert!(cache.get(&PublicKey([0xff; 32])).is_none());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn debug_text_holds_no_secret() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let text = format!("{pair:?}");
        assert!(text.contains(&pair.public_key().to_string()));
        assert!(!text.contains(&hex::encode([7u8; 32])) && !text.contains("7, 7, 7"));
    }
}
