//! Reads of single things: an account, a block, a transaction. Those that wait at the same time share a call
//! (`shared_reads.rs`).

use std::sync::Arc;

use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::transaction::Transaction;

use crate::codec::account::{MARKER_DELEGATE, MARKER_SIDE, decode_account};
use crate::codec::block::{Body, BodySum};
use crate::codec::undo::decode_undo_head;
use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::{At, Head, ReadPoint};
use crate::shared_reads::{Found, Wanted};
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
    /// Tells this body from others of the same id.
    pub sum: BodySum,
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
        let mut is_anew = false;
        for _ in 0..READ_ATTEMPTS_MAX {
            let kept = self.bodies().get(id).filter(|_| !is_anew);
            let body = match kept {
                Some(kept) => Some(kept),
                None => self.read_body(doing, id).await?,
            };
            let Some(body) = body else {
                let mut found = self.read_shared(doing, Wanted::HasBody(id)).await?;
                if found.next(doing)?.is_none_or(|first| first.is_empty()) {
                    return Ok(At { at: found.head.point(), value: InChain::NotKept });
                }
                // It came in between.
                continue;
            };
            let mut found = self.read_shared(doing, Wanted::BlockAt(body.height())).await?;
            let (at, there) = (found.head.point(), Standing::of(&mut found, doing)?);
            let value = match self.has(at, id, body.height(), there.indexed.as_deref())? {
                // The same block came again with other signatures of a group, or its body is gone.
                InChain::Yes(()) if there.sum != Some(body.sum()) => {
                    is_anew = true;
                    continue;
                }
                InChain::Yes(()) => {
                    let block = self.block_of_body(id, &body)?;
                    let undo = there.undo.as_deref();
                    let transactions_before = before(&found.head, id, block.transactions.len(), undo);
                    InChain::Yes(KeptBlock { block, transactions_before, sum: body.sum() })
                }
                InChain::No => InChain::No,
                InChain::NotKept => InChain::NotKept,
            };
            return Ok(At { at, value });
        }
        Err(moved_on(doing))
    }

    /// Whether the chain has the block with this id, which is one of this height, and its body's checksum.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn in_chain(&self, id: BlockId, height: Height) -> Result<At<InChain<BodySum>>, FastError> {
        let doing = "look a block up";
        let mut found = self.read_shared(doing, Wanted::IdAt(height)).await?;
        let (at, indexed, sum) = (found.head.point(), found.next(doing)?, found.next(doing)?);
        let value = match self.has(at, id, height, indexed.as_deref())? {
            InChain::Yes(()) => sum_of(sum).map_or(InChain::NotKept, InChain::Yes),
            InChain::No => InChain::No,
            InChain::NotKept => InChain::NotKept,
        };
        Ok(At { at, value })
    }

    /// A block that was taken back leaves its body for the outbox: the height index tells it from the chain's.
    fn has(
        &self,
        at: ReadPoint,
        id: BlockId,
        height: Height,
        indexed: Option<&[u8]>,
    ) -> Result<InChain<()>, FastError> {
        Ok(match indexed {
            Some(indexed) if self.indexed_id(height, indexed)? == id => InChain::Yes(()),
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
        Ok(At { at, value: value.found().map(|kept| kept.block) })
    }

    /// The same, with the number of transactions before it, and told apart: a height above the tip, which PostgreSQL may
    /// still have a block for, and one whose block is not kept.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn find_block_at(&self, height: Height) -> Result<At<InChain<KeptBlock>>, FastError> {
        let doing = "read a block by height";
        let mut missing = Missing::default();
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut found = self.read_shared(doing, Wanted::BlockAt(height)).await?;
            let (at, there) = (found.head.point(), Standing::of(&mut found, doing)?);
            let Some(indexed) = &there.indexed else {
                let value = if height > at.height { InChain::No } else { InChain::NotKept };
                return Ok(At { at, value });
            };
            let id = self.indexed_id(height, indexed)?;
            let body = self.body(doing, id, there.sum).await?;
            if let Some(body) = body.filter(|body| body.height() == height) {
                let block = self.block_of_body(id, &body)?;
                let undo = there.undo.as_deref();
                let transactions_before = before(&found.head, id, block.transactions.len(), undo);
                let kept = KeptBlock { block, transactions_before, sum: body.sum() };
                return Ok(At { at, value: InChain::Yes(kept) });
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
            let (height, there) = (found.next(doing)?, Standing::of(&mut found, doing)?);
            let Some(height) = self.height_of(id, height)? else {
                return Ok(At { at, value: None });
            };
            let Some(indexed) = &there.indexed else {
                return Ok(At { at, value: Some(Located { height, found: None }) });
            };
            let block = self.indexed_id(height, indexed)?;
            if let Some(body) = self.body(doing, block, there.sum).await? {
                let (index, of, transaction) = self.transaction_of(block, &body, id)?;
                let transactions_before = before(&found.head, block, of, there.undo.as_deref());
                let found = Some(FoundTransaction { block, index, of, transactions_before, transaction });
                return Ok(At { at, value: Some(Located { height, found }) });
            }
            missing.again_at(at).map_err(|()| self.no_body(block, height))?;
        }
        Err(moved_on(doing))
    }

    /// The body with this checksum. `None`: there is another one by now, or none.
    async fn body(
        &self,
        doing: &str,
        id: BlockId,
        sum: Option<BodySum>,
    ) -> Result<Option<Arc<Body>>, FastError> {
        let is_it = |body: &Arc<Body>| Some(body.sum()) == sum;
        if let Some(kept) = self.bodies().get(id).filter(is_it) {
            return Ok(Some(kept));
        }
        Ok(self.read_body(doing, id).await?.filter(is_it))
    }

    /// A body as it is now, checked and kept from then on: a plain read, since long values are slow in functions.
    async fn read_body(&self, doing: &str, id: BlockId) -> Result<Option<Arc<Body>>, FastError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys().block(id));
        let Some(bytes) = self.ask::<Option<Vec<u8>>>(doing, &command).await? else { return Ok(None) };
        let body = Body::open(bytes).map_err(|cause| FastError::corrupt(self.keys().block(id), cause))?;
        self.compare_ids(id, body.id())?;
        let body = Arc::new(body);
        self.bodies().keep(id, Arc::clone(&body), body.memory_bytes());
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

/// What stands at a height, as Redis answers it.
struct Standing {
    /// The block's id.
    indexed: Option<Vec<u8>>,
    /// The beginning of its undo record.
    undo: Option<Vec<u8>>,
    /// The checksum of its body; `None`: there is no body.
    sum: Option<BodySum>,
}

impl Standing {
    fn of(found: &mut Found, doing: &str) -> Result<Self, FastError> {
        let (indexed, undo, sum) = (found.next(doing)?, found.next(doing)?, found.next(doing)?);
        Ok(Self { indexed, undo, sum: sum_of(sum) })
    }
}

/// `None`: there is no body.
fn sum_of(end: Option<Vec<u8>>) -> Option<BodySum> {
    BodySum::of_bytes(&end?)
}

/// A body that is not there although the index says so: it was trimmed in between; unless nothing has happened in between.
#[derive(Default)]
struct Missing(Option<ReadPoint>);

impl Missing {
    fn again_at(&mut self, at: ReadPoint) -> Result<(), ()> {
        if self.0.replace(at) == Some(at) { Err(()) } else { Ok(()) }
    }
}
