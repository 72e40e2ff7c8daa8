//! With all rules, every state within each scenario's bounds keeps every invariant, and comes to rest without a fault.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Instant;

use forebay_model::{Bounds, Protocol, Rules, reach};
use stateright::{Checker, HasDiscoveries, Model};

/// One pop, one silence: what most scenarios have.
const BASE: Bounds = Bounds {
    operations: 2,
    pops: 1,
    faults: 1,
    silences: 1,
    redis_emptied: 0,
    redis_stale: 0,
    put_backs: 0,
    rollbacks: 0,
};

/// Below this, a scenario does not get to what it is named after.
const STATES_MIN: usize = 100_000;

fn holds(name: &str, bounds: Bounds) {
    let since = Instant::now();
    let protocol = Protocol { rules: Rules::all(), bounds };
    let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name}: {} unique states, {} transitions, longest path {}, {:.1} s; {bounds:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        since.elapsed().as_secs_f64()
    );
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let last = *path.last_state();
        for action in path.into_actions() {
            println!("  {action:?}");
        }
        panic!("{name}: not so: {property}\n{last:#?}");
    }
    assert!(checker.unique_state_count() >= STATES_MIN, "{name}: too few states");
}

#[test]
fn takeovers_and_lost_answers() {
    holds("takeovers, three operations", Bounds { operations: 3, faults: 2, silences: 2, ..BASE });
    holds("takeovers, three faults", Bounds { faults: 3, silences: 2, ..BASE });
}

#[test]
fn redis_emptied_under_way() {
    holds("Redis emptied", Bounds { faults: 2, redis_emptied: 1, ..BASE });
    holds("Redis emptied twice", Bounds { redis_emptied: 2, ..BASE });
}

#[test]
fn an_older_copy_takes_the_place_of_redis() {
    holds("stale Redis, three operations", Bounds { operations: 3, redis_stale: 1, ..BASE });
    holds("stale Redis, two faults", Bounds { pops: 0, faults: 2, redis_stale: 1, ..BASE });
}

#[test]
fn postgres_put_back_to_an_older_state() {
    holds("PostgreSQL put back", Bounds { faults: 2, put_backs: 1, ..BASE });
    holds("PostgreSQL put back, three operations", Bounds { operations: 3, put_backs: 1, ..BASE });
}

#[test]
fn hard_limits_and_rollback_files() {
    holds("rollback", Bounds { faults: 2, rollbacks: 1, ..BASE });
    holds("rollback, Redis emptied", Bounds { redis_emptied: 1, rollbacks: 1, ..BASE });
    holds("rollback, PostgreSQL put back", Bounds { silences: 0, put_backs: 1, rollbacks: 1, ..BASE });
}

#[test]
fn without_a_further_fault_everything_becomes_durable() {
    for (name, bounds) in [
        ("takeovers", Bounds { faults: 2, ..BASE }),
        ("Redis emptied", Bounds { redis_emptied: 1, ..BASE }),
        ("stale Redis", Bounds { redis_stale: 1, ..BASE }),
        ("PostgreSQL put back", Bounds { put_backs: 1, ..BASE }),
        ("rollback", Bounds { rollbacks: 1, ..BASE }),
    ] {
        let found = reach::explore(&Protocol { rules: Rules::all(), bounds });
        println!("{name}: a healthy state can be reached from each of {} states", found.states);
        assert!(found.stuck.is_empty(), "{name}: {:#?}", found.stuck);
    }
}
