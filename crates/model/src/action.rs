//! What can happen next, in every state.

use crate::rules::Rules;
use crate::world::{Phase, Redis, Request, Who, World};

/// One atomic happening. Between any two, everything else may happen: a paused node is one that does nothing for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A node goes on with what its phase says: a start, a restore, a rise of the epoch.
    GoOn(Who, Phase),
    /// A client submits a block.
    SubmitBlock(Who),
    /// A client takes the newest block back.
    SubmitPop(Who),
    /// Redis takes or refuses the step, and the answer arrives.
    StepAnswered(Who),
    /// The answer to a step is lost; the step may arrive later.
    StepUnanswered(Who),
    /// The node asks Redis' head.
    AskHead(Who),
    /// The node finds that Redis is not what it was.
    Suspect(Who),
    /// The node finds another run of Redis.
    CheckRun(Who),
    /// So many operations go to PostgreSQL.
    SendBatch(Who, u8),
    /// PostgreSQL commits or refuses, and the answer arrives.
    CommitAnswered(Who),
    /// The answer to COMMIT is lost; it may happen later.
    CommitUnanswered(Who),
    /// The node asks PostgreSQL's position.
    AskPosition(Who),
    /// An idle node asks PostgreSQL's position, and it is another.
    PositionDiffers(Who),
    /// Old outbox entries go.
    Trim(Who),
    /// Hard limit: rollback file, end.
    GiveUp(Who),
    /// A lost step arrives.
    LateStep(usize),
    /// A lost COMMIT happens.
    LateCommit(usize),
    /// A node dies.
    Crash(Who),
    /// A node's heartbeat is not seen any more.
    FallSilent(Who),
    /// Redis restarts with its data.
    CrashRedis,
    /// Redis is empty.
    EmptyRedis,
    /// A copy of Redis is made.
    CopyRedis,
    /// The copy takes Redis' place.
    StaleRedis,
    /// PostgreSQL restarts.
    CrashPostgres,
    /// PostgreSQL is put back to this operation, to the epoch before the last takeover or not.
    PutBack(u8, bool),
}

impl Action {
    /// Whether it is a fault: what only a [`Bounds`](crate::Bounds) allows, and no recovery may depend on.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::StepUnanswered(_)
                | Self::CommitUnanswered(_)
                | Self::GiveUp(_)
                | Self::LateStep(_)
                | Self::LateCommit(_)
                | Self::Crash(_)
                | Self::FallSilent(_)
                | Self::CrashRedis
                | Self::EmptyRedis
                | Self::CopyRedis
                | Self::StaleRedis
                | Self::CrashPostgres
                | Self::PutBack(..)
        )
    }
}

impl World {
    /// What can happen.
    pub(crate) fn possible(&self, rules: Rules, actions: &mut Vec<Action>) {
        for who in Who::BOTH {
            self.possible_of_node(rules, who, actions);
        }
        for (index, _) in self.late_steps.iter().enumerate().filter(|(_, step)| step.is_some()) {
            actions.push(Action::LateStep(index));
        }
        for (index, _) in self.late_commits.iter().enumerate().filter(|(_, commit)| commit.is_some()) {
            actions.push(Action::LateCommit(index));
        }
        self.possible_of_tiers(actions);
    }

    fn possible_of_tiers(&self, actions: &mut Vec<Action>) {
        let left = self.left;
        if left.faults > 0 {
            let uses_redis =
                self.nodes.iter().any(|node| node.sees_run) || self.late_steps.iter().any(Option::is_some);
            let uses_postgres = self.nodes.iter().any(|node| node.commit == Request::Sent)
                || self.late_commits.iter().any(Option::is_some);
            actions.extend(uses_redis.then_some(Action::CrashRedis));
            actions.extend(uses_postgres.then_some(Action::CrashPostgres));
        }
        if left.redis_emptied > 0 && self.redis != Redis::default() {
            actions.push(Action::EmptyRedis);
        }
        if left.redis_stale > 0 {
            actions.extend(
                (self.replica.is_none() && self.redis != Redis::default()).then_some(Action::CopyRedis),
            );
            actions.extend(self.replica.filter(|copy| *copy != self.redis).map(|_| Action::StaleRedis));
        }
        if left.put_backs > 0 {
            let seqs = [self.postgres.seq_before, self.postgres.seq];
            let choices = seqs.into_iter().flat_map(|seq| [(seq, false), (seq, true)]);
            actions.extend(
                choices
                    .filter(|(seq, before)| self.may_put_back(*seq, *before))
                    .map(|(seq, before)| Action::PutBack(seq, before)),
            );
        }
    }

    fn possible_of_node(&self, rules: Rules, who: Who, actions: &mut Vec<Action>) {
        let node = self.node(who);
        let left = self.left;
        match node.phase {
            Phase::Stopped => {
                actions.extend(self.may_look(who).then_some(Action::GoOn(who, Phase::Stopped)));
                return;
            }
            Phase::Running => self.possible_of_running(rules, who, actions),
            Phase::Draining | Phase::Healing => {}
            Phase::Looked if !self.may_choose(rules, who) => {}
            phase => actions.push(Action::GoOn(who, phase)),
        }
        if node.syncs() {
            self.possible_of_syncer(who, actions);
        }
        let gives_up = matches!(node.phase, Phase::Running | Phase::Healing) && node.step == Request::None;
        if left.rollbacks > 0 && gives_up && !node.tail.is_empty() {
            actions.push(Action::GiveUp(who));
        }
        if left.faults > 0 {
            actions.push(Action::Crash(who));
            if left.silences > 0 && node.is_alive() && !node.silent {
                actions.push(Action::FallSilent(who));
            }
        }
    }

