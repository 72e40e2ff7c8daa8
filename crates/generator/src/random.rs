//! Random choices that stay the same for ever: a generator of a library may change with its version.

use sha2::{Digest, Sha256};

/// SplitMix64 (Steele, Lea and Flood, 2014), seeded by a sha256 over the parts of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// Parts are told apart by their lengths, so `["a", "bc"]` and `["ab", "c"]` differ.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let state = digest.iter().take(8).rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        Self { state }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 for a bound of 0. The high part of a product, whose bias is below 2^-40 here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// An index into something of this length.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// One of the list; `None` if it is empty.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.index(list.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of these numbers changes every generated chain.
    #[test]
    fn numbers_stay_the_same_for_ever() {
        let mut random = Random { state: 1_234_567 };
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next_u64()), published);
    }

    #[test]
    fn seeds_differ_by_where_their_parts_end() {
        assert_ne!(Random::of(&[b"a", b"bc"]).next_u64(), Random::of(&[b"ab", b"c"]).next_u64());
    }

    #[test]
    fn choices_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::of(&[b"bounds"]);
        let seen: std::collections::BTreeSet<u64> = (0..1_000).map(|_| random.below(7)).collect();
        assert!(seen.into_iter().eq(0..7));
        assert_eq!((random.below(0), random.below(1)), (0, 0));
        assert!(!random.percent(0) && random.percent(100));
        assert_eq!(random.pick::<u8>(&[]), None);
    }
}
