//! What a request may ask for: one description of each parameter, which both checks it and documents it.
//!
//! Texts of errors are those of the reference node, which clients show and compare. The first problem is told: a missing
//! property, then an unknown one, then the properties in the order of the description.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use forebay_ledger::ids::{Address, Height};
use forebay_ledger::keys::PublicKey;

use crate::answer::ApiError;

/// A request may not have more parameters; wallets send a dozen at most.
const PARAMETERS_MAX: usize = 64;
/// What is shown of a value that is no good.
const SHOWN_LETTERS_MAX: usize = 200;
/// The header that names the height to wait for.
pub const WAIT_HEIGHT: &str = "x-forebay-wait-height";

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name in the query.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it has to be there.
    pub required: bool,
    /// What it does, for people.
    pub about: &'static str,
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number, from one to another.
    Integer(Option<i64>, Option<i64>),
    /// A text of so many letters.
    Text(usize, usize),
    /// A block's or transaction's id.
    Id,
    /// An address with the network's suffix.
    Address,
    /// Addresses with commas between them.
    Addresses,
    /// 64 hexadecimal digits.
    PublicKey,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
}

/// The parameters of a route.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// In the order in which they are checked.
    pub parameters: &'static [Parameter],
    /// Whether another one is an error.
    pub closed: bool,
}

/// A route that takes none; what is there is not looked at.
pub const NOTHING: Schema = Schema { parameters: &[], closed: false };

impl Parameter {
    /// A parameter that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, required: false, about }
    }

    /// A parameter that may not.
    pub const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, required: true, about }
    }
}

/// What a request asks for, not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    values: Arc<Vec<(String, String)>>,
    /// The height that the answering tier has to have.
    pub wait_height: Option<Height>,
}

/// What a request asks for, checked against a [`Schema`].
#[derive(Debug)]
pub struct Given {
    values: Arc<Vec<(String, String)>>,
    suffix: char,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let wait_height = match parts.headers.get(WAIT_HEIGHT) {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .ok_or_else(|| ApiError::malformed(format!("{WAIT_HEIGHT} is not a height")))?,
            ),
        };
        Ok(Self { values: Arc::new(parse_query(parts.uri.query().unwrap_or_default())), wait_height })
    }
}

