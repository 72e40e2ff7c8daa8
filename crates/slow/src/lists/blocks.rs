//! Blocks by conditions.

use std::collections::HashMap;

use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_ledger::keys::PublicKey;

use super::{Bound, Lists, stored};
use crate::columns::Columns;
use crate::error::SlowError;
use crate::reader::{BLOCK_COLUMNS, block};

/// Which blocks: all given conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockFilter {
    /// At this height.
    pub height: Option<i64>,
    /// Following this block.
    pub previous_block: Option<BlockId>,
    /// With this reward.
    pub reward: Option<i64>,
    /// With this sum of amounts.
    pub total_amount: Option<i64>,
    /// With this sum of fees.
    pub total_fee: Option<i64>,
    /// Forged with this key.
    pub generator: Option<PublicKey>,
    /// The lowest first; else the newest.
    pub ascending: bool,
    /// At most so many.
    pub limit: u32,
    /// After so many others.
    pub offset: u32,
}

/// A block with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBlock {
    /// The block.
    pub block: Block,
    /// Transactions in the chain before it.
    pub transactions_before: u64,
}

impl BlockFilter {
    fn sql(&self, bound: &mut Bound) -> String {
        let mut conditions = Vec::new();
        if let Some(height) = self.height {
            conditions.push(format!("b.height = {}::bigint", bound.add(height)));
        }
        if let Some(previous) = self.previous_block {
            let previous = bound.add(previous.to_bigint());
            conditions.push(format!(
                "b.height = (select p.height + 1 from forebay.blocks p where p.id = {previous}) \
                 and b.previous_block = {previous}"
            ));
        }
        for (column, value) in
            [("reward", self.reward), ("total_amount", self.total_amount), ("total_fee", self.total_fee)]
        {
            if let Some(value) = value {
                conditions.push(format!("b.{column} = {}", bound.add(value)));
            }
        }
        if let Some(key) = &self.generator {
            let address = bound.add(Address::of(key).to_bigint());
            let key = bound.add(key.0.to_vec());
            conditions.push(format!("b.generator = {address} and b.generator_public_key = {key}"));
        }
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
    }
}

impl Lists<'_> {
    /// A page of blocks with their transactions, and how many there are in all.
    ///
    /// # Errors
    /// Unavailable, Corrupt; Conflict when it took too long.
    pub async fn blocks(&self, filter: &BlockFilter) -> Result<(u64, Vec<ListedBlock>), SlowError> {
        let doing = "listing blocks";
        let mut bound = Bound::default();
        let conditions = filter.sql(&mut bound);
        let count = if conditions == "true" {
            u64::from(self.height())
        } else {
            let sql = format!("select count(*) from forebay.blocks b where {conditions}");
            self.count("counting blocks", &sql, &bound.parameters()).await?
        };
        let order = if filter.ascending { "b.height" } else { "b.height desc" };
        let (limit, offset) = (bound.add(i64::from(filter.limit)), bound.add(i64::from(filter.offset)));
        let sql = format!(
            "select {BLOCK_COLUMNS} from forebay.blocks b where {conditions} order by {order} limit {limit} offset {offset}"
        );
        let rows = self.query(doing, &sql, &bound.parameters()).await?;
        let mut blocks = rows
            .iter()
            .map(|row| {
                let (block, transactions_before, ..) = block(&Columns { row, doing })?;
                Ok(ListedBlock { block, transactions_before })
            })
            .collect::<Result<Vec<_>, SlowError>>()?;
        self.fill(&mut blocks).await?;
        Ok((count, blocks))
    }

    /// The block with an id.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn block_by_id(&self, id: BlockId) -> Result<Option<ListedBlock>, SlowError> {
        self.one_block("b.id = $1", &id.to_bigint()).await
    }

    /// The block at a height.
    ///
    /// # Errors
    /// Unavailable, Corrupt.
    pub async fn block_at(&self, height: Height) -> Result<Option<ListedBlock>, SlowError> {
        self.one_block("b.height = $1", &stored(height)).await
    }

    async fn one_block(
        &self,
        condition: &str,
        value: &(dyn tokio_postgres::types::ToSql + Sync),
    ) -> Result<Option<ListedBlock>, SlowError> {
        let doing = "reading a block";
        let sql = format!("select {BLOCK_COLUMNS} from forebay.blocks b where {condition}");
        let rows = self.query(doing, &sql, &[value]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (block, transactions_before, ..) = block(&Columns { row, doing })?;
        let mut found = vec![ListedBlock { block, transactions_before }];
        self.fill(&mut found).await?;
        Ok(found.pop())
    }

    async fn fill(&self, blocks: &mut [ListedBlock]) -> Result<(), SlowError> {
        let heights: Vec<Height> = blocks.iter().map(|listed| listed.block.height).collect();
        let places: HashMap<Height, usize> =
            heights.iter().enumerate().map(|(at, height)| (*height, at)).collect();
        for (height, transaction) in self.transactions_at(&heights).await? {
            if let Some(listed) = places.get(&height).and_then(|at| blocks.get_mut(*at)) {
                listed.block.transactions.push(transaction);
            }
        }
        Ok(())
    }

    /// The newest blocks' ids with the transactions in the chain before each, newest first.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn newest_blocks(&self, count: u32) -> Result<Vec<(BlockId, u64)>, SlowError> {
        let doing = "reading the newest blocks' ids";
        let sql = "select id, transactions_before from forebay.blocks order by height desc limit $1";
        let rows = self.query(doing, sql, &[&i64::from(count)]).await?;
        rows.iter()
            .map(|row| {
                let row = Columns { row, doing };
                Ok((BlockId::from_bigint(row.get(0)?), row.get::<i64>(1)?.unsigned_abs()))
            })
            .collect()
    }
}
