//! Accounts as the last step left them: those that a restore read, as far as there is room, and those that were touched
//! since. The Writer is the only one that writes, so they cannot be stale; with a restore they go, with everything else that
//! is resident.
//!
//! Bounded in bytes, by two generations: when the young one is full it becomes the old one, and what was old and not written
//! since is dropped. A chain whose accounts fit into one generation has all of them at hand.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;
use forebay_ledger::ids::hashing::IdHash;
use forebay_ledger::keys::PublicKey;

use crate::options::Limits;

/// What a plain account takes, with its place in the table.
const PLAIN_BYTES: usize = 320;

/// What the cache takes at most of a chain with so many accounts, bytes, where it may take `limit_bytes`.
pub(crate) fn bytes_max(accounts: u64, limit_bytes: u64) -> u64 {
    // The younger generation may have an account that the older has, too.
    accounts.saturating_mul(2 * PLAIN_BYTES as u64).min(limit_bytes)
}

type Generation = HashMap<Address, Account, IdHash>;

#[derive(Debug, Clone)]
pub(crate) struct AccountCache {
    young: Generation,
    /// In plain accounts: one with a group of signers or many votes counts for several.
    young_weight: usize,
    old: Generation,
    /// When it became old: what left it since is counted until it is dropped.
    old_weight: usize,
    young_max: usize,
    /// How often a generation was dropped.
    drops: u64,
}

impl Default for AccountCache {
    fn default() -> Self {
        Self::new(Limits::default().accounts_cached_bytes_max)
    }
}

impl AccountCache {
    /// Of so many bytes at most; the newest account is always there.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let young_max = bytes_max / (2 * PLAIN_BYTES as u64);
        Self {
            young: Generation::default(),
            young_weight: 0,
            old: Generation::default(),
            old_weight: 0,
            young_max: usize::try_from(young_max).unwrap_or(usize::MAX).max(1),
            drops: 0,
        }
    }

    /// Whether another account fits into the young generation.
    pub(crate) fn has_room(&self) -> bool {
        self.young_weight < self.young_max
    }

    /// What it takes, bytes, by the weight of a plain account.
    pub(crate) fn bytes(&self) -> u64 {
        ((self.young_weight + self.old_weight) * PLAIN_BYTES) as u64
    }

    pub(crate) fn get(&self, address: Address) -> Option<&Account> {
        self.young.get(&address).or_else(|| self.old.get(&address))
    }

    /// A point in time, for [`has_all_since`](Self::has_all_since).
    pub(crate) fn drops(&self) -> u64 {
        self.drops
    }

    /// Whether all accounts that were inserted since then, and not removed, are still here.
    pub(crate) fn has_all_since(&self, drops: u64) -> bool {
        // What is inserted is young at first, and old after the next drop.
        self.drops < drops + 2
    }

    pub(crate) fn insert(&mut self, account: Account) {
        if self.young_weight >= self.young_max {
            self.old = std::mem::take(&mut self.young);
            self.old_weight = std::mem::take(&mut self.young_weight);
            self.drops += 1;
        }
        self.young_weight += weight(&account);
        if let Some(before) = self.young.insert(account.address, account) {
            self.young_weight -= weight(&before);
        }
    }

    pub(crate) fn remove(&mut self, address: Address) {
        if let Some(before) = self.young.remove(&address) {
            self.young_weight -= weight(&before);
        }
        self.old.remove(&address);
    }
}

/// How many plain accounts an account takes the room of.
fn weight(account: &Account) -> usize {
    let members = account.multisignature.as_ref().map_or(0, |group| group.members.len());
    1 + (account.votes.len() * size_of::<Address>() + members * size_of::<PublicKey>()).div_ceil(PLAIN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: u64, balance: i64) -> Account {
        Account { balance, ..Account::new(Address(number)) }
    }

    #[test]
    fn it_stays_within_its_bound_and_gives_the_newest() {
        let mut cache = AccountCache { young_max: 10, ..AccountCache::default() };
        for number in 0..100 {
            cache.insert(account(number, 1));
            cache.insert(account(7, i64::try_from(number).unwrap()));
            assert_eq!(cache.get(Address(7)).unwrap().balance, i64::try_from(number).unwrap());
            assert!(cache.young.len() + cache.old.len() <= 20);
        }
        assert!(cache.get(Address(3)).is_none());
    }

    #[test]
    fn it_takes_no_more_than_its_bytes_and_says_how_many() {
        let bytes_max = 10 * 2 * PLAIN_BYTES as u64;
        let mut cache = AccountCache::new(bytes_max);
        assert_eq!((cache.bytes(), cache.has_room()), (0, true));
        for number in 0..10 {
            assert!(cache.has_room());
            cache.insert(account(number, 1));
        }
        assert_eq!((cache.bytes(), cache.has_room(), cache.drops()), (bytes_max / 2, false, 0));
        for number in 0..1000 {
            cache.insert(account(number % 37, 1));
            assert!(cache.bytes() <= bytes_max);
        }
        assert_eq!(bytes_max_of(9), 9 * 2 * PLAIN_BYTES as u64);
        assert_eq!(bytes_max_of(u64::MAX), bytes_max);
        // Without any room the newest is still there.
        let mut least = AccountCache::new(0);
        least.insert(account(1, 1));
        least.insert(account(2, 2));
        assert_eq!(least.get(Address(2)).unwrap().balance, 2);
    }

    fn bytes_max_of(accounts: u64) -> u64 {
        super::bytes_max(accounts, 10 * 2 * PLAIN_BYTES as u64)
    }

    #[test]
    fn it_knows_whether_it_still_has_all_since_a_point_in_time() {
        for before in 0..25 {
            let mut cache = AccountCache { young_max: 10, ..AccountCache::default() };
            (0..before).for_each(|number| cache.insert(account(1000 + number, 1)));
            let since = cache.drops();
            for number in 0..60 {
                cache.insert(account(number, 1));
                let has_all = (0..=number).all(|number| cache.get(Address(number)).is_some());
                assert!(has_all || !cache.has_all_since(since), "{before} before, {number} since");
                assert!(number > 9 || cache.has_all_since(since), "a generation's worth is always kept");
            }
            assert!(!cache.has_all_since(since));
        }
    }

    #[test]
    fn accounts_with_many_votes_leave_less_room_for_others() {
        let mut cache = AccountCache { young_max: 10, ..AccountCache::default() };
        for number in 0..100 {
            let votes = (0..400).map(Address).collect();
            cache.insert(Account { votes, ..account(number, 1) });
            assert!(cache.young.len() + cache.old.len() <= 2);
        }
        cache.remove(Address(99));
        assert_eq!(cache.young_weight, cache.young.values().map(weight).sum::<usize>());
    }

    #[test]
    fn what_is_removed_is_not_found_in_the_older_generation() {
        let mut cache = AccountCache { young_max: 2, ..AccountCache::default() };
        (0..3).for_each(|number| cache.insert(account(number, 1)));
        cache.insert(account(0, 2));
        cache.remove(Address(0));
        assert!(cache.get(Address(0)).is_none());
    }
}
