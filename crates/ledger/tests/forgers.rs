//! Forger lists of every network and chain of the oracle, from the reference node's own state at the round's start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_ledger::forgers::mersenne::MersenneTwister;
use forebay_ledger::forgers::shuffle::shuffle;
use forebay_ledger::forgers::{Candidate, SecondGeneration, list_v1, list_v2};
use forebay_ledger::ids::BlockId;
use forebay_ledger::keys::PublicKey;
use forebay_ledger::state::RoundCloser;
use serde_json::Value;

fn oracle(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&oracle(path)).unwrap()
}

fn candidates(dump: &Value) -> Vec<Candidate> {
    let number = |value: &Value| value.as_str().unwrap().parse::<i64>().unwrap();
    dump["mem_accounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["isDelegate"] == 1)
        .map(|row| Candidate {
            public_key: row["publicKey"].as_str().unwrap().parse().unwrap(),
            vote: number(&row["vote"]),
            votes_weight: number(&row["votesWeight"]),
            missed_in_a_row: row["cmb"].as_u64().unwrap().try_into().unwrap(),
        })
        .collect()
}

fn keys(list: &Value) -> Vec<PublicKey> {
    list.as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect()
}

/// Generator and id of each block by height; a fork's blocks replace those of the main chain from its first one on.
fn blocks(chain: &str, fork: bool) -> BTreeMap<u32, (PublicKey, BlockId)> {
    let files = if fork { vec!["blocks.jsonl", "fork-blocks.jsonl"] } else { vec!["blocks.jsonl"] };
    let mut blocks = BTreeMap::new();
    for file in files {
        for line in oracle(&format!("{chain}/{file}")).lines() {
            let block: Value = serde_json::from_str(line).unwrap();
            let height = u32::try_from(block["height"].as_u64().unwrap()).unwrap();
            let generator = block["generatorPublicKey"].as_str().unwrap().parse().unwrap();
            blocks.insert(height, (generator, block["id"].as_str().unwrap().parse().unwrap()));
        }
    }
    blocks
}

/// The lists named in a chain's manifest, each with the state that it follows from: `(name, round, dump, fork)`.
fn named_lists(chain: &str) -> Vec<(String, u32, Value, bool, Vec<PublicKey>)> {
    let manifest = json(&format!("{chain}/manifest.json"));
    let lists = manifest["delegateLists"].as_object().unwrap().iter().map(|(name, list)| {
        let round: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
        let fork = name.starts_with("fork");
        let height = ((round - 1) * 101).max(1);
        let dump = json(&format!("{chain}/accounts-{height}{}.json", if fork { "-fork" } else { "" }));
        (name.clone(), round, dump, fork, keys(list))
    });
    lists.collect()
}

#[test]
fn first_lists_of_mainnet_and_testnet() {
    for network in ["mainnet", "testnet"] {
        let dump = json(&format!("networks/rise-{network}-accounts-1.json"));
        assert_eq!(list_v1(&candidates(&dump), 1, 101), keys(&dump["delegateListRound1"]), "{network}");
    }
}

#[test]
fn every_list_of_the_first_generation_chain_and_its_fork() {
    let lists = named_lists("chain");
    assert_eq!(lists.len(), 6);
    for (name, round, dump, _, expected) in lists {
        assert_eq!(list_v1(&candidates(&dump), round, 101), expected, "{name}");
    }
}

/// The dumps are the reference node's own state, so its undo defects (RULES 12) are in the input as they were there.
#[test]
fn every_list_of_the_second_generation_chain_and_its_fork() {
    let params = SecondGeneration { delegates: 101, pool: 199, missed_in_a_row_max: 1 };
    let lists = named_lists("chain-v2");
    assert_eq!(lists.len(), 7);
    for (name, round, dump, fork, expected) in lists {
        let candidates = candidates(&dump);
        let list = if round == 1 {
            list_v1(&candidates, round, 101)
        } else {
            let blocks = blocks("chain-v2", fork);
            let closers: Vec<RoundCloser> = (1..round)
                .map(|earlier| RoundCloser { height: earlier * 101, generator: blocks[&(earlier * 101)].0 })
                .collect();
            list_v2(&candidates, blocks[&((round - 1) * 101)].1, &closers, &params)
        };
        assert_eq!(list, expected, "{name}");
    }
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn candidate(n: u8, missed_in_a_row: u32) -> Candidate {
    Candidate { public_key: key(n), vote: 1_000, votes_weight: 1_000, missed_in_a_row }
}

#[test]
fn banned_delegates_and_the_last_closer_are_left_out() {
    let candidates: Vec<_> = (0..6).map(|n| candidate(n, u32::from(n))).collect();
    let params = SecondGeneration { delegates: 6, pool: 10, missed_in_a_row_max: 4 };
    let closers = [RoundCloser { height: 6, generator: key(2) }];
    let mut list = list_v2(&candidates, BlockId(7), &closers, &params);
    list.sort();
    assert_eq!(list, [key(0), key(1), key(3), key(4)], "5 missed too often, 2 closed the previous round");
}

#[test]
fn whoever_closed_a_round_longest_ago_goes_last() {
    let candidates: Vec<_> = (0..4).map(|n| candidate(n, 0)).collect();
    let params = SecondGeneration { delegates: 3, pool: 100, missed_in_a_row_max: 28 };
    let closer = |height, n| RoundCloser { height, generator: key(n) };
    let closers = [closer(3, 0), closer(6, 1), closer(9, 0), closer(12, 2), closer(15, 3)];
    assert_eq!(
        list_v2(&candidates, BlockId(1), &closers, &params).last(),
        Some(&key(1)),
        "6 is before 9 and 12"
    );
    let never = [closer(3, 0), closer(6, 1), closer(15, 3)];
    assert_eq!(list_v2(&candidates, BlockId(1), &never, &params).last(), Some(&key(2)), "2 closed none");
}

/// A closer outside the window counts as if it had never closed a round, so that the list's order decides between it
/// and one that never did.
#[test]
fn closers_before_the_window_do_not_count() {
    let candidates: Vec<_> = (0..4).map(|n| candidate(n, 0)).collect();
    let closer = |height, n| RoundCloser { height, generator: key(n) };
    let closers = [closer(3, 2), closer(6, 0), closer(9, 3), closer(12, 3)];
    let last = |pool, closers: &[RoundCloser], id| {
        let params = SecondGeneration { delegates: 3, pool, missed_in_a_row_max: 28 };
        *list_v2(&candidates, BlockId(id), closers, &params).last().unwrap()
    };
    // The new round starts at 13: a window of four rounds begins at 1, one of three at 4.
    assert!((0..64).all(|id| last(4, &closers, id) == key(1)), "2 closed at 3, 1 never");
    assert!((0..64).all(|id| last(3, &closers, id) == last(3, &closers[1..], id)));
    assert!((0..64).any(|id| last(3, &closers, id) == key(2)), "2 is before 1 in some list");
}

#[test]
fn lists_are_shorter_when_there_are_fewer_candidates() {
    assert!(list_v1(&[], 1, 101).is_empty());
    assert_eq!(list_v1(&[candidate(1, 0)], 9, 101), [key(1)]);
    let params = SecondGeneration { delegates: 101, pool: 199, missed_in_a_row_max: 28 };
    assert!(list_v2(&[], BlockId(1), &[], &params).is_empty());
}

#[test]
fn shuffle_keeps_every_entry() {
    for length in 0..=255usize {
        let mut list: Vec<usize> = (0..length).collect();
        shuffle(&mut list, [u8::try_from(length).unwrap(); 32]);
        list.sort_unstable();
        assert!(list.into_iter().eq(0..length));
    }
}

/// The vectors published with the reference implementation (`mt19937ar.out`).
#[test]
fn mersenne_twister_gives_the_published_numbers() {
    let mut twister = MersenneTwister::from_words(&[0x123, 0x234, 0x345, 0x456]);
    let first: Vec<u32> = (0..5).map(|_| twister.next_u32()).collect();
    assert_eq!(first, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    // The 1000th number, past the first regeneration of the state.
    let last = (5..1000).map(|_| twister.next_u32()).last();
    assert_eq!(last, Some(3_460_025_646));
}
