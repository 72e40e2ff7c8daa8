//! The steps of the chain: a block applied, the last block taken back, a rewind accepted.
//!
//! The order of a block: [`apply`](FastTier::apply) checks that its arguments agree, turns the change set into a plan,
//! and hands it to the lane (`lane.rs`), which writes state and outbox entry in one transaction if epoch, sequence number
//! and tip are as the fence says. Several steps may be handed over before the first is answered: each names the operation
//! before it, so none is done after one that was not. The other operations are one call of a function each.

use std::collections::BTreeMap;

use forebay_ledger::account::{Account, Delegate};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_ledger::keys::PublicKey;
use forebay_ledger::state::{AccountChange, ChangeSet, RoundChange, RoundState, UndoRecord};

use crate::codec::account::{AccountRecord, is_short, put_account};
use crate::codec::block::encode_block;
use crate::codec::round::{encode_closer, encode_keys, encode_round_block};
use crate::codec::undo::encode_undo;
use crate::connection::FastTier;
use crate::entry::{Operation, OutboxEntry};
use crate::error::FastError;
use crate::head::{Fence, Position, State, position_fields, tip_word};
use crate::keys::{Buckets, Keys};
use crate::lane::{Follows, Opening, Transaction};
use crate::library::{Assumed, Function};
use crate::plan::{Fields, Pairs, Plan, Writer};

/// Where a rewind goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewindTarget {
    /// The tip's height after it, at least 1.
    pub height: Height,
    /// The tip's id after it.
    pub id: BlockId,
}

