//! What Redis does with a call: as in the function library, one atomic call each.

use crate::ops::{Op, Ops};
use crate::rules::{Rule, Rules};
use crate::world::{Broken, Readiness, Redis, Step, World};

/// The call changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl World {
    /// One operation: state and outbox entry together.
    pub(crate) fn do_step(&mut self, rules: Rules, step: Step) -> Result<(), Refused> {
        let redis = self.redis;
        let last_id = (redis.epoch, redis.seq);
        let fits = (redis.owner == step.epoch || !rules.has(Rule::StepChecksEpoch))
            && redis.state == Readiness::Ready
            && (redis.seq == step.seq || !rules.has(Rule::StepChecksSeq))
            && (redis.chain.last() == step.tip || !rules.has(Rule::StepChecksTip))
            && (redis.seq == redis.base
                || last_id < (step.epoch, step.seq + 1)
                || !rules.has(Rule::OutboxIdsGrow));
        let chain = redis.chain.after(step.op);
        let (true, Some(chain)) = (fits, chain) else { return Err(Refused) };
        self.only_the_owner(step.epoch);
        self.redis = Redis {
            epoch: step.epoch,
            seq: step.seq + 1,
            chain,
            outbox: redis.outbox.with(step.op),
            ..redis
        };
        self.record(step.seq, step.op);
        Ok(())
    }

    /// The operation became the one after `seq`.
    fn record(&mut self, seq: u8, op: Op) {
        let truth = &mut self.truth;
        if seq > truth.history.len() {
            self.break_promise(Broken::Gap);
        } else if truth.history.get(seq) != Some(op) {
            if seq < truth.acknowledged {
                self.break_promise(Broken::Overwritten);
            } else {
                truth.history = truth.history.first(seq).with(op);
            }
        }
    }

    /// The client was told that the operation after `seq` is done.
    pub(crate) fn acknowledge(&mut self, seq: u8, op: Op) {
        if self.truth.history.get(seq) != Some(op) {
            self.break_promise(Broken::AcknowledgedNothing);
        }
        self.truth.acknowledged = self.truth.acknowledged.max(seq + 1);
    }

    fn only_the_owner(&mut self, epoch: u8) {
        if self.redis.owner != epoch {
            self.break_promise(Broken::FencedWrite);
        }
    }

    fn may_keep_up(&mut self, rules: Rules, epoch: u8) -> Result<(), Refused> {
        if self.redis.owner != epoch && rules.has(Rule::UpkeepChecksEpoch) {
            return Err(Refused);
        }
        self.only_the_owner(epoch);
        Ok(())
    }

    /// Takes the chain.
    pub(crate) fn do_claim(&mut self, rules: Rules, seen: u8, epoch: u8) -> Result<(), Refused> {
        let unchanged = self.redis.owner == seen || !rules.has(Rule::ClaimComparesOwner);
        if !unchanged || epoch <= self.redis.owner {
            return Err(Refused);
        }
        self.redis.owner = epoch;
        Ok(())
    }

    /// Drops state and outbox.
    pub(crate) fn do_begin_clean(&mut self, rules: Rules, epoch: u8) -> Result<(), Refused> {
        self.may_keep_up(rules, epoch)?;
        self.redis = Redis { owner: self.redis.owner, state: Readiness::Cleaning, ..Redis::default() };
        Ok(())
    }

    /// Loads PostgreSQL's state into a cleaned Redis.
    pub(crate) fn do_load(&mut self, rules: Rules, epoch: u8, seq: u8, chain: Ops) -> Result<(), Refused> {
        if self.redis.state != Readiness::Cleaning {
            return Err(Refused);
        }
        self.may_keep_up(rules, epoch)?;
        self.redis = Redis {
            owner: self.redis.owner,
            state: Readiness::Restoring,
            epoch,
            seq,
            chain,
            base: seq,
            outbox_first: seq + 1,
            outbox: Ops::EMPTY,
        };
        Ok(())
    }

    /// Lets steps in.
    pub(crate) fn do_open(&mut self, rules: Rules, epoch: u8) -> Result<(), Refused> {
        if self.redis.state != Readiness::Restoring {
            return Err(Refused);
        }
        self.may_keep_up(rules, epoch)?;
        self.redis.state = Readiness::Ready;
        Ok(())
    }

    /// Removes the outbox entries up to one.
    pub(crate) fn do_trim(&mut self, rules: Rules, epoch: u8, through: u8) -> Result<(), Refused> {
        if self.redis.state != Readiness::Ready {
            return Err(Refused);
        }
        self.may_keep_up(rules, epoch)?;
        let redis = &mut self.redis;
        let gone = (through + 1).saturating_sub(redis.outbox_first).min(redis.outbox.len());
        redis.outbox = redis.outbox.skip(gone);
        redis.outbox_first += gone;
        Ok(())
    }
}
