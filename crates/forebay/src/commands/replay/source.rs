//! Files as checked lines, in order: one thread reads, all cores decode and check, a bounded channel holds what is ahead.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use forebay_ledger::block::{Block, payload};
use forebay_ledger::ids::Height;
use forebay_ledger::profile::NetworkProfile;
use forebay_ledger::refusal::Refusal;
use forebay_ledger::verify::CheckedBlock;
use forebay_store::{Node, StoreError};
use rayon::prelude::*;
use tokio::sync::mpsc;

use super::known::KnownBlocks;
use crate::lines::{Line, line_bytes_max, read_line};
use crate::operations::{FileLine, Operation, Pop, read_file_line};
use crate::rollback_file::RollbackHeader;

/// What is read at once. The lines of one filling are checked together: large enough for all cores, small enough that
/// little is ahead.
const READ_BYTES: usize = 1 << 20;

/// Where a line stands.
#[derive(Debug, Clone)]
pub struct Place {
    file: String,
    /// Counted from 1.
    line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

/// A line, read and checked as far as it goes without state.
pub struct SourceLine {
    /// Where it stands.
    pub place: Place,
    /// Its length.
    pub bytes: u64,
    /// What it asks for.
    pub item: Item,
}

/// What a line asks for.
pub enum Item {
    /// The chain had this block when we began.
    Known(Box<Block>),
    /// Apply it.
    Block(Box<CheckedBlock>),
    /// A block that no state could make valid.
    Refused {
        /// Which.
        block: Box<Block>,
        /// Why.
        error: StoreError,
    },
    /// Take back blocks.
    Pop(Pop),
    /// Wait until durable.
    Await {
        /// Up to here.
        height: Height,
    },
    /// A rollback file's first line.
    Header(RollbackHeader),
    /// No line that we understand.
    Unreadable {
        /// A short, stable name for machines.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Whether `-` was given.
pub fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Bytes of all files; `None` if one has no size.
pub fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    files
        .iter()
        .map(|file| {
            let meta = (!is_stdin(file)).then(|| std::fs::metadata(file).ok()).flatten()?;
            meta.is_file().then_some(meta.len())
        })
        .sum()
}

/// Reads the files one after the other into `to`, until all are read, a line cannot be read, or nobody listens.
pub fn read_files(
    files: &[PathBuf],
    node: &Node,
    profile: &NetworkProfile,
    genesis: &Block,
    known: &KnownBlocks,
    to: &mpsc::Sender<Vec<SourceLine>>,
) {
    let check = Check { node, profile, genesis, known };
    for file in files {
        let name = if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() };
        let outcome = if is_stdin(file) {
            read_all(BufReader::with_capacity(READ_BYTES, io::stdin()), &name, &check, to)
        } else {
            File::open(file)
                .map_err(|error| (1, error))
                .and_then(|file| read_all(BufReader::with_capacity(READ_BYTES, file), &name, &check, to))
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => return,
            Err((line, error)) => {
                let item = Item::Unreadable { kind: "file", problem: format!("reading failed: {error}") };
                let place = Place { file: name, line };
                // If nobody listens any more, nobody needs to know.
                let _ = to.blocking_send(vec![SourceLine { place, bytes: 0, item }]);
                return;
            }
        }
    }
}

/// Whether to go on with the next file.
fn read_all(
    mut input: BufReader<impl io::Read>,
    file: &str,
    check: &Check<'_>,
    to: &mpsc::Sender<Vec<SourceLine>>,
) -> Result<bool, (u64, io::Error)> {
    let bytes_max = line_bytes_max(check.profile.limits.payload_bytes);
    let mut number = 0;
    let mut raw = Vec::new();
    loop {
        let line = read_line(&mut input, bytes_max).map_err(|error| (number + 1, error))?;
        let ended = line.is_none();
        if let Some(line) = line {
            number += 1;
            raw.push((number, line));
        }
        // A line that would have to be waited for must not hold up those that are here.
        let more_is_here = !ended && input.buffer().contains(&b'\n');
        if more_is_here || raw.is_empty() {
            if ended {
                return Ok(true);
            }
            continue;
        }
        let batch: Vec<SourceLine> = std::mem::take(&mut raw)
            .into_par_iter()
            .filter_map(|(line, text)| check.line(Place { file: file.to_owned(), line }, &text, bytes_max))
            .collect();
        let is_last =
            batch.iter().any(|line| matches!(line.item, Item::Unreadable { .. } | Item::Refused { .. }));
        if to.blocking_send(batch).is_err() || is_last {
            return Ok(false);
        }
        if ended {
            return Ok(true);
        }
    }
}

struct Check<'a> {
    node: &'a Node,
    profile: &'a NetworkProfile,
    genesis: &'a Block,
    known: &'a KnownBlocks,
}

impl Check<'_> {
    /// `None` for an empty line.
    fn line(&self, place: Place, line: &Line, bytes_max: usize) -> Option<SourceLine> {
        let text = match line {
            Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => return None,
            Line::Text(text) => text,
            Line::TooLong => {
                let problem = format!("the line has more than {bytes_max} bytes");
                return Some(SourceLine {
                    place,
                    bytes: 0,
                    item: Item::Unreadable { kind: "line-too-long", problem },
                });
            }
        };
        let item = match read_file_line(text, self.profile) {
            Ok(FileLine::Operation(Operation::Block(block))) => self.block(*block),
            Ok(FileLine::Operation(Operation::Pop(pop))) => Item::Pop(pop),
            Ok(FileLine::Operation(Operation::Await { height })) => Item::Await { height },
            Ok(FileLine::Header(header)) if place.line == 1 => Item::Header(header),
            Ok(FileLine::Header(_)) => Item::Unreadable {
                kind: "malformed",
                problem: "a rollback file's header is its first line".to_owned(),
            },
            Err(malformed) => Item::Unreadable { kind: "malformed", problem: malformed.to_string() },
        };
        Some(SourceLine { place, bytes: text.len() as u64 + 1, item })
    }

    fn block(&self, block: Block) -> Item {
        if block.previous_block.is_none() {
            // The genesis block breaks rules that hold for all others, and the chain has it since it began.
            let genesis = self.genesis.id;
            if block.id == genesis {
                return Item::Known(Box::new(block));
            }
            return Item::Refused {
                block: Box::new(block),
                error: Refusal::SecondGenesis { genesis }.into(),
            };
        }
        // The id covers the header and, by the payload hash, the transactions.
        if self.known.contains(block.id) && payload(&block.transactions).0 == block.payload_hash {
            return Item::Known(Box::new(block));
        }
        let shown = super::header_of(&block);
        match self.node.check(block) {
            Ok(checked) => Item::Block(Box::new(checked)),
            Err(error) => Item::Refused { block: Box::new(shown), error },
        }
    }
}
