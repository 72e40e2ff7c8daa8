//! What a line of a feed or of a replayed file asks for.

use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::block_from_value;
use forebay_ledger::profile::NetworkProfile;
use serde_json::Value;

use crate::rollback_file::{self, RollbackHeader};

/// Names the operation of a line: `{"op":"pop","count":1}`.
pub const OPERATION: &str = "op";

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Apply this block.
    Block(Box<Block>),
    /// Take blocks back.
    Pop(Pop),
    /// Wait until the chain up to this height is durable.
    Await {
        /// At least 1, at most the tip's.
        height: Height,
    },
}

/// Which blocks to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pop {
    /// The newest so many, at least 1.
    Count(u32),
    /// All above this height, which is at least 1.
    Above(Height),
}

impl Pop {
    /// The height of the tip after it, and how many blocks that takes back.
    ///
    /// # Errors
    /// Why it cannot be done, for people.
    pub fn target(self, tip: Height) -> Result<(Height, u32), String> {
        let to_height = match self {
            Self::Count(count) => tip.checked_sub(count),
            Self::Above(height) => Some(height),
        };
        to_height
            .filter(|height| *height > 0 && *height <= tip)
            .map(|height| (height, tip - height))
            .ok_or_else(|| match self {
                Self::Count(count) => format!(
                    "{count} blocks cannot be taken back: the tip is at height {tip}, and the genesis block stays"
                ),
                Self::Above(height) => {
                    format!("cannot go back to height {height}: the tip is at height {tip}")
                }
            })
    }
}

/// A line that says nothing that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// A line of a file: an operation, a plain block, or a rollback file's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileLine {
    /// Do this.
    Operation(Operation),
    /// What the file was made for.
    Header(RollbackHeader),
}

/// Reads a line of a file.
///
/// # Errors
/// What is wrong with it.
pub fn read_file_line(line: &[u8], profile: &NetworkProfile) -> Result<FileLine, Malformed> {
    let value = json(line)?;
    if value.get(OPERATION).is_some() {
        return operation(&value, profile).map(FileLine::Operation);
    }
    if let Some(header) = value.get(rollback_file::HEADER) {
        let header = serde_json::from_value(header.clone());
        return header
            .map(FileLine::Header)
            .map_err(|error| Malformed(format!("{}: {error}", rollback_file::HEADER)));
    }
    block(&value, profile).map(FileLine::Operation)
}

/// Reads a line of a feed.
///
/// # Errors
/// What is wrong with it.
pub fn read_feed_line(line: &[u8], profile: &NetworkProfile) -> Result<Operation, Malformed> {
    operation(&json(line)?, profile)
}

fn json(line: &[u8]) -> Result<Value, Malformed> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| Malformed(format!("not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(Malformed("a line is one JSON object".to_owned())) }
}

fn operation(value: &Value, profile: &NetworkProfile) -> Result<Operation, Malformed> {
    let missing = |field: &str| Malformed(format!("{field}: missing"));
    let name = value.get(OPERATION).ok_or_else(|| missing(OPERATION))?.as_str();
    match name {
        Some("block") => known_fields(value, &["block"])?,
        // A misspelt count would take back one block.
        Some("pop") => known_fields(value, &["count", "toHeight"])?,
        Some("await") => known_fields(value, &["height"])?,
        _ => {}
    }
    match name {
        Some("block") => block(value.get("block").ok_or_else(|| missing("block"))?, profile),
        Some("pop") => match (positive(value, "count")?, positive(value, "toHeight")?) {
            (Some(_), Some(_)) => Err(Malformed("pop: either count or toHeight".to_owned())),
            (None, Some(height)) => Ok(Operation::Pop(Pop::Above(height))),
            (count, None) => Ok(Operation::Pop(Pop::Count(count.unwrap_or(1)))),
        },
        Some("await") => {
            Ok(Operation::Await { height: positive(value, "height")?.ok_or_else(|| missing("height"))? })
        }
        _ => Err(Malformed("op: not one of \"block\", \"pop\" and \"await\"".to_owned())),
    }
}

/// # Errors
/// A field that this operation does not have. Records of a rollback number their lines by `seq`.
fn known_fields(value: &Value, known: &[&str]) -> Result<(), Malformed> {
    let fields = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let mut unknown = fields.filter(|name| ![OPERATION, "seq"].contains(name) && !known.contains(name));
    match unknown.next() {
        None => Ok(()),
        Some(name) => Err(Malformed(format!("{name}: unknown here; there is {}", known.join(" or ")))),
    }
}

fn block(value: &Value, profile: &NetworkProfile) -> Result<Operation, Malformed> {
    match block_from_value(value, profile) {
        Ok(block) => Ok(Operation::Block(Box::new(block))),
        Err(error) => Err(Malformed(error.to_string())),
    }
}

fn positive(value: &Value, field: &str) -> Result<Option<u32>, Malformed> {
    let Some(found) = value.get(field) else { return Ok(None) };
    let number = found.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| Malformed(format!("{field}: not a whole number of 1 or more")))
}

