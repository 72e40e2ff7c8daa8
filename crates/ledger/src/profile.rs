//! Network profiles: what differs from one chain of the family to another, as data.

use serde::{Deserialize, Serialize};

use crate::ids::{Address, Height, TransactionId};
use crate::keys::{Hash, PublicKey};

/// The rules of one network. Read from TOML; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkProfile {
    /// Short name: lower-case letters, digits, `-`. Also names the chain's keys in Redis.
    pub name: String,
    /// The letter behind an address.
    pub address_suffix: char,
    /// Second 0 of the chain's timestamps, `YYYY-MM-DDTHH:MM:SSZ`.
    pub epoch: String,
    /// Length of a slot.
    pub block_time_seconds: u32,
    /// Forgers a round; also blocks a round.
    pub delegates: u32,
    /// Present when parts of the profile are assumptions: shown with refusals that may come from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
    /// Units that the genesis account gives away; the largest amount of one transaction.
    pub total_amount: i64,
    /// Rewards by height, ascending, the first from height 1.
    pub rewards: Vec<RewardMilestone>,
    /// Fees by height, ascending, the first from height 1.
    pub fees: Vec<FeeSchedule>,
    /// Sizes and counts.
    pub limits: Limits,
    /// Forger lists of the second generation; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_two: Option<GenerationTwo>,
    /// What was accepted once although a rule forbids it.
    #[serde(default)]
    pub exceptions: Exceptions,
}

/// A block's reward from a height on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardMilestone {
    /// First height.
    pub from_height: Height,
    /// Units of 10^-8.
    pub reward: i64,
}

/// Fees of the five types from a height on, units of 10^-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeSchedule {
    /// First height.
    pub from_height: Height,
    /// Type 0.
    pub transfer: i64,
    /// Type 1.
    pub second_signature: i64,
    /// Type 2.
    pub delegate: i64,
    /// Type 3.
    pub vote: i64,
    /// Type 4.
    pub multisignature: i64,
}

/// Sizes and counts that a block and a transaction may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Transactions a block.
    pub transactions_per_block: u32,
    /// Bytes of a block's transactions.
    pub payload_bytes: u32,
    /// Delegates that one account may vote for.
    pub votes_per_account: u32,
    /// Entries of one vote transaction.
    pub entries_per_vote: u32,
    /// Members of a multisignature group.
    pub group_keys: u8,
    /// Lifetime of a multisignature transaction, hours.
    pub group_lifetime_hours: u8,
    /// Letters of a delegate's name.
    pub username_letters: u8,
}

/// The second generation of forger lists (RULES 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationTwo {
    /// First block with it; the first block of a round.
    pub first_height: Height,
    /// A delegate that missed more rounds in a row is not listed.
    pub missed_in_a_row_max: u32,
    /// How many delegates by weight take part in the draw.
    pub pool: u32,
}

/// Known exceptions of a network (RULES 9).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exceptions {
    /// Blocks accepted outside their generator's slot.
    pub wrong_slot: Vec<WrongSlot>,
    /// Transactions that changed nothing, not even by their fee.
    #[serde(with = "id_texts")]
    pub without_effect: Vec<TransactionId>,
    /// Transactions accepted although the sender could not pay.
    #[serde(with = "id_texts")]
    pub balance_waived: Vec<TransactionId>,
    /// Accounts that may stay below zero, in the network's text form.
    pub may_be_negative: Vec<String>,
    /// Transactions whose verification is skipped.
    #[serde(with = "id_texts")]
    pub verification_skipped: Vec<TransactionId>,
}

/// A block accepted outside its generator's slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongSlot {
    /// Its height.
    pub height: Height,
    /// Who forged it, hex.
    #[serde(with = "key_text")]
    pub generator: PublicKey,
}

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network profile: {0}")]
pub struct ProfileError(String);

/// The profiles that come with the program: name and TOML text.
pub const BUILT_IN: [(&str, &str); 3] = [
    ("rise-mainnet", include_str!("../profiles/rise-mainnet.toml")),
    ("rise-testnet", include_str!("../profiles/rise-testnet.toml")),
    ("rise-devnet", include_str!("../profiles/rise-devnet.toml")),
];

/// What names the public networks, by the profile's name: the payload hash of their genesis block, which the nodes' and
/// wallets' configurations call nethash.
const NETHASHES: [(&str, &str); 2] = [
    ("rise-mainnet", "cd8171332c012514864edd8eb6f68fc3ea6cb2afbaf21c56e12751022684cea5"),
    ("rise-testnet", "e90d39ac200c495b97deb6d9700745177c7fc4aa80a404108ec820cbeced054c"),
];

impl NetworkProfile {
    /// The payload hash that the genesis block of this network has; `None`: any, as in a private network.
    #[must_use]
    pub fn nethash(&self) -> Option<Hash> {
        let (_, text) = NETHASHES.iter().find(|(name, _)| *name == self.name)?;
        text.parse().ok()
    }

