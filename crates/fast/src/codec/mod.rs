//! The bytes of the values: compact, canonical, and safe to read from a hostile store.
//!
//! Canonical means that a value has exactly one encoding, so equal states have equal bytes. A reader refuses anything
//! that its writer would not have written: flags without content, numbers longer than needed, lists out of order.

pub(crate) mod account;
pub(crate) mod block;
pub(crate) mod round;
pub(crate) mod undo;

use forebay_ledger::ids::short_hash;

/// Why bytes are not a record of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct CodecError {
    /// Where reading stopped, bytes from the start.
    pub offset: usize,
    /// What was wrong there.
    pub fault: Fault,
}

/// What was wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The record ends before its last field.
    #[error("ends too early")]
    TooShort,
    /// Bytes follow the last field.
    #[error("bytes are left over")]
    TooLong,
    /// A number is longer than needed or larger than its field.
    #[error("a number is not in its shortest form or too large")]
    Number,
    /// A flag, a marker or a version that is not known.
    #[error("an unknown flag, marker or version")]
    Unknown,
    /// The field is present, but says nothing or is out of order.
    #[error("not the canonical form")]
    NotCanonical,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// The checksum does not fit the bytes.
    #[error("the checksum does not fit")]
    Checksum,
}

/// Bytes of the checksum that ends a block or undo record: the first eight of the sha256 of all bytes before it.
pub(crate) const CHECKSUM_BYTES: usize = 8;

/// Appends the checksum over all that was written so far.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = short_hash(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// The content of a sealed record.
pub(crate) fn unseal(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (content, sum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(CodecError { offset: bytes.len(), fault: Fault::TooShort })?;
    if short_hash(content) != u64::from_le_bytes(*sum) {
        return Err(CodecError { offset: content.len(), fault: Fault::Checksum });
    }
    Ok(content)
}

/// An unsigned number, seven bits a byte, low bits first.
pub(crate) fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A signed number, folded so that small ones of either sign are short (0, -1, 1, -2 … become 0, 1, 2, 3 …).
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// A length, then the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_unsigned(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Reads fields in order, and remembers where it is.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, total: bytes.len() }
    }

    pub(crate) fn fault(&self, fault: Fault) -> CodecError {
        CodecError { offset: self.total - self.bytes.len(), fault }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(self.fault(Fault::TooShort))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(self.fault(Fault::TooShort))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, CodecError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.fault(Fault::Number));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(self.fault(Fault::Number)) } else { Ok(value) };
            }
        }
        Err(self.fault(Fault::Number))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, CodecError> {
        let folded = self.unsigned()?;
        Ok((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
    }

    pub(crate) fn unsigned32(&mut self) -> Result<u32, CodecError> {
        let value = self.unsigned()?;
        u32::try_from(value).map_err(|_| self.fault(Fault::Number))
    }

    /// A count of things that take at least `bytes_min` each: a count that cannot fit is refused before anything is
    /// reserved for it.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, CodecError> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| self.fault(Fault::Number))?;
        if count.saturating_mul(bytes_min) > self.bytes.len() {
            return Err(self.fault(Fault::TooShort));
        }
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> Result<String, CodecError> {
        let length = self.count(1)?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.fault(Fault::Text))
    }

    /// A byte that must be 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.fault(Fault::Unknown)),
        }
    }

    pub(crate) fn end(&self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.fault(Fault::TooLong)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_unsigned(&mut bytes, unsigned);
            put_signed(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.unsigned().unwrap(), unsigned);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert!(reader.end().is_ok());
        }
    }

    #[test]
    fn a_number_with_a_needless_byte_is_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).unsigned().unwrap_err().fault, Fault::Number);
        assert_eq!(Reader::new(&[0xff; 10]).unsigned().unwrap_err().fault, Fault::Number);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&largest).unsigned().unwrap(), u64::MAX);
    }

    #[test]
    fn a_count_that_cannot_fit_reserves_nothing() {
        let mut bytes = Vec::new();
        put_unsigned(&mut bytes, u64::MAX);
        assert!(Reader::new(&bytes).count(1).is_err());
    }

    #[test]
    fn a_flipped_bit_breaks_the_seal() {
        let mut sealed = seal(vec![1, 2, 3]);
        assert_eq!(unseal(&sealed).unwrap(), [1, 2, 3]);
        sealed[1] ^= 0x10;
        assert_eq!(unseal(&sealed).unwrap_err().fault, Fault::Checksum);
    }
}
