//! Single things: Redis first, PostgreSQL for what Redis does not keep, and while Redis is away.

use std::sync::Arc;

use axum::http::StatusCode;
use forebay_fast::{At, BodySum, FastError, FastTier, InChain, KeptBlock, Located, RankedBy};
use forebay_ledger::account::Account;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey};
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::state::Tip;
use forebay_slow::SlowError;
use forebay_slow::lists::{ListedTransaction, Lists};

use super::{Tiers, of_slow};
use crate::answer::{ApiError, Read, Tier};
use crate::views::WrittenBlock;

/// Which chain this is.
#[derive(Clone)]
pub struct Chain {
    /// Its rules.
    pub profile: Arc<NetworkProfile>,
    /// Its first block.
    pub genesis: Arc<Block>,
}

impl Chain {
    /// What names the network: the payload hash of its genesis block.
    pub fn nethash(&self) -> Hash {
        self.genesis.payload_hash
    }

    /// An address as text.
    pub fn address(&self, address: Address) -> String {
        address.with_suffix(self.profile.address_suffix)
    }

    /// What delegates are ranked by while the tip is at a height.
    pub fn ranked_by(&self, height: Height) -> RankedBy {
        if self.profile.is_generation_two(height) { RankedBy::VotesWeight } else { RankedBy::Vote }
    }
}

/// A block with the number of transactions in the chain before it.
#[derive(Debug, Clone)]
pub struct NumberedBlock {
    /// The block.
    pub block: Block,
    /// Transactions before it.
    pub transactions_before: u64,
    /// Its body's, if it came from Redis.
    pub sum: Option<BodySum>,
}

/// A block as it was answered.
pub struct KeptAnswer {
    /// The body that it was written from.
    pub of: BodySum,
    /// The answer.
    pub written: Arc<WrittenBlock>,
}

/// A delegate's account with its rank, from 1.
#[derive(Debug, Clone)]
pub struct RankedDelegate {
    /// The account; it has a delegate.
    pub account: Account,
    /// 1: the first.
    pub rank: u64,
}

/// The ids of the newest five blocks, newest first.
#[derive(Debug, Clone)]
pub struct Standing {
    /// At most five.
    pub newest: Vec<BlockId>,
}

/// What a node's broadhash covers.
const BROADHASH_BLOCKS: u32 = 5;
/// Learnt at once when a block's row numbers are asked for that Redis does not know: as many as it keeps by default.
const LEARNT_BLOCKS: u32 = 1000;

impl Tiers {
    /// An account; `None` if the chain does not know it.
    pub async fn account(
        &self,
        address: Address,
        wait: Option<Height>,
    ) -> Result<Read<Option<Account>>, ApiError> {
        match self.ask_fast(wait, |fast| async move { fast.account(address).await }).await? {
            Ok(read) => Ok(read),
            Err(_) => {
                let mut session = self.lists(wait).await?;
                let lists = session.lists().await.map_err(|e| of_slow(&e))?;
                slow(&lists, lists.reads().account(address).await)
            }
        }
    }

    /// Where the chain stands.
    pub async fn standing(&self, wait: Option<Height>) -> Result<Read<Standing>, ApiError> {
        let read = |fast: FastTier| async move {
            let (head, newest) = fast.newest_ids(BROADHASH_BLOCKS).await?;
            Ok(At { at: head.point(), value: Standing { newest } })
        };
        match self.ask_fast(wait, read).await? {
            Ok(read) => Ok(read),
            Err(_) => {
                let mut session = self.lists(wait).await?;
                let lists = session.lists().await.map_err(|e| of_slow(&e))?;
                let newest = lists.newest_blocks(BROADHASH_BLOCKS).await;
                let newest = newest.map(|blocks| blocks.into_iter().map(|(id, _)| id).collect());
                slow(&lists, newest.map(|newest| Standing { newest }))
            }
        }
    }

    /// The tip's height.
    pub async fn height(&self, wait: Option<Height>) -> Result<Read<Height>, ApiError> {
        let tip = self.tip(wait).await?;
        Ok(tip.map(|tip| tip.map_or(0, |tip| tip.height)))
    }

