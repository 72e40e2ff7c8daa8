//! Every state within each scenario's bounds keeps every invariant.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Instant;

use forebay_model::{Bounds, Protocol, Rules};
use stateright::{Checker, HasDiscoveries, Model};

fn explore(name: &str, bounds: Bounds) {
    let since = Instant::now();
    let checker = Protocol { rules: Rules::all(), bounds }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} unique states, {} transitions, depth {}, {:.1} s",
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
        panic!("{property}\n{last:#?}");
    }
}

#[test]
fn two_nodes_takeovers_and_lost_answers() {
    explore("takeover", Bounds { operations: 2, pops: 1, faults: 2, silences: 1, ..Bounds::default() });
}
