//! Blocks and transactions as the reference node's JSON.
//!
//! On the way in, amounts may be numbers or decimal strings, unknown fields are ignored, and ids in the message are
//! ignored too (they are computed), except in a genesis block. Malformed input is a [`JsonError`] that names the field.
//! What is well-formed but against a rule (a wrong fee, too many keys) is left to `verify`.

use serde_json::{Map, Value, json};

use crate::block::Block;
use crate::ids::{Address, BlockId, TransactionId};
use crate::keys::{PublicKey, Signature};
use crate::profile::NetworkProfile;
use crate::transaction::{Asset, Transaction, VoteEntry, signed_key_text};

/// A malformed message: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct JsonError {
    /// Path of the field, for example `transactions[3].amount`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl JsonError {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }

    fn inside(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Reads a block from text. See [`block_from_value`].
///
/// # Errors
/// [`JsonError`]; for text that is no JSON at all the field is `block`.
pub fn parse_block(text: &str, profile: &NetworkProfile) -> Result<Block, JsonError> {
    let value =
        serde_json::from_str(text).map_err(|error| JsonError::new("block", format!("not JSON: {error}")))?;
    block_from_value(&value, profile)
}

/// Reads a block. A block without `previousBlock` is a genesis block: its ids are taken as given. For any other the
/// ids are computed. `height` is optional and only a hint: the position follows `previousBlock`.
///
/// # Errors
/// [`JsonError`] for the first malformed field.
pub fn block_from_value(value: &Value, profile: &NetworkProfile) -> Result<Block, JsonError> {
    let object = Object::of(value, "block")?;
    let previous_block = object.optional("previousBlock", id_text)?.map(BlockId);
    let is_genesis = previous_block.is_none();
    let items = match object.get("transactions") {
        Some(Value::Array(items)) => items.as_slice(),
        None => &[],
        Some(other) => return Err(JsonError::new("transactions", expected("a list", other))),
    };
    let transactions = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            read_transaction(item, profile, is_genesis)
                .map_err(|e| e.inside(&format!("transactions[{index}]")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut block = Block {
        id: BlockId(0),
        height: object.optional("height", unsigned_32)?.unwrap_or(u32::from(is_genesis)),
        version: object.required("version", signed_32)?,
        timestamp: object.required("timestamp", unsigned_32)?,
        previous_block,
        number_of_transactions: object.required("numberOfTransactions", unsigned_32)?,
        total_amount: object.required("totalAmount", integer)?,
        total_fee: object.required("totalFee", integer)?,
        reward: object.required("reward", integer)?,
        payload_length: object.required("payloadLength", unsigned_32)?,
        payload_hash: object.required("payloadHash", hex_text)?,
        generator_public_key: object.required("generatorPublicKey", hex_text)?,
        block_signature: object.required("blockSignature", hex_text)?,
        transactions,
    };
    block.id = if is_genesis { BlockId(object.required("id", id_text)?) } else { block.computed_id() };
    Ok(block)
}

/// Reads a transaction; its id is computed.
///
/// # Errors
/// [`JsonError`] for the first malformed field.
pub fn transaction_from_value(value: &Value, profile: &NetworkProfile) -> Result<Transaction, JsonError> {
    read_transaction(value, profile, false)
}

fn read_transaction(
    value: &Value,
    profile: &NetworkProfile,
    id_is_given: bool,
) -> Result<Transaction, JsonError> {
    let object = Object::of(value, "transaction")?;
    let address = |value: &Value| {
        let text = value.as_str().ok_or_else(|| expected("an address", value))?;
        Address::parse(text, profile.address_suffix).map_err(|error| error.to_string())
    };
    let sender_public_key: PublicKey = object.required("senderPublicKey", hex_text)?;
    let sender = Address::of(&sender_public_key);
    let mut transaction = Transaction {
        id: TransactionId(0),
        timestamp: object.required("timestamp", unsigned_32)?,
        sender_public_key,
        sender,
        claimed_sender: object.optional("senderId", address)?.filter(|claimed| *claimed != sender),
        requester_public_key: object.optional("requesterPublicKey", hex_text)?,
        recipient: object.optional("recipientId", address)?,
        amount: object.required("amount", integer)?,
        fee: object.required("fee", integer)?,
        signature: object.required("signature", hex_text)?,
        second_signature: object.optional("signSignature", hex_text)?,
        signatures: object.optional("signatures", signature_list)?.unwrap_or_default(),
        asset: read_asset(&object)?,
    };
    transaction.id =
        if id_is_given { TransactionId(object.required("id", id_text)?) } else { transaction.computed_id() };
    Ok(transaction)
}

fn read_asset(object: &Object<'_>) -> Result<Asset, JsonError> {
    let type_number = object.required("type", integer)?;
    let part = |name: &str| -> Result<Object<'_>, JsonError> {
        let missing = || JsonError::new(&format!("asset.{name}"), "missing");
        let asset = object.get("asset").ok_or_else(missing)?;
        Object::of(asset.get(name).ok_or_else(missing)?, &format!("asset.{name}"))
    };
    match type_number {
        0 => Ok(Asset::Transfer),
        1 => {
            let public_key = part("signature")?.required("publicKey", hex_text);
            Ok(Asset::SecondSignature { public_key: public_key.map_err(|e| e.inside("asset.signature"))? })
        }
        2 => {
            let username = part("delegate")?.required("username", |value| {
                value.as_str().map(str::to_owned).ok_or_else(|| expected("a text", value))
            });
            Ok(Asset::Delegate { username: username.map_err(|e| e.inside("asset.delegate"))? })
        }
        3 => {
            let asset =
                Object::of(object.get("asset").ok_or_else(|| JsonError::new("asset", "missing"))?, "asset")?;
            let votes = asset.required("votes", signed_key_list).map_err(|e| e.inside("asset"))?;
            Ok(Asset::Vote { votes })
        }
        4 => {
            let group = part("multisignature")?;
            let read = || -> Result<Asset, JsonError> {
                let entries = group.required("keysgroup", signed_key_list)?;
                if entries.iter().any(|entry| !entry.add) {
                    return Err(JsonError::new("keysgroup", "a member's key starts with +"));
                }
                Ok(Asset::Multisignature {
                    min: group.required("min", small_number)?,
                    lifetime: group.required("lifetime", small_number)?,
                    keys: entries.iter().map(|entry| entry.delegate).collect(),
                })
            };
            read().map_err(|e| e.inside("asset.multisignature"))
        }
        other => Err(JsonError::new("type", format!("{other} is not a transaction type (0 to 4)"))),
    }
}

/// A JSON object whose fields are read by name; null counts as missing, as in the reference node's answers.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn of(value: &'a Value, name: &str) -> Result<Self, JsonError> {
        value.as_object().map(Self).ok_or_else(|| JsonError::new(name, expected("an object", value)))
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn optional<T>(
        &self,
        field: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, JsonError> {
        self.get(field).map(|value| read(value).map_err(|problem| JsonError::new(field, problem))).transpose()
    }

    fn required<T>(&self, field: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, JsonError> {
        self.optional(field, read)?.ok_or_else(|| JsonError::new(field, "missing"))
    }
}

fn expected(what: &str, found: &Value) -> String {
    let mut shown: String = found.to_string().chars().take(60).collect();
    if shown.len() >= 60 {
        shown.push('…');
    }
    format!("expected {what}, found {shown}")
}

/// An exact integer: a JSON number without fraction, or a decimal string.
fn integer(value: &Value) -> Result<i64, String> {
    /// Above this a JSON number written with an exponent or fraction may have lost digits.
    const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
    let wrong = || expected("an integer", value);
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(exact), _) => Ok(exact),
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            (None, Some(float)) if float.fract() == 0.0 && float.abs() <= EXACT_FLOAT_MAX => Ok(float as i64),
            _ => Err(wrong()),
        },
        Value::String(text)
            if text.len() <= 20
                && text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) =>
        {
            text.parse().map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn signed_32(value: &Value) -> Result<i32, String> {
    integer(value)?.try_into().map_err(|_| expected("a 32-bit integer", value))
}

fn unsigned_32(value: &Value) -> Result<u32, String> {
    // 2^31 and more cannot be stored in the reference node's columns.
    integer(value)?
        .try_into()
        .ok()
        .filter(|n| *n <= u32::MAX >> 1)
        .ok_or_else(|| expected("an integer of 0 to 2147483647", value))
}

/// Signed bytes on the wire: 0 to 127.
fn small_number(value: &Value) -> Result<u8, String> {
    integer(value)?
        .try_into()
        .ok()
        .filter(|n| *n <= 127)
        .ok_or_else(|| expected("an integer of 0 to 127", value))
}

fn id_text(value: &Value) -> Result<u64, String> {
    let text = value.as_str().ok_or_else(|| expected("an id as decimal text", value))?;
    text.parse::<BlockId>().map(|id| id.0).map_err(|error| error.to_string())
}

fn hex_text<T: std::str::FromStr<Err = crate::keys::HexError>>(value: &Value) -> Result<T, String> {
    let text = value.as_str().ok_or_else(|| expected("hexadecimal text", value))?;
    text.parse().map_err(|error: crate::keys::HexError| error.to_string())
}

/// A list of hex texts, or one text with commas between them, as the reference node's lists show it.
fn signature_list(value: &Value) -> Result<Vec<Signature>, String> {
    match value {
        Value::Array(items) => items.iter().map(hex_text).collect(),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => text.split(',').map(|part| hex_text(&Value::from(part))).collect(),
        _ => Err(expected("a list of signatures", value)),
    }
}

fn signed_key_list(value: &Value) -> Result<Vec<VoteEntry>, String> {
    let items = value.as_array().ok_or_else(|| expected("a list", value))?;
    items.iter().map(signed_key).collect()
}

/// `+` or `-` and a key. Lower case only: the text itself is part of the signed bytes.
fn signed_key(value: &Value) -> Result<VoteEntry, String> {
    let wrong = || expected("+ or - and 64 lower-case hexadecimal digits", value);
    let text = value.as_str().ok_or_else(wrong)?;
    let (add, digits) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(digits), _) => (true, digits),
        (_, Some(digits)) => (false, digits),
        _ => return Err(wrong()),
    };
    let delegate: PublicKey = digits.parse().map_err(|_| wrong())?;
    if signed_key_text(add, &delegate) == text { Ok(VoteEntry { add, delegate }) } else { Err(wrong()) }
}

