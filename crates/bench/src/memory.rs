//! `memory`: bytes of Redis an account, an indexed transaction, a block; bytes of PostgreSQL a transaction. The control
//! arm is the naive layout: one key an entry, a hash an account, names and numbers as text.

use forebay_fast::{Buckets, Keys, encode_account, encode_block, encode_undo};
use forebay_ledger::account::Account;
use forebay_ledger::ids::TransactionId;
use forebay_ledger::json::block_to_value;
use forebay_store::Limits;

use crate::accept::{accept_all, checked};
use crate::arena::Arena;
use crate::ceiling::{Packed, open, write_all};
use crate::error::BenchError;
use crate::load::Load;
use crate::options::Durability;
use crate::row::{Row, figure};

pub(crate) async fn measure(arena: &Arena, load: &Load, profile: Durability) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    let keys = Keys::new(&load.network.profile.name)?;
    let accounts = accounts(load);
    let ids: Vec<(TransactionId, u32)> = ids(load);
    let buckets = Buckets::for_counts(accounts.len() as u64, ids.len() as u64);
    let row = |what: &str, figure: f64| Row {
        part: "memory",
        what: what.to_owned(),
        load: load.spec.kind.name().to_owned(),
        block_size: Some(load.block_size),
        accounts: load.spec.accounts,
        profile: profile.name(),
        figure,
        unit: "bytes",
        control: None,
        control_figure: None,
        ratio: None,
    };
    let naive = "naive layout: a key an entry, a hash an account";

    let (mut ours, mut plain) = (Packed::new(), Packed::new());
    for account in &accounts {
        let key = keys.account_bucket(buckets.of_account(account.address)).into_bytes();
        ours.push(&[
            b"HSET".to_vec(),
            key,
            account.address.0.to_be_bytes().to_vec(),
            encode_account(account),
        ]);
        plain.push(&naive_account(account));
    }
    let each = figure(accounts.len() as u64);
    let ours = bytes_of(arena, profile, ours).await? / each;
    rows.push(
        row("of Redis an account with a key", ours)
            .against(naive, bytes_of(arena, profile, plain).await? / each),
    );

    let (mut ours, mut plain) = (Packed::new(), Packed::new());
    for (id, height) in &ids {
        let key = keys.transaction_bucket(buckets.of_transaction(*id)).into_bytes();
        let height = height.to_string().into_bytes();
        ours.push(&[b"HSET".to_vec(), key, id.0.to_be_bytes().to_vec(), height.clone()]);
        plain.push(&[b"SET".to_vec(), format!("tx:{id}").into_bytes(), height]);
    }
    let each = figure(ids.len() as u64);
    let ours = bytes_of(arena, profile, ours).await? / each;
    rows.push(
        row("of Redis an indexed transaction", ours)
            .against(naive, bytes_of(arena, profile, plain).await? / each),
    );

    let (mut ours, mut plain) = (Packed::new(), Packed::new());
    for made in &load.blocks {
        let block = &made.applied.block;
        ours.push(&[b"SET".to_vec(), keys.block(block.id).into_bytes(), encode_block(block)]);
        if let Some(undo) = &made.applied.undo {
            ours.push(&[b"SET".to_vec(), keys.undo(block.height).into_bytes(), encode_undo(undo)]);
        }
        let text = block_to_value(block, &load.network.profile).to_string().into_bytes();
        plain.push(&[b"SET".to_vec(), format!("block:{}", block.id).into_bytes(), text]);
    }
    let each = figure(load.blocks.len() as u64);
    let ours = bytes_of(arena, profile, ours).await? / each;
    rows.push(
        row("of Redis a block, undo record included", ours)
            .against("the block as JSON", bytes_of(arena, profile, plain).await? / each),
    );

    rows.push(row(
        "of PostgreSQL a transaction, indexes included",
        postgres_bytes(arena, load, profile).await?,
    ));
    Ok(rows)
}

/// The accounts after the load; who has sent nothing yet gets a key as if it had.
fn accounts(load: &Load) -> Vec<Account> {
    let mut newest: std::collections::HashMap<_, _> =
        load.genesis.changes.accounts.iter().filter_map(|c| Some((c.address, c.after.clone()?))).collect();
    for change in load.blocks.iter().flat_map(|made| &made.applied.changes.accounts) {
        if let Some(after) = &change.after {
            newest.insert(change.address, after.clone());
        }
    }
    for wallet in &load.network.wallets {
        if let Some(account) = newest.get_mut(&wallet.address) {
            account.public_key.get_or_insert(wallet.key.public_key());
        }
    }
    // A delegate's record lives elsewhere.
    newest.into_values().filter(|account| account.delegate.is_none()).collect()
}

/// As many ids as a chain has that fills its buckets: a young one's are nearly empty, and cost more each.
fn ids(load: &Load) -> Vec<(TransactionId, u32)> {
    let count = 1_000_000.min(u64::from(load.spec.accounts) * 100);
    (0..count)
        .map(|n| (TransactionId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)), 1_000_000))
        .collect()
}

fn naive_account(account: &Account) -> Vec<Vec<u8>> {
    let key = account.public_key.map(|key| key.to_string()).unwrap_or_default();
    let words = [
        "HSET".to_owned(),
        format!("account:{}R", account.address.0),
        "balance".to_owned(),
        account.balance.to_string(),
        "publicKey".to_owned(),
        key,
    ];
    words.map(String::into_bytes).to_vec()
}

/// What Redis needs for keys, in a database that is empty before and after.
async fn bytes_of(arena: &Arena, profile: Durability, packed: Packed) -> Result<f64, BenchError> {
    let mut connection = arena.redis_connection(profile).await?;
    redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(&mut connection).await?;
    let before = used(&mut connection).await?;
    let stream = open(&arena.redis(profile)?.socket())?;
    write_all(&stream, packed).await?;
    let after = used(&mut connection).await?;
    redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(&mut connection).await?;
    Ok(figure(after.saturating_sub(before)))
}

/// Of the data set: buffers of connections do not count.
async fn used(connection: &mut redis::aio::MultiplexedConnection) -> Result<u64, BenchError> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    let overhead = info.lines().find_map(|line| line.strip_prefix("used_memory_overhead:"));
    let clients = info.lines().filter_map(|line| {
        line.strip_prefix("mem_clients_normal:").or_else(|| line.strip_prefix("mem_aof_buffer:"))
    });
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let clients: u64 = clients.map(number).sum();
    Ok(line.map_or(0, number) + overhead.map_or(0, number).saturating_sub(clients))
}

async fn postgres_bytes(arena: &Arena, load: &Load, profile: Durability) -> Result<f64, BenchError> {
    let stage = arena.stage(profile, &load.network, Limits::default()).await?;
    let staged = stage.start().await?;
    accept_all(&staged.node, checked(&load.blocks), load.now()).await?;
    staged.settle().await?;
    let admin = stage.admin().await?;
    let sql =
        "select pg_total_relation_size('forebay.transactions')::float8 / count(*) from forebay.transactions";
    let bytes: f64 = admin.query_one(sql, &[]).await?.try_get(0)?;
    drop(admin);
    staged.end().await?;
    stage.remove().await?;
    Ok(bytes)
}
