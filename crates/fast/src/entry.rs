//! An outbox entry: what the slow tier has to do next.
//!
//! A stream entry with the id `<epoch>-<seq>`. Its fields are text but for the forgers' keys; the last is a checksum
//! over the id and all other fields, so an entry that was changed, cut or put elsewhere is noticed.

use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height, short_hash};
use forebay_ledger::keys::{Hash, PublicKey};
use forebay_ledger::state::ChangeSet;

use crate::codec::round::{decode_keys, encode_keys};
use crate::error::FastError;
use crate::head::Position;

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A block was added. Its body is stored once, under its id.
    Block {
        /// Its height.
        height: Height,
        /// Its id.
        id: BlockId,
        /// Transactions in the chain before it.
        transactions_before: u64,
        /// The round's forger list, with the first block of a round.
        forgers: Option<Vec<PublicKey>>,
        /// The digest of the delegates, with a block that closes a round.
        delegates_digest: Option<Hash>,
    },
    /// The newest block was taken back.
    Pop {
        /// Its height.
        height: Height,
        /// Its id.
        id: BlockId,
        /// The tip since: the block before it.
        tip: BlockId,
    },
    /// All blocks above a height are to be taken back by the slow tier; Redis is restored after that.
    Rewind {
        /// The tip from then on.
        height: Height,
        /// Its id.
        tip: BlockId,
    },
}

/// An operation and its place in the order of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its place.
    pub position: Position,
    /// What it is.
    pub operation: Operation,
}

impl OutboxEntry {
    /// The entry of a block. `forgers`: the round's list, for the first block of a round only.
    #[must_use]
    pub fn of_block(
        position: Position,
        changes: &ChangeSet,
        block: &Block,
        forgers: Option<&[PublicKey]>,
    ) -> Self {
        let operation = Operation::Block {
            height: block.height,
            id: block.id,
            transactions_before: changes.tip_before.map_or(0, |tip| tip.transactions_total),
            forgers: forgers.map(<[PublicKey]>::to_vec),
            delegates_digest: changes.delegates_digest,
        };
        Self { position, operation }
    }

    /// The entry of a block's being taken back; `None` if the change set is not one of taking back.
    #[must_use]
    pub fn of_pop(position: Position, changes: &ChangeSet) -> Option<Self> {
        let taken = changes.tip_before.filter(|_| changes.undo)?;
        let operation = Operation::Pop { height: taken.height, id: taken.id, tip: changes.tip_after.id };
        Some(Self { position, operation })
    }

    /// The fields in their order, the checksum last.
    pub(crate) fn to_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let number = |value: u64| value.to_string().into_bytes();
        let mut fields: Vec<(&'static str, Vec<u8>)> = match &self.operation {
            Operation::Block { height, id, transactions_before, forgers, delegates_digest } => {
                let mut fields = vec![
                    ("op", b"block".to_vec()),
                    ("height", number((*height).into())),
                    ("id", number(id.0)),
                    ("transactions_before", number(*transactions_before)),
                ];
                fields.extend(forgers.as_ref().map(|keys| ("forgers", encode_keys(keys))));
                fields.extend(delegates_digest.map(|digest| ("digest", digest.to_string().into_bytes())));
                fields
            }
            Operation::Pop { height, id, tip } => vec![
                ("op", b"pop".to_vec()),
                ("height", number((*height).into())),
                ("id", number(id.0)),
                ("tip", number(tip.0)),
            ],
            Operation::Rewind { height, tip } => {
                vec![("op", b"rewind".to_vec()), ("height", number((*height).into())), ("tip", number(tip.0))]
            }
        };
        let sum = checksum(self.position, fields.iter().map(|(name, value)| (*name, value.as_slice())));
        fields.push(("sum", sum.into_bytes()));
        fields
    }

    /// Reads an entry back.
    ///
    /// # Errors
    /// Corrupt: the checksum does not fit, or the fields are none that we write.
    pub(crate) fn of_fields(
        key: &str,
        position: Position,
        fields: &[(String, Vec<u8>)],
    ) -> Result<Self, FastError> {
        let corrupt = |detail: &str| FastError::Corrupt {
            key: format!("{key} entry {position}"),
            detail: detail.to_owned(),
        };
        let (last, others) = fields.split_last().ok_or_else(|| corrupt("it is empty"))?;
        let sum = checksum(position, others.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        if last.0 != "sum" || last.1 != sum.as_bytes() {
            return Err(corrupt("the checksum does not fit"));
        }
        let operation =
            read_operation(others).ok_or_else(|| corrupt("unknown operation or missing fields"))?;
        let entry = Self { position, operation };
        let written = entry.to_fields();
        let same = written.len() == fields.len()
            && written.iter().zip(fields).all(|(a, b)| a.0 == b.0 && a.1 == b.1);
        if same { Ok(entry) } else { Err(corrupt("not the canonical form")) }
    }
}

fn read_operation(fields: &[(String, Vec<u8>)]) -> Option<Operation> {
    let raw = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice());
    let text = |name: &str| std::str::from_utf8(raw(name)?).ok();
    let height = || text("height")?.parse::<Height>().ok();
    let id = |name: &str| text(name)?.parse::<BlockId>().ok();
    match text("op")? {
        "block" => Some(Operation::Block {
            height: height()?,
            id: id("id")?,
            transactions_before: text("transactions_before")?.parse().ok()?,
            forgers: match raw("forgers") {
                Some(bytes) => Some(decode_keys(bytes).ok()?),
                None => None,
            },
            delegates_digest: match text("digest") {
                Some(digest) => Some(digest.parse().ok()?),
                None => None,
            },
        }),
        "pop" => Some(Operation::Pop { height: height()?, id: id("id")?, tip: id("tip")? }),
        "rewind" => Some(Operation::Rewind { height: height()?, tip: id("tip")? }),
        _ => None,
    }
}

/// The first eight bytes of a sha256 over the id and all fields, each with its length in front, as 16 hex digits.
fn checksum<'a>(position: Position, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut bytes = position.to_string().into_bytes();
    for part in fields.flat_map(|(name, value)| [name.as_bytes(), value]) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    format!("{:016x}", short_hash(&bytes).swap_bytes())
}
