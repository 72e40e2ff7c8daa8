//! The protocol as a model: what may happen, and what must hold in every state.

use stateright::{Model, Property};

use crate::action::Action;
use crate::rules::{Bounds, Rules};
use crate::world::{Broken, Phase, Readiness, Request, Who, World};

/// The protocol with some rules, within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// The rules in force.
    pub rules: Rules,
    /// What may happen.
    pub bounds: Bounds,
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // A broken promise ends a history: what follows from it is of no interest.
        if world.truth.broken.is_none() {
            world.possible(self.rules, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        next.act(self.rules, action);
        let next = next.canonical();
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(
                "PostgreSQL has a prefix of the operations, each once, in order",
                |_, world: &World| world.postgres_is_a_prefix(),
            ),
            Property::always("nothing acknowledged is lost", |_, world: &World| {
                world.truth.acknowledged <= world.recoverable()
            }),
            Property::always(
                "a ready Redis is the fold of the operations up to its seq",
                |_, world: &World| world.redis_is_a_fold(),
            ),
            Property::always("what was trimmed is durable", |_, world: &World| world.trimmed_is_durable()),
            Property::always("a node's durable operations are in PostgreSQL", |_, world: &World| {
                world.told_durable_is_durable()
            }),
            Property::always(
                "tip of Redis = tip of PostgreSQL + tail, for the owner of both",
                |_, world: &World| world.tail_closes_the_distance(),
            ),
            Property::always("a node that accepts has no open rollback order", |_, world: &World| {
                world.nodes.iter().all(|node| node.phase != Phase::Running || node.order.is_none())
            }),
        ];
        macro_rules! never_broken {
            ($($name:literal: $broken:ident),* $(,)?) => {
                $(properties.push(Property::always($name, |_, world: &World| {
                    world.truth.broken != Some(Broken::$broken)
                }));)*
            };
        }
        never_broken! {
            "no acknowledged operation is replaced": Overwritten,
            "no operation is done behind a gap": Gap,
            "what is acknowledged was done": AcknowledgedNothing,
            "only the owner's epoch changes a tier": FencedWrite,
            "the epoch in PostgreSQL only grows": EpochWentBack,
            "parents fit in PostgreSQL": DoesNotFit,
            "a rollback drops only what its file records": LostBeyondRecord,
            "a rollback that was ordered is done": OrderIgnored,
            "a start ends with both tiers equal": TiersDiffer,
            "a node stops only with a cause": StoppedWithoutCause,
        }
        properties
    }
}

impl World {
    fn postgres_is_a_prefix(&self) -> bool {
        let postgres = &self.postgres;
        postgres.log.len() == postgres.seq
            && postgres.log == self.truth.history.first(postgres.seq)
            && postgres.log.chain() == Some(postgres.chain)
    }

    fn redis_is_a_fold(&self) -> bool {
        let redis = &self.redis;
        if redis.state != Readiness::Ready {
            return true;
        }
        let history = self.truth.history.first(redis.seq);
        let outbox = history.skip(redis.outbox_first.saturating_sub(1));
        history.len() == redis.seq
            && history.chain() == Some(redis.chain)
            && outbox == redis.outbox
            && (self.truth.redis_lost || redis.seq >= self.truth.acknowledged)
    }

    fn trimmed_is_durable(&self) -> bool {
        let redis = &self.redis;
        redis.state != Readiness::Ready
            || self.truth.redis_lost
            || redis.outbox_first <= self.postgres.seq + 1
    }

    fn told_durable_is_durable(&self) -> bool {
        self.truth.put_back
            || self.nodes.iter().all(|node| node.phase == Phase::Looked || node.durable <= self.postgres.seq)
    }

    fn tail_closes_the_distance(&self) -> bool {
        let (redis, postgres) = (&self.redis, &self.postgres);
        self.nodes
            .iter()
            .filter(|node| {
                node.phase == Phase::Running
                    && node.epoch == redis.owner
                    && node.epoch == postgres.epoch
                    && redis.state == Readiness::Ready
                    && !self.truth.redis_lost
                    && node.step == Request::None
                    && node.durable <= postgres.seq
            })
            .all(|node| {
                let beyond = node.tail.skip(postgres.seq - node.durable);
                let chain = postgres.log.and(beyond).chain();
                // A step of the node's own past, that it was never told of, may be done: it asks before the next.
                let is_whole = redis.seq == node.seq();
                !is_whole || (chain == Some(redis.chain) && chain == Some(node.chain))
            })
    }

    /// Both tiers hold all operations, and a node that can be seen serves them: what every recovery must be able to reach.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let (redis, postgres) = (&self.redis, &self.postgres);
        Who::BOTH.into_iter().any(|who| {
            let node = self.node(who);
            node.phase == Phase::Running
                && node.step == Request::None
                && node.commit == Request::None
                && node.tail.is_empty()
                && self.redis_is_whole(who)
                && (postgres.epoch, postgres.seq) == (node.epoch, node.durable)
                && postgres.chain == redis.chain
        })
    }
}
