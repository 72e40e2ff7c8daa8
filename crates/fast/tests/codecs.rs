//! Records come back as they were written, and bytes that we did not write are refused without a panic.

use forebay_fast::{
    AccountRecord, INLINE_BYTES_MAX, decode_account, decode_block, decode_closer, decode_round_block,
    decode_undo, encode_account, encode_block, encode_closer, encode_round_block, encode_undo,
};
use forebay_ledger::account::{Account, Delegate, Forging, Multisignature};
use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::state::{RoundBlock, RoundCloser, RoundState, Tip, UndoRecord};
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn signature() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 64).prop_map(|bytes| Signature::from_slice(&bytes).unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    any::<u64>().prop_map(Address)
}

fn group() -> impl Strategy<Value = Multisignature> {
    (any::<u8>(), any::<u8>(), btree_set(key(), 0..16)).prop_map(|(min, lifetime, members)| Multisignature {
        min,
        lifetime,
        members: members.into_iter().collect(),
    })
}

fn forging() -> impl Strategy<Value = Forging> {
    prop_oneof![
        Just(Forging::default()),
        any::<(u32, u32, i64, i64)>().prop_map(|(produced_blocks, missed_blocks, fees, rewards)| Forging {
            produced_blocks,
            missed_blocks,
            fees,
            rewards
        }),
    ]
}

fn delegate() -> impl Strategy<Value = Delegate> {
    (".{0,20}", any::<(i64, i64, u32, i64, i64)>()).prop_map(|(username, numbers)| Delegate {
        username,
        vote: numbers.0,
        votes_weight: numbers.1,
        missed_in_a_row: numbers.2,
        voters_balance: numbers.3,
        voters_share: numbers.4,
    })
}

prop_compose! {
    fn account()(
        address in address(),
        balance: i64,
        public_key in option::of(key()),
        second_public_key in option::of(key()),
        votes in btree_set(address(), 0..4),
        multisignature in option::of(group()),
        forging in forging(),
        delegate in option::of(delegate()),
    ) -> Account {
        let votes = votes.into_iter().collect();
        Account { address, balance, public_key, second_public_key, votes, multisignature, forging, delegate }
    }
}

fn asset() -> impl Strategy<Value = Asset> {
    let vote = (any::<bool>(), key()).prop_map(|(add, delegate)| VoteEntry { add, delegate });
    prop_oneof![
        Just(Asset::Transfer),
        key().prop_map(|public_key| Asset::SecondSignature { public_key }),
        ".{0,20}".prop_map(|username| Asset::Delegate { username }),
        vec(vote, 0..4).prop_map(|votes| Asset::Vote { votes }),
        (any::<u8>(), any::<u8>(), vec(key(), 0..16))
            .prop_map(|(min, lifetime, keys)| Asset::Multisignature { min, lifetime, keys }),
    ]
}

prop_compose! {
    fn transaction()(
        (id, timestamp, amount, fee) in any::<(u64, u32, i64, i64)>(),
        sender_public_key in key(),
        sender in address(),
        claimed_sender in option::of(address()),
        requester_public_key in option::of(key()),
        recipient in option::of(address()),
        signature in signature(),
        second_signature in option::of(signature()),
        signatures in vec(self::signature(), 0..4),
        asset in asset(),
    ) -> Transaction {
        Transaction {
            id: TransactionId(id), timestamp, sender_public_key, sender, claimed_sender, requester_public_key,
            recipient, amount, fee, signature, second_signature, signatures, asset,
        }
    }
}

prop_compose! {
    fn block()(
        (id, height, version, timestamp, previous) in any::<(u64, u32, i32, u32, Option<u64>)>(),
        (number_of_transactions, total_amount, total_fee, reward, payload_length) in any::<(u32, i64, i64, i64, u32)>(),
        payload_hash: [u8; 32],
        generator_public_key in key(),
        block_signature in signature(),
        transactions in vec(transaction(), 0..5),
    ) -> Block {
        Block {
            id: BlockId(id), height, version, timestamp, previous_block: previous.map(BlockId),
            number_of_transactions, total_amount, total_fee, reward, payload_length,
            payload_hash: Hash(payload_hash), generator_public_key, block_signature, transactions,
        }
    }
}

fn round_block() -> impl Strategy<Value = RoundBlock> {
    (key(), any::<(i64, i64)>()).prop_map(|(generator, (fees, reward))| RoundBlock {
        generator,
        fees,
        reward,
    })
}

fn closer() -> impl Strategy<Value = RoundCloser> {
    (key(), any::<u32>()).prop_map(|(generator, height)| RoundCloser { height, generator })
}

