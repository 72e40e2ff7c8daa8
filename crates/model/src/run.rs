//! A running node: the Writer's steps, the Syncer's batches, the trim.

use crate::ops::Op;
use crate::rules::{ENTRIES_KEPT, Rule, Rules};
use crate::world::{Commit, Node, Order, Phase, Readiness, Request, Step, Who, World};

impl Node {
    pub(crate) fn request_of_step(&self) -> Option<Step> {
        Some(Step { epoch: self.epoch, seq: self.seq(), tip: self.chain.last(), op: self.op? })
    }

    pub(crate) fn request_of_commit(&self) -> Commit {
        Commit { epoch: self.epoch, expected: self.durable, ops: self.tail.first(self.batch) }
    }

    /// Whether it may talk to the Redis that runs now.
    pub(crate) fn may_use_redis(&self, rules: Rules) -> bool {
        self.sees_run || !rules.has(Rule::NewRunIsNoticed)
    }

    /// Whether it brings operations to PostgreSQL.
    pub(crate) fn syncs(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Running | Phase::Healing)
    }
}

impl World {
    /// A client submits the next block, or a pop.
    pub(crate) fn submit(&mut self, who: Who, is_pop: bool) {
        self.left.operations -= 1;
        let tip = self.node(who).chain.last();
        let op = if is_pop {
            self.left.pops -= 1;
            Op::POP
        } else {
            let number = self.truth.parents.len() + 1;
            self.truth.parents = self.truth.parents.with(tip.unwrap_or(Op::POP));
            Op::block(number)
        };
        let node = self.node_mut(who);
        node.op = Some(op);
        node.step = Request::Sent;
    }

    /// Redis does the step, or refuses it, and the node hears of it.
    pub(crate) fn step_answered(&mut self, rules: Rules, who: Who) {
        let Some(step) = self.node(who).request_of_step() else { return };
        match self.do_step(rules, step) {
            Ok(()) => self.step_done(who),
            Err(_) => self.step_failed(rules, who),
        }
    }

    /// The connection breaks: the step may arrive later, or never.
    pub(crate) fn step_unanswered(&mut self, who: Who) {
        let step = self.node(who).request_of_step();
        if let Some(slot) = self.late_steps.iter_mut().find(|slot| slot.is_none()) {
            *slot = step;
        }
        self.node_mut(who).step = Request::Unknown;
    }

    /// After a lost answer: what does Redis have?
    pub(crate) fn ask_head(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        if rules.has(Rule::OldConnectionIsKilled) {
            let own = |slot: &&mut Option<Step>| slot.is_some_and(|step| step.epoch == node.epoch);
            self.late_steps.iter_mut().filter(own).for_each(|slot| *slot = None);
        }
        let Some(op) = node.op else { return };
        if !rules.has(Rule::LostStepIsNotDone) {
            return self.step_done(who);
        }
        let redis = self.redis;
        if (redis.epoch, redis.seq) == (node.epoch, node.seq() + 1)
            && Some(redis.chain) == node.chain.after(op)
        {
            self.step_done(who);
        } else if redis.seq == node.seq() && redis.chain == node.chain {
            self.node_mut(who).step = Request::Sent;
        } else {
            self.step_failed(rules, who);
        }
    }

    fn step_done(&mut self, who: Who) {
        let node = *self.node(who);
        let Some(op) = node.op else { return };
        self.acknowledge(node.seq(), op);
        let known = self.node_mut(who);
        known.chain = node.chain.after(op).unwrap_or(node.chain);
        known.tail = node.tail.with(op);
        known.op = None;
        known.step = Request::None;
    }

    fn step_failed(&mut self, rules: Rules, who: Who) {
        let node = self.node_mut(who);
        node.op = None;
        node.step = Request::None;
        if self.redis_is_whole(who) || !rules.has(Rule::IdentityIsChecked) {
            self.stop(who);
        } else {
            self.suspect(rules, who);
        }
    }

