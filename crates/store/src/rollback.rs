//! The rollback file: the order to go back to PostgreSQL's last block, and the record of what is given up by it.
//!
//! `rollback-<epoch>-<seq>.jsonl`: written beside its final name, flushed, renamed into place, the directory flushed.
//! Once the name is there the order stands; the next start obeys it and marks the file done. If it cannot be written
//! there is no order, and the next start drains. JSON Lines: a header with chain, epoch and base, then operations as in
//! a feed, so that `forebay replay` can give them back to the chain.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::json::{block_from_value, block_to_value};
use forebay_ledger::profile::NetworkProfile;
use forebay_slow::SlowOperation;
use serde_json::{Value, json};

use crate::options::NodeOptions;

/// What the file's first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// The epoch that accepted the operations.
    pub(crate) epoch: u64,
    /// PostgreSQL's last operation.
    pub(crate) seq: u64,
    /// Its tip.
    pub(crate) height: Height,
    /// Its tip's id.
    pub(crate) id: Option<BlockId>,
}

/// An operation that is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp<'a> {
    pub(crate) seq: u64,
    pub(crate) operation: Given<'a>,
    /// The tip's height after it.
    pub(crate) height: Height,
}

/// What it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    Block(&'a Block),
    TakeBack { to_height: Height },
}

impl<'a> From<&'a SlowOperation> for Given<'a> {
    fn from(operation: &'a SlowOperation) -> Self {
        match operation {
            SlowOperation::Append(row) => Self::Block(&row.block),
            SlowOperation::TakeBack { to_height } => Self::TakeBack { to_height: *to_height },
        }
    }
}

const PREFIX: &str = "rollback-";
const SUFFIX: &str = ".jsonl";
const DONE: &str = ".done";

/// Writes order and record. When it returns `Ok`, the order stands, even if the power goes at once. `through`: the last
/// accepted operation; what is given up and not among `operations` is named as missing.
pub(crate) fn write(
    directory: &Path,
    profile: &NetworkProfile,
    genesis: BlockId,
    base: Base,
    through: u64,
    operations: &[GivenUp<'_>],
) -> io::Result<PathBuf> {
    let name = directory.join(format!("{PREFIX}{}-{}{SUFFIX}", base.epoch, base.seq));
    let draft = name.with_extension("draft");
    let mut out = BufWriter::new(File::create(&draft)?);
    let first = operations.first().map_or(through.saturating_add(1), |first| first.seq);
    let missing =
        (first > base.seq.saturating_add(1)).then(|| json!({ "from": base.seq + 1, "to": first - 1 }));
    let header = json!({ "rollback": {
        "chain": profile.name,
        "genesis": genesis.to_string(),
        "epoch": base.epoch,
        "seq": base.seq,
        "throughSeq": through,
        "missingSeqs": missing,
        "baseHeight": base.height,
        "baseId": base.id.map(|id| id.to_string()),
    } });
    writeln!(out, "{header}")?;
    let mut height = missing.is_none().then_some(base.height);
    for GivenUp { seq, operation, height: after } in operations {
        let line = match operation {
            Given::Block(block) => {
                json!({ "op": "block", "seq": seq, "block": block_to_value(block, profile) })
            }
            Given::TakeBack { to_height } => match height {
                Some(height) => {
                    json!({ "op": "pop", "seq": seq, "count": height.saturating_sub(*to_height) })
                }
                None => json!({ "op": "pop", "seq": seq, "toHeight": to_height }),
            },
        };
        writeln!(out, "{line}")?;
        height = Some(*after);
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&draft, &name)?;
    File::open(directory)?.sync_all()?;
    Ok(name)
}

/// An order that stands, and what comes of it, for people.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) consequence: String,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    #[error("there is no directory for a rollback file")]
    NoDirectory,
    #[error("the rollback file could not be written in {} ({error})", directory.display())]
    Failed { directory: PathBuf, error: io::Error },
}

impl NotWritten {
    /// What comes of it while the operations are in the outbox.
    pub(crate) fn without_order(&self) -> String {
        format!("{self}, so there is no order and the next start drains")
    }
}

