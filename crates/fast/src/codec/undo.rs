//! The undo record of one block.

use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::state::{Tip, UndoRecord};

use super::account::{put_account, read_account};
use super::round::{put_round, read_round};
use super::{CodecError, Fault, Reader, put_bytes, put_unsigned, seal, unseal};

const VERSION: u8 = 1;

/// The bytes of an undo record, with version and checksum.
#[must_use]
pub fn encode_undo(record: &UndoRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + record.accounts.len() * 64);
    out.push(VERSION);
    out.extend(record.block_id.0.to_be_bytes());
    let tip = &record.tip_before;
    put_unsigned(&mut out, tip.height.into());
    out.extend(tip.id.0.to_be_bytes());
    put_unsigned(&mut out, tip.timestamp.into());
    put_unsigned(&mut out, tip.transactions_total);
    put_unsigned(&mut out, record.accounts.len() as u64);
    for (address, before) in &record.accounts {
        out.extend(address.0.to_be_bytes());
        out.push(before.is_some().into());
        if let Some(account) = before {
            put_account(&mut out, account);
        }
    }
    put_unsigned(&mut out, record.usernames.len() as u64);
    for (name, address) in &record.usernames {
        put_bytes(&mut out, name.as_bytes());
        out.extend(address.0.to_be_bytes());
    }
    out.push(record.closed_round.is_some().into());
    if let Some(round) = &record.closed_round {
        put_round(&mut out, round);
    }
    seal(out)
}

/// Reads what [`encode_undo`] wrote.
///
/// # Errors
/// [`CodecError`] for any other bytes.
pub fn decode_undo(bytes: &[u8]) -> Result<UndoRecord, CodecError> {
    let mut reader = Reader::new(unseal(bytes)?);
    let (block_id, tip_before) = read_undo_head(&mut reader)?;
    let count = reader.count(9)?;
    let mut accounts = Vec::with_capacity(count);
    for _ in 0..count {
        let address = Address(reader.u64_be()?);
        let before = if reader.flag()? { Some(read_account(address, &mut reader)?) } else { None };
        accounts.push((address, before));
    }
    let count = reader.count(9)?;
    let mut usernames = Vec::with_capacity(count);
    for _ in 0..count {
        usernames.push((reader.text()?, Address(reader.u64_be()?)));
    }
    let closed_round = if reader.flag()? { Some(Box::new(read_round(&mut reader)?)) } else { None };
    reader.end()?;
    Ok(UndoRecord { block_id, tip_before, accounts, usernames, closed_round })
}

/// The fields in front of an undo record's accounts: version, two ids and three varints of at most ten bytes.
pub(crate) const UNDO_HEAD_BYTES_MAX: usize = 64;

/// The block that a record belongs to, and the tip before it, from the first bytes of the record: without its checksum.
pub(crate) fn decode_undo_head(bytes: &[u8]) -> Option<(BlockId, Tip)> {
    let mut reader = Reader::new(bytes);
    read_undo_head(&mut reader).ok()
}

fn read_undo_head(reader: &mut Reader<'_>) -> Result<(BlockId, Tip), CodecError> {
    if reader.byte()? != VERSION {
        return Err(reader.fault(Fault::Unknown));
    }
    let block_id = BlockId(reader.u64_be()?);
    let tip_before = Tip {
        height: reader.unsigned32()?,
        id: BlockId(reader.u64_be()?),
        timestamp: reader.unsigned32()?,
        transactions_total: reader.unsigned()?,
    };
    Ok((block_id, tip_before))
}
