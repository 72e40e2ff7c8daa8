//! The power that the second generation's list weighs delegates with, in software (RULES 10).
//!
//! The weights lie so close to 1 that their last bit decides who forges. The network ran on a runtime whose `pow`
//! rounded twice: the exact power to a significand of 64 bits, and that to the 53 bits of a double. No platform's own
//! `pow` is asked here: the power is computed with big integers and a proven bound on the error, and with more
//! digits whenever the bound leaves the rounding open (Ziv's strategy). The result is the same everywhere.

use num_bigint::{BigInt, BigUint, Sign};

/// The weight `(rand / 2^32) ^ (1 / votes_weight)`, as the network's runtime computed it.
///
/// `1 / votes_weight` is a double itself (the weight, too, where it is above 2^53), as it was there. A weight of 0
/// gives the exponent infinity and the power 0, and so does `rand` 0. (A negative weight, which no known chain has,
/// gives the power above 1 that the formula says, and infinity for `rand` 0.)
#[must_use]
pub fn historical_pow(rand: u32, votes_weight: i64) -> f64 {
    let exponent = 1.0 / votes_weight as f64;
    if rand == 0 && exponent < 0.0 {
        return f64::INFINITY;
    }
    if rand == 0 || exponent.is_infinite() {
        return 0.0;
    }
    let mut precision = PRECISION_FIRST;
    loop {
        let enclosure = Enclosure::of_power(rand, exponent, precision);
        match enclosure.rounded() {
            Some(power) => return power,
            None if precision >= PRECISION_MAX => return enclosure.rounded_middle(),
            None => precision *= 2,
        }
    }
}

/// Fraction bits of the first attempt. The chance that it leaves the rounding open is about 2^-100 per power.
const PRECISION_FIRST: u32 = 192;
/// Nothing is left open here: a power is never half-way between two significands (that would make `rand / 2^32` a square
/// of a number with 65 bits), and coming that close by chance has odds of 2^-3000.
const PRECISION_MAX: u32 = 3072;
/// The error's bound, in units of the last fraction bit: 2^24. See [`Enclosure::of_power`].
const ERROR_BITS: u32 = 24;
/// Bits of the significand that the runtime's floating point unit computed with.
const EXTENDED_BITS: u64 = 64;

/// A number between `low` and `high`, both times `2^-scale`.
struct Enclosure {
    low: BigUint,
    high: BigUint,
    scale: i64,
}

impl Enclosure {
    /// Encloses the exact power.
    ///
    /// The error, in units of `2^-precision` ("ulp"), every shift rounding down by less than 1 ulp:
    /// a logarithm's series has fewer than `precision / 3` terms and loses less than 4 ulp in each, so for
    /// the largest precision less than 2^13 in each of the two series; the logarithm of 2 is taken up to 33 times
    /// before the product with an exponent of at most 1, and up to 33 times after: less than 2^20 together.
    /// The exponential's argument is below 1, so its value's error is less than 3 times the argument's, and its
    /// series has fewer than `precision` terms that lose less than 4 ulp each: less than 2^22 in all.
    fn of_power(rand: u32, exponent: f64, precision: u32) -> Self {
        let ln_2 = ln_of_2(precision);
        let logarithm = ln_of_fraction(rand, &ln_2, precision);
        let argument = times_double(&logarithm, exponent);
        // The nearest multiple of ln 2, so that what remains is between about -0.35 and 0.35.
        let halves = (&argument << 1u32) / &ln_2;
        let multiple: BigInt = (&halves + halves.sign_as_one()) / 2;
        let remainder = argument - &multiple * &ln_2;
        let value = exponential(&remainder, precision).to_biguint().unwrap_or_default();
        let error = BigUint::from(1u32) << ERROR_BITS;
        let shift = i64::try_from(multiple).unwrap_or_default();
        Self { low: &value - &error, high: value + error, scale: i64::from(precision) - shift }
    }

    /// The double that every number of the enclosure rounds to; `None` when they do not agree.
    fn rounded(&self) -> Option<f64> {
        let low = to_extended(&self.low);
        (low == to_extended(&self.high)).then(|| self.to_double(low))
    }

    fn rounded_middle(&self) -> f64 {
        self.to_double(to_extended(&((&self.low + &self.high) >> 1u32)))
    }

    /// The second rounding. The cast rounds to the nearest double, half to even; the scaling by a power of two is exact
    /// (powers lie between 2^-33 and 2^33).
    fn to_double(&self, extended: Extended) -> f64 {
        extended.significand as f64 * power_of_two(extended.exponent - self.scale)
    }
}

/// A number with a significand of 64 bits: `significand * 2^exponent`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extended {
    significand: u64,
    exponent: i64,
}

