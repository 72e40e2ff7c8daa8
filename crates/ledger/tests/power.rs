//! The second generation's power: the historical runtime's bits, everywhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay_ledger::forgers::power::historical_pow;
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn every_sample_has_the_historical_bits() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle/pow.json");
    let samples: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut twice_rounded = 0;
    let mut count = 0;
    for sample in ["differing", "sample"].iter().flat_map(|list| samples[list].as_array().unwrap()) {
        let rand = u32::try_from(sample["rand"].as_u64().unwrap()).unwrap();
        let weight = sample["votesWeight"].as_i64().unwrap();
        let bits = format!("{:016x}", historical_pow(rand, weight).to_bits());
        assert_eq!(bits, sample["historical"].as_str().unwrap(), "{rand} ^ 1/{weight}");
        twice_rounded +=
            usize::from(sample.get("correctlyRounded").is_some_and(|once| once != bits.as_str()));
        count += 1;
    }
    assert_eq!((twice_rounded, count), (6, 506));
}

#[test]
fn exact_powers_are_exact() {
    assert_eq!(historical_pow(1 << 31, 1), 0.5);
    assert_eq!(historical_pow(1 << 30, 2), 0.5);
    assert_eq!(historical_pow(1, 32), 0.5);
    assert_eq!(historical_pow(1, 1), 2f64.powi(-32));
    assert_eq!(historical_pow(43_046_721, 16), 3.0 / 4.0);
    assert_eq!(historical_pow(u32::MAX, 1), f64::from(u32::MAX) / 2f64.powi(32));
}

#[test]
fn zeros_and_extremes_are_as_the_formula_says() {
    assert_eq!(historical_pow(0, 5), 0.0);
    assert_eq!(historical_pow(7, 0), 0.0);
    assert_eq!(historical_pow(0, 0), 0.0);
    assert_eq!(historical_pow(0, -1), f64::INFINITY);
    assert_eq!(historical_pow(1 << 31, -1), 2.0);
    assert_eq!(historical_pow(u32::MAX, i64::MAX), 1.0);
    assert_eq!(historical_pow(1, i64::MIN), 1.0);
}

#[test]
fn a_pool_of_199_takes_less_than_20_ms() {
    // The best of several: other programs on the machine must not fail the test.
    let best = (0..20)
        .map(|run: u32| {
            let start = Instant::now();
            let sum: f64 = (1..200)
                .map(|n: u32| historical_pow(n * 21_474_836 + run, i64::from(n) * 1_234_567_890_123))
                .sum();
            assert!(sum > 0.0);
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("199 powers: {best:?}");
    assert!(best < Duration::from_millis(20), "{best:?}");
}

fn weights() -> impl Strategy<Value = i64> {
    prop_oneof![1..64i64, 1..1_000_000i64, 1..i64::from(u32::MAX), 1..20_000_000_000_000_000i64, 1..i64::MAX]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// More luck never weighs less.
    #[test]
    fn monotone_in_the_random_number(a: u32, b: u32, weight in weights()) {
        prop_assert!(historical_pow(a.min(b), weight) <= historical_pow(a.max(b), weight));
    }

    /// More votes never weigh less.
    #[test]
    fn monotone_in_the_weight(rand: u32, a in weights(), b in weights()) {
        prop_assert!(historical_pow(rand, a.min(b)) <= historical_pow(rand, a.max(b)));
    }

    /// Within two units in the last place of the platform's own power, which is nearly right everywhere.
    #[test]
    fn close_to_the_platforms_power(rand in 1..u32::MAX, weight in weights()) {
        let ours = historical_pow(rand, weight);
        let platform = (f64::from(rand) / 2f64.powi(32)).powf(1.0 / weight as f64);
        prop_assert!(ours.to_bits().abs_diff(platform.to_bits()) <= 2, "{ours:e} {platform:e}");
    }
}
