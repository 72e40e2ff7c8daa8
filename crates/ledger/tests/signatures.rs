//! The ledger's verdict on a signature is libsodium's own, for good, bad and hostile ones.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use forebay_ledger::crypto::{Checker, KeyPair, SignatureCheck, verify};
use forebay_ledger::keys::{Hash, PublicKey, Signature};
use forebay_ledger::profile::NetworkProfile;
use forebay_sodium_oracle as sodium;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

/// Asks both; they must agree. Returns the verdict.
fn verdict(key: [u8; 32], message: [u8; 32], signature: [u8; 64], what: &str) -> bool {
    let expected = sodium::verify(&key, &message, &signature);
    let check =
        SignatureCheck { key: PublicKey(key), message: Hash(message), signature: Signature(signature) };
    let ours = verify(&check.key, &check.message, &check.signature);
    assert_eq!(ours, expected, "{what}: {check:?}");
    let checker = Checker::default();
    assert_eq!(checker.verify(&check), expected, "{what}, first through a cache");
    assert_eq!(checker.verify(&check), expected, "{what}, again through a cache");
    // Among good ones, some of which share arithmetic with it.
    for at in [0, 3, 9] {
        let mut checks = good_checks().to_vec();
        checks.insert(at, check);
        let first_bad = if expected { Ok(()) } else { Err(at) };
        assert_eq!(checker.verify_all(&checks), first_bad, "{what}, at {at} among good ones");
    }
    expected
}

fn good_checks() -> &'static [SignatureCheck] {
    static GOOD: OnceLock<Vec<SignatureCheck>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let good = |n| {
            let (pair, message) = (KeyPair::from_seed(&bytes("good", n)), Hash(bytes("good message", n)));
            SignatureCheck { key: pair.public_key(), message, signature: pair.sign(&message) }
        };
        (0..9).map(good).collect()
    })
}

/// A small random-looking message or secret.
fn bytes(tag: &str, n: u32) -> [u8; 32] {
    Sha256::digest(format!("{tag} {n}").as_bytes()).into()
}

fn scalar(tag: &str, n: u32) -> Scalar {
    Scalar::from_bytes_mod_order(bytes(tag, n))
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// `H(R || A || M)`, the challenge that the equation multiplies the key with.
fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8; 32]) -> Scalar {
    let digest = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&digest.into())
}

/// Signs for a key `secret * B` that is encoded as `key` (possibly with a small-order part), with the nonce's point
/// given: the equation then holds up to small-order parts.
fn sign_as(secret: Scalar, key: [u8; 32], nonce: Scalar, r: [u8; 32], message: [u8; 32]) -> [u8; 64] {
    join(r, (nonce + challenge(&r, &key, &message) * secret).to_bytes())
}

/// The field's prime 2^255 - 19, little endian.
fn prime() -> [u8; 32] {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
}

/// All encodings that mean, or look like, points of small order: the canonical ones of all eight points, `p` added where
/// that fits below 2^255, each with both signs.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut encodings: Vec<[u8; 32]> =
        EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    let mut p_plus_1 = prime();
    p_plus_1[0] += 1;
    encodings.extend([prime(), p_plus_1]);
    let mirrored: Vec<_> = encodings
        .iter()
        .map(|encoding| {
            let mut mirrored = *encoding;
            mirrored[31] ^= 0x80;
            mirrored
        })
        .collect();
    encodings.extend(mirrored);
    encodings.sort_unstable();
    encodings.dedup();
    encodings
}

/// All encodings with `y` from `p` to 2^255 - 1, each with both signs.
fn non_canonical_encodings() -> Vec<[u8; 32]> {
    let with_sign = |low: u8, sign: u8| {
        let mut encoding = prime();
        encoding[0] = low;
        encoding[31] |= sign;
        encoding
    };
    (0xed..=0xff).flat_map(|low| [with_sign(low, 0), with_sign(low, 0x80)]).collect()
}

/// `S + L`, which means the same number.
fn plus_order(signature: [u8; 64]) -> [u8; 64] {
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let order = hex::decode(ORDER).unwrap();
    let mut sum = signature;
    let mut carry = 0u16;
    for (byte, add) in sum[32..].iter_mut().zip(order) {
        let total = u16::from(*byte) + u16::from(add) + carry;
        *byte = (total & 0xff) as u8;
        carry = total >> 8;
    }
    sum
}

#[test]
fn the_linked_library_is_the_networks_version() {
    assert_eq!(
        sodium::version(),
        sodium::EXPECTED_VERSION,
        "this system's libsodium follows other rules than the network's; install libsodium {}",
        sodium::EXPECTED_VERSION
    );
}

