//! Codecs round-trip, and bytes that mean harm are errors that name a field, never a panic.

use forebay_ledger::block::Block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::{Address, BlockId, TransactionId};
use forebay_ledger::json::{block_from_value, block_to_value, parse_block};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};
use forebay_ledger::verify::check_block;
use proptest::prelude::*;
use serde_json::{Value, json};

fn profile() -> NetworkProfile {
    NetworkProfile::built_in("rise-devnet").unwrap()
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn signature() -> impl Strategy<Value = Signature> {
    (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(r, s)| Signature([r, s].concat().try_into().unwrap()))
}

fn asset() -> impl Strategy<Value = Asset> {
    let votes = proptest::collection::vec((any::<bool>(), key()), 0..4);
    let keys = proptest::collection::vec(key(), 0..16);
    prop_oneof![
        Just(Asset::Transfer),
        key().prop_map(|public_key| Asset::SecondSignature { public_key }),
        "\\PC{0,25}".prop_map(|username| Asset::Delegate { username }),
        votes.prop_map(|votes| Asset::Vote {
            votes: votes.into_iter().map(|(add, delegate)| VoteEntry { add, delegate }).collect()
        }),
        (0u8..=127, 0u8..=127, keys).prop_map(|(min, lifetime, keys)| Asset::Multisignature {
            min,
            lifetime,
            keys
        }),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let head =
        (0u32..=i32::MAX as u32, key(), proptest::option::of(key()), proptest::option::of(any::<u64>()));
    let money = (any::<i64>(), any::<i64>());
    let signatures =
        (signature(), proptest::option::of(signature()), proptest::collection::vec(signature(), 0..3));
    (head, money, signatures, asset()).prop_map(|(head, (amount, fee), signatures, asset)| {
        let mut transaction = Transaction {
            id: TransactionId(0),
            timestamp: head.0,
            sender_public_key: head.1,
            sender: Address::of(&head.1),
            claimed_sender: None,
            requester_public_key: head.2,
            recipient: head.3.map(Address),
            amount,
            fee,
            signature: signatures.0,
            second_signature: signatures.1,
            signatures: signatures.2,
            asset,
        };
        transaction.id = transaction.computed_id();
        transaction
    })
}

fn block() -> impl Strategy<Value = Block> {
    let head = (any::<i32>(), 0u32..=i32::MAX as u32, any::<u64>(), 0u32..=i32::MAX as u32);
    let sums = (any::<i64>(), any::<i64>(), any::<i64>(), 0u32..=i32::MAX as u32);
    let parts = (any::<[u8; 32]>(), key(), signature(), 0u32..=i32::MAX as u32);
    (head, sums, parts, proptest::collection::vec(transaction(), 0..4)).prop_map(
        |(head, sums, parts, transactions)| {
            let mut block = Block {
                id: BlockId(0),
                height: parts.3,
                version: head.0,
                timestamp: head.1,
                previous_block: Some(BlockId(head.2)),
                number_of_transactions: head.3,
                total_amount: sums.0,
                total_fee: sums.1,
                reward: sums.2,
                payload_length: sums.3,
                payload_hash: Hash(parts.0),
                generator_public_key: parts.1,
                block_signature: parts.2,
                transactions,
            };
            block.id = block.computed_id();
            block
        },
    )
}

/// What a stranger may put where a value stood.
fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,70}".prop_map(Value::from),
        Just(Value::from("99999999999999999999999999999999")),
        Just(Value::from("-")),
        Just(json!([[[]]])),
        Just(json!({ "votes": 1, "multisignature": [], "delegate": null })),
    ]
}

/// Replaces the `at`-th value of the tree, counted depth first.
fn replace(value: &mut Value, at: &mut usize, junk: &Value) {
    if *at == 0 {
        *value = junk.clone();
        *at = usize::MAX;
        return;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| {
            if *at != usize::MAX {
                replace(item, at, junk);
            }
        }),
        Value::Object(fields) => fields.values_mut().for_each(|item| {
            if *at != usize::MAX {
                replace(item, at, junk);
            }
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_block_survives_json(block in block()) {
        let value = block_to_value(&block, &profile());
        prop_assert_eq!(&block_from_value(&value, &profile()).unwrap(), &block);
        prop_assert_eq!(parse_block(&value.to_string(), &profile()).unwrap(), block);
    }

    #[test]
    fn amounts_may_be_texts(block in block()) {
        let mut value = block_to_value(&block, &profile());
        for field in ["totalAmount", "totalFee", "reward"] {
            value[field] = Value::from(value[field].to_string());
        }
        prop_assert_eq!(block_from_value(&value, &profile()).unwrap(), block);
    }

    #[test]
    fn an_asset_survives_its_bytes(asset in asset()) {
        prop_assert_eq!(Asset::from_bytes(asset.type_number(), &asset.to_bytes()), Some(asset));
    }

    #[test]
    fn any_bytes_as_an_asset_do_not_panic(number: u8, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(asset) = Asset::from_bytes(number, &bytes) {
            prop_assert_eq!(asset.to_bytes(), bytes);
        }
    }

    #[test]
    fn junk_in_any_field_is_an_error_or_another_block(block in block(), at in 0usize..120, junk in junk()) {
        let mut value = block_to_value(&block, &profile());
        replace(&mut value, &mut at.clone(), &junk);
        match block_from_value(&value, &profile()) {
            Err(error) => prop_assert!(!error.field.is_empty() && !error.problem.is_empty()),
            // Whatever can be read can be checked, and is refused: nobody signed it.
            Ok(block) => prop_assert!(check_block(block, &profile(), &Checker::default()).is_err()),
        }
    }

    #[test]
    fn any_text_as_a_block_does_not_panic(text in "\\PC{0,200}", cut in 0usize..2000, block in block()) {
        let _ = parse_block(&text, &profile());
        let whole = block_to_value(&block, &profile()).to_string();
        let part: String = whole.chars().take(cut).collect();
        if part.len() < whole.len() {
            prop_assert!(parse_block(&part, &profile()).is_err());
        }
    }

    #[test]
    fn ids_and_addresses_survive_their_texts(number: u64, text in "\\PC{0,30}") {
        prop_assert_eq!(number.to_string().parse::<BlockId>().unwrap(), BlockId(number));
        prop_assert_eq!(Address::parse(&Address(number).with_suffix('R'), 'R').unwrap(), Address(number));
        prop_assert_eq!(BlockId::from_bigint(BlockId(number).to_bigint()), BlockId(number));
        let _ = (Address::parse(&text, 'R'), text.parse::<TransactionId>(), text.parse::<PublicKey>());
    }
}

#[test]
fn deeply_nested_json_is_an_error() {
    let text = "[".repeat(100_000);
    assert_eq!(parse_block(&text, &profile()).unwrap_err().field, "block");
}
