//! Who may forge in a round: the forger list, in both generations (RULES 6).
//!
//! A list is a function of the delegates as the end of the previous round left them, of that round's last block, and in
//! the second generation of who forged the last blocks of earlier rounds. Nothing else: no cache, no clock.

use std::cmp::Reverse;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::ids::{BlockId, Height};
use crate::keys::PublicKey;
use crate::state::RoundCloser;

pub mod mersenne;
pub mod power;
pub mod shuffle;

use mersenne::MersenneTwister;
use power::historical_pow;
use shuffle::shuffle;

/// What the lists need to know of a delegate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub public_key: PublicKey,
    /// Its voters' balances at the last round end, units of 10^-8. The first generation's rank.
    pub vote: i64,
    /// Its weight at the last round end. The second generation's rank.
    pub votes_weight: i64,
    /// Rounds missed in a row (`cmb`).
    pub missed_in_a_row: u32,
}

/// The second generation's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondGeneration {
    /// How many forge in a round, and how many blocks a round has (101 on all known networks).
    pub delegates: usize,
    /// How many are drawn from (199), and how many rounds back a round's last block counts.
    pub pool: usize,
    /// A delegate that missed more rounds in a row is not drawn (28 on mainnet).
    pub missed_in_a_row_max: u32,
}

/// The list of a round of the first generation: the delegates with most votes, shuffled by the round's number.
///
/// Shorter than `delegates` only when there are fewer candidates. Ties go to the smaller key.
#[must_use]
pub fn list_v1(candidates: &[Candidate], round: u32, delegates: usize) -> Vec<PublicKey> {
    let mut list = best(candidates.iter(), |candidate| candidate.vote, delegates);
    shuffle(&mut list, Sha256::digest(round.to_string().as_bytes()).into());
    list.into_iter().map(|candidate| candidate.public_key).collect()
}

/// The list of a round of the second generation.
///
/// Drawn by weight from the pool, without those who missed too many rounds in a row and without the forger of the
/// previous round's last block; shuffled by that block's id; whoever closed a round longest ago (or never) goes last.
///
/// `closers` are the last blocks of earlier rounds, oldest first; the last one is the previous round's, whose id is
/// `previous_last_block_id`. Only those at heights of at least `h - delegates * pool` count for who goes last. RULES
/// does not say what `h` is, and no chain of the oracle is long enough to tell: here it is the height of the new
/// round's first block, so that the last `pool` closers count. (With the previous block's height the
/// same `pool` closers and one more would.)
#[must_use]
pub fn list_v2(
    candidates: &[Candidate],
    previous_last_block_id: BlockId,
    closers: &[RoundCloser],
    params: &SecondGeneration,
) -> Vec<PublicKey> {
    let previous_closer = closers.last().map(|closer| closer.generator);
    let admitted = candidates.iter().filter(|candidate| {
        Some(candidate.public_key) != previous_closer
            && candidate.missed_in_a_row <= params.missed_in_a_row_max
    });
    let pool = best(admitted, |candidate| candidate.votes_weight, params.pool);
    let seed: [u8; 32] = Sha256::digest(previous_last_block_id.to_string().as_bytes()).into();
    let mut list = draw(&pool, &seed, params.delegates);
    shuffle(&mut list, seed);
    longest_waiting_last(&mut list, closers, params);
    list
}

/// The first `count` by rank, highest first; ties go to the smaller key.
fn best<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    rank: impl Fn(&Candidate) -> i64,
    count: usize,
) -> Vec<&'a Candidate> {
    let mut ranked: Vec<&Candidate> = candidates.collect();
    ranked.sort_unstable_by_key(|candidate| (Reverse(rank(candidate)), candidate.public_key));
    ranked.truncate(count);
    ranked
}

/// Draws `count` of the pool: a random number to the power of 1/weight each, highest first; ties go to the larger key.
fn draw(pool: &[&Candidate], seed: &[u8; 32], count: usize) -> Vec<PublicKey> {
    let words: Vec<u32> = seed
        .chunks_exact(4)
        .map(|bytes| bytes.iter().rev().fold(0, |word, byte| (word << 8) | u32::from(*byte)))
        .collect();
    let mut random = MersenneTwister::from_words(&words);
    let mut drawn: Vec<(f64, PublicKey)> = pool
        .iter()
        .map(|candidate| (historical_pow(random.next_u32(), candidate.votes_weight), candidate.public_key))
        .collect();
    drawn.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    drawn.into_iter().take(count).map(|(_, key)| key).collect()
}

/// Moves to the end whoever of the list closed a round longest ago; never counts as longest, ties go to the first.
fn longest_waiting_last(list: &mut Vec<PublicKey>, closers: &[RoundCloser], params: &SecondGeneration) {
    let next_height = closers.last().map_or(1, |closer| i64::from(closer.height) + 1);
    let window = i64::try_from(params.delegates.saturating_mul(params.pool)).unwrap_or(i64::MAX);
    let closed_at: HashMap<PublicKey, Height> = closers
        .iter()
        .filter(|closer| i64::from(closer.height) >= next_height - window)
        .map(|closer| (closer.generator, closer.height))
        .collect();
    let longest = (0..list.len())
        .min_by_key(|position| list.get(*position).and_then(|key| closed_at.get(key)).copied().unwrap_or(0));
    if let Some(position) = longest {
        let key = list.remove(position);
        list.push(key);
    }
}