    /// The Syncer takes a batch.
    pub(crate) fn send_batch(&mut self, who: Who, count: u8) {
        let node = self.node_mut(who);
        node.batch = count;
        node.commit = Request::Sent;
    }

    /// PostgreSQL commits it, or refuses it, and the node hears of it.
    pub(crate) fn commit_answered(&mut self, rules: Rules, who: Who) {
        match self.do_commit(rules, self.node(who).request_of_commit()) {
            Ok(()) => self.commit_done(rules, who),
            // Refused by the position: ask where it is.
            Err(_) if rules.has(Rule::LostCommitIsNotFailed) => self.node_mut(who).commit = Request::Unknown,
            Err(_) => self.stop(who),
        }
    }

    /// The connection breaks: the COMMIT may arrive later, or never.
    pub(crate) fn commit_unanswered(&mut self, who: Who) {
        let commit = self.node(who).request_of_commit();
        if let Some(slot) = self.late_commits.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(commit);
        }
        self.node_mut(who).commit = Request::Unknown;
    }

    /// After a lost answer or a refusal: where is the position?
    pub(crate) fn ask_position(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        if !rules.has(Rule::LostCommitIsNotDone) {
            return self.commit_done(rules, who);
        }
        if !rules.has(Rule::LostCommitIsNotFailed) {
            self.node_mut(who).commit = Request::Again;
            return;
        }
        let found = self.postgres;
        if (found.epoch, found.seq) == (node.epoch, node.durable + node.batch) {
            self.commit_done(rules, who);
        } else if (found.epoch, found.seq) == (node.epoch, node.durable) {
            self.node_mut(who).commit = Request::Again;
        } else {
            self.position_differs(rules, who);
        }
    }

    /// An idle Syncer asks whether PostgreSQL is where it was.
    pub(crate) fn position_differs(&mut self, rules: Rules, who: Who) {
        let (node, found) = (*self.node(who), self.postgres);
        if found.epoch <= node.epoch && found.seq <= node.durable && node.phase != Phase::Draining {
            self.feed_again(rules, who);
        } else {
            self.stop(who);
        }
    }

    fn commit_done(&mut self, rules: Rules, who: Who) {
        let node = self.node_mut(who);
        node.durable += node.batch;
        node.tail = node.tail.skip(node.batch);
        node.batch = 0;
        node.commit = Request::None;
        if node.phase == Phase::Draining && node.tail.is_empty() {
            node.phase = Phase::Snapshotting;
        }
        if node.phase == Phase::Healing {
            self.healed_so_far(rules, who);
        }
    }

    /// Up to which entry a node would trim now.
    pub(crate) fn trim_through(&self, rules: Rules, who: Who) -> u8 {
        let node = self.node(who);
        let durable = if rules.has(Rule::TrimOnlyDurable) { node.durable } else { node.seq() };
        durable.saturating_sub(if rules.has(Rule::KeepRecentEntries) { ENTRIES_KEPT } else { 0 })
    }

    /// Old entries leave the outbox.
    pub(crate) fn trim(&mut self, rules: Rules, who: Who) {
        let through = self.trim_through(rules, who);
        if self.do_trim(rules, self.node(who).epoch, through).is_err() {
            self.step_failed(rules, who);
        }
    }

    /// The hard limit: the tail is written as order and record, and the node ends.
    pub(crate) fn give_up(&mut self, who: Who) {
        self.left.rollbacks -= 1;
        let node = *self.node(who);
        self.end_process(who);
        self.node_mut(who).order = Some(Order { epoch: node.epoch, first: node.durable + 1, ops: node.tail });
        self.give_up_recorded(who);
    }

    /// Whether Redis has this node's chain, as the node can see it.
    pub(crate) fn redis_is_whole(&self, who: Who) -> bool {
        let (node, redis) = (self.node(who), self.redis);
        redis.owner == node.epoch
            && redis.state == Readiness::Ready
            && redis.seq == node.seq()
            && redis.chain == node.chain
    }
}
