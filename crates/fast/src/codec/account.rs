//! An account's record.
//!
//! A bucket hash stays small only while each of its values is at most 64 bytes (Redis' `hash-max-listpack-value`). A
//! plain account with key and one vote fits. A longer one lives in a key of its own, a delegate in the delegates' hash;
//! the bucket then holds one marker byte that says where.

use forebay_ledger::account::{Account, Delegate, Forging, Multisignature};
use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;

use super::{CodecError, Fault, Reader, put_bytes, put_signed, put_unsigned};

/// The longest value that a bucket may hold, bytes: Redis' default `hash-max-listpack-value`.
pub const INLINE_BYTES_MAX: usize = 64;

/// The bucket's value when the record is in the side key.
pub(crate) const MARKER_SIDE: u8 = 0x80;
/// The bucket's value when the record is in the delegates' hash.
pub(crate) const MARKER_DELEGATE: u8 = 0x81;

const PUBLIC_KEY: u8 = 1;
const SECOND_PUBLIC_KEY: u8 = 1 << 1;
const VOTES: u8 = 1 << 2;
const MULTISIGNATURE: u8 = 1 << 3;
const FORGING: u8 = 1 << 4;
const DELEGATE: u8 = 1 << 5;
const KNOWN: u8 = PUBLIC_KEY | SECOND_PUBLIC_KEY | VOTES | MULTISIGNATURE | FORGING | DELEGATE;

/// Where an account's record lives, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountRecord {
    /// In the bucket.
    Inline(Vec<u8>),
    /// In the side key `x:<address>`; the bucket holds a marker.
    Side(Vec<u8>),
    /// In the delegates' hash; the bucket holds a marker.
    Delegate(Vec<u8>),
}

impl AccountRecord {
    /// The record of an account, and the place that it belongs to.
    #[must_use]
    pub fn of(account: &Account) -> Self {
        let bytes = encode_account(account);
        if account.delegate.is_some() {
            Self::Delegate(bytes)
        } else if bytes.len() > INLINE_BYTES_MAX {
            Self::Side(bytes)
        } else {
            Self::Inline(bytes)
        }
    }

    /// The record's bytes, wherever they live.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Inline(bytes) | Self::Side(bytes) | Self::Delegate(bytes) => bytes,
        }
    }

    /// What the bucket holds for it.
    #[must_use]
    pub fn bucket_value(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Side(_) => &[MARKER_SIDE],
            Self::Delegate(_) => &[MARKER_DELEGATE],
        }
    }
}

/// The bytes of an account; its address is not in them.
#[must_use]
pub fn encode_account(account: &Account) -> Vec<u8> {
    let mut out = Vec::with_capacity(INLINE_BYTES_MAX);
    put_account(&mut out, account);
    out
}

/// Appends the bytes of an account.
pub(crate) fn put_account(out: &mut Vec<u8>, account: &Account) {
    out.push(flags(account));
    put_signed(out, account.balance);
    if let Some(key) = &account.public_key {
        out.extend(key.0);
    }
    if let Some(key) = &account.second_public_key {
        out.extend(key.0);
    }
    if !account.votes.is_empty() {
        put_unsigned(out, account.votes.len() as u64);
        account.votes.iter().for_each(|vote| out.extend(vote.0.to_be_bytes()));
    }
    if let Some(group) = &account.multisignature {
        out.extend([group.min, group.lifetime]);
        put_unsigned(out, group.members.len() as u64);
        group.members.iter().for_each(|member| out.extend(member.0));
    }
    if account.forging != Forging::default() {
        put_unsigned(out, account.forging.produced_blocks.into());
        put_unsigned(out, account.forging.missed_blocks.into());
        put_signed(out, account.forging.fees);
        put_signed(out, account.forging.rewards);
    }
    if let Some(delegate) = &account.delegate {
        put_bytes(out, delegate.username.as_bytes());
        put_signed(out, delegate.vote);
        put_signed(out, delegate.votes_weight);
        put_unsigned(out, delegate.missed_in_a_row.into());
        put_signed(out, delegate.voters_balance);
        put_signed(out, delegate.voters_share);
    }
}

