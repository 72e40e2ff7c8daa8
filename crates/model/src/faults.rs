//! What can go wrong.

use crate::rules::{ENTRIES_KEPT, Rules};
use crate::world::{Phase, Postgres, Readiness, Redis, Request, Who, World};

impl World {
    /// A node dies.
    pub(crate) fn crash(&mut self, who: Who) {
        self.left.faults -= 1;
        self.end_process(who);
        if self.truth.redis_lost {
            self.excuse();
        }
    }

    /// A node's heartbeat is not seen any more.
    pub(crate) fn fall_silent(&mut self, who: Who) {
        self.left.faults -= 1;
        self.left.silences -= 1;
        self.node_mut(who).silent = true;
    }

    /// Another run of Redis with the same data.
    pub(crate) fn crash_redis(&mut self) {
        self.left.faults -= 1;
        self.new_run();
    }

    fn new_run(&mut self) {
        self.late_steps = [None; 2];
        for node in &mut self.nodes {
            node.sees_run = false;
            if node.step == Request::Sent {
                node.step = Request::Unknown;
            }
        }
    }

    /// Redis comes back with other data: none, or an older copy.
    pub(crate) fn lose_redis(&mut self, found: Redis) {
        self.redis = found;
        self.new_run();
        self.truth.redis_lost = true;
        self.excuse();
    }

    /// PostgreSQL dies and comes back with all that it committed.
    pub(crate) fn crash_postgres(&mut self) {
        self.left.faults -= 1;
        self.end_sessions();
    }

    fn end_sessions(&mut self) {
        self.late_commits = [None; 2];
        for node in self.nodes.iter_mut().filter(|node| node.commit == Request::Sent) {
            node.commit = Request::Unknown;
        }
    }

    /// Whether PostgreSQL may be put back to an operation, and to the epoch before the last takeover: no further than what
    /// the outbox is there for.
    pub(crate) fn may_put_back(&self, seq: u8, to_epoch_before: bool) -> bool {
        let found = self.postgres;
        let restores = self.nodes.iter().any(|node| node.phase == Phase::Cleaning);
        let existed = if to_epoch_before {
            seq <= found.raised_at && found.epoch_before < found.epoch
        } else {
            seq >= found.raised_at && seq < found.seq
        };
        self.redis.state == Readiness::Ready
            && !restores
            && existed
            && seq >= self.redis.base
            && found.seq - seq <= ENTRIES_KEPT
    }

    /// PostgreSQL is put back to an older state: before its last transaction, or before the last takeover.
    pub(crate) fn put_back(&mut self, seq: u8, to_epoch_before: bool) {
        self.left.put_backs -= 1;
        self.truth.put_back = true;
        let found = self.postgres;
        let log = found.log.first(seq);
        self.postgres = Postgres {
            epoch: if to_epoch_before { found.epoch_before } else { found.epoch },
            seq,
            chain: log.chain().unwrap_or_default(),
            log,
            seq_before: seq,
            raised_at: found.raised_at.min(seq),
            epoch_before: found.epoch_before,
        };
        self.end_sessions();
    }

    /// A step without an answer arrives after all.
    pub(crate) fn late_step(&mut self, rules: Rules, index: usize) {
        let step = self.late_steps.get_mut(index).and_then(Option::take);
        if let Some(step) = step {
            // Nobody hears the answer.
            let _ = self.do_step(rules, step);
        }
    }

    /// A transaction without an answer is committed after all, or refused.
    pub(crate) fn late_commit(&mut self, rules: Rules, index: usize) {
        let commit = self.late_commits.get_mut(index).and_then(Option::take);
        if let Some(commit) = commit {
            // Nobody hears the answer.
            let _ = self.do_commit(rules, commit);
        }
    }
}