/// Rounds to 64 significant bits, half to even.
fn to_extended(value: &BigUint) -> Extended {
    let excess = value.bits().saturating_sub(EXTENDED_BITS);
    if excess == 0 {
        return Extended { significand: u64::try_from(value).unwrap_or_default(), exponent: 0 };
    }
    let kept: BigUint = value >> excess;
    let rest = value - (&kept << excess);
    let half = BigUint::from(1u32) << (excess - 1);
    let exponent = excess.cast_signed();
    let up = rest > half || (rest == half && kept.bit(0));
    match u64::try_from(kept).unwrap_or_default().checked_add(u64::from(up)) {
        Some(significand) => Extended { significand, exponent },
        None => Extended { significand: 1 << 63, exponent: exponent + 1 },
    }
}

/// `2^exponent`, for exponents of normal doubles.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023).cast_unsigned() & 0x7ff) << 52)
}

/// `ln(rand / 2^32)`, with `precision` fraction bits; `rand` is not 0.
fn ln_of_fraction(rand: u32, ln_2: &BigInt, precision: u32) -> BigInt {
    let bits = 31 - rand.leading_zeros();
    let normalized = BigInt::from(rand);
    let unit = BigInt::from(1u64 << bits);
    // rand = 2^bits * m with m in [1, 2), and ln m = 2 artanh((m - 1) / (m + 1)): the quotient is below 1/3.
    let quotient = ((&normalized - &unit) << precision) / (normalized + unit);
    2 * artanh(&quotient, precision) - ln_2 * (32 - bits)
}

/// `ln 2 = 2 artanh(1/3)`, with `precision` fraction bits.
fn ln_of_2(precision: u32) -> BigInt {
    2 * artanh(&((BigInt::from(1) << precision) / 3), precision)
}

/// `z + z^3/3 + z^5/5 + …`, for `z` from 0 to 1/3.
fn artanh(z: &BigInt, precision: u32) -> BigInt {
    let square: BigInt = (z * z) >> precision;
    let mut sum = BigInt::ZERO;
    let mut power = z.clone();
    let mut divisor = 1u32;
    while power.sign() != Sign::NoSign {
        sum += &power / divisor;
        power = (power * &square) >> precision;
        divisor += 2;
    }
    sum
}

/// `1 + r + r^2/2 + r^3/6 + …`, for `r` between -1 and 1.
fn exponential(r: &BigInt, precision: u32) -> BigInt {
    let mut sum = BigInt::ZERO;
    let mut term = BigInt::from(1) << precision;
    let mut divisor = 1u32;
    while term.sign() != Sign::NoSign {
        sum += &term;
        // Division rounds towards zero, so that a negative term ends at 0 and not at -1.
        term = (term * r) / (BigInt::from(divisor) << precision);
        divisor += 1;
    }
    sum
}

/// The product with a double, which is a finite number of at most 1 in size; rounded down.
fn times_double(value: &BigInt, factor: f64) -> BigInt {
    let bits = factor.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    // A normal double: the quotients 1/i64 all are.
    let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
    let product: BigInt = (value * significand) >> (1075u64.saturating_sub(exponent));
    if factor.is_sign_negative() { -product } else { product }
}

/// The sign as -1, 0 or 1: what rounds a halved number to the nearest.
trait SignAsOne {
    fn sign_as_one(&self) -> i32;
}

impl SignAsOne for BigInt {
    fn sign_as_one(&self) -> i32 {
        match self.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What four times the digits say lies inside the bound, and far from its edge.
    #[test]
    fn error_stays_within_its_bound() {
        for n in 1..3_000u32 {
            let rand = n.wrapping_mul(2_654_435_769).max(1);
            let exponent = 1.0 / f64::from(n % 50 + 1).powi(9).copysign(if n % 7 == 0 { -1.0 } else { 1.0 });
            let coarse = Enclosure::of_power(rand, exponent, PRECISION_FIRST);
            let fine = Enclosure::of_power(rand, exponent, 4 * PRECISION_FIRST);
            let extra = 3 * PRECISION_FIRST;
            assert_eq!(coarse.scale + i64::from(extra), fine.scale);
            let middle = (&coarse.low + &coarse.high) >> 1u32;
            let truth: BigUint = ((&fine.low + &fine.high) >> 1u32) >> extra;
            assert!(coarse.low < truth && truth < coarse.high);
            let error = BigInt::from(middle) - BigInt::from(truth);
            assert!(error.bits() < u64::from(ERROR_BITS) - 8, "{error} at {rand} ^ {exponent}");
        }
    }

    #[test]
    fn halves_go_to_the_even_significand() {
        let one = BigUint::from(1u32);
        let rounded = |value: &BigUint| (to_extended(value).significand, to_extended(value).exponent);
        assert_eq!(rounded(&((&one << 65u32) + 2u32)), (1 << 63, 2), "a half, down to even");
        assert_eq!(rounded(&((&one << 65u32) + 6u32)), ((1 << 63) + 2, 2), "a half, up to even");
        assert_eq!(rounded(&((&one << 65u32) + 3u32)), ((1 << 63) + 1, 2), "above a half");
        assert_eq!(rounded(&((&one << 66u32) - 1u32)), (1 << 63, 3), "up to the next power of two");
        assert_eq!(rounded(&one), (1, 0));
    }
}