    /// One of [`BUILT_IN`] by its name.
    ///
    /// # Errors
    /// The name is unknown; the message lists the known ones.
    pub fn built_in(name: &str) -> Result<Self, ProfileError> {
        let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            return Err(ProfileError(format!(
                "no network is called \"{name}\"; known are {}; for another give the path of a TOML file",
                known.join(", ")
            )));
        };
        Self::from_toml(text)
    }

    /// Reads and checks a profile.
    ///
    /// # Errors
    /// What is wrong, with line and key.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|error| ProfileError(error.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    /// The profile as TOML, readable by [`NetworkProfile::from_toml`].
    ///
    /// # Errors
    /// Never for a profile that was checked.
    pub fn to_toml(&self) -> Result<String, ProfileError> {
        toml::to_string(self).map_err(|error| ProfileError(error.to_string()))
    }

    fn check(&self) -> Result<(), ProfileError> {
        let wrong = |what: &str| Err(ProfileError(what.to_owned()));
        let name_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(name_letter) {
            return wrong("name: 1 to 40 of a-z, 0-9 and -");
        }
        if !self.address_suffix.is_ascii_alphabetic() {
            return wrong("address_suffix: one letter A-Z or a-z");
        }
        if self.epoch_unix_seconds().is_none() {
            return wrong("epoch: a time of the form 2016-05-24T17:00:00Z");
        }
        if self.block_time_seconds == 0 || self.block_time_seconds > 86_400 {
            return wrong("block_time_seconds: 1 to 86400");
        }
        if self.delegates < 2 || self.delegates > 1000 {
            return wrong("delegates: 2 to 1000");
        }
        if self.total_amount <= 0 {
            return wrong("total_amount: above 0");
        }
        if !starts_at_one_ascending(self.rewards.iter().map(|m| m.from_height)) {
            return wrong("rewards: from_height starts at 1 and ascends");
        }
        if !starts_at_one_ascending(self.fees.iter().map(|f| f.from_height)) {
            return wrong("fees: from_height starts at 1 and ascends");
        }
        let amounts = self
            .fees
            .iter()
            .flat_map(|f| [f.transfer, f.second_signature, f.delegate, f.vote, f.multisignature]);
        if amounts
            .chain(self.rewards.iter().map(|m| m.reward))
            .any(|amount| !(0..=self.total_amount).contains(&amount))
        {
            return wrong("rewards and fees: 0 to total_amount");
        }
        self.check_limits()?;
        if let Some(two) = self.generation_two
            && (two.first_height <= 1 || two.first_height % self.delegates != 1 || two.pool < self.delegates)
        {
            return wrong(
                "generation_two: first_height is the first block of a round after the first, and pool is at least delegates",
            );
        }
        for text in &self.exceptions.may_be_negative {
            Address::parse(text, self.address_suffix)
                .map_err(|error| ProfileError(format!("exceptions.may_be_negative: {error}")))?;
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ProfileError> {
        let limits = &self.limits;
        let within = [
            ("transactions_per_block", limits.transactions_per_block, 1, 30_000),
            ("payload_bytes", limits.payload_bytes, 1, 64 << 20),
            ("votes_per_account", limits.votes_per_account, 1, 1000),
            ("entries_per_vote", limits.entries_per_vote, 1, 1000),
            ("group_keys", u32::from(limits.group_keys), 1, 127),
            ("group_lifetime_hours", u32::from(limits.group_lifetime_hours), 1, 127),
            ("username_letters", u32::from(limits.username_letters), 1, 20),
        ];
        match within.iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((key, value, low, high)) => {
                Err(ProfileError(format!("limits.{key}: {value} is not between {low} and {high}")))
            }
            None => Ok(()),
        }
    }

    /// The epoch as seconds since 1970.
    #[must_use]
    pub fn epoch_unix_seconds(&self) -> Option<i64> {
        parse_utc(&self.epoch)
    }

    /// Seconds since the network's epoch at a moment given as seconds since 1970. Before the epoch: below zero.
    #[must_use]
    pub fn network_time(&self, unix_seconds: i64) -> i64 {
        unix_seconds - self.epoch_unix_seconds().unwrap_or(0)
    }

    /// The slot that a timestamp falls into.
    #[must_use]
    pub fn slot(&self, timestamp: u32) -> u32 {
        timestamp / self.block_time_seconds.max(1)
    }

    /// The round of a height: `ceil(height / delegates)`.
    #[must_use]
    pub fn round_of(&self, height: Height) -> u32 {
        height.div_ceil(self.delegates.max(1))
    }

    /// Whether the block at this height closes a round (the genesis block counts as one too: RULES 3).
    #[must_use]
    pub fn closes_round(&self, height: Height) -> bool {
        height == 1 || height.is_multiple_of(self.delegates.max(1))
    }

    /// Whether the block at this height is its round's first.
    #[must_use]
    pub fn opens_round(&self, height: Height) -> bool {
        height % self.delegates.max(1) == 1 % self.delegates.max(1)
    }

    /// Whether rules of the second generation hold for the block at this height.
    #[must_use]
    pub fn is_generation_two(&self, height: Height) -> bool {
        self.generation_two.is_some_and(|two| height >= two.first_height)
    }

    /// The reward of the block at a height.
    #[must_use]
    pub fn reward(&self, height: Height) -> i64 {
        self.rewards.iter().rev().find(|m| m.from_height <= height).map_or(0, |m| m.reward)
    }

    /// The fees at a height.
    #[must_use]
    pub fn fees_at(&self, height: Height) -> FeeSchedule {
        self.fees.iter().rev().find(|f| f.from_height <= height).copied().unwrap_or_default()
    }

    /// All units in circulation at a height (RULES 2, `calcSupply`).
    #[must_use]
    pub fn supply(&self, height: Height) -> i128 {
        let mut supply = i128::from(self.total_amount);
        for (index, milestone) in self.rewards.iter().enumerate().filter(|(_, m)| m.from_height <= height) {
            let end = self.rewards.get(index + 1).map_or(Height::MAX, |next| next.from_height);
            // The last milestone counts the block at `height` too, since milestone 0 starts at height 1.
            let blocks =
                if end <= height { end - milestone.from_height } else { height + 1 - milestone.from_height };
            supply += i128::from(blocks) * i128::from(milestone.reward);
        }
        supply
    }

    /// The addresses that may be below zero, besides the genesis account's.
    #[must_use]
    pub fn may_be_negative(&self) -> Vec<Address> {
        let parse = |text: &String| Address::parse(text, self.address_suffix).ok();
        self.exceptions.may_be_negative.iter().filter_map(parse).collect()
    }
}

