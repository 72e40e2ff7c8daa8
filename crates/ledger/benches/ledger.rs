//! What the ledger's small parts cost: ids, signature checks, a round's list.
//! `cargo bench -p forebay-ledger`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_ledger::crypto::{Checker, KeyPair, SignatureCheck, verify};
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::keys::{Hash, Signature};
use forebay_ledger::transaction::{Asset, Transaction};

fn transfer(number: u64) -> Transaction {
    let pair = KeyPair::from_passphrase(&format!("bench {number}"));
    let key = pair.public_key();
    let mut transaction = Transaction {
        id: TransactionId(0),
        timestamp: 7,
        sender_public_key: key,
        sender: Address::of(&key),
        claimed_sender: None,
        requester_public_key: None,
        recipient: Some(Address(number)),
        amount: 1,
        fee: 10_000_000,
        signature: Signature([0; 64]),
        second_signature: None,
        signatures: Vec::new(),
        asset: Asset::Transfer,
    };
    transaction.signature = pair.sign(&transaction.first_signature_hash());
    transaction
}

fn ids(criterion: &mut Criterion) {
    let transaction = transfer(1);
    criterion.bench_function("id of a transfer", |b| b.iter(|| black_box(&transaction).computed_id()));
    let key = transaction.sender_public_key;
    criterion.bench_function("address of a key", |b| b.iter(|| Address::of(black_box(&key))));
}

fn signatures(criterion: &mut Criterion) {
    let checks: Vec<SignatureCheck> = (0..250)
        .map(transfer)
        .map(|t| SignatureCheck {
            key: t.sender_public_key,
            message: t.first_signature_hash(),
            signature: t.signature,
        })
        .collect();
    let one = checks[0];
    criterion.bench_function("one signature, key decoded each time", |b| {
        b.iter(|| verify(black_box(&one.key), &one.message, &one.signature));
    });
    let checker = Checker::default();
    criterion
        .bench_function("one signature, key from the cache", |b| b.iter(|| checker.verify(black_box(&one))));
    let mut group = criterion.benchmark_group("signatures");
    group.throughput(Throughput::Elements(checks.len() as u64));
    group.bench_function("a block of 250, all cores", |b| {
        b.iter(|| checker.verify_all(black_box(&checks)).unwrap())
    });
    group.finish();
    let pair = KeyPair::from_passphrase("bench");
    criterion.bench_function("signing", |b| b.iter(|| pair.sign(black_box(&Hash([3; 32])))));
}

criterion_group!(benches, ids, signatures);
criterion_main!(benches);
