//! Which transactions a chain is made of.

use std::fmt;
use std::str::FromStr;

use crate::error::GenerateError;
use crate::random::Random;

/// Weights of the kinds of transactions; only their relations matter.
///
/// As text: `transfers=80,votes=15,delegates=5`; what is not named is 0. A kind whose turn it is but
/// whose senders are used up (an account registers a second key and a delegate once) gives way to a transfer. Senders with a
/// second key or a group sign with those, in all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Type 0, from any account.
    pub transfers: u32,
    /// Type 0, from accounts with a group, as far as there are any.
    pub group_transfers: u32,
    /// Type 1.
    pub second_signatures: u32,
    /// Type 2.
    pub delegates: u32,
    /// Type 3: first votes, changed ones, and votes taken back.
    pub votes: u32,
    /// Type 4: first groups, and replaced ones.
    pub multisignatures: u32,
}

/// A kind of transaction to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Transfer,
    GroupTransfer,
    SecondSignature,
    Delegate,
    Vote,
    Multisignature,
}

impl Default for Mix {
    fn default() -> Self {
        Self::transfers_only()
    }
}

impl Mix {
    /// Nothing but transfers: the default, and what throughput is measured with.
    #[must_use]
    pub const fn transfers_only() -> Self {
        Self {
            transfers: 100,
            group_transfers: 0,
            second_signatures: 0,
            delegates: 0,
            votes: 0,
            multisignatures: 0,
        }
    }

    /// Every type and every way to sign.
    #[must_use]
    pub const fn all_types() -> Self {
        Self {
            transfers: 50,
            group_transfers: 15,
            second_signatures: 5,
            delegates: 4,
            votes: 20,
            multisignatures: 6,
        }
    }

    pub(crate) fn choose(&self, random: &mut Random) -> Kind {
        let weights = self.weights();
        let mut left = random.below(weights.iter().map(|(_, _, weight)| u64::from(*weight)).sum());
        for (_, kind, weight) in weights {
            match left.checked_sub(u64::from(weight)) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        Kind::Transfer
    }

    fn weights(&self) -> [(&'static str, Kind, u32); 6] {
        [
            ("transfers", Kind::Transfer, self.transfers),
            ("group_transfers", Kind::GroupTransfer, self.group_transfers),
            ("second_signatures", Kind::SecondSignature, self.second_signatures),
            ("delegates", Kind::Delegate, self.delegates),
            ("votes", Kind::Vote, self.votes),
            ("multisignatures", Kind::Multisignature, self.multisignatures),
        ]
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.weights().into_iter().filter(|(_, _, weight)| *weight > 0);
        let texts: Vec<String> = named.map(|(name, _, weight)| format!("{name}={weight}")).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for Mix {
    type Err = GenerateError;

    fn from_str(text: &str) -> Result<Self, GenerateError> {
        let wrong = |what: String| GenerateError::Options(format!("mix \"{text}\": {what}"));
        let none = Self { transfers: 0, ..Self::transfers_only() };
        let known: Vec<&str> = none.weights().iter().map(|(name, _, _)| *name).collect();
        let mut mix = none;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, number) =
                part.split_once('=').ok_or_else(|| wrong(format!("\"{part}\" is not NAME=WEIGHT")))?;
            let weight = number.trim().parse().map_err(|_| wrong(format!("\"{number}\" is not a number")))?;
            let field = match name.trim() {
                "transfers" => &mut mix.transfers,
                "group_transfers" => &mut mix.group_transfers,
                "second_signatures" => &mut mix.second_signatures,
                "delegates" => &mut mix.delegates,
                "votes" => &mut mix.votes,
                "multisignatures" => &mut mix.multisignatures,
                other => return Err(wrong(format!("\"{other}\" is not one of {}", known.join(", ")))),
            };
            *field = weight;
        }
        if mix == none { Err(wrong("no kind has a weight above 0".to_owned())) } else { Ok(mix) }
    }
}
