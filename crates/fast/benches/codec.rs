//! What the encodings cost. `cargo bench -p forebay-fast`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_fast::{decode_account, decode_block, encode_account, encode_block};
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::transaction::{Asset, Transaction};

fn account() -> Account {
    Account {
        balance: 123_456_789_012,
        public_key: Some(PublicKey([7; 32])),
        votes: vec![Address(5)],
        ..Account::new(Address(12_345))
    }
}

fn block(transactions: u64) -> Block {
    let transfer = |n: u64| Transaction {
        id: TransactionId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        timestamp: 1_000_000,
        sender_public_key: PublicKey([n as u8; 32]),
        sender: Address(n),
        claimed_sender: None,
        requester_public_key: None,
        recipient: Some(Address(n + 1)),
        amount: 1_000_000,
        fee: 10_000_000,
        signature: Signature([n as u8; 64]),
        second_signature: None,
        signatures: Vec::new(),
        asset: Asset::Transfer,
    };
    Block {
        id: BlockId(1),
        height: 1_000_000,
        version: 0,
        timestamp: 30_000_000,
        previous_block: Some(BlockId(2)),
        number_of_transactions: transactions as u32,
        total_amount: 1,
        total_fee: 1,
        reward: 1,
        payload_length: 1,
        payload_hash: Hash([1; 32]),
        generator_public_key: PublicKey([2; 32]),
        block_signature: Signature([3; 64]),
        transactions: (0..transactions).map(transfer).collect(),
    }
}

fn codec(criterion: &mut Criterion) {
    let account = account();
    let bytes = encode_account(&account);
    criterion.bench_function("encode an account", |b| b.iter(|| encode_account(black_box(&account))));
    criterion.bench_function("decode an account", |b| {
        b.iter(|| decode_account(account.address, black_box(&bytes)).unwrap());
    });
    let block = block(250);
    let bytes = encode_block(&block);
    let mut group = criterion.benchmark_group("a block of 250");
    group.throughput(Throughput::Elements(250));
    group.bench_function("encode", |b| b.iter(|| encode_block(black_box(&block))));
    group.bench_function("decode", |b| b.iter(|| decode_block(black_box(&bytes)).unwrap()));
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
