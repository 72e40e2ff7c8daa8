//! A block's body: everything of the ledger's block, its transactions included.

use forebay_ledger::block::Block;
use forebay_ledger::ids::{Address, BlockId, Height, TransactionId};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::transaction::{Asset, Transaction, VoteEntry};

use super::{CHECKSUM_BYTES, CodecError, Fault, Reader, put_bytes, put_signed, put_unsigned, seal, unseal};

const VERSION: u8 = 1;

/// No transaction is shorter than this, bytes: type, flags, id, timestamp, key, sender, amount, fee, signature.
const TRANSACTION_BYTES_MIN: usize = 1 + 1 + 8 + 1 + 32 + 8 + 1 + 1 + 64;

/// The bytes of a block, with version and checksum.
#[must_use]
pub fn encode_block(block: &Block) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + block.transactions.len() * 192);
    out.push(VERSION);
    out.extend(block.id.0.to_be_bytes());
    put_unsigned(&mut out, block.height.into());
    put_signed(&mut out, block.version.into());
    put_unsigned(&mut out, block.timestamp.into());
    out.push(block.previous_block.is_some().into());
    if let Some(id) = block.previous_block {
        out.extend(id.0.to_be_bytes());
    }
    put_unsigned(&mut out, block.number_of_transactions.into());
    put_signed(&mut out, block.total_amount);
    put_signed(&mut out, block.total_fee);
    put_signed(&mut out, block.reward);
    put_unsigned(&mut out, block.payload_length.into());
    out.extend(block.payload_hash.0);
    out.extend(block.generator_public_key.0);
    out.extend(block.block_signature.0);
    put_unsigned(&mut out, block.transactions.len() as u64);
    block.transactions.iter().for_each(|transaction| put_transaction(&mut out, transaction));
    seal(out)
}

/// Reads what [`encode_block`] wrote. Ids are taken as stored, not computed again.
///
/// # Errors
/// [`CodecError`] for any other bytes.
pub fn decode_block(bytes: &[u8]) -> Result<Block, CodecError> {
    read_block(unseal(bytes)?)
}