#[test]
fn valid_signatures_are_accepted() {
    for n in 0..50 {
        let pair = KeyPair::from_seed(&bytes("seed", n));
        let message = bytes("message", n);
        assert!(verdict(pair.public_key().0, message, pair.sign(&Hash(message)).0, "valid"));
    }
}

#[test]
fn seeds_and_passphrases_give_the_keys_of_the_oracles_wallets() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle/chain/wallets.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let wallets = file["wallets"].as_array().unwrap();
    let mut keys = HashSet::new();
    for wallet in wallets {
        let secret = hex::decode(wallet["privKey"].as_str().unwrap()).unwrap();
        let pair = KeyPair::from_seed(secret[..32].try_into().unwrap());
        assert_eq!(pair.public_key().to_string(), wallet["publicKey"].as_str().unwrap());
        keys.insert(pair.public_key());
    }
    for n in 0..100 {
        let pair = KeyPair::from_passphrase(&format!("oracle-wallet-{n}"));
        assert!(keys.contains(&pair.public_key()), "{n}");
    }
}

#[test]
fn small_order_keys_are_refused_even_where_the_equation_holds() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    let mut holds = 0;
    for key in &encodings {
        for n in 0..16 {
            // R = S * B: with a key of small order the equation holds for every eighth message at least.
            let nonce = scalar("nonce", n);
            let r = EdwardsPoint::mul_base(&nonce).compress().to_bytes();
            let message = bytes("message", n);
            if let Some(point) = curve25519_dalek::edwards::CompressedEdwardsY(*key).decompress() {
                let right = point * challenge(&r, key, &message);
                holds += usize::from(right == EdwardsPoint::default());
            }
            assert!(!verdict(*key, message, join(r, nonce.to_bytes()), "small-order key"));
        }
    }
    assert!(holds > 20, "the equation must hold in some cases, or nothing is shown: {holds}");
}

#[test]
fn small_order_r_is_refused_even_where_the_equation_holds() {
    let secret = scalar("secret", 1);
    let key = EdwardsPoint::mul_base(&secret).compress().to_bytes();
    for r in small_order_encodings() {
        for n in 0..8 {
            // The nonce 0: the equation gives the identity, which is R for one of the encodings.
            let message = bytes("message", n);
            let signature = sign_as(secret, key, Scalar::ZERO, r, message);
            assert!(!verdict(key, message, signature, "small-order R"));
        }
    }
    // Both of small order, and S = 0: what zero bytes look like.
    for key in small_order_encodings() {
        for r in small_order_encodings() {
            assert!(!verdict(key, [0; 32], join(r, [0; 32]), "small-order key and R"));
        }
    }
}

#[test]
fn s_outside_the_group_order_is_refused() {
    for n in 0..50 {
        let pair = KeyPair::from_seed(&bytes("seed", n));
        let message = bytes("message", n);
        let valid = pair.sign(&Hash(message)).0;
        let mut larger = valid;
        // Fifteen times L is the most that fits 32 bytes.
        for times in 1..=15 {
            larger = plus_order(larger);
            assert!(!verdict(pair.public_key().0, message, larger, &format!("S + {times} L")));
        }
        for bit in 4..8 {
            let mut high = valid;
            high[63] |= 1 << bit;
            assert!(!verdict(pair.public_key().0, message, high, "high bits of S"));
        }
    }
}

#[test]
fn keys_with_y_not_below_the_prime_are_refused() {
    let mut on_curve = 0;
    for key in non_canonical_encodings() {
        on_curve += usize::from(curve25519_dalek::edwards::CompressedEdwardsY(key).decompress().is_some());
        for n in 0..4 {
            let nonce = scalar("nonce", n);
            let r = EdwardsPoint::mul_base(&nonce).compress().to_bytes();
            assert!(!verdict(key, bytes("message", n), join(r, nonce.to_bytes()), "non-canonical key"));
        }
    }
    assert!(on_curve > 10, "some must be points, or another check refuses them: {on_curve}");
}

#[test]
fn r_with_y_not_below_the_prime_is_refused() {
    let pair = KeyPair::from_seed(&bytes("seed", 1));
    for r in non_canonical_encodings() {
        for n in 0..4 {
            let signature = join(r, scalar("s", n).to_bytes());
            assert!(!verdict(pair.public_key().0, bytes("message", n), signature, "non-canonical R"));
        }
    }
}