/// Best knowledge of where a block stands, for messages: the tip's successor, or what the message says.
pub fn shown_height(block: &Block, tip: Option<(Height, BlockId)>) -> Option<Height> {
    match tip {
        Some((height, id)) if block.previous_block == Some(id) => Some(height + 1),
        _ => (block.height > 0).then_some(block.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_and_nonsense_names_the_field() {
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let read = |text: &str| read_feed_line(text.as_bytes(), &profile);
        assert_eq!(read(r#"{"op":"pop"}"#), Ok(Operation::Pop(Pop::Count(1))));
        assert_eq!(read(r#"{"op":"pop","count":3}"#), Ok(Operation::Pop(Pop::Count(3))));
        assert_eq!(read(r#"{"op":"pop","toHeight":5}"#), Ok(Operation::Pop(Pop::Above(5))));
        assert_eq!(read(r#"{"op":"await","height":7}"#), Ok(Operation::Await { height: 7 }));
        for (text, named) in [
            ("", "JSON"),
            ("[]", "object"),
            (r#"{"op":"fly"}"#, "op"),
            (r#"{"block":{}}"#, "op"),
            (r#"{"op":"pop","count":0}"#, "count"),
            (r#"{"op":"pop","count":"1"}"#, "count"),
            (r#"{"op":"pop","count":1,"toHeight":7}"#, "either"),
            (r#"{"op":"pop","cuont":5}"#, "cuont"),
            (r#"{"op":"await","height":7,"timeout":1}"#, "timeout"),
            (r#"{"op":"await"}"#, "height"),
            (r#"{"op":"block"}"#, "block"),
            (r#"{"op":"block","block":{"version":"x"}}"#, "version"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn only_blocks_that_are_there_can_be_taken_back_and_the_genesis_block_stays() {
        assert_eq!(Pop::Count(3).target(10), Ok((7, 3)));
        assert_eq!(Pop::Above(7).target(10), Ok((7, 3)));
        assert_eq!(Pop::Above(10).target(10), Ok((10, 0)), "done already");
        for pop in [Pop::Count(10), Pop::Count(11), Pop::Above(11), Pop::Above(0)] {
            assert!(pop.target(10).is_err(), "{pop:?}");
        }
    }

    #[test]
    fn a_file_may_start_with_a_header() {
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let text =
            r#"{"rollback":{"chain":"rise-devnet","genesis":"12","epoch":3,"baseHeight":5,"baseId":"77"}}"#;
        let FileLine::Header(header) = read_file_line(text.as_bytes(), &profile).unwrap() else { panic!() };
        assert_eq!((header.base_height, header.base_id.as_deref()), (5, Some("77")));
        assert!(read_file_line(br#"{"rollback":{}}"#, &profile).is_err());
    }
}
