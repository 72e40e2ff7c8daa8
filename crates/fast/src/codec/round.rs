//! The running round's parts: its blocks, the closers of earlier rounds, forger lists.

use forebay_ledger::keys::PublicKey;
use forebay_ledger::state::{RoundBlock, RoundCloser, RoundState};

use super::{CodecError, Fault, Reader, put_signed, put_unsigned};

/// A block of the running round: generator's key, fees, reward.
#[must_use]
pub fn encode_round_block(block: &RoundBlock) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    put_round_block(&mut out, block);
    out
}

/// Reads what [`encode_round_block`] wrote.
///
/// # Errors
/// [`CodecError`] for any other bytes.
pub fn decode_round_block(bytes: &[u8]) -> Result<RoundBlock, CodecError> {
    let mut reader = Reader::new(bytes);
    let block = read_round_block(&mut reader)?;
    reader.end()?;
    Ok(block)
}

fn put_round_block(out: &mut Vec<u8>, block: &RoundBlock) {
    out.extend(block.generator.0);
    put_signed(out, block.fees);
    put_signed(out, block.reward);
}

fn read_round_block(reader: &mut Reader<'_>) -> Result<RoundBlock, CodecError> {
    Ok(RoundBlock { generator: PublicKey(reader.array()?), fees: reader.signed()?, reward: reader.signed()? })
}

/// A closing block: generator's key, height.
#[must_use]
pub fn encode_closer(closer: &RoundCloser) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    put_closer(&mut out, closer);
    out
}

/// Reads what [`encode_closer`] wrote.
///
/// # Errors
/// [`CodecError`] for any other bytes.
pub fn decode_closer(bytes: &[u8]) -> Result<RoundCloser, CodecError> {
    let mut reader = Reader::new(bytes);
    let closer = read_closer(&mut reader)?;
    reader.end()?;
    Ok(closer)
}

fn put_closer(out: &mut Vec<u8>, closer: &RoundCloser) {
    out.extend(closer.generator.0);
    put_unsigned(out, closer.height.into());
}

fn read_closer(reader: &mut Reader<'_>) -> Result<RoundCloser, CodecError> {
    Ok(RoundCloser { generator: PublicKey(reader.array()?), height: reader.unsigned32()? })
}

/// A forger list: the keys one after the other.
pub(crate) fn encode_keys(keys: &[PublicKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.0).collect()
}

/// Reads keys one after the other.
pub(crate) fn decode_keys(bytes: &[u8]) -> Result<Vec<PublicKey>, CodecError> {
    let (keys, rest) = bytes.as_chunks::<{ PublicKey::LENGTH }>();
    if !rest.is_empty() {
        return Err(CodecError { offset: bytes.len(), fault: Fault::TooShort });
    }
    Ok(keys.iter().map(|key| PublicKey(*key)).collect())
}

/// A whole round's state, as part of an undo record.
pub(crate) fn put_round(out: &mut Vec<u8>, round: &RoundState) {
    put_unsigned(out, round.round.into());
    put_unsigned(out, round.forgers.len() as u64);
    round.forgers.iter().for_each(|forger| out.extend(forger.0));
    put_unsigned(out, round.blocks.len() as u64);
    round.blocks.iter().for_each(|block| put_round_block(out, block));
    put_unsigned(out, round.closers.len() as u64);
    round.closers.iter().for_each(|closer| put_closer(out, closer));
}

/// Reads what [`put_round`] wrote.
pub(crate) fn read_round(reader: &mut Reader<'_>) -> Result<RoundState, CodecError> {
    let round = reader.unsigned32()?;
    let count = reader.count(PublicKey::LENGTH)?;
    let forgers = (0..count).map(|_| reader.array().map(PublicKey)).collect::<Result<_, _>>()?;
    let count = reader.count(PublicKey::LENGTH + 2)?;
    let blocks = (0..count).map(|_| read_round_block(reader)).collect::<Result<_, _>>()?;
    let count = reader.count(PublicKey::LENGTH + 1)?;
    let closers = (0..count).map(|_| read_closer(reader)).collect::<Result<_, _>>()?;
    Ok(RoundState { round, forgers, blocks, closers })
}
