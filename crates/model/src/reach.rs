//! Liveness without fairness: from every state, without a further fault, a healthy state can be reached.

use std::collections::HashMap;

use stateright::Model;

use crate::action::Action;
use crate::protocol::Protocol;
use crate::world::World;

/// What [`explore`] found.
#[derive(Debug)]
pub struct Reach {
    /// Unique states.
    pub states: usize,
    /// Those from which no healthy state is reachable without a fault, at most [`STUCK_SHOWN_MAX`].
    pub stuck: Vec<World>,
}

/// Stuck states that are kept to be shown.
pub const STUCK_SHOWN_MAX: usize = 3;

/// Explores all states, and from the healthy ones back along everything that is no fault.
#[must_use]
pub fn explore(protocol: &Protocol) -> Reach {
    let mut worlds: Vec<World> = protocol.init_states();
    let mut numbers: HashMap<World, u32> = worlds.iter().copied().zip(0..).collect();
    // Pairs (to, from) of what may happen without a fault.
    let mut back: Vec<(u32, u32)> = Vec::new();
    let mut actions: Vec<Action> = Vec::new();
    let mut at = 0;
    while let Some(world) = worlds.get(at).copied() {
        let from = u32::try_from(at).unwrap_or(u32::MAX);
        protocol.actions(&world, &mut actions);
        for action in actions.drain(..) {
            let Some(next) = protocol.next_state(&world, action) else { continue };
            let new = u32::try_from(worlds.len()).unwrap_or(u32::MAX);
            let to = *numbers.entry(next).or_insert_with(|| {
                worlds.push(next);
                new
            });
            if !action.is_fault() {
                back.push((to, from));
            }
        }
        at += 1;
    }
    drop(numbers);
    let can_rest = can_rest(&worlds, back);
    let stuck = worlds.iter().zip(can_rest).filter(|(_, rests)| !rests).map(|(world, _)| *world);
    Reach { states: worlds.len(), stuck: stuck.take(STUCK_SHOWN_MAX).collect() }
}

/// For each state, whether a healthy one can be reached.
fn can_rest(worlds: &[World], mut back: Vec<(u32, u32)>) -> Vec<bool> {
    back.sort_unstable();
    let mut rests: Vec<bool> = worlds.iter().map(World::is_healthy).collect();
    let mut pending: Vec<u32> =
        (0..).zip(&rests).filter(|(_, rests)| **rests).map(|(number, _)| number).collect();
    while let Some(to) = pending.pop() {
        let first = back.partition_point(|(other, _)| *other < to);
        for (_, from) in back.get(first..).into_iter().flatten().take_while(|(other, _)| *other == to) {
            if let Some(seen) = rests.get_mut(*from as usize).filter(|seen| !**seen) {
                *seen = true;
                pending.push(*from);
            }
        }
    }
    rests
}
