//! What a round's end does to the accounts: payments, missed slots, weights, the next forger list. And what leads to the
//! weights: the sums of balances behind each delegate, kept up with every block.

use std::collections::HashMap;

use super::working::{Touched, Working};
use crate::account::Account;
use crate::block::Block;
use crate::ids::hashing::IdHash;
use crate::ids::{Address, Height};
use crate::keys::{Hash, PublicKey};
use crate::profile::NetworkProfile;
use crate::refusal::Refusal;
use crate::round;
use crate::state::{RoundBlock, RoundCloser, RoundState, StateView};

impl<V: StateView> Working<'_, V> {
    pub(super) fn close_round(
        &mut self,
        profile: &NetworkProfile,
        block: &Block,
        running: &RoundState,
        blocks: &[RoundBlock],
    ) -> Result<(RoundState, Hash), Refusal> {
        self.count_missed(profile, block.height, &running.forgers, blocks)?;
        for payment in round::payments(blocks, profile.delegates)? {
            let earned =
                payment.fees.checked_add(payment.reward).ok_or(Refusal::Overflow("a round's payment"))?;
            let address = Address::of(&payment.generator);
            if self.current(address).is_none() {
                return Err(Refusal::IncompleteView(format!("the forger {}", address.0)));
            }
            self.add_balance(address, earned)?;
            let account = self.account(address);
            let sums = account
                .forging
                .fees
                .checked_add(payment.fees)
                .zip(account.forging.rewards.checked_add(payment.reward));
            (account.forging.fees, account.forging.rewards) = sums.ok_or(Refusal::Overflow("earned fees"))?;
            if let Some(delegate) = &mut account.delegate {
                delegate.missed_in_a_row = 0;
            }
        }
        self.settle_tallies()?;
        self.weigh_all();
        let closing = RoundCloser { height: block.height, generator: block.generator_public_key };
        Ok(self.open_next(profile, &closing, block, &running.closers))
    }

    /// The genesis block ends "round 1" too (RULES 3): everyone on the list missed it. The list of round 1 follows from
    /// the votes in the genesis block, and its generator opens round 1's blocks.
    pub(super) fn close_genesis(
        &mut self,
        profile: &NetworkProfile,
        block: &Block,
    ) -> Result<(RoundState, Hash), Refusal> {
        self.settle_tallies()?;
        self.weigh_all();
        let delegates = self.all_delegates();
        let forgers = round::forger_list(profile, 2, block.id, &[], delegates.values().copied());
        drop(delegates);
        let first =
            RoundBlock { generator: block.generator_public_key, fees: block.total_fee, reward: block.reward };
        self.count_missed(profile, block.height, &forgers, &[first])?;
        let digest = round::delegates_digest(self.all_delegates().into_values());
        Ok((RoundState { round: 1, forgers, blocks: vec![first], closers: Vec::new() }, digest))
    }

    fn count_missed(
        &mut self,
        profile: &NetworkProfile,
        height: Height,
        forgers: &[PublicKey],
        blocks: &[RoundBlock],
    ) -> Result<(), Refusal> {
        let counts_in_a_row = profile.is_generation_two(height);
        for key in round::outsiders(forgers, blocks) {
            let account = self.account(Address::of(&key));
            let missed = account.forging.missed_blocks.checked_add(1);
            account.forging.missed_blocks = missed.ok_or(Refusal::Overflow("missed rounds"))?;
            if let Some(delegate) = &mut account.delegate {
                delegate.missed_in_a_row = if counts_in_a_row { delegate.missed_in_a_row + 1 } else { 0 };
            }
        }
        Ok(())
    }

    /// Carries what happened to voters' balances and votes over to their delegates' running sums.
    pub(super) fn settle_tallies(&mut self) -> Result<(), Refusal> {
        let mut deltas: HashMap<Address, (i128, i128), IdHash> = HashMap::default();
        for Touched { before, now } in self.touched.values() {
            if before.is_some_and(|b| b.balance == now.balance && b.votes == now.votes) {
                continue;
            }
            if let Some(before) = before {
                contribute(&mut deltas, before, -1);
            }
            contribute(&mut deltas, now, 1);
        }
        for (delegate, (balance, share)) in deltas.into_iter().filter(|(_, delta)| *delta != (0, 0)) {
            if self.current(delegate).is_none() {
                return Err(Refusal::IncompleteView(format!("delegate {}", delegate.0)));
            }
            if let Some(tally) = &mut self.account(delegate).delegate {
                let sums = add(tally.voters_balance, balance).zip(add(tally.voters_share, share));
                (tally.voters_balance, tally.voters_share) =
                    sums.ok_or(Refusal::Overflow("a sum of votes"))?;
            }
        }
        Ok(())
    }

    fn weigh_all(&mut self) {
        let weighed: Vec<Account> = self
            .all_delegates()
            .into_values()
            .map(|account| {
                let mut weighed = account.clone();
                round::weigh(&mut weighed);
                weighed
            })
            .collect();
        for account in weighed {
            let address = account.address;
            *self.account(address) = account;
        }
    }

    fn open_next(
        &self,
        profile: &NetworkProfile,
        closing: &RoundCloser,
        block: &Block,
        closers: &[RoundCloser],
    ) -> (RoundState, Hash) {
        let delegates = self.all_delegates();
        let next = round::next_round(profile, closing, block.id, closers, delegates.values().copied());
        (next, round::delegates_digest(delegates.into_values()))
    }

    /// Every delegate as the block leaves it.
    fn all_delegates(&self) -> HashMap<Address, &Account> {
        let mut all: HashMap<Address, &Account> = self.view.delegates().map(|a| (a.address, a)).collect();
        let touched = self.touched.values().map(|touched| &touched.now);
        all.extend(touched.filter(|a| a.delegate.is_some()).map(|a| (a.address, a)));
        all
    }
}

fn contribute(deltas: &mut HashMap<Address, (i128, i128), IdHash>, voter: &Account, sign: i128) {
    let votes = i128::try_from(voter.votes.len()).unwrap_or(i128::MAX);
    for delegate in &voter.votes {
        let (balance, share) = deltas.entry(*delegate).or_default();
        *balance += sign * i128::from(voter.balance);
        *share += sign * i128::from(voter.balance).div_euclid(votes);
    }
}

fn add(sum: i64, delta: i128) -> Option<i64> {
    i64::try_from(i128::from(sum) + delta).ok()
}
