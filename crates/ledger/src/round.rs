//! A round's end: who missed, who is paid what, what the votes weigh, and who forges next (RULES 5 and 6).

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::account::{Account, Delegate};
use crate::forgers::{Candidate, SecondGeneration, list_v1, list_v2};
use crate::ids::{Address, BlockId, Height};
use crate::keys::{Hash, PublicKey};
use crate::profile::NetworkProfile;
use crate::refusal::Refusal;
use crate::state::{RoundBlock, RoundCloser, RoundState};

/// What one block of a finished round earns its generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// Who forged the block.
    pub generator: PublicKey,
    /// Its share of the round's fees; the last block's also has the remainder.
    pub fees: i64,
    /// The block's reward.
    pub reward: i64,
}

/// The payments of a finished round, one a block, in height order.
///
/// The reference node passes the sum through 15 significant digits; that changes nothing below 10^15 units a round, and
/// no profile whose blocks cost less reaches it.
///
/// # Errors
/// The fees' sum leaves 64 bits.
pub fn payments(blocks: &[RoundBlock], delegates: u32) -> Result<Vec<Payment>, Refusal> {
    let sum: i128 = blocks.iter().map(|block| i128::from(block.fees)).sum();
    let sum = i64::try_from(sum).map_err(|_| Refusal::Overflow("the sum of a round's fees"))?;
    let delegates = i64::from(delegates.max(1));
    let (share, remainder) = (sum / delegates, sum % delegates);
    let last = blocks.len().saturating_sub(1);
    let payment = |(index, block): (usize, &RoundBlock)| Payment {
        generator: block.generator,
        fees: if index == last { share + remainder } else { share },
        reward: block.reward,
    };
    Ok(blocks.iter().enumerate().map(payment).collect())
}

/// The delegates of the list that forged no block of the round.
#[must_use]
pub fn outsiders(forgers: &[PublicKey], blocks: &[RoundBlock]) -> Vec<PublicKey> {
    let forged: HashSet<&PublicKey> = blocks.iter().map(|block| &block.generator).collect();
    forgers.iter().filter(|key| !forged.contains(key)).copied().collect()
}

/// Blocks and missed rounds below which a delegate counts as fully productive.
const PRODUCTIVITY_COUNTED_FROM: u32 = 200;

/// A voters' sum times the delegate's productivity, in doubles, rounded half to even as the reference node's cast does.
#[must_use]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the rule is in doubles")]
pub fn votes_weight(voters_share: i64, produced_blocks: u32, missed_blocks: u32) -> i64 {
    let turns = produced_blocks.saturating_add(missed_blocks);
    let productivity =
        if turns < PRODUCTIVITY_COUNTED_FROM { 1.0 } else { f64::from(produced_blocks) / f64::from(turns) };
    (voters_share as f64 * productivity).round_ties_even() as i64
}

/// Sets `vote` and `votes_weight` from the running sums, as a round's end does for every delegate.
pub fn weigh(account: &mut Account) {
    let forging = account.forging;
    if let Some(delegate) = &mut account.delegate {
        delegate.vote = delegate.voters_balance;
        delegate.votes_weight =
            votes_weight(delegate.voters_share, forging.produced_blocks, forging.missed_blocks);
    }
}

/// The forger list of the round that starts at `first_height`, from the delegates as the block before left them.
#[must_use]
pub fn forger_list<'a>(
    profile: &NetworkProfile,
    first_height: Height,
    previous_id: BlockId,
    closers: &[RoundCloser],
    delegates: impl Iterator<Item = &'a Account>,
) -> Vec<PublicKey> {
    let candidates: Vec<Candidate> = delegates.filter_map(candidate).collect();
    let seats = usize::try_from(profile.delegates).unwrap_or(usize::MAX);
    match profile.generation_two {
        Some(two) if first_height >= two.first_height => {
            let params = SecondGeneration {
                delegates: seats,
                pool: usize::try_from(two.pool).unwrap_or(usize::MAX),
                missed_in_a_row_max: two.missed_in_a_row_max,
            };
            list_v2(&candidates, previous_id, closers, &params)
        }
        _ => list_v1(&candidates, profile.round_of(first_height), seats),
    }
}

fn candidate(account: &Account) -> Option<Candidate> {
    let delegate = account.delegate.as_ref()?;
    Some(Candidate {
        public_key: account.public_key?,
        vote: delegate.vote,
        votes_weight: delegate.votes_weight,
        missed_in_a_row: delegate.missed_in_a_row,
    })
}

/// The round that follows a closing block.
#[must_use]
pub fn next_round<'a>(
    profile: &NetworkProfile,
    closing: &RoundCloser,
    closing_id: BlockId,
    closers_before: &[RoundCloser],
    delegates: impl Iterator<Item = &'a Account>,
) -> RoundState {
    let first_height = closing.height.saturating_add(1);
    let mut closers = closers_before.to_vec();
    closers.push(*closing);
    let kept = profile.generation_two.map_or(1, |two| usize::try_from(two.pool).unwrap_or(usize::MAX)).max(1);
    closers.drain(..closers.len().saturating_sub(kept));
    let forgers = forger_list(profile, first_height, closing_id, &closers, delegates);
    RoundState { round: profile.round_of(first_height), forgers, blocks: Vec::new(), closers }
}

/// A sha256 over every delegate's row at a round's end, so that another implementation (the SQL triggers) can prove
/// that it came to the same. Rows ascend by address as a *signed* 64-bit number; each is, big endian: address, vote,
/// votes_weight, voters_balance, voters_share (8 bytes each), missed_in_a_row, produced_blocks, missed_blocks (4 each),
/// fees, rewards, balance (8 each).
#[must_use]
pub fn delegates_digest<'a>(delegates: impl Iterator<Item = &'a Account>) -> Hash {
    let mut rows: Vec<(&Account, &Delegate)> =
        delegates.filter_map(|account| Some((account, account.delegate.as_ref()?))).collect();
    rows.sort_unstable_by_key(|(account, _)| account.address.to_bigint());
    let mut hasher = Sha256::new();
    for (account, delegate) in rows {
        let Address(address) = account.address;
        hasher.update(address.to_be_bytes());
        for sum in [delegate.vote, delegate.votes_weight, delegate.voters_balance, delegate.voters_share] {
            hasher.update(sum.to_be_bytes());
        }
        let forging = account.forging;
        for count in [delegate.missed_in_a_row, forging.produced_blocks, forging.missed_blocks] {
            hasher.update(count.to_be_bytes());
        }
        for sum in [forging.fees, forging.rewards, account.balance] {
            hasher.update(sum.to_be_bytes());
        }
    }
    Hash(hasher.finalize().into())
}
