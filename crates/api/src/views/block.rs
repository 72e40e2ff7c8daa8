//! Blocks.

use forebay_ledger::block::Block as LedgerBlock;
use forebay_ledger::ids::Height;
use forebay_slow::lists::ListedTransaction;
use serde::Serialize;
use utoipa::ToSchema;

use super::transaction::{Listed, Memory, Single};
use crate::tiers::Chain;

/// A block with its transactions, `T` being their form.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Block<T> {
    id: String,
    /// Its number: the height.
    row_id: Height,
    version: i32,
    timestamp: u32,
    height: Height,
    previous_block: Option<String>,
    number_of_transactions: u32,
    total_amount: i64,
    total_fee: i64,
    reward: i64,
    payload_length: u32,
    payload_hash: String,
    generator_public_key: String,
    block_signature: String,
    transactions: Vec<T>,
}

impl<T> Block<T> {
    fn with(block: &LedgerBlock, transactions: Vec<T>) -> Self {
        Self {
            id: block.id.to_string(),
            row_id: block.height,
            version: block.version,
            timestamp: block.timestamp,
            height: block.height,
            previous_block: block.previous_block.map(|id| id.to_string()),
            number_of_transactions: block.number_of_transactions,
            total_amount: block.total_amount,
            total_fee: block.total_fee,
            reward: block.reward,
            payload_length: block.payload_length,
            payload_hash: block.payload_hash.to_string(),
            generator_public_key: block.generator_public_key.to_string(),
            block_signature: block.block_signature.to_string(),
            transactions,
        }
    }
}

impl Block<Single> {
    /// The frame of `/api/blocks/get`, which `written_block.rs` fills.
    pub(super) fn without_transactions(block: &LedgerBlock) -> Self {
        Self::with(block, Vec::new())
    }
}

impl Block<Listed> {
    /// As `/api/blocks` shows it.
    pub fn listed(block: &LedgerBlock, transactions_before: u64, tip: Height, chain: &Chain) -> Self {
        let transactions = block
            .transactions
            .iter()
            .zip(transactions_before + 1..)
            .map(|(one, row_id)| {
                let listed = ListedTransaction {
                    transaction: one.clone(),
                    height: block.height,
                    block: block.id,
                    row_id,
                };
                Listed::of(&listed, tip, chain)
            })
            .collect();
        Self::with(block, transactions)
    }
}

/// A block as a node has it in memory.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryBlock {
    block_signature: String,
    generator_public_key: String,
    height: Height,
    id: String,
    number_of_transactions: u32,
    payload_hash: String,
    payload_length: u32,
    previous_block: Option<String>,
    reward: i64,
    timestamp: u32,
    total_amount: i64,
    total_fee: i64,
    transactions: Vec<Memory>,
    version: i32,
}

impl MemoryBlock {
    /// As `/api/delegates/getNextForgers` shows the tip.
    pub fn of(block: &LedgerBlock, chain: &Chain) -> Self {
        Self {
            block_signature: block.block_signature.to_string(),
            generator_public_key: block.generator_public_key.to_string(),
            height: block.height,
            id: block.id.to_string(),
            number_of_transactions: block.number_of_transactions,
            payload_hash: block.payload_hash.to_string(),
            payload_length: block.payload_length,
            previous_block: block.previous_block.map(|id| id.to_string()),
            reward: block.reward,
            timestamp: block.timestamp,
            total_amount: block.total_amount,
            total_fee: block.total_fee,
            transactions: block.transactions.iter().map(|one| Memory::of(one, block.id, chain)).collect(),
            version: block.version,
        }
    }
}
