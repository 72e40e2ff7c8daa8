//! What the ledger's rules cost: a block of 250 transfers verified against a state in memory and applied, and undone.
//! `cargo bench -p forebay-bench`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use forebay_generator::{Chain, ChainOptions, Mix, Network, NetworkOptions};
use forebay_ledger::apply::{apply_block, undo};
use forebay_ledger::crypto::Checker;
use forebay_ledger::verify::check_block;

/// The 1st of January 2026.
const NOW: i64 = 1_767_225_600;

fn apply(criterion: &mut Criterion) {
    let options =
        NetworkOptions { accounts: 10_000, transactions_per_block: 250, ..NetworkOptions::default() };
    let network = Arc::new(Network::from_seed("apply", &options).unwrap());
    let profile = &network.profile;
    let (now, checker) = (profile.network_time(NOW), Checker::default());
    let mut group = criterion.benchmark_group("a block of 250");
    group.throughput(Throughput::Elements(250));
    for (name, mix) in [("transfers", Mix::transfers_only()), ("all types", Mix::all_types())] {
        let options =
            ChainOptions { mix, transactions_min: 250, transactions_max: 250, ..ChainOptions::default() };
        let mut chain = Chain::new(Arc::clone(&network), options, NOW).unwrap();
        (0..20).for_each(|_| drop(chain.next_block().unwrap()));
        let block = chain.next_block().unwrap();
        let after = chain.state().clone();
        chain.pop().unwrap();
        let state = chain.state();
        let checked = check_block(block.clone(), profile, &checker).unwrap();
        group.bench_function(format!("apply, {name}"), |b| {
            b.iter_batched(
                || checked.clone(),
                |checked| apply_block(state, checked, profile, now, &checker).unwrap(),
                BatchSize::SmallInput,
            );
        });
        let record = apply_block(state, checked.clone(), profile, now, &checker).unwrap().undo.unwrap();
        group.bench_function(format!("undo, {name}"), |b| {
            b.iter(|| undo(black_box(&after), &block, &record).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
