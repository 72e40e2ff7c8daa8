//! When a tier lost something: a Redis without the chain is healed, a PostgreSQL that was put back is fed again.

use crate::ops::Ops;
use crate::rules::{Rule, Rules};
use crate::world::{Phase, Reason, Request, Who, World};

impl World {
    /// Redis is not what it was: another took the chain, or Redis lost it.
    pub(crate) fn suspect(&mut self, rules: Rules, who: Who) {
        if self.redis.owner > self.node(who).epoch || !rules.has(Rule::IdentityIsChecked) {
            return self.stop(who);
        }
        let node = self.node_mut(who);
        node.phase = Phase::Healing;
        if !rules.has(Rule::TailBeforeHeal) {
            node.tail = Ops::EMPTY;
            node.batch = 0;
            node.commit = Request::None;
        }
        self.healed_so_far(rules, who);
    }

    /// Once PostgreSQL has the tail, Redis is restored from it under a new epoch.
    pub(crate) fn healed_so_far(&mut self, _rules: Rules, who: Who) {
        let node = self.node_mut(who);
        if node.tail.is_empty() && node.commit == Request::None {
            node.reason = Reason::Heal;
            self.look_again(who);
        }
    }

    /// Another run of Redis answers: does PostgreSQL still name our epoch?
    pub(crate) fn check_run(&mut self, who: Who) {
        if self.postgres.epoch > self.node(who).epoch {
            return self.stop(who);
        }
        self.node_mut(who).sees_run = true;
    }

    /// PostgreSQL is older than it was: what it lacks comes from the outbox.
    pub(crate) fn feed_again(&mut self, rules: Rules, who: Who) {
        let (node, found) = (*self.node(who), self.postgres);
        let differs = found.seq.checked_sub(1).is_some_and(|index| {
            self.redis.entry(found.seq).is_some_and(|entry| found.log.get(index) != Some(entry))
        });
        let lacking = (found.seq + 1)
            .checked_sub(self.redis.outbox_first)
            .map(|skipped| self.redis.outbox.skip(skipped).first(node.durable - found.seq));
        let lacking = match lacking {
            _ if found.seq == node.durable => Ops::EMPTY,
            Some(lacking) if !differs && lacking.len() == node.durable - found.seq => lacking,
            _ => return self.stop(who),
        };
        let node = self.node_mut(who);
        node.tail = if rules.has(Rule::OlderPostgresIsFed) { lacking.and(node.tail) } else { node.tail };
        node.durable = found.seq;
        node.batch = 0;
        node.commit = Request::None;
        node.reason = Reason::Feed;
        self.look_again(who);
    }
}
