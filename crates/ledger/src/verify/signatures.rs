//! The signatures of a block: those that need no state, and those whose keys the state names.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::block::Block;
use crate::crypto::{Checker, SignatureCheck};
use crate::keys::{Hash, PublicKey, Signature};
use crate::profile::NetworkProfile;
use crate::refusal::{Refusal, TransactionRefusal};
use crate::state::StateView;
use crate::transaction::{Asset, Transaction};

use super::at;

/// The generator's signature, and the first signature of each transaction: by the requester where there is one.
pub(super) fn check_stateless(
    block: &Block,
    profile: &NetworkProfile,
    checker: &Checker,
) -> Result<(), Refusal> {
    let generator = SignatureCheck {
        key: block.generator_public_key,
        message: block.signature_hash(),
        signature: block.block_signature,
    };
    if !checker.verify(&generator) {
        return Err(Refusal::BlockSignature);
    }
    let skipped = &profile.exceptions.verification_skipped;
    let to_check: Vec<(usize, &Transaction)> =
        block.transactions.iter().enumerate().filter(|(_, t)| !skipped.contains(&t.id)).collect();
    let checks: Vec<SignatureCheck> = to_check
        .par_iter()
        .with_min_len(MESSAGES_PER_TASK)
        .map(|(_, t)| SignatureCheck {
            key: t.requester_public_key.unwrap_or(t.sender_public_key),
            message: t.first_signature_hash(),
            signature: t.signature,
        })
        .collect();
    checker.verify_all(&checks).map_err(|bad| match to_check.get(bad) {
        Some((index, transaction)) => {
            let signer = if transaction.requester_public_key.is_some() { "requester" } else { "sender" };
            at(*index, transaction, TransactionRefusal::Signature(signer))
        }
        None => Refusal::BlockSignature,
    })
}

/// Hashing a message takes about a microsecond: fewer a task cost more in hand-over than they save.
const MESSAGES_PER_TASK: usize = 64;

/// Second signatures and the groups' signatures, against the keys as of the block's start.
pub(super) fn check_with_state(
    view: &(impl StateView + ?Sized),
    block: &Block,
    profile: &NetworkProfile,
    checker: &Checker,
) -> Result<(), Refusal> {
    let skipped = &profile.exceptions.verification_skipped;
    let jobs: Vec<Job<'_>> = block
        .transactions
        .iter()
        .enumerate()
        .filter(|(_, t)| !skipped.contains(&t.id))
        .filter_map(|(index, transaction)| Job::of(view, index, transaction))
        .collect();
    let refused =
        |job: &Job<'_>| job.check(checker).err().map(|reason| at(job.index, job.transaction, reason));
    match jobs.par_iter().find_map_first(refused) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// A transaction with signatures whose keys come from the state.
struct Job<'a> {
    index: usize,
    transaction: &'a Transaction,
    second_key: Option<PublicKey>,
    group_keys: Vec<PublicKey>,
}

impl<'a> Job<'a> {
    fn of(view: &(impl StateView + ?Sized), index: usize, transaction: &'a Transaction) -> Option<Self> {
        if transaction.second_signature.is_none() && transaction.signatures.is_empty() {
            return None;
        }
        let sender = view.account(transaction.sender);
        let second_key = sender.and_then(|account| account.second_public_key);
        let group = sender.and_then(|account| account.multisignature.as_ref());
        let mut group_keys = group.map(|group| group.members.clone()).unwrap_or_default();
        if let Asset::Multisignature { keys, .. } = &transaction.asset {
            group_keys.splice(0..0, keys.iter().copied());
        }
        Some(Self { index, transaction, second_key, group_keys })
    }

    fn check(&self, checker: &Checker) -> Result<(), TransactionRefusal> {
        if let (Some(key), Some(signature)) = (self.second_key, self.transaction.second_signature) {
            let check = SignatureCheck { key, message: self.transaction.second_signature_hash(), signature };
            if !checker.verify(&check) {
                return Err(TransactionRefusal::SecondSignature);
            }
        }
        self.check_group(checker)
    }

    fn check_group(&self, checker: &Checker) -> Result<(), TransactionRefusal> {
        let signatures = &self.transaction.signatures;
        let mut seen = HashSet::with_capacity(signatures.len());
        if !signatures.iter().all(|signature| seen.insert(*signature)) {
            return Err(TransactionRefusal::DuplicateGroupSignature);
        }
        if signatures.is_empty() {
            return Ok(());
        }
        let message = self.transaction.group_signature_hash();
        let mut signed_by: HashSet<PublicKey> = HashSet::new();
        for (position, signature) in signatures.iter().enumerate() {
            let signer = self.signer(checker, message, *signature, position);
            signed_by.insert(signer.ok_or(TransactionRefusal::GroupSignature)?);
        }
        match &self.transaction.asset {
            // A new group: every member must have signed, not one member twice.
            Asset::Multisignature { keys, .. } if self.group_keys.len() == keys.len() => {
                match keys.iter().filter(|key| signed_by.contains(key)).count() {
                    found if found < keys.len() => {
                        Err(TransactionRefusal::NotReady { found, needed: keys.len() })
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whose signature it is. Members mostly sign in the group's order, so the search starts at the same position.
    fn signer(
        &self,
        checker: &Checker,
        message: Hash,
        signature: Signature,
        position: usize,
    ) -> Option<PublicKey> {
        let start = position.min(self.group_keys.len());
        let (before, from) = self.group_keys.split_at(start);
        from.iter()
            .chain(before)
            .copied()
            .find(|key| checker.verify(&SignatureCheck { key: *key, message, signature }))
    }
}