    /// The newest block.
    pub async fn tip(&self, wait: Option<Height>) -> Result<Read<Option<Tip>>, ApiError> {
        let read = |fast: FastTier| async move {
            let head = fast.readable_head().await?;
            Ok(At { at: head.point(), value: head.tip })
        };
        match self.ask_fast(wait, read).await? {
            Ok(read) => Ok(read),
            Err(_) => {
                let mut session = self.lists(wait).await?;
                let lists = session.lists().await.map_err(|e| of_slow(&e))?;
                Ok(Read { tier: Tier::Slow, height: lists.height(), value: lists.tip() })
            }
        }
    }

    /// A block by its id.
    pub async fn block(
        &self,
        id: BlockId,
        wait: Option<Height>,
    ) -> Result<Read<Option<NumberedBlock>>, ApiError> {
        match self.ask_fast(wait, |fast| async move { fast.find_block(id).await }).await? {
            Ok(Read { tier, height, value: InChain::Yes(kept) }) => {
                Ok(Read { tier, height, value: Some(self.numbered(kept).await?) })
            }
            // PostgreSQL may still have a block that was taken back.
            Ok(Read { tier, height, value: InChain::No }) => Ok(Read { tier, height, value: None }),
            Ok(Read { value: InChain::NotKept, .. }) | Err(_) => {
                self.slow_block(BlockKey::Id(id), wait).await
            }
        }
    }

    /// The same as it is answered: written once, and kept if it came from Redis.
    pub async fn written_block(
        &self,
        id: BlockId,
        wait: Option<Height>,
    ) -> Result<Read<Option<Arc<WrittenBlock>>>, ApiError> {
        let found = match self.written.get(id) {
            None => self.block(id, wait).await?,
            Some(kept) => {
                let height = kept.written.height();
                match self.ask_fast(wait, |fast| async move { fast.in_chain(id, height).await }).await? {
                    Ok(Read { tier, height, value: InChain::Yes(sum) }) if sum == kept.of => {
                        return Ok(Read { tier, height, value: Some(Arc::clone(&kept.written)) });
                    }
                    Ok(Read { value: InChain::Yes(_), .. }) => self.block(id, wait).await?,
                    Ok(Read { tier, height, value: InChain::No }) => {
                        return Ok(Read { tier, height, value: None });
                    }
                    Ok(Read { value: InChain::NotKept, .. }) | Err(_) => {
                        self.slow_block(BlockKey::Id(id), wait).await?
                    }
                }
            }
        };
        let Read { tier, height, value } = found;
        let Some(block) = value else { return Ok(Read { tier, height, value: None }) };
        let of = block.sum;
        let written = WrittenBlock::of(&block, &self.chain).map(Arc::new).ok_or_else(|| {
            let message = format!("block {id} cannot be written as JSON");
            ApiError::failed(StatusCode::INTERNAL_SERVER_ERROR, "defect", message, "Please report it.")
        })?;
        if let Some(of) = of {
            let bytes = written.bytes() + size_of::<KeptAnswer>();
            self.written.keep(id, Arc::new(KeptAnswer { of, written: Arc::clone(&written) }), bytes);
        }
        Ok(Read { tier, height, value: Some(written) })
    }

    /// The block at a height.
    pub async fn block_at(
        &self,
        height: Height,
        wait: Option<Height>,
    ) -> Result<Read<Option<NumberedBlock>>, ApiError> {
        match self.ask_fast(wait, |fast| async move { fast.find_block_at(height).await }).await? {
            Ok(Read { tier, height, value: InChain::Yes(kept) }) => {
                Ok(Read { tier, height, value: Some(self.numbered(kept).await?) })
            }
            // PostgreSQL may still have one there that was taken back.
            Ok(Read { tier, height, value: InChain::No }) => Ok(Read { tier, height, value: None }),
            Ok(Read { value: InChain::NotKept, .. }) | Err(_) => {
                self.slow_block(BlockKey::Height(height), wait).await
            }
        }
    }

