//! What the triggers need to know of the chain.

use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::profile::NetworkProfile;
use tokio_postgres::Transaction;

use crate::error::{ErrorKind, SlowError};

/// The row of `forebay.chain`: written once, compared ever after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainParameters {
    network: String,
    genesis_id: i64,
    genesis_generator: i64,
    address_suffix: String,
    block_time_seconds: i32,
    delegates_per_round: i32,
    votes_per_account: i32,
    second_generation_height: Option<i32>,
    allowed_negative: Vec<i64>,
    without_effect: Vec<i64>,
    wrong_slot_heights: Vec<i32>,
    wrong_slot_generators: Vec<Vec<u8>>,
}

impl ChainParameters {
    /// The parameters of a network with its genesis block.
    #[must_use]
    pub fn new(profile: &NetworkProfile, genesis: &Block) -> Self {
        let exceptions = &profile.exceptions;
        Self {
            network: profile.name.clone(),
            genesis_id: BlockId::to_bigint(genesis.id),
            genesis_generator: Address::of(&genesis.generator_public_key).to_bigint(),
            address_suffix: profile.address_suffix.to_string(),
            block_time_seconds: profile.block_time_seconds.cast_signed(),
            delegates_per_round: profile.delegates.cast_signed(),
            votes_per_account: profile.limits.votes_per_account.cast_signed(),
            second_generation_height: profile.generation_two.map(|two| two.first_height.cast_signed()),
            allowed_negative: profile.may_be_negative().into_iter().map(Address::to_bigint).collect(),
            without_effect: exceptions.without_effect.iter().map(|id| id.to_bigint()).collect(),
            wrong_slot_heights: exceptions.wrong_slot.iter().map(|e| e.height.cast_signed()).collect(),
            wrong_slot_generators: exceptions.wrong_slot.iter().map(|e| e.generator.0.to_vec()).collect(),
        }
    }

    /// Writes the row, or finds that it is there and the same.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), SlowError> {
        let doing = "writing the chain's parameters";
        let failed = |error| SlowError::from_postgres(doing, error);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 12] = [
            &self.network,
            &self.genesis_id,
            &self.genesis_generator,
            &self.address_suffix,
            &self.block_time_seconds,
            &self.delegates_per_round,
            &self.votes_per_account,
            &self.second_generation_height,
            &self.allowed_negative,
            &self.without_effect,
            &self.wrong_slot_heights,
            &self.wrong_slot_generators,
        ];
        transaction
            .execute(
                "insert into forebay.chain (network, genesis_id, genesis_generator, address_suffix, block_time_seconds, \
                     delegates_per_round, votes_per_account, second_generation_height, allowed_negative, without_effect, \
                     wrong_slot_heights, wrong_slot_generators) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing",
                &values,
            )
            .await
            .map_err(failed)?;
        let stored = Self::read(transaction).await.map_err(failed)?;
        if stored == *self {
            return Ok(());
        }
        let message = format!(
            "the database holds network \"{}\" with genesis block {} and other parameters than network \"{}\" with genesis block {}",
            stored.network,
            BlockId::from_bigint(stored.genesis_id),
            self.network,
            BlockId::from_bigint(self.genesis_id),
        );
        Err(SlowError::new(ErrorKind::WrongDatabase, doing, message))
    }

    async fn read(transaction: &Transaction<'_>) -> Result<Self, tokio_postgres::Error> {
        let row = transaction
            .query_one(
                "select network, genesis_id, genesis_generator, address_suffix, block_time_seconds, \
                     delegates_per_round, votes_per_account, second_generation_height, allowed_negative, without_effect, \
                     wrong_slot_heights, wrong_slot_generators from forebay.chain",
                &[],
            )
            .await?;
        Ok(Self {
            network: row.try_get(0)?,
            genesis_id: row.try_get(1)?,
            genesis_generator: row.try_get(2)?,
            address_suffix: row.try_get(3)?,
            block_time_seconds: row.try_get(4)?,
            delegates_per_round: row.try_get(5)?,
            votes_per_account: row.try_get(6)?,
            second_generation_height: row.try_get(7)?,
            allowed_negative: row.try_get(8)?,
            without_effect: row.try_get(9)?,
            wrong_slot_heights: row.try_get(10)?,
            wrong_slot_generators: row.try_get(11)?,
        })
    }
}