/// Writes the file and says, for people, what comes of it.
pub(crate) fn order(
    options: &NodeOptions,
    base: Base,
    through: u64,
    operations: &[GivenUp<'_>],
) -> Result<Written, NotWritten> {
    let directory = options.rollback_dir.as_ref().ok_or(NotWritten::NoDirectory)?;
    let path = write(directory, &options.profile, options.genesis.id, base, through, operations)
        .map_err(|error| NotWritten::Failed { directory: directory.clone(), error })?;
    let consequence = format!(
        "{} operations are given up: the next start goes back to height {} (block {}); {} of them are recorded in {}, for \
         `forebay replay`",
        through.saturating_sub(base.seq),
        base.height,
        base.id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
        operations.len(),
        path.display()
    );
    Ok(Written { path, consequence })
}

/// Takes an order back: what it would give up is safe. Durable when it returns.
pub(crate) fn withdraw(order: &Path) -> io::Result<()> {
    fs::remove_file(order)?;
    if let Some(directory) = order.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A rollback file that no start has obeyed yet: the next one goes back by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The file, which records what is given up.
    pub path: PathBuf,
    /// Whose operations it gives up.
    pub epoch: u64,
    /// The last operation that it does not give up.
    pub seq: u64,
}

/// The orders that stand for this chain, oldest first.
///
/// # Errors
/// A file cannot be read, is not whole, or is another chain's: it records what would be given up, so nothing is given up
/// by one that lost a part.
pub fn orders(directory: &Path, profile: &NetworkProfile, genesis: BlockId) -> io::Result<Vec<Order>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            let order = read_whole(&path, profile, genesis).map_err(|problem| {
                io::Error::other(format!(
                    "{}: {problem}; nothing is given up by it: put the whole file back, or move it elsewhere to have drained \
                     what Redis still has",
                    path.display()
                ))
            })?;
            found.extend(order);
        }
    }
    found.sort_by_key(|order| (order.epoch, order.seq));
    Ok(found)
}

/// An order of this chain whose record is whole; `None`: it is another network's.
fn read_whole(path: &Path, profile: &NetworkProfile, genesis: BlockId) -> Result<Option<Order>, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let mut lines = text.split(|byte| *byte == b'\n').enumerate();
    let json = |at: usize, line: &[u8]| -> Result<Value, String> {
        serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", at + 1))
    };
    let (at, first) = lines.next().unwrap_or_default();
    let first = json(at, first)?;
    let header = first.get("rollback").ok_or("line 1: it is no rollback file's header")?;
    let number = |name: &str| {
        let missing = || format!("line 1: there is no number \"{name}\"");
        header.get(name).and_then(Value::as_u64).ok_or_else(missing)
    };
    if header.get("chain").and_then(Value::as_str) != Some(&profile.name) {
        return Ok(None);
    }
    if header.get("genesis").and_then(Value::as_str) != Some(&genesis.to_string()) {
        return Err("line 1: it was made for a chain with another genesis block".to_owned());
    }
    let (epoch, seq, through) = (number("epoch")?, number("seq")?, number("throughSeq")?);
    let missing_to = header.get("missingSeqs").and_then(|missing| missing.get("to")).and_then(Value::as_u64);
    let mut last = missing_to.unwrap_or(seq);
    for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let operation = json(at, line)?;
        if operation.get("seq").and_then(Value::as_u64) != Some(last + 1) {
            return Err(format!("line {}: it is not the operation {}", at + 1, last + 1));
        }
        if let Some(block) = operation.get("block") {
            block_from_value(block, profile).map_err(|error| format!("line {}: {error}", at + 1))?;
        } else if operation.get("op").and_then(Value::as_str) != Some("pop") {
            return Err(format!("line {}: it is neither a block nor a pop", at + 1));
        }
        last += 1;
    }
    if last != through {
        return Err(format!("it ends with operation {last}, its header says {through}"));
    }
    Ok(Some(Order { path: path.to_owned(), epoch, seq }))
}

