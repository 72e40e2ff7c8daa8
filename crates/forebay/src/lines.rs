//! Lines of bounded length: what is too long is told, skipped, and costs no memory.

use std::io::{self, BufRead};

/// The longest line: several times a block's payload, whose JSON has about five letters a byte.
pub fn line_bytes_max(payload_bytes: u32) -> usize {
    const LEAST: usize = 16 << 20;
    const LETTERS_PER_BYTE: usize = 8;
    usize::try_from(payload_bytes).unwrap_or(usize::MAX).saturating_mul(LETTERS_PER_BYTE).max(LEAST)
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Text(Vec<u8>),
    /// It had more bytes than allowed, and was skipped.
    TooLong,
}

/// Reads one line; `None` at the end of the input.
///
/// # Errors
/// What the input says.
pub fn read_line(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    let mut any = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        if line.len() + part.len() > bytes_max {
            too_long = true;
            line = Vec::new();
        } else if !too_long {
            line.extend_from_slice(part);
        }
        let consumed = part.len() + usize::from(end.is_some());
        input.consume(consumed);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(if too_long { Line::TooLong } else { Line::Text(line) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_long_ones_are_told() {
        let mut input = io::BufReader::with_capacity(4, &b"one\r\n\nfar too long\nlast"[..]);
        let mut next = || read_line(&mut input, 5).unwrap();
        assert_eq!(next(), Some(Line::Text(b"one".to_vec())));
        assert_eq!(next(), Some(Line::Text(Vec::new())));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Text(b"last".to_vec())));
        assert_eq!(next(), None);
    }
}