    /// Redis keeps the newest blocks only; if it has all of the chain, PostgreSQL says no just as well.
    async fn slow_block(
        &self,
        key: BlockKey,
        wait: Option<Height>,
    ) -> Result<Read<Option<NumberedBlock>>, ApiError> {
        let mut session = self.lists(wait).await?;
        let lists = session.lists().await.map_err(|e| of_slow(&e))?;
        let found = match key {
            BlockKey::Id(id) => lists.block_by_id(id).await,
            BlockKey::Height(height) => lists.block_at(height).await,
        };
        let numbered = found.map(|found| {
            found.map(|found| NumberedBlock {
                block: found.block,
                transactions_before: found.transactions_before,
                sum: None,
            })
        });
        slow(&lists, numbered)
    }

    async fn numbered(&self, kept: KeptBlock) -> Result<NumberedBlock, ApiError> {
        let KeptBlock { block, transactions_before, sum } = kept;
        let transactions_before = self.transactions_before(block.id, transactions_before).await?;
        Ok(NumberedBlock { block, transactions_before, sum: Some(sum) })
    }

    /// Transactions in the chain before a block of it. `known`: to Redis.
    async fn transactions_before(&self, id: BlockId, known: Option<u64>) -> Result<u64, ApiError> {
        if id == self.chain.genesis.id {
            return Ok(0);
        }
        if let Some(known) = known {
            self.row_ids.learn([(id, known)]);
            return Ok(known);
        }
        if let Some(known) = self.row_ids.before(id) {
            return Ok(known);
        }
        // Redis was restored since: then PostgreSQL has the block.
        let mut session = self.lists(None).await?;
        let lists = session.lists().await.map_err(|e| of_slow(&e))?;
        let newest = lists.newest_blocks(LEARNT_BLOCKS).await.map_err(|e| of_slow(&e))?;
        self.row_ids.learn(newest);
        if let Some(known) = self.row_ids.before(id) {
            return Ok(known);
        }
        let found = lists.block_by_id(id).await.map_err(|e| of_slow(&e))?;
        found
            .map(|found| found.transactions_before)
            .ok_or_else(|| ApiError::away(Tier::Slow, format!("it does not have block {id} yet")))
    }

    /// A transaction by its id.
    pub async fn transaction(
        &self,
        id: TransactionId,
        wait: Option<Height>,
    ) -> Result<Read<Option<ListedTransaction>>, ApiError> {
        let located = self.ask_fast(wait, |fast| async move { fast.transaction(id).await }).await?;
        match located {
            Ok(Read { tier, height, value: None }) => return Ok(Read { tier, height, value: None }),
            Ok(Read { tier, height, value: Some(Located { height: of_block, found: Some(found) }) }) => {
                let before = self.transactions_before(found.block, found.transactions_before).await?;
                let listed = ListedTransaction {
                    transaction: found.transaction,
                    height: of_block,
                    block: found.block,
                    row_id: before + found.index as u64 + 1,
                };
                return Ok(Read { tier, height, value: Some(listed) });
            }
            Ok(_) | Err(_) => {}
        }
        let mut session = self.lists(wait).await?;
        let lists = session.lists().await.map_err(|e| of_slow(&e))?;
        slow(&lists, lists.transaction(id).await)
    }

    /// A delegate by its address.
    pub async fn delegates(
        &self,
        addresses: Vec<Address>,
        wait: Option<Height>,
    ) -> Result<Read<Vec<RankedDelegate>>, ApiError> {
        let (chain, asked) = (&self.chain, &addresses);
        let read = |fast: FastTier| async move {
            let by = chain.ranked_by(fast.readable_head().await?.tip.map_or(0, |tip| tip.height));
            let found = fast.delegates_with_rank(asked, by).await?;
            let ranked = |(account, rank)| RankedDelegate { account, rank };
            Ok(At { at: found.at, value: found.value.into_iter().map(ranked).collect::<Vec<_>>() })
        };
        match self.ask_fast(wait, read).await? {
            Ok(read) => Ok(read),
            Err(_) => {
                let all = self.all_delegates(wait).await?;
                Ok(all.map(|all| {
                    all.into_iter().filter(|one| addresses.contains(&one.account.address)).collect()
                }))
            }
        }
    }

