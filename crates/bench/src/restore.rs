//! `restore`: a start with much in PostgreSQL, until ready. A short real chain, and rows beside it that make PostgreSQL
//! as full as asked: restoring looks at counts and sums, not at who made a row.

use std::collections::HashMap;
use std::time::Instant;

use forebay_store::Limits;
use tokio_postgres::Client;

use crate::accept::{accept_all, checked};
use crate::arena::{Arena, Stage};
use crate::ceiling::{Packed, open, write_all};
use crate::error::BenchError;
use crate::load::Load;
use crate::options::{BenchOptions, Durability};
use crate::row::{Row, figure, median};

/// Newest blocks that are restored with bodies; the rows beside the chain stand below them.
const BLOCKS_KEPT: u32 = 100;

/// Newest operations whose blocks are restored.
const OUTBOX_KEPT: usize = 100;

pub(crate) fn blocks_needed() -> usize {
    120
}

pub(crate) async fn measure(
    arena: &Arena,
    options: &BenchOptions,
    load: &Load,
    profile: Durability,
) -> Result<Vec<Row>, BenchError> {
    let limits = Limits { blocks_kept: BLOCKS_KEPT, outbox_kept: OUTBOX_KEPT, ..Limits::default() };
    let stage = arena.stage(profile, &load.network, limits).await?;
    let staged = stage.start().await?;
    accept_all(&staged.node, checked(&load.blocks), load.now()).await?;
    staged.end().await?;
    fill(&stage.admin().await?, options).await?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats.max(1) {
        let began = Instant::now();
        let staged = stage.start().await?;
        ours.push(began.elapsed().as_secs_f64());
        staged.end().await?;
        plain.push(write_again(arena, &stage).await?);
    }
    stage.remove().await?;
    let accounts = options.restore_accounts;
    let row = Row {
        part: "restore",
        what: format!("{accounts} accounts and {} transactions, until ready", options.restore_transactions),
        load: load.spec.kind.name().to_owned(),
        block_size: None,
        accounts,
        profile: profile.name(),
        figure: figure(u64::from(accounts) + u64::from(options.restore_transactions)) / median(ours),
        unit: "rows/s",
        control: None,
        control_figure: None,
        ratio: None,
    };
    let written = figure(u64::from(accounts) + u64::from(options.restore_transactions)) / median(plain);
    Ok(vec![row.against("raw pipelined write of the same keys", written)])
}

/// Rows beside the chain: accounts without votes, transactions of block 2.
async fn fill(admin: &Client, options: &BenchOptions) -> Result<(), BenchError> {
    let (accounts, transactions) = (options.restore_accounts, options.restore_transactions);
    let bits = "('x' || substr(md5(n::text), 1, 16))::bit(64)::bigint";
    admin
        .batch_execute(&format!(
            "begin; set local session_replication_role = replica; set local synchronous_commit = off; \
             insert into forebay.accounts (address, balance, created_height, public_key, public_key_height) \
                 select {bits}, n, 2, sha256(n::text::bytea), 2 from generate_series(1, {accounts}) n \
                 on conflict do nothing; \
             insert into forebay.transactions (id, sender, recipient, amount, fee, height, index, timestamp, type, \
                     sender_public_key, signature) \
                 select {bits}, n, n, 1, 1, 2, 100000 + n, 1, 0, sha256(n::text::bytea), \
                     sha256(n::text::bytea) || sha256(n::text::bytea) from generate_series(1, {transactions}) n; \
             update forebay.blocks set transactions_before = transactions_before + {transactions} where height > 2; \
             commit"
        ))
        .await?;
    // Each by itself: several statements in one message are one transaction.
    for table in ["accounts", "transactions"] {
        admin.batch_execute(&format!("vacuum analyze forebay.{table}")).await?;
    }
    Ok(())
}

/// Writes all keys that the node left into the control arms' database; the seconds that it took.
async fn write_again(arena: &Arena, stage: &Stage<'_>) -> Result<f64, BenchError> {
    let mut connection = arena.redis_connection(stage.profile).await?;
    let mut packed = Packed::new();
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(5000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
        let types: Vec<String> = ask(&mut connection, "TYPE", &keys).await?;
        let of = |kind: &str| -> Vec<Vec<u8>> {
            keys.iter().zip(&types).filter(|(_, found)| *found == kind).map(|(key, _)| key.clone()).collect()
        };
        // What is not a hash or a string is a handful of keys.
        let hashes = of("hash");
        let found: Vec<HashMap<Vec<u8>, Vec<u8>>> = ask(&mut connection, "HGETALL", &hashes).await?;
        for (key, fields) in hashes.into_iter().zip(found) {
            let mut words = vec![b"HSET".to_vec(), key];
            words.extend(fields.into_iter().flat_map(|(field, value)| [field, value]));
            packed.push(&words);
        }
        let strings = of("string");
        let found: Vec<Vec<u8>> = ask(&mut connection, "GET", &strings).await?;
        for (key, value) in strings.into_iter().zip(found) {
            packed.push(&[b"SET".to_vec(), key, value]);
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    if packed.commands() == 0 {
        return Err(BenchError::Other("the restored node left no keys".to_owned()));
    }
    redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(&mut connection).await?;
    let stream = open(&arena.redis(stage.profile)?.socket())?;
    let seconds = write_all(&stream, packed).await?;
    redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(&mut connection).await?;
    Ok(seconds)
}

/// One command for each key, in one round trip.
async fn ask<T: redis::FromRedisValue>(
    connection: &mut redis::aio::MultiplexedConnection,
    command: &str,
    keys: &[Vec<u8>],
) -> Result<Vec<T>, BenchError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut reads = redis::pipe();
    keys.iter().for_each(|key| {
        reads.cmd(command).arg(key.as_slice());
    });
    Ok(reads.query_async(connection).await?)
}