fn round() -> impl Strategy<Value = RoundState> {
    (any::<u32>(), vec(key(), 0..5), vec(round_block(), 0..5), vec(closer(), 0..5))
        .prop_map(|(round, forgers, blocks, closers)| RoundState { round, forgers, blocks, closers })
}

prop_compose! {
    fn undo_record()(
        (block_id, id, height, timestamp, transactions_total) in any::<(u64, u64, u32, u32, u64)>(),
        accounts in vec((any::<bool>(), account()), 0..6),
        usernames in vec((".{0,20}", address()), 0..3),
        closed_round in option::of(round()),
    ) -> UndoRecord {
        UndoRecord {
            block_id: BlockId(block_id),
            tip_before: Tip { height, id: BlockId(id), timestamp, transactions_total },
            accounts: accounts.into_iter().map(|(existed, a)| (a.address, existed.then_some(a))).collect(),
            usernames,
            closed_round: closed_round.map(Box::new),
        }
    }
}

/// Changed bytes are refused, or mean something else that is written in exactly this way.
fn canonical<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>, encode: impl Fn(&T) -> Vec<u8>) {
    if let Some(value) = decode(bytes) {
        assert_eq!(encode(&value), bytes, "two encodings of one value");
    }
}

fn changed(bytes: &[u8], at: prop::sample::Index, with: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        bytes[at] ^= with;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_account_comes_back(account in account(), at: prop::sample::Index, with: u8) {
        let bytes = encode_account(&account);
        prop_assert_eq!(decode_account(account.address, &bytes).unwrap(), account.clone());
        let decode = |bytes: &[u8]| decode_account(account.address, bytes).ok();
        canonical(&changed(&bytes, at, with), decode, encode_account);
        prop_assert!(decode(&bytes[..bytes.len() - 1]).is_none());
        // A bucket's value is never so long that it would turn the bucket into a hash table.
        prop_assert!(AccountRecord::of(&account).bucket_value().len() <= INLINE_BYTES_MAX);
    }

    #[test]
    fn a_block_comes_back_and_no_changed_byte_goes_unnoticed(
        block in block(), at: prop::sample::Index, with in 1..=u8::MAX, cut: prop::sample::Index,
    ) {
        let bytes = encode_block(&block);
        prop_assert_eq!(decode_block(&bytes).unwrap(), block);
        prop_assert!(decode_block(&changed(&bytes, at, with)).is_err());
        prop_assert!(decode_block(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn an_undo_record_comes_back_and_no_changed_byte_goes_unnoticed(
        record in undo_record(), at: prop::sample::Index, with in 1..=u8::MAX, cut: prop::sample::Index,
    ) {
        let bytes = encode_undo(&record);
        prop_assert_eq!(decode_undo(&bytes).unwrap(), record);
        prop_assert!(decode_undo(&changed(&bytes, at, with)).is_err());
        prop_assert!(decode_undo(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn parts_of_a_round_come_back(block in round_block(), closer in closer(), at: prop::sample::Index, with: u8) {
        let bytes = encode_round_block(&block);
        prop_assert_eq!(decode_round_block(&bytes).unwrap(), block);
        canonical(&changed(&bytes, at, with), |b| decode_round_block(b).ok(), encode_round_block);
        let bytes = encode_closer(&closer);
        prop_assert_eq!(decode_closer(&bytes).unwrap(), closer);
        canonical(&changed(&bytes, at, with), |b| decode_closer(b).ok(), encode_closer);
    }

    #[test]
    fn hostile_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300), seal: bool) {
        // With a right checksum, so that the reader behind it is reached.
        let bytes = if seal {
            let sum = forebay_ledger::ids::short_hash(&bytes).to_le_bytes();
            [bytes.as_slice(), &sum].concat()
        } else {
            bytes
        };
        canonical(&bytes, |b| decode_account(Address(1), b).ok(), encode_account);
        canonical(&bytes, |b| decode_block(b).ok(), encode_block);
        canonical(&bytes, |b| decode_undo(b).ok(), encode_undo);
        canonical(&bytes, |b| decode_round_block(b).ok(), encode_round_block);
        canonical(&bytes, |b| decode_closer(b).ok(), encode_closer);
    }
}

#[test]
fn a_plain_account_with_a_key_and_a_vote_stays_in_its_bucket() {
    let plain = Account {
        balance: 10_000_000_000_000_000,
        public_key: Some(PublicKey([7; 32])),
        votes: vec![Address(u64::MAX)],
        ..Account::new(Address(u64::MAX))
    };
    assert!(matches!(AccountRecord::of(&plain), AccountRecord::Inline(bytes) if bytes.len() == 50));
    let long = Account { second_public_key: Some(PublicKey([8; 32])), ..plain };
    assert!(matches!(AccountRecord::of(&long), AccountRecord::Side(_)));
}
