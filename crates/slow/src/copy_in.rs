//! Binary COPY of blocks and transactions.

use std::pin::pin;

use forebay_ledger::block::Block;
use forebay_ledger::keys::PublicKey;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement, Transaction};

use crate::error::{ErrorKind, SlowError};
use crate::rows::BlockRow;

const COPY_TRANSACTIONS: &str = "copy forebay.transactions (id, sender, recipient, amount, fee, height, index, timestamp, \
     type, sender_public_key, signature, second_signature, requester_public_key, signatures, asset) \
     from stdin (format binary)";

const TRANSACTION_TYPES: [Type; 15] = [
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT2,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
];

const COPY_BLOCKS: &str = "copy forebay.blocks (id, previous_block, total_amount, total_fee, reward, generator, \
     transactions_before, height, version, timestamp, number_of_transactions, payload_length, payload_hash, \
     generator_public_key, block_signature, forgers, delegates_digest) from stdin (format binary)";

const BLOCK_TYPES: [Type; 17] = [
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::INT4,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
];

/// The statements that copy in, which the server keeps: one round trip less each time.
#[derive(Debug, Clone)]
pub(crate) struct CopyStatements {
    transactions: Statement,
    blocks: Statement,
}

impl CopyStatements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            transactions: client.prepare(COPY_TRANSACTIONS).await?,
            blocks: client.prepare(COPY_BLOCKS).await?,
        })
    }
}

/// Copies one segment in: transactions first, so that the trigger on blocks finds them. Returns their number.
pub(crate) async fn copy_segment(
    transaction: &Transaction<'_>,
    statements: &CopyStatements,
    segment: &[BlockRow],
) -> Result<u64, SlowError> {
    let transactions = copy_transactions(transaction, &statements.transactions, segment).await?;
    copy_blocks(transaction, &statements.blocks, segment).await?;
    Ok(transactions)
}

fn doing(what: &str, segment: &[BlockRow]) -> String {
    let height = |row: Option<&BlockRow>| row.map_or(0, |row| row.block.height);
    format!("inserting {what} of heights {} to {}", height(segment.first()), height(segment.last()))
}

async fn copy_transactions(
    transaction: &Transaction<'_>,
    statement: &Statement,
    segment: &[BlockRow],
) -> Result<u64, SlowError> {
    if segment.iter().all(|row| row.block.transactions.is_empty()) {
        return Ok(0);
    }
    let failed = |error| SlowError::from_postgres(doing("the transactions", segment), error);
    let sink = transaction.copy_in(statement).await.map_err(failed)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TRANSACTION_TYPES));
    for row in segment {
        let height = stored(row.block.height, &row.block)?;
        for (index, t) in row.block.transactions.iter().enumerate() {
            let asset = t.asset.to_bytes();
            let signatures: Vec<u8> = t.signatures.iter().flat_map(|signature| signature.0).collect();
            let values: [&(dyn ToSql + Sync); 15] = [
                &t.id.to_bigint(),
                &t.sender.to_bigint(),
                &t.recipient.map(|address| address.to_bigint()),
                &t.amount,
                &t.fee,
                &height,
                &stored(index, &row.block)?,
                &stored(t.timestamp, &row.block)?,
                &i16::from(t.asset.type_number()),
                &t.sender_public_key.0.as_slice(),
                &t.signature.0.as_slice(),
                &t.second_signature.as_ref().map(|signature| signature.0.as_slice()),
                &t.requester_public_key.as_ref().map(|key| key.0.as_slice()),
                &(!signatures.is_empty()).then_some(signatures.as_slice()),
                &(t.asset.type_number() != 0).then_some(asset.as_slice()),
            ];
            writer.as_mut().write(&values).await.map_err(failed)?;
        }
    }
    writer.finish().await.map_err(failed)
}

async fn copy_blocks(
    transaction: &Transaction<'_>,
    statement: &Statement,
    segment: &[BlockRow],
) -> Result<(), SlowError> {
    let failed = |error| SlowError::from_postgres(doing("the blocks", segment), error);
    let sink = transaction.copy_in(statement).await.map_err(failed)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &BLOCK_TYPES));
    for row in segment {
        let b = &row.block;
        let forgers: Option<Vec<u8>> = row.forgers.as_deref().map(concatenated);
        let values: [&(dyn ToSql + Sync); 17] = [
            &b.id.to_bigint(),
            &b.previous_block.map(|id| id.to_bigint()),
            &b.total_amount,
            &b.total_fee,
            &b.reward,
            &forebay_ledger::ids::Address::of(&b.generator_public_key).to_bigint(),
            &row.transactions_before.cast_signed(),
            &stored(b.height, b)?,
            &b.version,
            &stored(b.timestamp, b)?,
            &stored(b.number_of_transactions, b)?,
            &stored(b.payload_length, b)?,
            &b.payload_hash.0.as_slice(),
            &b.generator_public_key.0.as_slice(),
            &b.block_signature.0.as_slice(),
            &forgers,
            &row.delegates_digest.as_ref().map(|digest| digest.0.as_slice()),
        ];
        writer.as_mut().write(&values).await.map_err(failed)?;
    }
    writer.finish().await.map_err(failed)?;
    Ok(())
}

fn concatenated(keys: &[PublicKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.0).collect()
}

/// A number of the ledger in a column of 31 bits.
fn stored<T: TryInto<i32> + Copy + std::fmt::Display>(number: T, block: &Block) -> Result<i32, SlowError> {
    number.try_into().map_err(|_| {
        let message = format!("{number} does not fit the column: 2147483647 at most");
        SlowError::new(
            ErrorKind::Misuse,
            format!("inserting block {} at height {}", block.id, block.height),
            message,
        )
    })
}
