//! What the writer loads before it verifies a block: the accounts, names and ids that the block touches, all delegates,
//! the running round, and undo records. The head that comes with it is what the next step's fence is made of.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, Height, TransactionId};
use forebay_ledger::state::{Needs, RoundState, UndoRecord};
use redis::{FromRedisValue, Value};

use crate::codec::account::{MARKER_DELEGATE, MARKER_SIDE, decode_account};
use crate::codec::round::{decode_closer, decode_keys, decode_round_block};
use crate::codec::undo::decode_undo;
use crate::connection::FastTier;
use crate::error::FastError;
use crate::head::{At, Head};
use crate::keys::Buckets;
use crate::plan::Plan;

/// How often a read starts again because the chain moved on between its two halves.
pub(crate) const READ_ATTEMPTS_MAX: u32 = 64;

/// What Redis has of what a block needs. Whatever is not listed does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedNeeds {
    /// The accounts that exist.
    pub accounts: Vec<Account>,
    /// The names that are taken.
    pub usernames: Vec<String>,
    /// The ids that are confirmed, each with its height.
    pub transactions: Vec<(TransactionId, Height)>,
}

impl FastTier {
    /// Loads what a block needs: one round trip, and a second one if an account is a delegate or has a long record.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn read_needs(&self, needs: &Needs) -> Result<At<LoadedNeeds>, FastError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let buckets = self.buckets().await?;
            let mut reads = Plan::new(self.keys());
            for address in &needs.accounts {
                let key = self.keys().account_bucket(buckets.of_account(*address));
                reads.read("HGET", key, &address.0.to_be_bytes());
            }
            for id in &needs.transactions {
                let key = self.keys().transaction_bucket(buckets.of_transaction(*id));
                reads.read("HGET", key, &id.0.to_be_bytes());
            }
            for name in &needs.usernames {
                reads.read("HEXISTS", self.keys().names(), name);
            }
            let Some((head, values)) = self.snapshot("read what a block needs", reads, &buckets).await?
            else {
                continue;
            };
            let mut values = values.into_iter();
            let found: Vec<Option<Vec<u8>>> = take(&mut values, needs.accounts.len())?;
            let heights: Vec<Option<Height>> = take(&mut values, needs.transactions.len())?;
            let taken: Vec<bool> = take(&mut values, needs.usernames.len())?;
            let records = needs.accounts.iter().copied().zip(found);
            let records = records.filter_map(|(address, value)| Some((address, value?))).collect();
            let Some(accounts) = self.resolve(&head, records).await? else { continue };
            let value = LoadedNeeds {
                accounts,
                usernames: needs
                    .usernames
                    .iter()
                    .zip(taken)
                    .filter(|(_, taken)| *taken)
                    .map(|(n, _)| n.clone())
                    .collect(),
                transactions: needs
                    .transactions
                    .iter()
                    .zip(heights)
                    .filter_map(|(id, h)| Some((*id, h?)))
                    .collect(),
            };
            return Ok(At { at: head.point(), value });
        }
        Err(moved_on("read what a block needs"))
    }

    /// All registered delegates' accounts, in no order. One round trip.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn all_delegates(&self) -> Result<At<Vec<Account>>, FastError> {
        let key = self.keys().delegates();
        let mut reads = Plan::new(self.keys());
        reads.read_key("HGETALL", key.clone());
        let (head, values) = self.snapshot_anywhere("read the delegates", reads).await?;
        let mut fields: Vec<HashMap<Vec<u8>, Vec<u8>>> = take(&mut values.into_iter(), 1)?;
        let fields = fields.pop().unwrap_or_default();
        let value = fields
            .iter()
            .map(|(field, value)| self.account_of(&key, field, value))
            .collect::<Result<_, _>>()?;
        Ok(At { at: head.point(), value })
    }

    /// The running round; `None` before the genesis block.
    ///
    /// # Errors
    /// Not ready, stale, unavailable, corrupt.
    pub async fn round_state(&self) -> Result<At<Option<RoundState>>, FastError> {
        let mut round = self.head().await?.round;
        for _ in 0..READ_ATTEMPTS_MAX {
            let keys = self.keys();
            let mut reads = Plan::new(self.keys());
            reads.read_key("GET", keys.forgers(round));
            reads.read("LRANGE", keys.round_blocks(), (0, -1));
            reads.read("LRANGE", keys.closers(), (0, -1));
            let (head, values) = self.snapshot_anywhere("read the running round", reads).await?;
            if head.tip.is_none() {
                return Ok(At { at: head.point(), value: None });
            }
            if head.round != round {
                round = head.round;
                continue;
            }
            let mut values = values.into_iter();
            let forgers: Vec<Option<Vec<u8>>> = take(&mut values, 1)?;
            let lists: Vec<Vec<Vec<u8>>> = take(&mut values, 2)?;
            let value = self.round_of(round, &forgers, &lists)?;
            return Ok(At { at: head.point(), value: Some(value) });
        }
        Err(moved_on("read the running round"))
    }

    fn round_of(
        &self,
        round: u32,
        forgers: &[Option<Vec<u8>>],
        lists: &[Vec<Vec<u8>>],
    ) -> Result<RoundState, FastError> {
        let keys = self.keys();
        let [Some(forgers)] = forgers else {
            return Err(FastError::Corrupt { key: keys.forgers(round), detail: "it is missing".to_owned() });
        };
        let [blocks, closers] = lists else { return Err(moved_on("read the running round")) };
        let corrupt = FastError::corrupt;
        Ok(RoundState {
            round,
            forgers: decode_keys(forgers).map_err(|cause| corrupt(keys.forgers(round), cause))?,
            blocks: blocks
                .iter()
                .map(|bytes| decode_round_block(bytes).map_err(|cause| corrupt(keys.round_blocks(), cause)))
                .collect::<Result<_, _>>()?,
            closers: closers
                .iter()
                .map(|bytes| decode_closer(bytes).map_err(|cause| corrupt(keys.closers(), cause)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What takes the block at a height back; `None` if it is not kept. Answers in every state.
    ///
    /// # Errors
    /// Unavailable; corrupt: the record's checksum does not fit.
    pub async fn undo_record(&self, height: Height) -> Result<Option<UndoRecord>, FastError> {
        let key = self.keys().undo(height);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        let bytes: Option<Vec<u8>> = self.ask("read an undo record", &command).await?;
        bytes.map(|bytes| decode_undo(&bytes).map_err(|cause| FastError::corrupt(&key, cause))).transpose()
    }

    /// Head and answers in one atomic read. Refused unless the chain is ready and not older than acknowledged.
    pub(crate) async fn snapshot_anywhere(
        &self,
        doing: &str,
        reads: Plan,
    ) -> Result<(Head, Vec<Value>), FastError> {
        let key = self.keys().meta();
        let acknowledged = self.acknowledged();
        let mut values = self.read_together(doing, reads).await?.into_iter();
        let fields: Vec<HashMap<String, String>> = take(&mut values, 1)?;
        let head = Head::of_fields(&key, &fields.into_iter().next().unwrap_or_default())?;
        self.remember_buckets(&head);
        self.readable(&head, acknowledged)?;
        Ok((head, values.collect()))
    }

    /// The same, for keys whose names depend on the buckets: `None` if those have changed since.
    pub(crate) async fn snapshot(
        &self,
        doing: &str,
        reads: Plan,
        buckets: &Buckets,
    ) -> Result<Option<(Head, Vec<Value>)>, FastError> {
        let (head, values) = self.snapshot_anywhere(doing, reads).await?;
        Ok((head.buckets == *buckets).then_some((head, values)))
    }

    /// Follows the markers to the delegates' hash and to side keys. `None`: the chain moved on in between.
    pub(crate) async fn resolve(
        &self,
        head: &Head,
        mut records: Vec<(Address, Vec<u8>)>,
    ) -> Result<Option<Vec<Account>>, FastError> {
        let mut reads = Plan::new(self.keys());
        let mut followed = Vec::new();
        for (at, (address, value)) in records.iter().enumerate() {
            match value.as_slice() {
                [MARKER_SIDE] => reads.read_key("GET", self.keys().long_account(*address)),
                [MARKER_DELEGATE] => reads.read("HGET", self.keys().delegates(), &address.0.to_be_bytes()),
                _ => continue,
            }
            followed.push(at);
        }
        if !followed.is_empty() {
            let (now, values) = self.snapshot_anywhere("read long accounts", reads).await?;
            if now.point() != head.point() {
                return Ok(None);
            }
            let values: Vec<Option<Vec<u8>>> = take(&mut values.into_iter(), followed.len())?;
            for (at, value) in followed.into_iter().zip(values) {
                let Some((address, slot)) = records.get_mut(at) else { continue };
                *slot = value.ok_or_else(|| FastError::Corrupt {
                    key: self.keys().long_account(*address),
                    detail: "the record that its bucket refers to is missing".to_owned(),
                })?;
            }
        }
        let decode = |(address, value): &(Address, Vec<u8>)| {
            decode_account(*address, value)
                .map_err(|cause| FastError::corrupt(self.account_name(*address), cause))
        };
        records.iter().map(decode).collect::<Result<_, _>>().map(Some)
    }

    /// An account from a hash' field and value.
    pub(crate) fn account_of(&self, key: &str, field: &[u8], value: &[u8]) -> Result<Account, FastError> {
        let address = self.address_of(key, field)?;
        decode_account(address, value).map_err(|cause| FastError::corrupt(self.account_name(address), cause))
    }

    pub(crate) fn address_of(&self, key: &str, field: &[u8]) -> Result<Address, FastError> {
        field.try_into().map(|bytes| Address(u64::from_be_bytes(bytes))).map_err(|_| FastError::Corrupt {
            key: key.to_owned(),
            detail: format!("a field of {} bytes is no address", field.len()),
        })
    }

    /// An account's record, for messages.
    pub(crate) fn account_name(&self, address: Address) -> String {
        format!("{}account {}", self.keys().prefix(), address.0)
    }
}

/// The next so many answers, as one type.
pub(crate) fn take<T: FromRedisValue>(
    values: &mut impl Iterator<Item = Value>,
    count: usize,
) -> Result<Vec<T>, FastError> {
    let taken: Vec<T> = values
        .by_ref()
        .take(count)
        .map(redis::from_redis_value)
        .collect::<Result<_, _>>()
        .map_err(|error| unexpected(error.to_string()))?;
    if taken.len() == count { Ok(taken) } else { Err(unexpected("answers are missing".to_owned())) }
}

fn unexpected(detail: String) -> FastError {
    FastError::UnexpectedAnswer { doing: "read from Redis".to_owned(), detail }
}

/// The chain changed between the two halves of a read, again and again.
pub(crate) fn moved_on(doing: &str) -> FastError {
    FastError::Busy { doing: doing.to_owned(), attempts: READ_ATTEMPTS_MAX }
}
