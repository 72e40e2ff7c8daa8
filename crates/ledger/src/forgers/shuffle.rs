//! The shuffle that ends the making of a forger list, the same in both generations (RULES 6).

use sha2::{Digest, Sha256};

/// Shuffles in place, by the bytes of a seed that is hashed again after every four of them.
///
/// The position also moves on with each hash, so every fifth entry starts no swap: a slip of the first
/// implementation that became consensus.
pub fn shuffle<T>(list: &mut [T], mut seed: [u8; 32]) {
    let length = list.len();
    let mut i = 0;
    while i < length {
        for byte in seed.iter().take(4) {
            if i >= length {
                break;
            }
            list.swap(usize::from(*byte) % length, i);
            i += 1;
        }
        seed = Sha256::digest(seed).into();
        i += 1;
    }
}