/// Whether the record certainly fits a bucket: most accounts, told without encoding them.
pub(crate) fn is_short(account: &Account) -> bool {
    account.delegate.is_none()
        && account.multisignature.is_none()
        && account.second_public_key.is_none()
        && account.votes.len() <= 1
        && account.forging == Forging::default()
}

fn flags(account: &Account) -> u8 {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    flag(account.public_key.is_some(), PUBLIC_KEY)
        | flag(account.second_public_key.is_some(), SECOND_PUBLIC_KEY)
        | flag(!account.votes.is_empty(), VOTES)
        | flag(account.multisignature.is_some(), MULTISIGNATURE)
        | flag(account.forging != Forging::default(), FORGING)
        | flag(account.delegate.is_some(), DELEGATE)
}

/// Reads an account's bytes back.
///
/// # Errors
/// [`CodecError`] for bytes that [`encode_account`] does not write.
pub fn decode_account(address: Address, bytes: &[u8]) -> Result<Account, CodecError> {
    let mut reader = Reader::new(bytes);
    let account = read_account(address, &mut reader)?;
    reader.end()?;
    Ok(account)
}

/// Reads an account that other fields follow.
pub(crate) fn read_account(address: Address, reader: &mut Reader<'_>) -> Result<Account, CodecError> {
    let flags = reader.byte()?;
    if flags & !KNOWN != 0 {
        return Err(reader.fault(Fault::Unknown));
    }
    let has = |bit: u8| flags & bit != 0;
    Ok(Account {
        address,
        balance: reader.signed()?,
        public_key: if has(PUBLIC_KEY) { Some(PublicKey(reader.array()?)) } else { None },
        second_public_key: if has(SECOND_PUBLIC_KEY) { Some(PublicKey(reader.array()?)) } else { None },
        votes: if has(VOTES) { read_votes(reader)? } else { Vec::new() },
        multisignature: if has(MULTISIGNATURE) { Some(read_group(reader)?) } else { None },
        forging: if has(FORGING) { read_forging(reader)? } else { Forging::default() },
        delegate: if has(DELEGATE) { Some(read_delegate(reader)?) } else { None },
    })
}

fn read_votes(reader: &mut Reader<'_>) -> Result<Vec<Address>, CodecError> {
    let count = reader.count(8)?;
    let votes = (0..count).map(|_| reader.u64_be().map(Address)).collect::<Result<Vec<_>, _>>()?;
    if votes.is_empty() || !votes.is_sorted_by(|a, b| a < b) {
        return Err(reader.fault(Fault::NotCanonical));
    }
    Ok(votes)
}

fn read_group(reader: &mut Reader<'_>) -> Result<Multisignature, CodecError> {
    let [min, lifetime] = reader.array()?;
    let count = reader.count(PublicKey::LENGTH)?;
    let members = (0..count).map(|_| reader.array().map(PublicKey)).collect::<Result<Vec<_>, _>>()?;
    if !members.is_sorted_by(|a, b| a < b) {
        return Err(reader.fault(Fault::NotCanonical));
    }
    Ok(Multisignature { min, lifetime, members })
}

fn read_forging(reader: &mut Reader<'_>) -> Result<Forging, CodecError> {
    let forging = Forging {
        produced_blocks: reader.unsigned32()?,
        missed_blocks: reader.unsigned32()?,
        fees: reader.signed()?,
        rewards: reader.signed()?,
    };
    if forging == Forging::default() {
        return Err(reader.fault(Fault::NotCanonical));
    }
    Ok(forging)
}

fn read_delegate(reader: &mut Reader<'_>) -> Result<Delegate, CodecError> {
    Ok(Delegate {
        username: reader.text()?,
        vote: reader.signed()?,
        votes_weight: reader.signed()?,
        missed_in_a_row: reader.unsigned32()?,
        voters_balance: reader.signed()?,
        voters_share: reader.signed()?,
    })
}
