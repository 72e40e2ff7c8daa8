//! What a seed makes happen: an endless list of cycles. Each lap has every kind once, in another order; some cycles have a
//! second fault that begins while the first one is active.

use serde::Serialize;

use crate::kind::FaultKind;
use crate::random::Random;
use crate::together::may_join;

/// Of 100 cycles whose fault may have company, so many have a second one.
const TOGETHER_PERCENT: u64 = 40;

/// One fault, or two: load, the fault under load, its healing, progress again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cycle {
    /// From 1.
    pub number: u32,
    /// Load before it, milliseconds.
    pub load_ms: u64,
    /// What is done.
    #[serde(flatten)]
    pub fault: Fault,
    /// What is done meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Second>,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What is done.
    pub kind: FaultKind,
    /// How long it lasts, milliseconds.
    pub hold_ms: u64,
    /// What else the kind chooses: bytes until a cut, which direction.
    pub choice: u64,
}

/// A fault that begins while another one is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    /// It.
    #[serde(flatten)]
    pub fault: Fault,
    /// How long after the first one, milliseconds.
    pub after_ms: u64,
}

impl Cycle {
    /// The kinds of its faults, for people.
    pub fn name(&self) -> String {
        match &self.second {
            None => self.fault.kind.name(),
            Some(second) => format!("{} + {}", self.fault.kind, second.fault.kind),
        }
    }

    /// The kinds of its faults.
    pub fn kinds(&self) -> impl Iterator<Item = FaultKind> {
        std::iter::once(self.fault.kind).chain(self.second.as_ref().map(|second| second.fault.kind))
    }
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

    fn fault(&mut self, kind: FaultKind) -> Fault {
        let (least, most) = kind.hold_ms();
        let hold_ms = self.random.between(least, most);
        Fault { kind, hold_ms, choice: self.random.next_u64() >> 32 }
    }

    fn second(&mut self, first: &Fault) -> Option<Second> {
        let company: Vec<FaultKind> =
            self.kinds.iter().copied().filter(|second| may_join(first.kind, *second)).collect();
        let drawn = self.random.next_u64();
        let kind = *company.get(usize::try_from(drawn % company.len().max(1) as u64).ok()?)?;
        let after_ms = self.random.between(0, first.hold_ms);
        self.random.percent(TOGETHER_PERCENT).then_some(Second { fault: self.fault(kind), after_ms })
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
        let load_ms = self.random.between(50, 600);
        let fault = self.fault(kind);
        let second = self.second(&fault);
        Some(Cycle { number: self.number, load_ms, fault, second })
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
        let lap: BTreeSet<FaultKind> = Plan::new(3, kinds.clone())
            .skip(kinds.len())
            .take(kinds.len())
            .map(|cycle| cycle.fault.kind)
            .collect();
        assert_eq!(lap.len(), kinds.len());
    }

    #[test]
    fn some_cycles_have_two_faults_that_fit_each_other() {
        let cycles: Vec<Cycle> = Plan::new(5, FaultKind::ALL.to_vec()).take(100).collect();
        let pairs: Vec<&Cycle> = cycles.iter().filter(|cycle| cycle.second.is_some()).collect();
        assert!(pairs.len() > 5, "{}", pairs.len());
        for cycle in pairs {
            let [first, second] = cycle.kinds().collect::<Vec<_>>().try_into().unwrap();
            assert!(may_join(first, second), "{}", cycle.name());
        }
    }
}
