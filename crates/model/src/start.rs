//! A node that takes the chain: claim in Redis, take over in PostgreSQL, drain, clean, restore, open. Healing and feeding
//! raise the epoch in the same way.

use crate::ops::Ops;
use crate::rules::{Rule, Rules};
use crate::world::{Broken, Node, Phase, Readiness, Reason, Request, Who, World};

impl World {
    /// Whether a start may go on after it looked for a living holder.
    pub(crate) fn may_look(&self, who: Who) -> bool {
        let other = self.node(who.other());
        let is_seen = other.is_alive() && !other.silent;
        !is_seen || self.redis.owner == 0
    }

    /// A stopped node looks who owns Redis, and finds nobody alive.
    pub(crate) fn look(&mut self, rules: Rules, who: Who) {
        let (redis, durable) = (self.redis, self.postgres.seq);
        let order = self.node(who).order;
        let early = (!rules.has(Rule::OutboxReadAfterClaim) && redis.state == Readiness::Ready)
            .then(|| redis.entries_after(durable))
            .flatten();
        *self.node_mut(who) = Node {
            phase: Phase::Looked,
            seen: redis.owner,
            next: redis.owner.max(redis.epoch),
            durable,
            tail: early.unwrap_or_default(),
            order,
            ..Node::default()
        };
    }

    /// A running node looks, to raise its own epoch.
    pub(crate) fn look_again(&mut self, who: Who) {
        let owner = self.redis.owner;
        if owner > self.node(who).epoch {
            return self.stop(who);
        }
        let node = self.node_mut(who);
        node.phase = Phase::Looked;
        node.seen = owner;
        node.next = owner.max(node.epoch);
    }

    /// Whether a start may go on when it reads PostgreSQL's epoch. A higher one than Redis' owner says that Redis lost its
    /// owner: who that is may be alive and just about to come back.
    pub(crate) fn may_choose(&self, rules: Rules, who: Who) -> bool {
        let (node, other) = (self.node(who), self.node(who.other()));
        let owner_is_lost = self.postgres.epoch > node.seen;
        let waits = owner_is_lost && node.reason == Reason::Start && rules.has(Rule::ClaimWaitsWithoutOwner);
        !(waits && other.is_alive() && !other.silent)
    }

    /// The epoch in PostgreSQL; the new one is above all.
    pub(crate) fn choose_epoch(&mut self, rules: Rules, who: Who) {
        let found = self.postgres.epoch;
        let node = *self.node(who);
        if node.reason != Reason::Start && found > node.epoch && rules.has(Rule::RaiseOnlyOverOwn) {
            return self.stop(who);
        }
        let node = self.node_mut(who);
        node.seen_slow = found;
        node.next = node.next.max(found) + 1;
        node.phase = Phase::Claiming;
    }

    /// Claims the epoch in Redis.
    pub(crate) fn claim(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        let other = self.node(who.other());
        // The heartbeat of a living holder has moved since.
        let moved = other.is_alive() && !other.silent && other.epoch.max(other.next) == self.redis.owner;
        let refused = (moved && rules.has(Rule::ClaimComparesOwner))
            || self.do_claim(rules, node.seen, node.next).is_err();
        match (refused, node.reason) {
            (false, _) => {
                let node = self.node_mut(who);
                node.phase = Phase::TakingOver;
                node.seen = 0;
                node.sees_run = true;
            }
            (true, Reason::Start) => self.stop(who),
            (true, _) => self.look_again(who),
        }
    }

    /// Takes the chain over in PostgreSQL.
    pub(crate) fn take_over(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        if self.do_take_over(rules, node.seen_slow, node.next).is_err() {
            return self.stop(who);
        }
        // A displaced node that nobody could see may have held the only copy of its tail: silence and loss together.
        if self.truth.redis_lost && self.node(who.other()).silent {
            self.excuse();
        }
        let found = self.postgres;
        let node = self.node_mut(who);
        node.epoch = node.next;
        (node.next, node.seen_slow) = (0, 0);
        match node.reason {
            Reason::Start => {
                node.phase = Phase::Deciding;
                node.tail = node.tail.skip(found.seq.saturating_sub(node.durable));
                node.durable = found.seq;
            }
            Reason::Heal => node.phase = Phase::Snapshotting,
            Reason::Feed => {
                node.phase = Phase::Running;
                node.reason = Reason::Start;
            }
        }
    }

    /// What becomes of the outbox: a rollback file orders to give it up, else it is drained.
    pub(crate) fn decide(&mut self, rules: Rules, who: Who) {
        let redis = self.redis;
        let has_state = redis.state == Readiness::Ready;
        let node = *self.node(who);
        if let Some(order) = node.order {
            let stands = !has_state || redis.epoch <= order.epoch || !rules.has(Rule::RollbackIsBound);
            if stands && rules.has(Rule::RollbackIsObeyed) {
                return self.obey(rules, who);
            }
            if stands
                && has_state
                && redis.entries_after(self.postgres.seq).is_some_and(|ops| !ops.is_empty())
            {
                self.break_promise(Broken::OrderIgnored);
            }
            // A later epoch has drained what it names: a record, no order.
            self.node_mut(who).order = None;
        }
        if !has_state || !rules.has(Rule::DrainBeforeRestore) {
            self.node_mut(who).phase = Phase::Snapshotting;
            return;
        }
        let pending = if rules.has(Rule::OutboxReadAfterClaim) {
            // The entry that PostgreSQL did last must be the one that the outbox has there.
            let differs = node.durable.checked_sub(1).is_some_and(|index| {
                redis.entry(node.durable).is_some_and(|entry| self.postgres.log.get(index) != Some(entry))
            });
            match redis.entries_after(node.durable) {
                Some(pending) if !differs => pending,
                _ => return self.stop(who),
            }
        } else {
            node.tail
        };
        let node = self.node_mut(who);
        node.tail = pending;
        node.phase = match (pending.is_empty(), rules.has(Rule::DrainBeforeClean)) {
            (true, _) => Phase::Snapshotting,
            (false, true) => Phase::Draining,
            (false, false) => Phase::Cleaning,
        };
    }