fn read_block(content: &[u8]) -> Result<Block, CodecError> {
    let mut reader = Reader::new(content);
    let mut block = read_head(&mut reader)?;
    let count = reader.count(TRANSACTION_BYTES_MIN)?;
    block.transactions = (0..count).map(|_| read_transaction(&mut reader)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(block)
}

/// The checksum that a body ends with. A block's id covers no signatures of groups: bodies of one id may differ, and this
/// tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodySum([u8; CHECKSUM_BYTES]);

impl BodySum {
    /// `None`: it is none.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// A body as it is kept, its checksum compared.
pub(crate) struct Body {
    bytes: Vec<u8>,
    sum: BodySum,
    id: BlockId,
    height: Height,
}

impl Body {
    /// # Errors
    /// [`CodecError`]: the checksum does not fit, or another beginning than [`encode_block`] writes.
    pub(crate) fn open(bytes: Vec<u8>) -> Result<Self, CodecError> {
        let head = read_head(&mut Reader::new(unseal(&bytes)?))?;
        let sum = bytes.last_chunk().copied().map(BodySum);
        let sum = sum.ok_or(CodecError { offset: bytes.len(), fault: Fault::TooShort })?;
        Ok(Self { bytes, sum, id: head.id, height: head.height })
    }

    fn content(&self) -> &[u8] {
        self.bytes.split_last_chunk::<CHECKSUM_BYTES>().map_or(&[], |(content, _)| content)
    }

    /// Memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    pub(crate) fn sum(&self) -> BodySum {
        self.sum
    }

    /// Whose body it is.
    pub(crate) fn id(&self) -> BlockId {
        self.id
    }

    pub(crate) fn height(&self) -> Height {
        self.height
    }

    /// # Errors
    /// [`CodecError`] for bytes that [`encode_block`] does not write.
    pub(crate) fn block(&self) -> Result<Block, CodecError> {
        read_block(self.content())
    }

    /// A transaction of the block, how many stand before it, and how many there are; the others are passed over. `None`: it
    /// is not among them.
    ///
    /// # Errors
    /// See [`Self::block`]; as far as it was looked at.
    pub(crate) fn find(&self, id: TransactionId) -> Result<Option<(usize, usize, Transaction)>, CodecError> {
        let mut reader = Reader::new(self.content());
        read_head(&mut reader)?;
        let count = reader.count(TRANSACTION_BYTES_MIN)?;
        for index in 0..count {
            let mut here = reader.clone();
            if pass_transaction(&mut reader)? == id {
                return Ok(Some((index, count, read_transaction(&mut here)?)));
            }
        }
        reader.end()?;
        Ok(None)
    }
}

/// Everything before the transactions.
fn read_head(reader: &mut Reader<'_>) -> Result<Block, CodecError> {
    if reader.byte()? != VERSION {
        return Err(reader.fault(Fault::Unknown));
    }
    Ok(Block {
        id: BlockId(reader.u64_be()?),
        height: reader.unsigned32()?,
        version: read_i32(reader)?,
        timestamp: reader.unsigned32()?,
        previous_block: if reader.flag()? { Some(BlockId(reader.u64_be()?)) } else { None },
        number_of_transactions: reader.unsigned32()?,
        total_amount: reader.signed()?,
        total_fee: reader.signed()?,
        reward: reader.signed()?,
        payload_length: reader.unsigned32()?,
        payload_hash: Hash(reader.array()?),
        generator_public_key: PublicKey(reader.array()?),
        block_signature: Signature(reader.array()?),
        transactions: Vec::new(),
    })
}

fn read_i32(reader: &mut Reader<'_>) -> Result<i32, CodecError> {
    let value = reader.signed()?;
    i32::try_from(value).map_err(|_| reader.fault(Fault::Number))
}

const CLAIMED_SENDER: u8 = 1;
const REQUESTER: u8 = 1 << 1;
const RECIPIENT: u8 = 1 << 2;
const SECOND_SIGNATURE: u8 = 1 << 3;
const SIGNATURES: u8 = 1 << 4;
const KNOWN: u8 = CLAIMED_SENDER | REQUESTER | RECIPIENT | SECOND_SIGNATURE | SIGNATURES;

fn put_transaction(out: &mut Vec<u8>, transaction: &Transaction) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(transaction.asset.type_number());
    out.push(
        flag(transaction.claimed_sender.is_some(), CLAIMED_SENDER)
            | flag(transaction.requester_public_key.is_some(), REQUESTER)
            | flag(transaction.recipient.is_some(), RECIPIENT)
            | flag(transaction.second_signature.is_some(), SECOND_SIGNATURE)
            | flag(!transaction.signatures.is_empty(), SIGNATURES),
    );
    out.extend(transaction.id.0.to_be_bytes());
    put_unsigned(out, transaction.timestamp.into());
    out.extend(transaction.sender_public_key.0);
    out.extend(transaction.sender.0.to_be_bytes());
    if let Some(address) = transaction.claimed_sender {
        out.extend(address.0.to_be_bytes());
    }
    if let Some(key) = &transaction.requester_public_key {
        out.extend(key.0);
    }
    if let Some(address) = transaction.recipient {
        out.extend(address.0.to_be_bytes());
    }
    put_signed(out, transaction.amount);
    put_signed(out, transaction.fee);
    out.extend(transaction.signature.0);
    if let Some(signature) = &transaction.second_signature {
        out.extend(signature.0);
    }
    if !transaction.signatures.is_empty() {
        put_unsigned(out, transaction.signatures.len() as u64);
        transaction.signatures.iter().for_each(|signature| out.extend(signature.0));
    }
    put_asset(out, &transaction.asset);
}

fn read_transaction(reader: &mut Reader<'_>) -> Result<Transaction, CodecError> {
    let type_number = reader.byte()?;
    let flags = reader.byte()?;
    if flags & !KNOWN != 0 {
        return Err(reader.fault(Fault::Unknown));
    }
    let has = |bit: u8| flags & bit != 0;
    Ok(Transaction {
        id: TransactionId(reader.u64_be()?),
        timestamp: reader.unsigned32()?,
        sender_public_key: PublicKey(reader.array()?),
        sender: Address(reader.u64_be()?),
        claimed_sender: if has(CLAIMED_SENDER) { Some(Address(reader.u64_be()?)) } else { None },
        requester_public_key: if has(REQUESTER) { Some(PublicKey(reader.array()?)) } else { None },
        recipient: if has(RECIPIENT) { Some(Address(reader.u64_be()?)) } else { None },
        amount: reader.signed()?,
        fee: reader.signed()?,
        signature: Signature(reader.array()?),
        second_signature: if has(SECOND_SIGNATURE) { Some(Signature(reader.array()?)) } else { None },
        signatures: if has(SIGNATURES) { read_signatures(reader)? } else { Vec::new() },
        asset: read_asset(type_number, reader)?,
    })
}

