//! Reads of single things: an account, a block, a transaction. Those that wait at the same time share a call
//! (`shared_reads.rs`).

use std::sync::Arc;

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::transaction::Transaction;

use crate::codec::account::{MARKER_DELEGATE, MARKER_SIDE, decode_account};
use crate::codec::block::Body;
use crate::codec::undo::decode_undo_head;
use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::{At, Head, ReadPoint};
use crate::shared_reads::Wanted;
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on};

/// What Redis says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InChain<T> {
    /// The chain has it.
    Yes(T),
    /// The chain does not have it: another block stands at its height, or none yet.
    No,
    /// Redis cannot tell: it keeps nothing of it (any more).
    NotKept,
}

impl<T> InChain<T> {
    /// What is there, if the chain has it.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Yes(found) => Some(found),
            Self::No | Self::NotKept => None,
        }
    }
}

/// A block that Redis keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBlock {
    /// The block.
    pub block: Block,
    /// Transactions in the chain before it, if Redis knows: it does for the tip and for the blocks that it can take back.
    pub transactions_before: Option<u64>,
}

/// A transaction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its block's height.
    pub height: Height,
    /// The transaction, if its block is among those kept; an older one is in the slow tier only.
    pub found: Option<FoundTransaction>,
}

/// A transaction in a block that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTransaction {
    /// Its block.
    pub block: BlockId,
    /// How many stand before it there.
    pub index: usize,
    /// How many the block has.
    pub of: usize,
    /// How many the chain has before the block, if Redis knows.
    pub transactions_before: Option<u64>,
    /// The transaction.
    pub transaction: Transaction,
}

