//! How fast PostgreSQL takes blocks and gives them back, what each trigger costs, and how many bytes a transaction needs.
//! Figures, not proofs. Usage: `cargo run --release -p forebay-slow --example throughput`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};
use forebay_slow::{BlockRow, SlowOperation};
use support::Database;
use support::chain::{Chain, DELEGATES, apply, take_back};
use tokio_postgres::Client;

const ACCOUNTS: u64 = 200_000;
const BLOCK: usize = 250;

/// Blocks whose signatures nobody checks here: the slow tier takes the ledger's word.
struct Maker {
    forgers: Vec<PublicKey>,
    tip: Arc<Block>,
    transactions: u64,
}

fn key(number: u64) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PublicKey(bytes)
}

impl Maker {
    fn block(&mut self, transactions: Vec<Transaction>) -> SlowOperation {
        let height = self.tip.height + 1;
        let block = Arc::new(Block {
            id: BlockId(1_000_000 + u64::from(height)),
            height,
            timestamp: height * 30,
            previous_block: Some(self.tip.id),
            number_of_transactions: transactions.len() as u32,
            total_amount: transactions.iter().map(|t| t.amount).sum(),
            total_fee: transactions.iter().map(|t| t.fee).sum(),
            generator_public_key: self.forgers[(height % DELEGATES) as usize],
            transactions,
            ..(*self.tip).clone()
        });
        let row = BlockRow {
            block: Arc::clone(&block),
            transactions_before: self.transactions,
            forgers: (height % DELEGATES == 1).then(|| self.forgers.clone()),
            delegates_digest: height.is_multiple_of(DELEGATES).then_some(Hash([0; 32])),
        };
        self.transactions += block.transactions.len() as u64;
        self.tip = block;
        SlowOperation::Append(row)
    }

    fn blocks(&mut self, transactions: impl Iterator<Item = Transaction>) -> Vec<SlowOperation> {
        self.blocks_of(BLOCK, transactions)
    }

    fn blocks_of(
        &mut self,
        size: usize,
        mut transactions: impl Iterator<Item = Transaction>,
    ) -> Vec<SlowOperation> {
        let mut operations = Vec::new();
        loop {
            let chunk: Vec<Transaction> = transactions.by_ref().take(size).collect();
            if chunk.is_empty() {
                return operations;
            }
            operations.push(self.block(chunk));
        }
    }
}

fn transaction(
    id: u64,
    sender: PublicKey,
    recipient: Option<Address>,
    amount: i64,
    asset: Asset,
) -> Transaction {
    Transaction {
        id: TransactionId(id.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        timestamp: 1,
        sender_public_key: sender,
        sender: Address::of(&sender),
        claimed_sender: None,
        requester_public_key: None,
        recipient,
        amount,
        fee: 10_000_000,
        signature: Signature([1; 64]),
        second_signature: None,
        signatures: Vec::new(),
        asset,
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let chain = Chain::first_up_to(1);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    // Nothing computes the ledger's digest here.
    admin
        .batch_execute("create or replace function forebay_code.check_digest(last_height integer) returns void language sql as ''")
        .await
        .unwrap();
    let count_calls = format!("alter database \"{}\" set track_functions = 'pl'", database.names.database);
    admin.batch_execute(&count_calls).await.unwrap();
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=1), 1).await;
    let forgers = chain.main[0].forgers.clone().unwrap();
    let genesis = &chain.main[0].block;
    let mut maker = Maker {
        forgers: forgers.clone(),
        tip: Arc::clone(genesis),
        transactions: genesis.transactions.len() as u64,
    };
    let random = |n: u64| n.wrapping_mul(0xD134_2543_DE82_EF95).rotate_left(17) % ACCOUNTS;

    let fund = |n: u64| {
        let rich = forgers[(n % 101) as usize];
        transaction(n + 1, rich, Some(Address::of(&key(n))), 10_000_000_000, Asset::Transfer)
    };
    let vote = |n: u64| {
        let votes = vec![VoteEntry { add: true, delegate: forgers[(n % 101) as usize] }];
        transaction(1_000_000 + n, key(n), Some(Address::of(&key(n))), 0, Asset::Vote { votes })
    };
    let pay = |n: u64| {
        let to = Address::of(&key(random(n + 77)));
        transaction(2_000_000 + n, key(random(n)), Some(to), 1000, Asset::Transfer)
    };
    let phases: [(&str, usize, Vec<SlowOperation>); 7] = [
        ("200,000 transfers to new accounts", 202, maker.blocks((0..ACCOUNTS).map(fund))),
        ("100,000 votes", 202, maker.blocks((0..ACCOUNTS / 2).map(vote))),
        ("200,000 transfers between accounts", 202, maker.blocks((0..200_000).map(pay))),
        ("20,000 transfers, a commit a block", 1, maker.blocks((300_000..320_000).map(pay))),
        ("200,000 transfers between accounts", 202, maker.blocks((400_000..600_000).map(pay))),
        ("20,000 transfers, 10 a block", 500, maker.blocks_of(10, (600_000..620_000).map(pay))),
        ("25,000 transfers, 25 a block, a commit each", 1, maker.blocks_of(25, (700_000..725_000).map(pay))),
    ];
    for (what, batch, operations) in phases {
        let started = Instant::now();
        apply(&mut writer, &operations, batch).await;
        let seconds = started.elapsed().as_secs_f64();
        let transactions: usize = operations
            .iter()
            .map(|o| if let SlowOperation::Append(row) = o { row.block.transactions.len() } else { 0 })
            .sum();
        println!(
            "{what}: {seconds:.1} s, {:.0} tx/s, {:.1} ms a block",
            transactions as f64 / seconds,
            seconds * 1000.0 / operations.len() as f64
        );
    }
    print_bytes(&admin).await;
    let top = maker.tip.height;
    for (what, to) in [("1 block", top - 1), ("100 blocks", top - 101), ("800 blocks", top - 901)] {
        let started = Instant::now();
        take_back(&mut writer, to).await;
        println!("taking back {what}: {:.2} s", started.elapsed().as_secs_f64());
    }
    drop(writer);
    print_calls(&admin).await;
}

async fn print_bytes(admin: &Client) {
    let sql = "select c.relname::text, pg_relation_size(c.oid)::float8 / (select count(*) from forebay.transactions) \
         from pg_class c left join pg_index i on i.indexrelid = c.oid \
         where coalesce(i.indrelid, c.oid) = 'forebay.transactions'::regclass order by 2 desc";
    for row in admin.query(sql, &[]).await.unwrap() {
        println!("{}: {:.1} bytes a transaction", row.get::<_, &str>(0), row.get::<_, f64>(1));
    }
}

/// What the trigger functions took, those that they call included.
async fn print_calls(admin: &Client) {
    let sql = "select funcname::text, calls, total_time, self_time from pg_stat_user_functions \
         where schemaname = 'forebay_code' order by total_time desc";
    for row in admin.query(sql, &[]).await.unwrap() {
        let (name, calls): (&str, i64) = (row.get(0), row.get(1));
        let (total, alone): (f64, f64) = (row.get(2), row.get(3));
        println!("{name}: {calls} calls, {total:.0} ms, {alone:.0} ms of them in itself");
    }
}