/// Goes on to the next transaction: this one's id.
fn pass_transaction(reader: &mut Reader<'_>) -> Result<TransactionId, CodecError> {
    let type_number = reader.byte()?;
    let flags = reader.byte()?;
    if flags & !KNOWN != 0 {
        return Err(reader.fault(Fault::Unknown));
    }
    let length = |bit: u8, bytes: usize| if flags & bit != 0 { bytes } else { 0 };
    let id = TransactionId(reader.u64_be()?);
    reader.unsigned32()?;
    let (key, address) = (PublicKey::LENGTH, size_of::<u64>());
    let keys = key + address + length(CLAIMED_SENDER, address) + length(REQUESTER, key);
    reader.take(keys + length(RECIPIENT, address))?;
    reader.signed()?;
    reader.signed()?;
    reader.take(Signature::LENGTH + length(SECOND_SIGNATURE, Signature::LENGTH))?;
    if flags & SIGNATURES != 0 {
        let count = reader.count(Signature::LENGTH)?;
        reader.take(count * Signature::LENGTH)?;
    }
    pass_asset(type_number, reader)?;
    Ok(id)
}

fn pass_asset(type_number: u8, reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let bytes = match type_number {
        0 => 0,
        1 => PublicKey::LENGTH,
        2 => reader.count(1)?,
        3 => reader.count(1 + PublicKey::LENGTH)? * (1 + PublicKey::LENGTH),
        4 => {
            reader.take(2)?;
            reader.count(PublicKey::LENGTH)? * PublicKey::LENGTH
        }
        _ => return Err(reader.fault(Fault::Unknown)),
    };
    reader.take(bytes).map(drop)
}

fn read_signatures(reader: &mut Reader<'_>) -> Result<Vec<Signature>, CodecError> {
    let count = reader.count(Signature::LENGTH)?;
    if count == 0 {
        return Err(reader.fault(Fault::NotCanonical));
    }
    (0..count).map(|_| reader.array().map(Signature)).collect()
}

/// Votes and groups take their keys as 32 bytes here, half of their length in the signed bytes.
fn put_asset(out: &mut Vec<u8>, asset: &Asset) {
    match asset {
        Asset::Transfer => {}
        Asset::SecondSignature { public_key } => out.extend(public_key.0),
        Asset::Delegate { username } => put_bytes(out, username.as_bytes()),
        Asset::Vote { votes } => {
            put_unsigned(out, votes.len() as u64);
            for vote in votes {
                out.push(vote.add.into());
                out.extend(vote.delegate.0);
            }
        }
        Asset::Multisignature { min, lifetime, keys } => {
            out.extend([*min, *lifetime]);
            put_unsigned(out, keys.len() as u64);
            keys.iter().for_each(|key| out.extend(key.0));
        }
    }
}

fn read_asset(type_number: u8, reader: &mut Reader<'_>) -> Result<Asset, CodecError> {
    match type_number {
        0 => Ok(Asset::Transfer),
        1 => Ok(Asset::SecondSignature { public_key: PublicKey(reader.array()?) }),
        2 => Ok(Asset::Delegate { username: reader.text()? }),
        3 => {
            let count = reader.count(1 + PublicKey::LENGTH)?;
            let vote = |_| Ok(VoteEntry { add: reader.flag()?, delegate: PublicKey(reader.array()?) });
            Ok(Asset::Vote { votes: (0..count).map(vote).collect::<Result<_, CodecError>>()? })
        }
        4 => {
            let [min, lifetime] = reader.array()?;
            let count = reader.count(PublicKey::LENGTH)?;
            let keys = (0..count).map(|_| reader.array().map(PublicKey)).collect::<Result<_, _>>()?;
            Ok(Asset::Multisignature { min, lifetime, keys })
        }
        _ => Err(reader.fault(Fault::Unknown)),
    }
}