/// A key or an `R` with a small-order part is not of small order: it is accepted exactly where the equation without
/// cofactor holds. A batch or a cofactored check would accept all of these.
#[test]
fn small_order_parts_are_accepted_only_where_the_plain_equation_holds() {
    let (mut accepted, mut refused) = (0, 0);
    for (index, torsion) in EIGHT_TORSION.iter().enumerate() {
        for n in 0..24 {
            let secret = scalar("secret", n);
            let nonce = scalar("nonce", n);
            let message = bytes("message", n);
            let key = (EdwardsPoint::mul_base(&secret) + torsion).compress().to_bytes();
            let r = EdwardsPoint::mul_base(&nonce).compress().to_bytes();
            let what = format!("key with torsion {index}");
            let valid = verdict(key, message, sign_as(secret, key, nonce, r, message), &what);
            *(if valid { &mut accepted } else { &mut refused }) += 1;
            let r = (EdwardsPoint::mul_base(&nonce) + torsion).compress().to_bytes();
            let what = format!("key and R with torsion {index}");
            verdict(key, message, sign_as(secret, key, nonce, r, message), &what);
            let plain = EdwardsPoint::mul_base(&secret).compress().to_bytes();
            let what = format!("R with torsion {index}");
            let valid = verdict(plain, message, sign_as(secret, plain, nonce, r, message), &what);
            assert_eq!(valid, index == 0, "{what}");
        }
    }
    assert!(accepted > 24 && refused > 24, "{accepted} accepted, {refused} refused");
}

#[test]
fn r_and_keys_that_are_no_points_are_refused() {
    let pair = KeyPair::from_seed(&bytes("seed", 2));
    let mut no_points = 0;
    for n in 0..64 {
        let mut encoding = bytes("point", n);
        encoding[31] &= 0x7f;
        no_points +=
            usize::from(curve25519_dalek::edwards::CompressedEdwardsY(encoding).decompress().is_none());
        let s = scalar("s", n).to_bytes();
        let message = bytes("message", n);
        assert!(!verdict(pair.public_key().0, message, join(encoding, s), "arbitrary R"));
        let base = ED25519_BASEPOINT_POINT.compress().to_bytes();
        assert!(!verdict(encoding, message, join(base, s), "arbitrary key"));
    }
    assert!(no_points > 10);
}

/// The first signatures of a block's header and transactions.
fn checks_of(block: &str, profile: &NetworkProfile, checks: &mut Vec<SignatureCheck>) {
    let block = forebay_ledger::json::parse_block(block, profile).unwrap();
    checks.push(SignatureCheck {
        key: block.generator_public_key,
        message: block.signature_hash(),
        signature: block.block_signature,
    });
    for transaction in &block.transactions {
        checks.push(SignatureCheck {
            key: transaction.requester_public_key.unwrap_or(transaction.sender_public_key),
            message: transaction.first_signature_hash(),
            signature: transaction.signature,
        });
    }
}

#[test]
fn every_signature_of_the_oracles_chain_is_accepted_and_the_first_bad_one_is_named() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle/chain/blocks.jsonl");
    let profile = NetworkProfile::built_in("rise-devnet").unwrap();
    let mut checks = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        checks_of(line, &profile, &mut checks);
    }
    assert!(checks.len() > 2_000, "{}", checks.len());
    for check in &checks {
        assert!(sodium::verify(&check.key.0, &check.message.0, &check.signature.0));
    }
    let checker = Checker::with_capacity(64);
    assert_eq!(checker.verify_all(&checks), Ok(()));
    for bad in [0, 1, 777, checks.len() - 1] {
        let mut spoiled = checks.clone();
        spoiled[bad].signature.0[40] ^= 4;
        spoiled.last_mut().unwrap().message.0[0] ^= 1;
        assert_eq!(checker.verify_all(&spoiled), Err(bad));
    }
    assert_eq!(checker.verify_all(&checks[..2]), Ok(()));
    assert_eq!(checker.verify_all(&[]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_flipped_bit_is_judged_as_libsodium_does(seed: [u8; 32], message: [u8; 32], bit in 0..1_024usize) {
        let pair = KeyPair::from_seed(&seed);
        let mut all = pair.public_key().0.to_vec();
        all.extend(message);
        all.extend(pair.sign(&Hash(message)).0);
        all[bit / 8] ^= 1 << (bit % 8);
        let [key, message] = [0, 32].map(|start| <[u8; 32]>::try_from(&all[start..start + 32]).unwrap());
        prop_assert!(!verdict(key, message, all[64..].try_into().unwrap(), "flipped"));
    }

    #[test]
    fn arbitrary_bytes_never_panic(key: [u8; 32], message: [u8; 32], r: [u8; 32], s: [u8; 32]) {
        verdict(key, message, join(r, s), "arbitrary");
    }
}
