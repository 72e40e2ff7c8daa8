//! Accounts that were touched lately, as the last step left them. The Writer is the only one that writes, so they cannot
//! be stale; with a restore they go, with everything else that is resident.
//!
//! Two generations: when the young one is full it becomes the old one, and what was old and not written since is dropped.

use std::collections::HashMap;

use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;
use forebay_ledger::ids::hashing::IdHash;

/// Accounts of one generation: of both together some 130 MB at most.
const YOUNG_MAX: usize = 200_000;

type Generation = HashMap<Address, Account, IdHash>;

#[derive(Debug, Clone)]
pub(crate) struct AccountCache {
    young: Generation,
    old: Generation,
    young_max: usize,
}

impl Default for AccountCache {
    fn default() -> Self {
        Self { young: Generation::default(), old: Generation::default(), young_max: YOUNG_MAX }
    }
}

impl AccountCache {
    pub(crate) fn get(&self, address: Address) -> Option<&Account> {
        self.young.get(&address).or_else(|| self.old.get(&address))
    }

    pub(crate) fn insert(&mut self, account: Account) {
        if self.young.len() >= self.young_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(account.address, account);
    }

    pub(crate) fn remove(&mut self, address: Address) {
        self.young.remove(&address);
        self.old.remove(&address);
    }
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
    fn what_is_removed_is_not_found_in_the_older_generation() {
        let mut cache = AccountCache { young_max: 2, ..AccountCache::default() };
        (0..3).for_each(|number| cache.insert(account(number, 1)));
        cache.insert(account(0, 2));
        cache.remove(Address(0));
        assert!(cache.get(Address(0)).is_none());
    }
}