    fn possible_of_running(&self, rules: Rules, who: Who, actions: &mut Vec<Action>) {
        let node = self.node(who);
        let left = self.left;
        if node.may_use_redis(rules) {
            match node.step {
                Request::None => {
                    if left.operations > 0 {
                        actions.push(Action::SubmitBlock(who));
                        if left.pops > 0 && !node.chain.is_empty() {
                            actions.push(Action::SubmitPop(who));
                        }
                    }
                    if !self.redis_is_whole(who) {
                        actions.push(Action::Suspect(who));
                    }
                    let old = self.redis.outbox_first <= self.trim_through(rules, who)
                        && !self.redis.outbox.is_empty();
                    actions.extend(old.then_some(Action::Trim(who)));
                }
                Request::Sent | Request::Again => {
                    actions.push(Action::StepAnswered(who));
                    let room = self.late_steps.iter().any(Option::is_none);
                    actions.extend((left.faults > 0 && room).then_some(Action::StepUnanswered(who)));
                }
                Request::Unknown => actions.push(Action::AskHead(who)),
            }
        } else {
            actions.push(Action::CheckRun(who));
        }
        let idle = node.commit == Request::None && node.tail.is_empty();
        if idle
            && (self.postgres.epoch, self.postgres.seq) != (node.epoch, node.durable)
            && node.step == Request::None
        {
            actions.push(Action::PositionDiffers(who));
        }
    }

    fn possible_of_syncer(&self, who: Who, actions: &mut Vec<Action>) {
        let node = self.node(who);
        match node.commit {
            Request::None => actions.extend((1..=node.tail.len()).map(|count| Action::SendBatch(who, count))),
            Request::Again => actions.push(Action::SendBatch(who, node.batch)),
            Request::Sent => {
                actions.push(Action::CommitAnswered(who));
                let room = self.late_commits.iter().any(Option::is_none);
                actions.extend((self.left.faults > 0 && room).then_some(Action::CommitUnanswered(who)));
            }
            Request::Unknown => actions.push(Action::AskPosition(who)),
        }
    }

    /// What comes of it.
    pub(crate) fn act(&mut self, rules: Rules, action: Action) {
        match action {
            Action::GoOn(who, phase) => self.go_on(rules, who, phase),
            Action::SubmitBlock(who) => self.submit(who, false),
            Action::SubmitPop(who) => self.submit(who, true),
            Action::StepAnswered(who) => self.step_answered(rules, who),
            Action::StepUnanswered(who) => {
                self.left.faults -= 1;
                self.step_unanswered(who);
            }
            Action::AskHead(who) => self.ask_head(rules, who),
            Action::Suspect(who) => self.suspect(rules, who),
            Action::CheckRun(who) => self.check_run(who),
            Action::SendBatch(who, count) => self.send_batch(who, count),
            Action::CommitAnswered(who) => self.commit_answered(rules, who),
            Action::CommitUnanswered(who) => {
                self.left.faults -= 1;
                self.commit_unanswered(who);
            }
            Action::AskPosition(who) => self.ask_position(rules, who),
            Action::PositionDiffers(who) => self.position_differs(rules, who),
            Action::Trim(who) => self.trim(rules, who),
            Action::GiveUp(who) => self.give_up(who),
            Action::LateStep(index) => self.late_step(rules, index),
            Action::LateCommit(index) => self.late_commit(rules, index),
            Action::Crash(who) => self.crash(who),
            Action::FallSilent(who) => self.fall_silent(who),
            Action::CrashRedis => self.crash_redis(),
            Action::EmptyRedis => {
                self.left.redis_emptied -= 1;
                self.lose_redis(Redis::default());
            }
            Action::CopyRedis => self.replica = Some(self.redis),
            Action::StaleRedis => {
                self.left.redis_stale -= 1;
                let copy = self.replica.take().unwrap_or_default();
                self.lose_redis(copy);
            }
            Action::CrashPostgres => self.crash_postgres(),
            Action::PutBack(seq, to_epoch_before) => self.put_back(seq, to_epoch_before),
        }
    }

    fn go_on(&mut self, rules: Rules, who: Who, phase: Phase) {
        let uses_redis = matches!(phase, Phase::Deciding | Phase::Cleaning | Phase::Loading | Phase::Opening);
        if uses_redis && !self.node(who).may_use_redis(rules) {
            return self.stop(who);
        }
        match phase {
            Phase::Stopped => self.look(rules, who),
            Phase::Looked => self.choose_epoch(rules, who),
            Phase::Claiming => self.claim(rules, who),
            Phase::TakingOver => self.take_over(rules, who),
            Phase::Deciding => self.decide(rules, who),
            Phase::Snapshotting => self.snapshot(rules, who),
            Phase::Cleaning => self.begin_clean(rules, who),
            Phase::Loading => self.load(rules, who),
            Phase::Opening => self.open(rules, who),
            Phase::Marking => self.mark_done(who),
            Phase::Draining | Phase::Running | Phase::Healing => {}
        }
    }
}
