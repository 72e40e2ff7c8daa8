//! Each rule that is left out leads to a counterexample; where rules cover for each other, leaving out all of them does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use forebay_model::{Action, Bounds, Protocol, Rule, Rules, reach};
use stateright::{Checker, HasDiscoveries, Model};

const BASE: Bounds = Bounds {
    operations: 2,
    pops: 1,
    faults: 2,
    silences: 1,
    redis_emptied: 0,
    redis_stale: 0,
    put_backs: 0,
    rollbacks: 0,
};
const EMPTIED: Bounds = Bounds { faults: 1, redis_emptied: 1, ..BASE };
const EMPTIED_TWICE: Bounds = Bounds { faults: 1, redis_emptied: 2, ..BASE };
const STALE: Bounds = Bounds { faults: 1, redis_stale: 1, ..BASE };
const PUT_BACK: Bounds = Bounds { faults: 1, put_backs: 1, ..BASE };
const ROLLBACK: Bounds = Bounds { faults: 1, rollbacks: 1, ..BASE };
const ROLLBACK_PUT_BACK: Bounds = Bounds { faults: 1, silences: 0, put_backs: 1, rollbacks: 1, ..BASE };

const LOST: &str = "nothing acknowledged is lost";
const FENCED: &str = "only the owner's epoch changes a tier";
const FOLD: &str = "a ready Redis is the fold of the operations up to its seq";

/// Rules left out, where that shows, and the invariant that breaks first.
const MUTATIONS: &[(&[Rule], Bounds, &str)] = &[
    (&[Rule::StepChecksEpoch], BASE, FENCED),
    (&[Rule::UpkeepChecksEpoch], BASE, FENCED),
    (&[Rule::PositionChecksEpoch], BASE, FENCED),
    (&[Rule::PositionChecksSeq], BASE, "parents fit in PostgreSQL"),
    (&[Rule::OutboxReadAfterClaim], BASE, LOST),
    (&[Rule::DrainBeforeRestore], BASE, LOST),
    (&[Rule::DrainBeforeClean], BASE, LOST),
    (&[Rule::TrimOnlyDurable], BASE, "what was trimmed is durable"),
    (&[Rule::LostCommitIsNotFailed], BASE, "a node stops only with a cause"),
    (&[Rule::LostCommitIsNotDone], BASE, "a node's durable operations are in PostgreSQL"),
    (&[Rule::LostStepIsNotDone], BASE, "what is acknowledged was done"),
    (&[Rule::ClaimComparesOwner], EMPTIED_TWICE, LOST),
    (&[Rule::TakeOverComparesEpoch], EMPTIED_TWICE, LOST),
    (&[Rule::RaiseOnlyOverOwn], EMPTIED_TWICE, LOST),
    (&[Rule::ClaimWaitsWithoutOwner], EMPTIED, LOST),
    (&[Rule::IdentityIsChecked], EMPTIED, LOST),
    (&[Rule::TailBeforeHeal], EMPTIED, LOST),
    (&[Rule::NewRunIsNoticed], STALE, "no acknowledged operation is replaced"),
    (&[Rule::SnapshotIsCompared], PUT_BACK, LOST),
    (&[Rule::KeepRecentEntries], PUT_BACK, LOST),
    (&[Rule::OlderPostgresIsFed], PUT_BACK, "parents fit in PostgreSQL"),
    (&[Rule::RollbackIsObeyed], ROLLBACK, "a rollback that was ordered is done"),
    (&[Rule::RollbackIsMarked], ROLLBACK, "a node that accepts has no open rollback order"),
    (&[Rule::RollbackIsBound], ROLLBACK, "a rollback drops only what its file records"),
    (&[Rule::RollbackKeepsItsBase], ROLLBACK_PUT_BACK, "a rollback drops only what its file records"),
    (&[Rule::StepChecksSeq, Rule::OutboxIdsGrow, Rule::OldConnectionIsKilled], BASE, FOLD),
    (
        &[Rule::StepChecksSeq, Rule::StepChecksTip, Rule::OutboxIdsGrow, Rule::OldConnectionIsKilled],
        BASE,
        FOLD,
    ),
    (&[Rule::TakeOverOnlyRaises, Rule::TakeOverComparesEpoch], BASE, "the epoch in PostgreSQL only grows"),
    (&[Rule::RaiseOnlyOverOwn, Rule::NewRunIsNoticed], EMPTIED, LOST),
];

/// Rules that nothing depends on while the others hold: a second line of defence.
const COVERED: &[Rule] = &[
    Rule::StepChecksSeq,
    Rule::StepChecksTip,
    Rule::OutboxIdsGrow,
    Rule::OldConnectionIsKilled,
    Rule::TakeOverOnlyRaises,
];

fn without(rules: &[Rule]) -> Rules {
    rules.iter().fold(Rules::all(), |left, rule| left.without(*rule))
}

/// The invariants that break first, each with the way to it, shortest first, and the states that were looked at.
fn counterexamples(rules: &[Rule], bounds: Bounds) -> (Vec<(&'static str, Vec<Action>)>, usize) {
    let protocol = Protocol { rules: without(rules), bounds };
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> =
        checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions())).collect();
    found.sort_by_key(|(name, path)| (path.len(), *name));
    (found, checker.unique_state_count())
}

#[test]
fn a_rule_left_out_is_found_out() {
    for (rules, bounds, expected) in MUTATIONS {
        let (found, states) = counterexamples(rules, *bounds);
        let path = found.iter().find(|(name, _)| name == expected).map(|(_, path)| path);
        let Some(path) = path else {
            panic!("without {rules:?}: {expected}: still holds; broken: {found:?}")
        };
        println!("without {rules:?}: broken after {} actions ({states} states): {expected}", path.len());
    }
}

#[test]
fn every_rule_is_part_of_a_mutation() {
    for rule in Rule::ALL {
        assert!(MUTATIONS.iter().any(|(rules, _, _)| rules.contains(&rule)), "{rule:?}");
    }
}

#[test]
fn rules_that_others_cover_are_a_second_line() {
    for rule in COVERED {
        let (found, states) = counterexamples(&[*rule], BASE);
        println!("without {rule:?} alone: {states} states, all hold");
        assert!(found.is_empty(), "{rule:?}: {found:?}");
    }
}

#[test]
fn a_start_that_can_never_succeed_is_found() {
    let found = reach::explore(&Protocol { rules: without(&[Rule::KeepRecentEntries]), bounds: PUT_BACK });
    assert!(!found.stuck.is_empty());
}
