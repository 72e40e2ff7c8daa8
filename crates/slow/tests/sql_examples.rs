//! docs/sql.md: every example runs as the reader and finds something; balances at heights are those of the oracle's dumps.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::support::Database;
use crate::support::chain::{Chain, apply, load_json};

const PAGE: &str = include_str!("../../../docs/sql.md");

fn examples() -> Vec<String> {
    let mut found = Vec::new();
    for part in PAGE.split("```sql\n").skip(1) {
        found.push(part.split("\n```").next().unwrap().to_owned());
    }
    assert!(found.len() >= 12, "the page has its examples");
    found
}

async fn balances_at(reader: &Client, addresses: &[String], height: i32) -> BTreeMap<String, String> {
    let sql = "select a, rise.balance_at(a, $2)::text from unnest($1::text[]) a";
    let rows = reader.query(sql, &[&addresses, &height]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn every_example_runs_as_the_reader_and_finds_something() {
    let chain = Chain::first();
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=420), 101).await;
    let reader = database.client(&database.reader()).await;
    for example in examples() {
        let rows = reader.query(&example, &[]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}:\n{example}"));
        assert!(!rows.is_empty(), "nothing found:\n{example}");
    }

    // The balances of every account at every dumped height.
    for height in [1, 2, 50, 101, 102, 202, 303, 404, 420] {
        let dump = load_json(&format!("chain/accounts-{height}.json"));
        let expected: BTreeMap<String, String> = dump["mem_accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                (row["address"].as_str().unwrap().to_owned(), row["balance"].as_str().unwrap().to_owned())
            })
            .collect();
        let addresses: Vec<String> = expected.keys().cloned().collect();
        assert_eq!(balances_at(&reader, &addresses, height).await, expected, "at height {height}");
    }

    // A history's last balance is the balance; unknown, future and malformed ones are told apart.
    let sql = "select address, balance from rise.mem_accounts where producedblocks > 0 limit 20";
    for row in reader.query(sql, &[]).await.unwrap() {
        let history: Vec<i64> = reader
            .query("select balance from rise.account_history($1)", &[&row.get::<_, &str>(0)])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(history.last().copied(), Some(row.get::<_, i64>(1)), "{}", row.get::<_, &str>(0));
    }
    let one = |address: &'static str, height: i32| {
        let reader = &reader;
        async move {
            let row = reader.query_one("select rise.balance_at($1, $2)", &[&address, &height]).await.unwrap();
            row.get::<_, Option<i64>>(0)
        }
    };
    assert_eq!(one("12345R", 420).await, Some(0));
    assert_eq!(one("12345R", 421).await, None);
    assert_eq!(one("12345R", 0).await, None);
    for malformed in ["", "R", "x", "12345L", "99999999999999999999R", "-1R"] {
        assert_eq!(one(malformed, 420).await, None, "{malformed}");
    }
}