/// A block as the reference node shows it, without `rowId` and `confirmations`.
#[must_use]
pub fn block_to_value(block: &Block, profile: &NetworkProfile) -> Value {
    let transactions: Vec<Value> = block
        .transactions
        .iter()
        .map(|transaction| {
            let mut value = transaction_to_value(transaction, profile);
            if let Some(object) = value.as_object_mut() {
                object.insert("height".into(), block.height.into());
                object.insert("blockId".into(), block.id.to_string().into());
            }
            value
        })
        .collect();
    json!({
        "id": block.id.to_string(),
        "version": block.version,
        "timestamp": block.timestamp,
        "height": block.height,
        "previousBlock": block.previous_block.map(|id| id.to_string()),
        "numberOfTransactions": block.number_of_transactions,
        "totalAmount": block.total_amount,
        "totalFee": block.total_fee,
        "reward": block.reward,
        "payloadLength": block.payload_length,
        "payloadHash": block.payload_hash.to_string(),
        "generatorPublicKey": block.generator_public_key.to_string(),
        "blockSignature": block.block_signature.to_string(),
        "transactions": transactions,
    })
}

/// A transaction as the reference node shows it in a block.
#[must_use]
pub fn transaction_to_value(transaction: &Transaction, profile: &NetworkProfile) -> Value {
    let address = |address: Address| address.with_suffix(profile.address_suffix);
    json!({
        "id": transaction.id.to_string(),
        "type": transaction.asset.type_number(),
        "timestamp": transaction.timestamp,
        "senderPublicKey": transaction.sender_public_key.to_string(),
        "senderId": address(transaction.claimed_sender.unwrap_or(transaction.sender)),
        "recipientId": transaction.recipient.map(address),
        "amount": transaction.amount,
        "fee": transaction.fee,
        "signature": transaction.signature.to_string(),
        "signSignature": transaction.second_signature.map(|signature| signature.to_string()),
        "requesterPublicKey": transaction.requester_public_key.map(|key| key.to_string()),
        "signatures": transaction.signatures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "asset": asset_to_value(&transaction.asset),
    })
}

fn asset_to_value(asset: &Asset) -> Value {
    match asset {
        Asset::Transfer => Value::Null,
        Asset::SecondSignature { public_key } => {
            json!({ "signature": { "publicKey": public_key.to_string() } })
        }
        Asset::Delegate { username } => json!({ "delegate": { "username": username } }),
        Asset::Vote { votes } => {
            let texts: Vec<String> = votes.iter().map(|v| signed_key_text(v.add, &v.delegate)).collect();
            json!({ "votes": texts })
        }
        Asset::Multisignature { min, lifetime, keys } => {
            let texts: Vec<String> = keys.iter().map(|key| signed_key_text(true, key)).collect();
            json!({ "multisignature": { "min": min, "lifetime": lifetime, "keysgroup": texts } })
        }
    }
}