impl FastTier {
    /// An account; `None` if the chain does not know it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn account(&self, address: Address) -> Result<At<Option<Account>>, FastError> {
        let doing = "read an account";
        let mut found = self.read_shared(doing, Wanted::Account(address)).await?;
        let mut record = found.next(doing)?;
        if matches!(record.as_deref(), Some([MARKER_SIDE | MARKER_DELEGATE])) {
            // Bucket and record once more together: so they fit each other, whatever happened in between.
            found = self.read_shared(doing, Wanted::AccountEverywhere(address)).await?;
            record = found.next(doing)?;
            let (side, delegate) = (found.next(doing)?, found.next(doing)?);
            let referred = match record.as_deref() {
                Some([MARKER_SIDE]) => Some((side, self.keys().long_account(address))),
                Some([MARKER_DELEGATE]) => Some((delegate, self.keys().delegates())),
                _ => None,
            };
            if let Some((referred, key)) = referred {
                let missing = || FastError::Corrupt {
                    key,
                    detail: format!(
                        "the record of account {} that its bucket refers to is missing",
                        address.0
                    ),
                };
                record = Some(referred.ok_or_else(missing)?);
            }
        }
        let decode = |bytes: Vec<u8>| {
            decode_account(address, &bytes)
                .map_err(|cause| FastError::corrupt(self.account_name(address), cause))
        };
        Ok(At { at: found.head.point(), value: record.map(decode).transpose()? })
    }

    /// The block with this id, if its body is kept and it is part of the chain.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn block(&self, id: BlockId) -> Result<At<Option<Block>>, FastError> {
        let At { at, value } = self.find_block(id).await?;
        Ok(At { at, value: value.found().map(|kept| kept.block) })
    }

    /// The block with this id, and whether Redis knows if the chain has it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn find_block(&self, id: BlockId) -> Result<At<InChain<KeptBlock>>, FastError> {
        let doing = "read a block";
        for _ in 0..READ_ATTEMPTS_MAX {
            // A body belongs to its id, whenever it is read; only whether the chain has it is read at one point.
            if let Some(body) = self.body(doing, id).await? {
                let block = self.block_of_body(id, &body)?;
                let mut found = self.read_shared(doing, Wanted::BlockAt(block.height)).await?;
                let at = found.head.point();
                let value = match self.has(at, id, block.height, found.next(doing)?)? {
                    InChain::Yes(()) => {
                        let undo = found.next(doing)?;
                        let transactions_before =
                            before(&found.head, id, block.transactions.len(), undo.as_deref());
                        InChain::Yes(KeptBlock { block, transactions_before })
                    }
                    InChain::No => InChain::No,
                    InChain::NotKept => InChain::NotKept,
                };
                return Ok(At { at, value });
            }
            let mut found = self.read_shared(doing, Wanted::HasBody(id)).await?;
            if found.next(doing)?.is_none_or(|first| first.is_empty()) {
                return Ok(At { at: found.head.point(), value: InChain::NotKept });
            }
            // It came in between.
        }
        Err(moved_on(doing))
    }

    /// Whether the chain has the block with this id, which is one of this height.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn in_chain(&self, id: BlockId, height: Height) -> Result<At<InChain<()>>, FastError> {
        let doing = "look a block up";
        let mut found = self.read_shared(doing, Wanted::IdAt(height)).await?;
        let at = found.head.point();
        Ok(At { at, value: self.has(at, id, height, found.next(doing)?)? })
    }

    /// A block that was taken back leaves its body for the outbox: the height index tells it from the chain's.
    fn has(
        &self,
        at: ReadPoint,
        id: BlockId,
        height: Height,
        indexed: Option<Vec<u8>>,
    ) -> Result<InChain<()>, FastError> {
        Ok(match indexed {
            Some(indexed) if self.indexed_id(height, &indexed)? == id => InChain::Yes(()),
            Some(_) => InChain::No,
            None if height > at.height => InChain::No,
            None => InChain::NotKept,
        })
    }

    /// The block at a height, if it is among those kept.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn block_at(&self, height: Height) -> Result<At<Option<Block>>, FastError> {
        let At { at, value } = self.find_block_at(height).await?;
        Ok(At { at, value: value.map(|kept| kept.block) })
    }

    /// The same, with the number of transactions before it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn find_block_at(&self, height: Height) -> Result<At<Option<KeptBlock>>, FastError> {
        let doing = "read a block by height";
        let mut missing = Missing::default();
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut found = self.read_shared(doing, Wanted::BlockAt(height)).await?;
            let at = found.head.point();
            let Some(indexed) = found.next(doing)? else { return Ok(At { at, value: None }) };
            let (id, undo) = (self.indexed_id(height, &indexed)?, found.next(doing)?);
            let body = self.body(doing, id).await?;
            let block = body.map(|body| self.block_of_body(id, &body)).transpose()?;
            if let Some(block) = block.filter(|block| block.height == height) {
                let transactions_before = before(&found.head, id, block.transactions.len(), undo.as_deref());
                return Ok(At { at, value: Some(KeptBlock { block, transactions_before }) });
            }
            missing.again_at(at).map_err(|()| self.no_body(id, height))?;
        }
        Err(moved_on(doing))
    }

    /// The height of a confirmed transaction, and the transaction itself if its block is kept; `None` if the chain does
    /// not have it.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn transaction(&self, id: TransactionId) -> Result<At<Option<Located>>, FastError> {
        let doing = "find a transaction";
        let mut missing = Missing::default();
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut found = self.read_shared(doing, Wanted::Place(id)).await?;
            let at = found.head.point();
            let (height, indexed, undo) = (found.next(doing)?, found.next(doing)?, found.next(doing)?);
            let Some(height) = self.height_of(id, height)? else {
                return Ok(At { at, value: None });
            };
            let Some(indexed) = indexed else {
                return Ok(At { at, value: Some(Located { height, found: None }) });
            };
            let block = self.indexed_id(height, &indexed)?;
            if let Some(body) = self.body(doing, block).await? {
                let (index, of, transaction) = self.transaction_of(block, &body, id)?;
                let transactions_before = before(&found.head, block, of, undo.as_deref());
                let found = Some(FoundTransaction { block, index, of, transactions_before, transaction });
                return Ok(At { at, value: Some(Located { height, found }) });
            }
            missing.again_at(at).map_err(|()| self.no_body(block, height))?;
        }
        Err(moved_on(doing))
    }

    /// A body, with its checksum and its id compared. One that was read lately is not read again; else by a plain read, since
    /// long values are slow in functions.
    async fn body(&self, doing: &str, id: BlockId) -> Result<Option<Arc<Body>>, FastError> {
        if let Some(kept) = self.bodies().get(id) {
            return Ok(Some(kept));
        }
        let mut command = redis::cmd("GET");
        command.arg(self.keys().block(id));
        let Some(bytes) = self.ask::<Option<Vec<u8>>>(doing, &command).await? else { return Ok(None) };
        let corrupt = |cause| FastError::corrupt(self.keys().block(id), cause);
        let body = Body::open(bytes).map_err(corrupt)?;
        self.is_of(id, body.id().map_err(corrupt)?)?;
        let body = Arc::new(body);
        self.bodies().keep(id, Arc::clone(&body), body.bytes());
        Ok(Some(body))
    }

    fn block_of_body(&self, id: BlockId, body: &Body) -> Result<Block, FastError> {
        body.block().map_err(|cause| FastError::corrupt(self.keys().block(id), cause))
    }

    fn transaction_of(
        &self,
        block: BlockId,
        body: &Body,
        id: TransactionId,
    ) -> Result<(usize, usize, Transaction), FastError> {
        let key = || self.keys().block(block);
        let found = body.find(id).map_err(|cause| FastError::corrupt(key(), cause))?;
        found.ok_or_else(|| FastError::Corrupt {
            key: key(),
            detail: format!("the transaction {id} is not in it, unlike the index says"),
        })
    }

    fn indexed_id(&self, height: Height, value: &[u8]) -> Result<BlockId, FastError> {
        number(value).map(BlockId).ok_or_else(|| FastError::Corrupt {
            key: format!("{} {height}", self.keys().heights()),
            detail: "not a block id".to_owned(),
        })
    }

    fn height_of(&self, id: TransactionId, value: Option<Vec<u8>>) -> Result<Option<Height>, FastError> {
        let Some(value) = value else { return Ok(None) };
        number(&value).and_then(|number| number.try_into().ok()).map(Some).ok_or_else(|| FastError::Corrupt {
            key: format!("{}transaction {id}", self.keys().prefix()),
            detail: "not a height".to_owned(),
        })
    }

    fn no_body(&self, block: BlockId, height: Height) -> FastError {
        FastError::Corrupt {
            key: self.keys().block(block),
            detail: format!("the body of the kept block at height {height} is missing or another's"),
        }
    }
}

/// How many transactions the chain has before a block of so many, as its undo record says, or the tip's total.
fn before(head: &Head, id: BlockId, transactions: usize, undo: Option<&[u8]>) -> Option<u64> {
    let of_undo = undo.and_then(decode_undo_head).filter(|(block, _)| *block == id);
    let of_undo = of_undo.map(|(_, before)| before.transactions_total);
    let of_tip = || head.tip.filter(|tip| tip.id == id)?.transactions_total.checked_sub(transactions as u64);
    of_undo.or_else(of_tip)
}

/// Decimal, as ids and heights are written.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
}

/// A body that is not there although the index says so: it was trimmed in between; unless nothing has happened in between.
#[derive(Default)]
struct Missing(Option<ReadPoint>);

impl Missing {
    fn again_at(&mut self, at: ReadPoint) -> Result<(), ()> {
        if self.0.replace(at) == Some(at) { Err(()) } else { Ok(()) }
    }
}