    /// The address that a delegate's name belongs to.
    pub async fn address_named(
        &self,
        username: String,
        wait: Option<Height>,
    ) -> Result<Read<Option<Address>>, ApiError> {
        let name = &username;
        match self.ask_fast(wait, |fast| async move { fast.address_named(name).await }).await? {
            Ok(read) => Ok(read),
            Err(_) => {
                let all = self.all_delegates(wait).await?;
                let is_it = |one: &&RankedDelegate| {
                    one.account.delegate.as_ref().is_some_and(|delegate| delegate.username == username)
                };
                Ok(all.map(|all| all.iter().find(is_it).map(|one| one.account.address)))
            }
        }
    }

    /// All delegates by rank, from PostgreSQL.
    pub async fn all_delegates(&self, wait: Option<Height>) -> Result<Read<Vec<RankedDelegate>>, ApiError> {
        let mut session = self.lists(wait).await?;
        let lists = session.lists().await.map_err(|e| of_slow(&e))?;
        let all = self.delegates_in(&lists).await?;
        Ok(Read { tier: Tier::Slow, height: lists.height(), value: all })
    }

    /// All delegates by rank, in a state of PostgreSQL that more is read from.
    pub async fn delegates_in(&self, lists: &Lists<'_>) -> Result<Vec<RankedDelegate>, ApiError> {
        let all = lists.reads().delegates().await.map_err(|error| of_slow(&error))?;
        Ok(rank(all, self.chain.ranked_by(lists.height())))
    }

    /// The forger list of the round that the next block belongs to, and the tip's block.
    pub async fn running_forgers(
        &self,
        wait: Option<Height>,
    ) -> Result<Read<(Vec<PublicKey>, Option<Block>)>, ApiError> {
        let read = |fast: FastTier| async move {
            let mut attempt = 0;
            loop {
                let round = fast.round_state().await?;
                let block = fast.block_at(round.at.height).await?;
                attempt += 1;
                if block.at == round.at || attempt >= ATTEMPTS_MAX {
                    let forgers = round.value.map(|round| round.forgers).unwrap_or_default();
                    return Ok::<_, FastError>(At { at: block.at, value: (forgers, block.value) });
                }
            }
        };
        match self.ask_fast(wait, read).await? {
            Ok(read) => Ok(read),
            Err(away) => {
                let mut session = self.lists(wait).await?;
                let lists = session.lists().await.map_err(|e| of_slow(&e))?;
                let round = lists.reads().round_state(0).await.map_err(|e| of_slow(&e))?;
                if round.forgers.is_empty() {
                    // Before its first block, only the ledger knows a round's list.
                    return Err(ApiError::away(Tier::Fast, away));
                }
                let block = lists.block_at(lists.height()).await.map_err(|e| of_slow(&e))?;
                let value = (round.forgers, block.map(|found| found.block));
                Ok(Read { tier: Tier::Slow, height: lists.height(), value })
            }
        }
    }
}

/// How often two reads are tried to fit each other while blocks come in.
const ATTEMPTS_MAX: u32 = 64;

enum BlockKey {
    Id(BlockId),
    Height(Height),
}

/// All of a ranking: value descending, key ascending.
fn rank(delegates: Vec<Account>, by: RankedBy) -> Vec<RankedDelegate> {
    let value = |account: &Account| {
        account.delegate.as_ref().map_or(0, |delegate| match by {
            RankedBy::Vote => delegate.vote,
            RankedBy::VotesWeight => delegate.votes_weight,
        })
    };
    let mut sorted = delegates;
    sorted.sort_by_key(|account| (std::cmp::Reverse(value(account)), account.public_key));
    sorted.into_iter().zip(1..).map(|(account, rank)| RankedDelegate { account, rank }).collect()
}

fn slow<T>(lists: &Lists<'_>, outcome: Result<T, SlowError>) -> Result<Read<T>, ApiError> {
    match outcome {
        Ok(value) => Ok(Read { tier: Tier::Slow, height: lists.height(), value }),
        Err(error) => Err(of_slow(&error)),
    }
}
