//! What PostgreSQL does with a transaction. The position row serializes them: each is one atomic step at its COMMIT.

use crate::redis::Refused;
use crate::rules::{Rule, Rules};
use crate::world::{Broken, Commit, Postgres, World};

impl World {
    /// Operations and position together.
    pub(crate) fn do_commit(&mut self, rules: Rules, commit: Commit) -> Result<(), Refused> {
        let found = self.postgres;
        let fits = (found.epoch == commit.epoch || !rules.has(Rule::PositionChecksEpoch))
            && (found.seq == commit.expected || !rules.has(Rule::PositionChecksSeq));
        if !fits {
            return Err(Refused);
        }
        if found.epoch != commit.epoch {
            self.break_promise(Broken::FencedWrite);
        }
        let mut chain = found.chain;
        for op in commit.ops.iter() {
            let fits_tip = op
                .number()
                .is_none_or(|number| self.fits(number, chain.last().and_then(crate::ops::Op::number)));
            match chain.after(op).filter(|_| fits_tip) {
                Some(after) => chain = after,
                // The triggers refuse it: a transaction that should never have been sent.
                None => {
                    self.break_promise(Broken::DoesNotFit);
                    return Err(Refused);
                }
            }
        }
        self.postgres = Postgres {
            seq: commit.expected + commit.ops.len(),
            seq_before: found.seq,
            chain,
            log: found.log.and(commit.ops),
            ..found
        };
        Ok(())
    }

    fn fits(&self, number: u8, tip: Option<u8>) -> bool {
        let parent = number.checked_sub(1).and_then(|index| self.truth.parents.get(index));
        parent.is_some_and(|parent| parent.number() == tip)
    }

    /// Makes an epoch the only one that may write.
    pub(crate) fn do_take_over(&mut self, rules: Rules, seen: u8, epoch: u8) -> Result<(), Refused> {
        let found = self.postgres.epoch;
        let raises = found < epoch || !rules.has(Rule::TakeOverOnlyRaises);
        let unchanged = found == seen || !rules.has(Rule::TakeOverComparesEpoch);
        if !raises || !unchanged {
            return Err(Refused);
        }
        if found > epoch {
            self.break_promise(Broken::EpochWentBack);
        }
        let postgres = &mut self.postgres;
        postgres.epoch_before = found;
        postgres.raised_at = postgres.seq;
        postgres.epoch = epoch;
        Ok(())
    }
}
