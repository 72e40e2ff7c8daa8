//! An account as the chain left it at a height.

use crate::ids::Address;
use crate::keys::PublicKey;

/// One account's state: a function of the chain up to a height, and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub address: Address,
    /// Units of 10^-8. Below zero for the genesis account and a network's listed exceptions only.
    pub balance: i64,
    /// Known once the account sent something, asked for a transaction, or became a cosigner.
    pub public_key: Option<PublicKey>,
    /// Set by a second signature registration; never changed after that.
    pub second_public_key: Option<PublicKey>,
    /// The delegates it votes for, by address, ascending, no repetitions.
    pub votes: Vec<Address>,
    /// The group that must sign for it.
    pub multisignature: Option<Multisignature>,
    /// What it earned and missed as a forger. The genesis generator has some without being a delegate.
    pub forging: Forging,
    /// Present once it registered as a delegate.
    pub delegate: Option<Delegate>,
}

/// A multisignature group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multisignature {
    /// How many members must sign.
    pub min: u8,
    /// Hours that a transaction may wait for signatures in a pool. No effect on the ledger.
    pub lifetime: u8,
    /// The members' keys, ascending, no repetitions.
    pub members: Vec<PublicKey>,
}

/// Counters and sums of an account's forging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forging {
    /// Blocks forged.
    pub produced_blocks: u32,
    /// Rounds in which it was on the list and forged nothing.
    pub missed_blocks: u32,
    /// Fee shares received, units of 10^-8.
    pub fees: i64,
    /// Rewards received, units of 10^-8.
    pub rewards: i64,
}

/// What an account has as a delegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// Its name, 1 to 20 letters.
    pub username: String,
    /// Sum of its voters' balances at the last round end.
    pub vote: i64,
    /// Sum of its voters' shares at the last round end, times its productivity.
    pub votes_weight: i64,
    /// Rounds missed in a row (`cmb`); counted in the second generation only.
    pub missed_in_a_row: u32,
    /// Running sum of its voters' balances now: what `vote` becomes at the next round end.
    pub voters_balance: i64,
    /// Running sum of `floor(balance / number of votes)` of its voters now.
    pub voters_share: i64,
}

impl Account {
    /// An account that nothing has happened to yet.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            balance: 0,
            public_key: None,
            second_public_key: None,
            votes: Vec::new(),
            multisignature: None,
            forging: Forging::default(),
            delegate: None,
        }
    }
}