    /// Everything beyond the base is given up.
    fn obey(&mut self, rules: Rules, who: Who) {
        let (redis, node) = (self.redis, *self.node(who));
        let base = node.order.map_or(0, |order| order.first.saturating_sub(1));
        let below = base.saturating_sub(node.durable);
        let entries = (redis.state == Readiness::Ready).then(|| redis.entries_after(node.durable)).flatten();
        let node = self.node_mut(who);
        node.obeys = true;
        if rules.has(Rule::RollbackKeepsItsBase) {
            node.tail = entries.unwrap_or_default().first(below);
        }
        node.phase = if node.tail.is_empty() { Phase::Snapshotting } else { Phase::Draining };
    }

    /// What the restore will load.
    pub(crate) fn snapshot(&mut self, rules: Rules, who: Who) {
        let (node, found) = (*self.node(who), self.postgres);
        let as_left = (found.epoch, found.seq) == (node.epoch, node.durable);
        if rules.has(Rule::SnapshotIsCompared) && !as_left {
            return self.stop(who);
        }
        let node = self.node_mut(who);
        node.durable = found.seq;
        node.chain = found.chain;
        node.phase = Phase::Cleaning;
    }

    /// Drops Redis' state and outbox.
    pub(crate) fn begin_clean(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        if self.do_begin_clean(rules, node.epoch).is_err() {
            return self.stop(who);
        }
        if node.obeys {
            self.give_up_recorded(who);
        }
        let node = self.node_mut(who);
        node.phase = if node.tail.is_empty() { Phase::Loading } else { Phase::Draining };
    }

    /// What is given up now must be in the file.
    pub(crate) fn give_up_recorded(&mut self, who: Who) {
        let left = self.recoverable();
        let lost = left..self.truth.acknowledged;
        let Some(order) = self.node(who).order else { return };
        let recorded = |index: u8| {
            let named = (index + 1).checked_sub(order.first).and_then(|at| order.ops.get(at));
            named.is_some() && named == self.truth.history.get(index)
        };
        if !lost.into_iter().all(recorded) {
            self.break_promise(Broken::LostBeyondRecord);
        }
        self.truth.acknowledged = self.truth.acknowledged.min(left);
    }

    /// Loads Redis from the snapshot.
    pub(crate) fn load(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        match self.do_load(rules, node.epoch, node.durable, node.chain) {
            Ok(()) => self.node_mut(who).phase = Phase::Opening,
            Err(_) => self.stop(who),
        }
    }

    /// Opens Redis.
    pub(crate) fn open(&mut self, rules: Rules, who: Who) {
        let node = *self.node(who);
        if self.do_open(rules, node.epoch).is_err() {
            return self.stop(who);
        }
        // A takeover by another shows in the next step; till then both own their tier's truth.
        if self.postgres.epoch == node.epoch
            && (self.redis.chain, self.redis.seq) != (self.postgres.chain, self.postgres.seq)
        {
            self.break_promise(Broken::TiersDiffer);
        }
        self.truth.redis_lost &= self.postgres.epoch != node.epoch;
        let marks = node.obeys && rules.has(Rule::RollbackIsMarked);
        let node = self.node_mut(who);
        node.obeys = false;
        node.reason = Reason::Start;
        node.phase = if marks { Phase::Marking } else { Phase::Running };
    }

    /// The rollback file becomes a record.
    pub(crate) fn mark_done(&mut self, who: Who) {
        let node = self.node_mut(who);
        node.order = None;
        node.phase = Phase::Running;
    }

    /// The process ends by itself. Requests that are under way may still arrive.
    pub(crate) fn stop(&mut self, who: Who) {
        let node = *self.node(who);
        let owns_both = self.postgres.epoch == node.epoch && self.redis.owner == node.epoch;
        let whole = self.redis.state == Readiness::Ready
            && self.redis.seq >= node.seq()
            && self.postgres.seq >= node.durable;
        if matches!(node.phase, Phase::Running | Phase::Healing) && owns_both && whole && !self.truth.put_back
        {
            self.break_promise(Broken::StoppedWithoutCause);
        }
        let unseen = node.silent;
        self.end_process(who);
        // A node that nobody could see, and a Redis that lost something: both copies went, by two faults.
        if unseen && self.truth.redis_lost {
            self.excuse();
        }
    }

    /// The process is gone; what it sent may still arrive.
    pub(crate) fn end_process(&mut self, who: Who) {
        let node = *self.node(who);
        if node.step == Request::Sent
            && let Some(step) = node.request_of_step()
            && let Some(slot) = self.late_steps.iter_mut().find(|slot| slot.is_none())
        {
            *slot = Some(step);
        }
        if node.commit == Request::Sent
            && let Some(slot) = self.late_commits.iter_mut().find(|slot| slot.is_none())
        {
            *slot = Some(node.request_of_commit());
        }
        *self.node_mut(who) = Node { order: node.order, tail: Ops::EMPTY, ..Node::default() };
    }
}