/// The order was carried out: from now on the file is a record only. Durable when it returns.
pub(crate) fn mark_done(order: &Path) -> io::Result<PathBuf> {
    let mut name = order.as_os_str().to_owned();
    name.push(DONE);
    let done = PathBuf::from(name);
    fs::rename(order, &done)?;
    if let Some(directory) = order.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(seq: u64) -> GivenUp<'static> {
        GivenUp { seq, operation: Given::TakeBack { to_height: 3 }, height: 3 }
    }

    #[test]
    fn what_the_outbox_has_not_any_more_is_named_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let base = Base { epoch: 3, seq: 17, height: 5, id: Some(BlockId(9)) };
        let lines = |through, operations: &[GivenUp<'_>]| {
            let path = write(directory.path(), &profile, BlockId(1), base, through, operations).unwrap();
            let text = fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
        };
        let whole = lines(18, &[pop(18)]);
        assert_eq!(whole[0]["rollback"]["missingSeqs"], Value::Null);
        assert_eq!(whole[1]["count"], 2);
        let cut = lines(21, &[pop(21)]);
        assert_eq!(cut[0]["rollback"]["missingSeqs"], json!({ "from": 18, "to": 20 }));
        assert_eq!(cut[1]["toHeight"], 3, "how many blocks that takes back is not known: {cut:?}");
        assert_eq!(lines(21, &[])[0]["rollback"]["missingSeqs"], json!({ "from": 18, "to": 21 }));
    }

    #[test]
    fn an_order_stands_until_it_is_done_and_only_for_its_chain() {
        let directory = tempfile::tempdir().unwrap();
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let base = Base { epoch: 3, seq: 17, height: 5, id: Some(BlockId(9)) };
        let written = write(directory.path(), &profile, BlockId(1), base, 18, &[pop(18)]).unwrap();
        assert_eq!(written.file_name().unwrap(), "rollback-3-17.jsonl");
        let order = Order { path: written.clone(), epoch: 3, seq: 17 };
        assert_eq!(orders(directory.path(), &profile, BlockId(1)).unwrap(), [order]);
        let other = NetworkProfile { name: "another".to_owned(), ..profile.clone() };
        assert_eq!(orders(directory.path(), &other, BlockId(1)).unwrap(), Vec::<Order>::new());
        let text = fs::read_to_string(&written).unwrap();
        assert!(text.lines().next().unwrap().contains("\"baseId\":\"9\""), "{text}");
        assert_eq!(text.lines().count(), 2);
        mark_done(&written).unwrap();
        assert_eq!(orders(directory.path(), &profile, BlockId(1)).unwrap(), Vec::<Order>::new());
    }

    #[test]
    fn an_order_whose_record_lost_a_part_is_not_obeyed() {
        let directory = tempfile::tempdir().unwrap();
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let base = Base { epoch: 3, seq: 17, height: 5, id: Some(BlockId(9)) };
        let path =
            write(directory.path(), &profile, BlockId(1), base, 20, &[pop(18), pop(19), pop(20)]).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        assert_eq!(orders(directory.path(), &profile, BlockId(1)).unwrap().len(), 1);
        let lines: Vec<&str> = whole.lines().collect();
        for (damaged, named) in [
            (String::new(), "line 1"),
            ("{}".to_owned(), "header"),
            (lines[0].to_owned(), "ends with operation 17"),
            (lines[..3].join("\n"), "ends with operation 19"),
            (whole[..whole.len() - 9].to_owned(), "line 4"),
            ([lines[0], lines[2], lines[3]].join("\n"), "line 2: it is not the operation 18"),
            ([lines[0], lines[1], "garbage", lines[3]].join("\n"), "line 3"),
            (whole.replacen("\"genesis\":\"1\"", "\"genesis\":\"2\"", 1), "another genesis"),
        ] {
            fs::write(&path, &damaged).unwrap();
            let refused = orders(directory.path(), &profile, BlockId(1)).unwrap_err().to_string();
            assert!(refused.contains(named) && refused.contains("rollback-3-17.jsonl"), "{named}: {refused}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_gives_no_order() {
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        let base = Base { epoch: 1, seq: 1, height: 1, id: None };
        let missing = Path::new("/nowhere/at/all");
        assert!(write(missing, &profile, BlockId(1), base, 1, &[]).is_err());
        assert_eq!(orders(missing, &profile, BlockId(1)).unwrap(), Vec::<Order>::new());
    }
}
