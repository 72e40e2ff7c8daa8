//! Which transaction ids the chain may have: "no" is certain, "perhaps" is looked up in Redis.
//!
//! A Bloom filter, 24 bits an id, in layers that double. Ids are never taken out: one that was taken back is a "perhaps"
//! from then on. With a restore the filter is made anew.

use forebay_ledger::ids::TransactionId;
use forebay_ledger::ids::hashing::IdHash;
use std::hash::BuildHasher as _;

/// Bits an id: of 100,000 unknown ids a few look known.
const BITS_AN_ID: usize = 24;
/// Bits that an id sets in each of its two words' lines.
const BITS_A_LINE: u32 = 5;
/// 64-bit words of a cache line: an id sets its bits in two lines, so that a look-up waits for memory twice at most.
const WORDS_A_LINE: usize = 8;
/// Ids of the first layer at least: 3 MB.
const CAPACITY_MIN: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct KnownIds {
    layers: Vec<Layer>,
    hash: IdHash,
}

#[derive(Debug, Clone)]
struct Layer {
    lines: Vec<[u64; WORDS_A_LINE]>,
    left: usize,
}

impl Layer {
    fn new(capacity: usize) -> Self {
        let lines = (capacity * BITS_AN_ID / (WORDS_A_LINE * 64)).max(1);
        Self { lines: vec![[0; WORDS_A_LINE]; lines], left: capacity }
    }

    /// The two lines of a hash, each with the bits that it sets there.
    fn places(&self, hash: u64) -> [(usize, u64); 2] {
        let second = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ hash;
        [hash, second].map(|hash| {
            let line = (u128::from(hash) * self.lines.len() as u128) >> 64;
            (usize::try_from(line).unwrap_or_default(), hash)
        })
    }

    fn has(&self, hash: u64) -> bool {
        self.places(hash).into_iter().all(|(line, bits)| {
            self.lines.get(line).is_some_and(|line| {
                bits_of(bits).all(|(word, bit)| line.get(word).is_some_and(|word| word & bit != 0))
            })
        })
    }

    fn insert(&mut self, hash: u64) {
        for (line, bits) in self.places(hash) {
            if let Some(line) = self.lines.get_mut(line) {
                for (word, bit) in bits_of(bits) {
                    if let Some(word) = line.get_mut(word) {
                        *word |= bit;
                    }
                }
            }
        }
    }
}

/// Nine bits of the hash each choose a bit of the line; the line itself was chosen by the highest.
fn bits_of(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS_A_LINE).map(move |n| {
        let place = (hash >> (n * 9)) & 0x1ff;
        (usize::try_from(place >> 6).unwrap_or_default(), 1 << (place & 63))
    })
}

/// What the filter takes after a restore of so many ids, bytes.
pub(crate) fn bytes(ids: u64) -> u64 {
    ids.saturating_mul(2).max(CAPACITY_MIN as u64).saturating_mul(BITS_AN_ID as u64) / 8
}

impl KnownIds {
    /// With room for twice as many.
    pub(crate) fn with_capacity(ids: u64) -> Self {
        let capacity = usize::try_from(ids).unwrap_or(usize::MAX / 64).saturating_mul(2).max(CAPACITY_MIN);
        Self { layers: vec![Layer::new(capacity)], hash: IdHash::default() }
    }

    pub(crate) fn may_have(&self, id: TransactionId) -> bool {
        let hash = self.hash.hash_one(id);
        self.layers.iter().any(|layer| layer.has(hash))
    }

    /// What it may have already takes no room: a block that is sent again and again does not make it grow.
    pub(crate) fn insert(&mut self, id: TransactionId) {
        if self.may_have(id) {
            return;
        }
        let hash = self.hash.hash_one(id);
        let full = self.layers.last().filter(|layer| layer.left == 0).map(|layer| layer.lines.len());
        if let Some(lines) = full {
            self.layers.push(Layer::new(lines * WORDS_A_LINE * 64 / BITS_AN_ID * 2));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.left -= 1;
            layer.insert(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_inserted_is_never_denied_and_few_others_are_taken_for_known() {
        let mut known = KnownIds { layers: vec![Layer::new(1_000)], ..KnownIds::with_capacity(0) };
        let id = |n: u64| TransactionId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(13));
        (0..50_000).for_each(|n| known.insert(id(n)));
        assert!((0..50_000).all(|n| known.may_have(id(n))), "through all layers");
        let wrong = (50_000..250_000).filter(|n| known.may_have(id(*n))).count();
        assert!(wrong < 200, "{wrong} of 200,000");
        let layers = known.layers.len();
        assert!(layers > 3);
        (0..50_000).for_each(|n| known.insert(id(n)));
        assert_eq!(known.layers.len(), layers, "they are known");
    }
}
