//! How often an address may ask: a bucket of tokens each, that fills with time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered. An address whose bucket is full again need not be.
const ADDRESSES_MAX: usize = 16_384;

pub(super) struct Rates {
    /// Tokens a second; 0: no limit.
    per_second: u32,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    seen: Instant,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: Mutex::default() }
    }

    /// Takes a token, if there is one.
    pub(super) fn allows(&self, address: IpAddr, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let (rate, most) = (f64::from(self.per_second), f64::from(self.per_second) * 2.0);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            let full_after = Duration::from_secs_f64(most / rate);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.seen) < full_after);
            if buckets.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: most, seen: now });
        let passed = now.saturating_duration_since(bucket.seen).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * rate).min(most);
        bucket.seen = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_rate_may_come_at_once_and_the_rate_after_that() {
        let (rates, begun) = (Rates::new(10), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let allowed = |address, after_ms: u64, count: usize| {
            let now = begun + Duration::from_millis(after_ms);
            (0..count).filter(|_| rates.allows(address, now)).count()
        };
        assert_eq!(allowed(one, 0, 100), 20);
        assert_eq!(allowed(other, 0, 1), 1);
        assert_eq!(allowed(one, 500, 100), 5);
        assert_eq!(allowed(one, 10_000, 100), 20);
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (rates, now) = (Rates::new(1), Instant::now());
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            assert!(rates.allows(IpAddr::from(number.to_be_bytes()), now));
        }
        assert!(!rates.allows([255, 0, 0, 1].into(), now));
        assert!(rates.allows([255, 0, 0, 1].into(), now + Duration::from_secs(3)));
    }
}
