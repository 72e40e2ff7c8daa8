//! What a seed makes happen: an endless list of cycles. Each lap has every kind once, in another order.

use serde::Serialize;

use crate::kind::FaultKind;
use crate::random::Random;

/// One fault: load, the fault under load, its healing, progress again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cycle {
    /// From 1.
    pub number: u32,
    /// What is done.
    pub kind: FaultKind,
    /// Load before it, milliseconds.
    pub load_ms: u64,
    /// How long it lasts, milliseconds.
    pub hold_ms: u64,
    /// What else the kind chooses: bytes until a cut, which direction.
    pub choice: u64,
}

/// The cycles of a seed.
#[derive(Debug, Clone)]
pub struct Plan {
    random: Random,
    kinds: Vec<FaultKind>,
    lap: Vec<FaultKind>,
    number: u32,
}

impl Plan {
    /// The plan of a seed over some kinds.
    pub fn new(seed: u64, kinds: Vec<FaultKind>) -> Self {
        Self { random: Random::new(seed, 1), kinds, lap: Vec::new(), number: 0 }
    }
}

impl Iterator for Plan {
    type Item = Cycle;

    fn next(&mut self) -> Option<Cycle> {
        if self.lap.is_empty() {
            self.lap.clone_from(&self.kinds);
            self.random.shuffle(&mut self.lap);
        }
        let kind = self.lap.pop()?;
        self.number += 1;
        let (least, most) = kind.hold_ms();
        Some(Cycle {
            number: self.number,
            kind,
            load_ms: self.random.between(50, 600),
            hold_ms: self.random.between(least, most),
            choice: self.random.next_u64() >> 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_another_seed_another_one() {
        let cycles = |seed| Plan::new(seed, FaultKind::ALL.to_vec()).take(100).collect::<Vec<_>>();
        assert_eq!(cycles(7), cycles(7));
        assert_ne!(cycles(7), cycles(8));
    }

    #[test]
    fn each_lap_has_every_kind() {
        let kinds = FaultKind::ALL.to_vec();
        let lap: BTreeSet<FaultKind> =
            Plan::new(3, kinds.clone()).skip(kinds.len()).take(kinds.len()).map(|cycle| cycle.kind).collect();
        assert_eq!(lap.len(), kinds.len());
    }
}