impl FastTier {
    /// Applies one block: accounts, ranking, names, transaction index, body, round, tip and outbox entry in one atomic
    /// step. When it returns `Ok`, the block is *accepted*, and as durable as Redis is set up to be.
    ///
    /// `undo` is kept under the block's height; the genesis block has none. `entry` must describe the same block, with
    /// the fence's epoch and a higher sequence number.
    ///
    /// # Errors
    /// Fenced, conflict (seq, tip, outbox), not ready, out of memory: nothing was changed. Outcome unknown: ask
    /// [`head`](Self::head); the step is done if it has the entry's sequence number and the block's id.
    pub async fn apply(
        &self,
        fence: &Fence,
        changes: &ChangeSet,
        undo: Option<&UndoRecord>,
        block: &Block,
        entry: &OutboxEntry,
    ) -> Result<(), FastError> {
        let doing = format!("apply block {} at height {}", block.id, block.height);
        check_apply(fence, changes, undo, block, entry)
            .map_err(|detail| FastError::Inconsistent { doing: doing.clone(), detail: detail.to_owned() })?;
        for last_attempt in [false, true] {
            let buckets = self.buckets().await?;
            let plan = plan_block(self.keys(), &buckets, changes, undo, block, entry.position)?;
            let at = |seq: u64, tip: Option<BlockId>| Opening {
                epoch: fence.epoch,
                state: State::Ready,
                follows: Some(Follows { seq, tip: tip_word(tip), buckets }),
            };
            let (opening, leaves) = (at(fence.seq, fence.tip), at(entry.position.seq, Some(block.id)));
            let step = Transaction::new(self.keys(), &doing, opening, leaves, Some(entry), &plan);
            match self.transact(step).await {
                // Redis was restored with other buckets since; nothing was changed.
                Err(FastError::BucketsChanged { .. }) if !last_attempt => self.head().await.map(|_| ())?,
                result => {
                    result?;
                    self.raise_floor(entry.position);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes the last block back: the same kind of step with an undo's change set. The block's body stays, because the
    /// outbox refers to it; [`trim`](Self::trim) removes it. Works while memory is full.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), but never out of memory.
    pub async fn take_back(
        &self,
        fence: &Fence,
        changes: &ChangeSet,
        entry: &OutboxEntry,
    ) -> Result<(), FastError> {
        let height = changes.tip_before.map_or(0, |tip| tip.height);
        let doing = format!("take back the block at height {height}");
        check_take_back(fence, changes, entry)
            .map_err(|detail| FastError::Inconsistent { doing: doing.clone(), detail: detail.to_owned() })?;
        self.step(&doing, fence, entry, |keys, buckets| {
            let mut plan = plan_changes(keys, buckets, changes, entry.position)?;
            plan.delete_fields(keys.heights(), [height.to_string()]);
            plan.delete(keys.undo(height));
            Ok(plan)
        })
        .await
    }

    /// Accepts a rewind: the outbox gets the order, and reads and steps are refused until Redis was restored. The tip
    /// in Redis stays what it was. Works while memory is full.
    ///
    /// # Errors
    /// As [`take_back`](Self::take_back).
    pub async fn rewind(&self, fence: &Fence, seq: u64, target: RewindTarget) -> Result<(), FastError> {
        let doing = format!("rewind to height {}", target.height);
        let position = Position { epoch: fence.epoch, seq };
        let operation = Operation::Rewind { height: target.height, tip: target.id };
        let entry = OutboxEntry { position, operation };
        if seq <= fence.seq || target.height == 0 {
            let detail = "the sequence number must grow, the height must be at least 1".to_owned();
            return Err(FastError::Inconsistent { doing, detail });
        }
        self.step(&doing, fence, &entry, |keys, _| {
            let mut plan = Plan::new(keys);
            let state = ("state", State::Rewinding.to_string());
            plan.set_fields(
                keys.meta(),
                [state, ("epoch", fence.epoch.to_string()), ("seq", seq.to_string())],
            );
            Ok(plan)
        })
        .await
    }

    /// Plans and calls. If Redis was restored with other buckets since, the plan is made once more: the function refused
    /// the first, and changed nothing.
    async fn step(
        &self,
        doing: &str,
        fence: &Fence,
        entry: &OutboxEntry,
        plan: impl Fn(&Keys, &Buckets) -> Result<Plan, FastError>,
    ) -> Result<(), FastError> {
        let tip = tip_word(fence.tip);
        let assumed = Assumed { doing, epoch: fence.epoch, seq: fence.seq, tip: &tip };
        for last_attempt in [false, true] {
            let buckets = self.buckets().await?;
            let plan = plan(self.keys(), &buckets)?;
            let own = step_args(fence, &tip, &buckets, entry);
            match self.call_with_plan(assumed, Function::StepBack, &own, &plan).await {
                Err(FastError::BucketsChanged { .. }) if !last_attempt => self.head().await.map(|_| ())?,
                result => {
                    result?;
                    self.raise_floor(entry.position);
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The arguments of a step before its plan.
fn step_args(fence: &Fence, tip: &str, buckets: &Buckets, entry: &OutboxEntry) -> Vec<Vec<u8>> {
    let fields = entry.to_fields();
    let mut args: Vec<Vec<u8>> = [
        fence.epoch.to_string(),
        fence.seq.to_string(),
        tip.to_owned(),
        buckets.accounts.to_string(),
        buckets.transactions.to_string(),
        entry.position.to_string(),
        (fields.len() * 2).to_string(),
    ]
    .map(String::into_bytes)
    .to_vec();
    args.extend(fields.into_iter().flat_map(|(name, value)| [name.into(), value]));
    args
}

/// All that a block's step writes besides its outbox entry.
pub(crate) fn plan_block(
    keys: &Keys,
    buckets: &Buckets,
    changes: &ChangeSet,
    undo: Option<&UndoRecord>,
    block: &Block,
    position: Position,
) -> Result<Plan, FastError> {
    let mut plan = plan_changes(keys, buckets, changes, position)?;
    plan.set(keys.block(block.id), encode_block(block));
    plan.set_fields(keys.heights(), [(block.height.to_string(), block.id.to_string())]);
    if changes.tip_before.is_none() {
        let genesis_account = Address::of(&block.generator_public_key).0.to_string();
        plan.set_fields(keys.meta(), [("genesis", genesis_account)]);
    }
    if let Some(undo) = undo {
        plan.set(keys.undo(block.height), encode_undo(undo));
    }
    Ok(plan)
}

/// What both directions share: accounts, names, transaction index, round, tip.
fn plan_changes(
    keys: &Keys,
    buckets: &Buckets,
    changes: &ChangeSet,
    position: Position,
) -> Result<Plan, FastError> {
    let mut plan = Plan::new(keys);
    let count_delta = plan_accounts(&mut plan, keys, buckets, &changes.accounts)?;
    plan_names(&mut plan, keys, changes);
    plan_transactions(&mut plan, keys, buckets, changes);
    plan_round(&mut plan, keys, &changes.round);
    plan.set_fields(keys.meta(), position_fields(position, Some(&changes.tip_after)));
    plan.add_to_field(keys.meta(), "accounts", count_delta);
    Ok(plan)
}

fn check_apply(
    fence: &Fence,
    changes: &ChangeSet,
    undo: Option<&UndoRecord>,
    block: &Block,
    entry: &OutboxEntry,
) -> Result<(), &'static str> {
    check_fence(fence, changes, entry)?;
    let Operation::Block { height, id, .. } = &entry.operation else {
        return Err("the entry is not one of a block");
    };
    if changes.undo {
        return Err("the change set takes a block back");
    }
    if (*height, *id) != (block.height, block.id)
        || (block.height, block.id) != (changes.tip_after.height, changes.tip_after.id)
    {
        return Err("block, change set and entry are not about the same block");
    }
    match (undo, changes.tip_before) {
        (Some(undo), Some(before)) if undo.block_id == block.id && undo.tip_before == before => Ok(()),
        (None, None) => Ok(()),
        _ => Err("the undo record does not belong to the block"),
    }
}

fn check_take_back(fence: &Fence, changes: &ChangeSet, entry: &OutboxEntry) -> Result<(), &'static str> {
    check_fence(fence, changes, entry)?;
    if OutboxEntry::of_pop(entry.position, changes).as_ref() == Some(entry) {
        Ok(())
    } else {
        Err("change set and entry do not take back the same block")
    }
}

fn check_fence(fence: &Fence, changes: &ChangeSet, entry: &OutboxEntry) -> Result<(), &'static str> {
    if entry.position.epoch != fence.epoch || entry.position.seq <= fence.seq {
        return Err("the entry must have the fence's epoch and a higher sequence number");
    }
    if changes.tip_before.map(|tip| tip.id) != fence.tip {
        return Err("the change set does not start at the fence's tip");
    }
    Ok(())
}

/// Plans accounts, delegates and rankings. Returns by how many the number of accounts changes.
fn plan_accounts(
    plan: &mut Plan,
    keys: &Keys,
    buckets: &Buckets,
    changes: &[AccountChange],
) -> Result<i64, FastError> {
    let mut delegates = DelegateChanges::default();
    let mut count_delta = 0i64;
    let mut by_bucket: Vec<(u64, &AccountChange)> = Vec::with_capacity(changes.len());
    for change in changes {
        let AccountChange { address, before, after } = change;
        count_delta += i64::from(after.is_some()) - i64::from(before.is_some());
        delegates.add(before.as_ref(), after.as_ref())?;
        plan_long_record(plan, keys, *address, before.as_ref(), after.as_ref());
        by_bucket.push((buckets.of_account(*address), change));
    }
    by_bucket.sort_unstable_by_key(|(bucket, _)| *bucket);
    for run in by_bucket.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((bucket, _)) = run.first() else { continue };
        let name = keys.account_bucket_name(*bucket);
        plan.once("HSET", format_args!("{name}"), |words| {
            for (_, change) in run {
                write_account(words, change);
            }
        });
        // Only an undo removes accounts.
        plan.once("HDEL", format_args!("{name}"), |words| {
            for (_, change) in run.iter().filter(|(_, change)| change.after.is_none()) {
                words.word(&change.address.0.to_be_bytes());
            }
        });
    }
    delegates.plan(plan, keys);
    Ok(count_delta)
}

/// The side key of an account whose record is too long for its bucket, or was.
fn plan_long_record(
    plan: &mut Plan,
    keys: &Keys,
    address: Address,
    before: Option<&Account>,
    after: Option<&Account>,
) {
    let record = |account: Option<&Account>| match account {
        Some(account) if !is_short(account) => Some(AccountRecord::of(account)),
        _ => None,
    };
    if let Some(AccountRecord::Side(bytes)) = record(after) {
        plan.set(keys.long_account(address), bytes);
    } else if let Some(AccountRecord::Side(_)) = record(before) {
        plan.delete(keys.long_account(address));
    }
}

/// An account's field and value in its bucket, if the value changes.
fn write_account(words: &mut Writer<'_>, change: &AccountChange) {
    let Some(after) = &change.after else { return };
    if is_short(after) {
        words.word(&change.address.0.to_be_bytes());
        words.word_with(|bytes| put_account(bytes, after));
        return;
    }
    let old = change.before.as_ref().map(AccountRecord::of);
    let new = AccountRecord::of(after);
    if old.as_ref().map(AccountRecord::bucket_value) != Some(new.bucket_value()) {
        words.word(&change.address.0.to_be_bytes());
        words.word(new.bucket_value());
    }
}

/// What changes in the delegates' hash and the two rankings.
#[derive(Default)]
struct DelegateChanges {
    written: Pairs,
    removed: Fields,
    by_vote: MemberChanges,
    by_weight: MemberChanges,
}

/// Members that leave a ranking and members that enter it.
#[derive(Default)]
struct MemberChanges {
    removed: Fields,
    added: Fields,
}

impl MemberChanges {
    fn add(&mut self, old: Option<Vec<u8>>, new: Option<Vec<u8>>) {
        if old != new {
            self.removed.extend(old);
            self.added.extend(new);
        }
    }

    fn plan(self, plan: &mut Plan, key: String) {
        plan.remove_members(key.clone(), self.removed);
        plan.add_members(key, self.added);
    }
}

impl DelegateChanges {
    fn add(&mut self, before: Option<&Account>, after: Option<&Account>) -> Result<(), FastError> {
        let (old, new) = (before.map(rank_members).transpose()?, after.map(rank_members).transpose()?);
        let (old, new) = (old.flatten(), new.flatten());
        if let (Some(account), Some(_)) = (after, &new) {
            self.written
                .push((account.address.0.to_be_bytes().to_vec(), AccountRecord::of(account).into_bytes()));
        } else if let (Some(account), Some(_)) = (before, &old) {
            self.removed.push(account.address.0.to_be_bytes().to_vec());
        }
        let (old_vote, old_weight) = old.map(|members| (members.by_vote, members.by_weight)).unzip();
        let (new_vote, new_weight) = new.map(|members| (members.by_vote, members.by_weight)).unzip();
        self.by_vote.add(old_vote, new_vote);
        self.by_weight.add(old_weight, new_weight);
        Ok(())
    }

    fn plan(self, plan: &mut Plan, keys: &Keys) {
        plan.set_fields(keys.delegates(), self.written);
        plan.delete_fields(keys.delegates(), self.removed);
        self.by_vote.plan(plan, keys.rank_vote());
        self.by_weight.plan(plan, keys.rank_weight());
    }
}

/// A delegate's members in the two rankings.
pub(crate) struct RankMembers {
    pub(crate) by_vote: Vec<u8>,
    pub(crate) by_weight: Vec<u8>,
}

/// A delegate's members in the two rankings; `None` for an account that is none.
pub(crate) fn rank_members(account: &Account) -> Result<Option<RankMembers>, FastError> {
    let Some(Delegate { vote, votes_weight, .. }) = &account.delegate else { return Ok(None) };
    let key = account.public_key.ok_or_else(|| FastError::Inconsistent {
        doing: "rank the delegates".to_owned(),
        detail: format!("the delegate {} has no public key", account.address.0),
    })?;
    Ok(Some(RankMembers { by_vote: rank_member(*vote, &key), by_weight: rank_member(*votes_weight, &key) }))
}

/// A ranking's member: bytes that sort by value descending, then by key ascending. The sign bit is flipped so that
/// numbers below zero sort below, then all bits, so that larger numbers come first.
fn rank_member(value: i64, key: &PublicKey) -> Vec<u8> {
    let inverted = !(value.cast_unsigned() ^ (1 << 63));
    [inverted.to_be_bytes().as_slice(), &key.0].concat()
}

/// The public key that a ranking's member ends in.
pub(crate) fn member_key(member: &[u8]) -> Option<PublicKey> {
    PublicKey::from_slice(member.split_first_chunk::<8>()?.1)
}

/// All holders of a name registered it in the same block (the reference node lets two do so), so taking that block back
/// frees the name whole.
fn plan_names(plan: &mut Plan, keys: &Keys, changes: &ChangeSet) {
    let mut holders: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (name, address) in &changes.usernames {
        holders.entry(name).or_default().push(address.0);
    }
    if changes.undo {
        plan.delete_fields(keys.names(), holders.keys().copied());
    } else {
        let pairs = holders.into_iter().map(|(name, addresses)| (name, name_value(addresses)));
        plan.set_fields(keys.names(), pairs);
    }
}

/// A name's holders, ascending, eight bytes each.
pub(crate) fn name_value(mut addresses: Vec<u64>) -> Vec<u8> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().flat_map(u64::to_be_bytes).collect()
}

fn plan_transactions(plan: &mut Plan, keys: &Keys, buckets: &Buckets, changes: &ChangeSet) {
    let mut by_bucket: Vec<(u64, u64)> =
        changes.transactions.iter().map(|id| (buckets.of_transaction(*id), id.0)).collect();
    by_bucket.sort_unstable();
    let height = changes.tip_after.height.to_string();
    let name = if changes.undo { "HDEL" } else { "HSET" };
    for run in by_bucket.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((bucket, _)) = run.first() else { continue };
        plan.once(name, format_args!("{}", keys.transaction_bucket_name(*bucket)), |words| {
            for (_, id) in run {
                words.word(&id.to_be_bytes());
                if !changes.undo {
                    words.word(height.as_bytes());
                }
            }
        });
    }
}

fn plan_round(plan: &mut Plan, keys: &Keys, change: &RoundChange) {
    match change {
        RoundChange::Appended(block) => plan.append(keys.round_blocks(), [encode_round_block(block)]),
        RoundChange::Retracted => plan.remove_last(keys.round_blocks()),
        RoundChange::Closed { next, .. } => plan_round_state(plan, keys, next),
        RoundChange::Reopened(round) => {
            plan.delete(keys.forgers(round.round.saturating_add(1)));
            plan_round_state(plan, keys, round);
        }
    }
}

/// Replaces the running round whole.
pub(crate) fn plan_round_state(plan: &mut Plan, keys: &Keys, round: &RoundState) {
    plan.set(keys.forgers(round.round), encode_keys(&round.forgers));
    plan.delete(keys.round_blocks());
    plan.append(keys.round_blocks(), round.blocks.iter().map(encode_round_block));
    plan.delete(keys.closers());
    plan.append(keys.closers(), round.closers.iter().map(encode_closer));
    plan.set_fields(keys.meta(), [("round", round.round.to_string())]);
}
