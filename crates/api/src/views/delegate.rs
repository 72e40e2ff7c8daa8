//! Delegates: rank, approval and productivity are computed as the reference node does, in doubles.

use forebay_ledger::account::Delegate as LedgerDelegate;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::JsNumber;
use crate::tiers::{Chain, RankedDelegate};

/// A delegate. `vote` is text in the list of all, and a number elsewhere.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delegate {
    /// The same as `rate`.
    pub rank: u64,
    /// The name.
    pub username: String,
    /// Its account.
    pub address: String,
    /// Rounds missed in a row.
    pub cmb: u32,
    /// Its key.
    pub public_key: String,
    /// Sum of its voters' balances at the last round end.
    pub vote: Shown,
    /// What it is ranked by in the second generation.
    pub votes_weight: i64,
    /// Blocks forged.
    pub producedblocks: u32,
    /// Rounds missed.
    pub missedblocks: u32,
    /// Percent of the supply.
    pub approval: JsNumber,
    /// Percent of its turns.
    pub productivity: JsNumber,
    /// Accounts that vote for it; in searches.
    #[serde(rename = "voters_cnt", skip_serializing_if = "Option::is_none")]
    pub voters: Option<u64>,
    /// When it registered; in searches.
    #[serde(rename = "register_timestamp", skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<u32>,
    /// See `rank`.
    pub rate: u64,
}

/// An amount as a number or as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Shown {
    /// A number.
    Number(i64),
    /// Decimal text.
    Text(String),
}

impl Delegate {
    /// With `vote` as a number.
    pub fn of(ranked: &RankedDelegate, supply: f64, chain: &Chain) -> Self {
        let RankedDelegate { account, rank } = ranked;
        let nobody = LedgerDelegate {
            username: String::new(),
            vote: 0,
            votes_weight: 0,
            missed_in_a_row: 0,
            voters_balance: 0,
            voters_share: 0,
        };
        let delegate = account.delegate.as_ref().unwrap_or(&nobody);
        let (produced, missed) = (account.forging.produced_blocks, account.forging.missed_blocks);
        Self {
            rank: *rank,
            username: delegate.username.clone(),
            address: chain.address(account.address),
            cmb: delegate.missed_in_a_row,
            public_key: account.public_key.map(|key| key.to_string()).unwrap_or_default(),
            vote: Shown::Number(delegate.vote),
            votes_weight: delegate.votes_weight,
            producedblocks: produced,
            missedblocks: missed,
            approval: approval(delegate.vote, supply),
            productivity: productivity(produced, missed),
            voters: None,
            registered_at: None,
            rate: *rank,
        }
    }

    /// With `vote` as text.
    pub fn with_text(mut self) -> Self {
        if let Shown::Number(vote) = self.vote {
            self.vote = Shown::Text(vote.to_string());
        }
        self
    }
}

/// As JavaScript rounds: halves up.
fn round(value: f64) -> f64 {
    (value + 0.5).floor()
}

/// Percent of the supply that votes for a delegate, two digits.
#[expect(clippy::cast_precision_loss, reason = "the reference node's numbers are doubles")]
pub fn approval(vote: i64, supply: f64) -> JsNumber {
    JsNumber(round(vote as f64 / supply * 1e4) / 1e2)
}

/// Percent of its turns that a delegate used, two digits; 0 if it had none.
pub fn productivity(produced: u32, missed: u32) -> JsNumber {
    let turns = f64::from(produced) + f64::from(missed);
    if turns == 0.0 {
        return JsNumber(0.0);
    }
    let missed_percent = f64::from(missed) / (turns / 100.0);
    JsNumber(round((100.0 - missed_percent).abs() * 100.0) / 100.0)
}

/// What names are sorted by: the order of `localeCompare` for the letters that a name may have. Punctuation, then digits,
/// then letters; of names that differ in case only, the lower case first.
pub fn collation(name: &str) -> (Vec<(u8, char)>, Vec<bool>) {
    let primary = |letter: char| match "_!.@&$".find(letter) {
        Some(at) => (u8::try_from(at).unwrap_or(0), letter),
        None if letter.is_ascii_digit() => (10, letter),
        None => (11, letter.to_ascii_lowercase()),
    };
    (name.chars().map(primary).collect(), name.chars().map(char::is_uppercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_the_reference_nodes() {
        for (produced, missed, percent) in
            [(3, 2, 60.0), (2, 1, 66.67), (0, 5, 0.0), (0, 0, 0.0), (7, 0, 100.0)]
        {
            assert_eq!(productivity(produced, missed), JsNumber(percent));
        }
        assert_eq!(approval(334_989_950_048_644, 11_000_613_541_000_000.0), JsNumber(3.05));
        assert_eq!(approval(334_989_950_048_644, 1e16), JsNumber(3.35));
    }

    #[test]
    fn punctuation_sorts_before_digits_and_digits_before_letters() {
        let mut names = ["r38_1", "r383_6", "r36_1", "r363_1", "ra", "rA", "r.", "r_"];
        names.sort_by_key(|name| collation(name));
        assert_eq!(names, ["r_", "r.", "r36_1", "r363_1", "r38_1", "r383_6", "ra", "rA"]);
    }
}