/// Names and values as a browser writes them. What cannot be decoded is kept as far as it can.
fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(PARAMETERS_MAX)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes
            .get(at + 1..at + 3)
            .filter(|_| *byte == b'%')
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(escaped) => {
                out.push(escaped);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Asked {
    /// Checks everything.
    ///
    /// # Errors
    /// The first problem, in the family's words.
    pub fn check(&self, schema: &Schema, suffix: char) -> Result<Given, ApiError> {
        let given = Given { values: Arc::clone(&self.values), suffix };
        if let Some(missing) =
            schema.parameters.iter().find(|one| one.required && given.text(one.name).is_none())
        {
            return Err(ApiError::refused(format!("#/ - Missing required property: {}", missing.name)));
        }
        if schema.closed
            && let Some((unknown, _)) =
                self.values.iter().find(|(name, _)| !schema.parameters.iter().any(|one| one.name == name))
        {
            return Err(ApiError::refused(format!(
                "#/ - Additional properties not allowed: {}",
                shown(unknown)
            )));
        }
        for one in schema.parameters {
            given.check(one)?;
        }
        Ok(given)
    }
}

impl Given {
    fn check(&self, one: &Parameter) -> Result<(), ApiError> {
        let values: Vec<&str> = self.all(one.name).collect();
        let wrong = |problem: String| Err(ApiError::refused(format!("#/{} - {problem}", one.name)));
        let value = match values.as_slice() {
            [] => return Ok(()),
            [value] => *value,
            _ => {
                let expected = if matches!(one.kind, Kind::Integer(..)) { "integer" } else { "string" };
                return wrong(format!("Expected type {expected} but found type array"));
            }
        };
        let not_valid = |format: &str| {
            wrong(format!("Object didn't pass validation for format {format}: {}", shown(value)))
        };
        match one.kind {
            Kind::Integer(min, max) => match whole_number(value) {
                None => wrong("Expected type integer but found type not-a-number".to_owned()),
                Some(number) => match (min, max) {
                    (Some(min), _) if number < min => {
                        wrong(format!("Value {number} is less than minimum {min}"))
                    }
                    (_, Some(max)) if number > max => {
                        wrong(format!("Value {number} is greater than maximum {max}"))
                    }
                    _ => Ok(()),
                },
            },
            Kind::Text(min, max) => check_length(value, min, max).or_else(wrong),
            Kind::Id => match check_length(value, 1, 20) {
                Err(problem) => wrong(problem),
                Ok(()) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(()),
                Ok(()) => not_valid("id"),
            },
            Kind::Address if !self.is_address(value) => not_valid("address"),
            Kind::Addresses if !value.split(',').all(|one| self.is_address(one)) => not_valid("addressList"),
            // An empty one counts as none.
            Kind::PublicKey if !value.is_empty() && value.parse::<PublicKey>().is_err() => {
                not_valid("publicKey")
            }
            Kind::OneOf(words) if !words.contains(&value) => {
                wrong(format!("No enum match for: {}", shown(value)))
            }
            Kind::Flag if !matches!(value, "true" | "false") => {
                wrong("Expected type boolean but found type string".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn is_address(&self, text: &str) -> bool {
        text.strip_suffix(self.suffix).is_some_and(|digits| {
            (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        })
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value as it is.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(whole_number)
    }

    /// A number of rows, or to skip.
    pub fn count(&self, name: &str, default: u32) -> u32 {
        self.integer(name).map_or(default, |number| u32::try_from(number.max(0)).unwrap_or(u32::MAX))
    }

    /// An address; the inner `None`: one that no account can have (too large, or with a zero in front).
    pub fn address(&self, name: &str) -> Option<Option<Address>> {
        self.text(name).map(|text| Address::parse(text, self.suffix).ok())
    }

    /// Those of several addresses that accounts can have.
    pub fn addresses(&self, name: &str) -> Option<Vec<Address>> {
        let text = self.text(name)?;
        Some(text.split(',').filter_map(|one| Address::parse(one, self.suffix).ok()).collect())
    }

    /// A key; an empty text is none.
    pub fn key(&self, name: &str) -> Option<PublicKey> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// An id; the inner `None`: one that nothing can have.
    pub fn id(&self, name: &str) -> Option<Option<u64>> {
        self.text(name).map(|text| text.parse::<u64>().ok().filter(|number| number.to_string() == text))
    }

    /// Whether a flag is set.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
}

fn check_length(value: &str, min: usize, max: usize) -> Result<(), String> {
    // As JavaScript counts: units of 16 bits.
    let letters = value.encode_utf16().count();
    if letters < min {
        Err(format!("String is too short ({letters} chars), minimum {min}"))
    } else if letters > max {
        Err(format!("String is too long ({letters} chars), maximum {max}"))
    } else {
        Ok(())
    }
}

/// The digits that a text begins with, as JavaScript's `parseInt` reads them. What exceeds 64 bits is the largest or
/// smallest number.
fn whole_number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (negative, digits) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let digits = digits.get(..end).filter(|digits| !digits.is_empty())?;
    let number = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { number.saturating_neg() } else { number })
}

/// A value as it may stand in an answer.
fn shown(value: &str) -> String {
    value.chars().take(SHOWN_LETTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_javascript_does() {
        for (text, number) in [
            ("12", Some(12)),
            (" 12abc", Some(12)),
            ("-3", Some(-3)),
            ("+4", Some(4)),
            ("abc", None),
            ("", None),
            ("99999999999999999999", Some(i64::MAX)),
        ] {
            assert_eq!(whole_number(text), number, "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded_as_far_as_it_can() {
        let pairs = parse_query("a=1&b=%2B+x&c&%zz=%f&d=%ff&&e==");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            pairs,
            [("a", "1"), ("b", "+ x"), ("c", ""), ("%zz", "%f"), ("d", "\u{fffd}"), ("e", "=")]
        );
    }
}