impl Default for FeeSchedule {
    fn default() -> Self {
        Self { from_height: 1, transfer: 0, second_signature: 0, delegate: 0, vote: 0, multisignature: 0 }
    }
}

fn starts_at_one_ascending(heights: impl Iterator<Item = Height>) -> bool {
    let mut last = 0;
    for height in heights {
        if (last == 0 && height != 1) || height <= last {
            return false;
        }
        last = height;
    }
    last > 0
}

/// `YYYY-MM-DDTHH:MM:SS[.mmm]Z` as seconds since 1970 (proleptic Gregorian calendar).
fn parse_utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let text = text.strip_suffix(".000").unwrap_or(text);
    let (date, time) = text.split_once('T')?;
    let numbers = |part: &str, sign: char, widths: [usize; 3]| -> Option<[i64; 3]> {
        let parts: Vec<&str> = part.split(sign).collect();
        let [a, b, c] = parts.as_slice() else { return None };
        let number = |text: &str, width: usize| {
            (text.len() == width && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse().ok())
                .flatten()
        };
        let [wa, wb, wc] = widths;
        Some([number(a, wa)?, number(b, wb)?, number(c, wc)?])
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil: years counted from March, so that the leap day is the last of its year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

mod id_texts {
    use super::TransactionId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(ids: &[TransactionId], to: S) -> Result<S::Ok, S::Error> {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TransactionId>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

mod key_text {
    use super::PublicKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(key: &PublicKey, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_profiles_are_valid_and_survive_toml() {
        for (name, _) in BUILT_IN {
            let profile = NetworkProfile::built_in(name).unwrap();
            assert_eq!(profile.name, name);
            assert_eq!(NetworkProfile::from_toml(&profile.to_toml().unwrap()).unwrap(), profile);
        }
    }

    #[test]
    fn the_public_networks_are_named_by_their_genesis_blocks() {
        for (name, text) in NETHASHES {
            assert_eq!(NetworkProfile::built_in(name).unwrap().nethash().unwrap().to_string(), text);
        }
        assert_eq!(NetworkProfile::built_in("rise-devnet").unwrap().nethash(), None);
    }

    #[test]
    fn an_unknown_key_and_an_unknown_name_are_errors() {
        let (_, text) = BUILT_IN[0];
        let error = NetworkProfile::from_toml(&text.replace("delegates = 101", "delegates = 101\nspeed = 3"))
            .unwrap_err();
        assert!(error.to_string().contains("speed"), "{error}");
        assert!(NetworkProfile::built_in("rise").unwrap_err().to_string().contains("rise-testnet"));
    }

    #[test]
    fn epoch_is_the_24th_of_may_2016_at_17_utc() {
        let profile = NetworkProfile::built_in("rise-mainnet").unwrap();
        assert_eq!(profile.epoch_unix_seconds(), Some(1_464_109_200));
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_utc("2000-02-29T12:00:01.000Z"), Some(951_825_601));
        for wrong in ["2016-05-24", "2016-13-24T17:00:00Z", "2016-05-24T17:00:00", "é016-05-24T17:00:00Z"] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn supply_counts_every_reward_of_completed_and_running_milestones() {
        let profile = NetworkProfile::built_in("rise-devnet").unwrap();
        assert_eq!(profile.supply(1), 10_999_999_991_000_000);
        assert_eq!(profile.supply(10), 10_999_999_991_000_000 + 1_500_000_000);
        let first_thirteen = 1_500_000_000 + 30_000_000 + 20_000_000 + 1_500_000_000;
        assert_eq!(profile.supply(13), 10_999_999_991_000_000 + first_thirteen);
    }
}
