//! The round-end vote function against the reference node's numbers with at least 200 blocks and sums over 2^53.

use std::collections::BTreeMap;

use forebay_ledger::ids::Address;
use forebay_ledger::keys::PublicKey;
use serde_json::Value;

use crate::support::Database;
use crate::support::chain::{Chain, load_json};

fn number(row: &Value, column: &str) -> i64 {
    row[column].as_str().map_or_else(|| row[column].as_i64(), |text| text.parse().ok()).unwrap()
}

#[tokio::test]
async fn vote_and_weight_equal_the_reference_nodes_with_productivity() {
    let chain = Chain::first_up_to(1);
    let mut below_one = 0;
    for height in [101, 202, 303] {
        let database = Database::new(&chain.parameters()).await;
        let admin = database.client(&database.admin()).await;
        let before = load_json(&format!("productivity/before-{height}.json"));
        let after = load_json(&format!("productivity/after-{height}.json"));
        let values_before: BTreeMap<&str, &Value> = before["mem_accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["address"].as_str().unwrap(), row))
            .collect();
        for row in after["mem_accounts"].as_array().unwrap() {
            let address = Address::parse(row["address"].as_str().unwrap(), 'R').unwrap().to_bigint();
            admin
                .execute(
                    "insert into forebay.accounts (address, balance, produced_blocks, missed_blocks, created_height) \
                     values ($1, $2, $3::bigint::integer, $4::bigint::integer, 1)",
                    &[
                        &address,
                        &number(row, "balance"),
                        &number(row, "producedblocks"),
                        &number(row, "missedblocks"),
                    ],
                )
                .await
                .unwrap();
            if row["isDelegate"] == 1 {
                let earlier = values_before[row["address"].as_str().unwrap()];
                admin
                    .execute(
                        "insert into forebay.delegates (address, registration, registered_height, public_key, username, \
                             vote, votes_weight) values ($1, 0, 1, decode($2::text, 'hex'), $3, $4, $5)",
                        &[
                            &address,
                            &row["publicKey"].as_str().unwrap(),
                            &row["username"].as_str().unwrap(),
                            &number(earlier, "vote"),
                            &number(earlier, "votesWeight"),
                        ],
                    )
                    .await
                    .unwrap();
            }
        }
        for row in after["mem_accounts2delegates"].as_array().unwrap() {
            let voter = Address::parse(row["accountId"].as_str().unwrap(), 'R').unwrap().to_bigint();
            let key: PublicKey = row["dependentId"].as_str().unwrap().parse().unwrap();
            admin
                .execute(
                    "insert into forebay.votes values ($1, $2)",
                    &[&voter, &Address::of(&key).to_bigint()],
                )
                .await
                .unwrap();
        }
        admin
            .batch_execute(&format!(
                "update forebay.delegates d set voters_balance = t.balance, voters_share = t.balance \
                 from (select v.delegate, sum(a.balance) as balance from forebay.votes v \
                       join forebay.accounts a on a.address = v.voter group by v.delegate) t \
                 where t.delegate = d.address; \
                 select forebay_code.count_votes({height})"
            ))
            .await
            .unwrap();
        for row in after["mem_accounts"].as_array().unwrap().iter().filter(|row| row["isDelegate"] == 1) {
            let address = Address::parse(row["address"].as_str().unwrap(), 'R').unwrap().to_bigint();
            let found = admin
                .query_one("select vote, votes_weight from forebay.delegates where address = $1", &[&address])
                .await
                .unwrap();
            let (vote, weight): (i64, i64) = (found.get(0), found.get(1));
            assert_eq!((vote, weight), (number(row, "vote"), number(row, "votesWeight")), "{height}: {row}");
            below_one += u32::from(weight != vote);
        }
    }
    assert!(below_one > 100, "the data has delegates with productivity below one");
}
