//! The memory that a chain needs is known before it is loaded.

use forebay_fast::{Calibration, Contents, Expected, Footprint, RestoredHead};
use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, TransactionId};
use forebay_ledger::keys::PublicKey;
use sha2::{Digest, Sha256};

use crate::common::{Bench, EPOCH, holder};

/// Spread as real ids are, so that buckets fill as unevenly as real ones.
fn spread(number: u64) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

fn number(number: u64) -> u64 {
    u64::from_be_bytes(spread(number)[..8].try_into().unwrap())
}

#[tokio::test]
async fn the_footprint_is_within_a_tenth_of_what_redis_uses() {
    let bench = Bench::new().await;
    bench.tier.claim(None, EPOCH, &holder()).await.unwrap();
    bench.tier.begin_clean(EPOCH).await.unwrap();
    let mut contents = Contents {
        chain_name_bytes: 4,
        accounts: 300_000,
        transactions: 1_500_000,
        height: 60_000,
        ..Contents::default()
    };
    let expected = Expected { accounts: contents.accounts, transactions: contents.transactions };
    let mut restore = bench.tier.begin_restore(EPOCH, expected).await.unwrap();
    for chunk in 0..contents.accounts / 20_000 {
        let account = |n: u64| Account {
            balance: 123_456_789_012,
            public_key: Some(PublicKey(spread(n))),
            second_public_key: n.is_multiple_of(50).then(|| PublicKey(spread(n))),
            votes: if n.is_multiple_of(3) { vec![Address(7)] } else { Vec::new() },
            ..Account::new(Address(number(n)))
        };
        let accounts: Vec<Account> = (chunk * 20_000..(chunk + 1) * 20_000).map(account).collect();
        let sample = Contents::of_sample(&accounts, &[]);
        contents.long_accounts += sample.long_accounts;
        contents.inline_record_bytes += sample.inline_record_bytes;
        contents.long_record_bytes += sample.long_record_bytes;
        restore.load_accounts(&accounts).await.unwrap();
    }
    for chunk in 0..contents.transactions / 50_000 {
        let row = |n: u64| (TransactionId(number(n + (1 << 40))), (n / 25) as u32);
        let rows: Vec<_> = (chunk * 50_000..(chunk + 1) * 50_000).map(row).collect();
        restore.load_transactions(&rows).await.unwrap();
    }
    restore.write_waiting().await.unwrap();
    let used = bench.tier.server_facts().await.unwrap().memory_bytes_used;
    let planned = Footprint::of(&contents, &Calibration::default());
    let total = planned.total();
    eprintln!(
        "used {used}, planned {total}: {planned:?}, weighed {:?}",
        bench.tier.weigh_keys().await.unwrap()
    );
    assert!(used.abs_diff(total) * 10 < used, "used {used}, planned {total}: {planned:?}");
    let head = RestoredHead {
        position: forebay_fast::Position { epoch: 1, seq: 1 },
        tip: Some(forebay_ledger::state::Tip {
            height: 60_000,
            id: forebay_ledger::ids::BlockId(1),
            timestamp: 1,
            transactions_total: contents.transactions,
        }),
        genesis_account: None,
    };
    restore.finish(&head).await.unwrap();
    let buckets = forebay_fast::Buckets::for_counts(contents.accounts, contents.transactions);
    let keys = bench.tier.keys();
    for bucket in (0..buckets.transactions).step_by(997) {
        let encoding: String = bench.command(&["OBJECT", "ENCODING", &keys.transaction_bucket(bucket)]).await;
        assert_eq!(encoding, "listpack");
    }
    for bucket in (0..buckets.accounts).step_by(97) {
        let encoding: String = bench.command(&["OBJECT", "ENCODING", &keys.account_bucket(bucket)]).await;
        assert_eq!(encoding, "listpack");
    }
}
