//! The views of schema `rise` against the reference node's dumps, row by row and column by column.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokio_postgres::Client;

/// Where a dump is not the state as a function of the chain (oracle's README, RULES 7 and 12).
#[derive(Default)]
pub struct Leftovers {
    /// The dump was made after blocks were taken back: it may have empty rows, public keys, paid accounts and zero block
    /// ids that only the branch taken back explains.
    pub of_the_branch_taken_back: bool,
    /// Columns that differ by the undo defects 7(e) and 7(f).
    pub columns: &'static [&'static str],
}

impl Leftovers {
    fn explains(&self, column: &str, here: &Value, there: &Value) -> bool {
        self.columns.contains(&column)
            || self.of_the_branch_taken_back
                && match column {
                    "blockId" => there == "0",
                    "virgin" => there == 0 && here == 1,
                    "publicKey" => here.is_null(),
                    _ => false,
                }
    }
}

/// Every column of `mem_accounts` but those that the oracle says are not compared.
const ACCOUNT_COLUMNS: [&str; 19] = [
    "username",
    "isDelegate",
    "secondSignature",
    "publicKey",
    "secondPublicKey",
    "balance",
    "vote",
    "votesWeight",
    "multimin",
    "multilifetime",
    "blockId",
    "producedblocks",
    "missedblocks",
    "fees",
    "rewards",
    "virgin",
    "cmb",
    "delegates",
    "multisignatures",
];

/// All rows of a view as JSON in the dump's form: bigint as text, bytea as hex.
pub async fn rows(client: &Client, sql: &str) -> Vec<Map<String, Value>> {
    let rows = client.query(&format!("select to_jsonb(r)::text from ({sql}) r"), &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get::<_, &str>(0)).unwrap()).collect()
}

const MEM_ACCOUNTS: &str = r#"select username, "isDelegate", "secondSignature", address, encode("publicKey", 'hex') as "publicKey",
    encode("secondPublicKey", 'hex') as "secondPublicKey", balance::text, vote::text, "votesWeight"::text,
    multimin::text, multilifetime::text, "blockId", producedblocks, missedblocks, fees::text, rewards::text,
    virgin, cmb, delegates, multisignatures from rise.mem_accounts"#;

fn by_address(rows: impl IntoIterator<Item = Map<String, Value>>) -> BTreeMap<String, Map<String, Value>> {
    rows.into_iter().map(|row| (row["address"].as_str().unwrap().to_owned(), row)).collect()
}

fn table(dump: &Value, name: &str) -> Vec<Map<String, Value>> {
    dump[name].as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
}

fn sorted(rows: Vec<Map<String, Value>>) -> Vec<String> {
    let mut texts: Vec<String> = rows.into_iter().map(|row| Value::Object(row).to_string()).collect();
    texts.sort_unstable();
    texts
}

/// Compares all tables of a dump; returns what differs.
pub async fn differences(client: &Client, dump: &Value, leftovers: &Leftovers) -> Vec<String> {
    let mut found = Vec::new();
    let expected = by_address(table(dump, "mem_accounts"));
    let mut here = by_address(rows(client, MEM_ACCOUNTS).await);
    for (address, wanted) in &expected {
        let Some(row) = here.remove(address) else {
            if !(leftovers.of_the_branch_taken_back && is_empty(wanted)) {
                found.push(format!("{address}: missing"));
            }
            continue;
        };
        for column in ACCOUNT_COLUMNS {
            if row[column] != wanted[column] && !leftovers.explains(column, &row[column], &wanted[column]) {
                found.push(format!("{address} {column}: {} here, {} there", row[column], wanted[column]));
            }
        }
    }
    found.extend(here.keys().map(|address| format!("{address}: not in the dump")));
    let lists = [
        ("mem_accounts2delegates", r#"select "accountId", "dependentId" from rise.mem_accounts2delegates"#),
        (
            "mem_accounts2multisignatures",
            r#"select "accountId", "dependentId" from rise.mem_accounts2multisignatures"#,
        ),
        (
            "mem_accounts2u_delegates",
            r#"select "accountId", "dependentId" from rise.mem_accounts2u_delegates"#,
        ),
        (
            "rounds_fees",
            r#"select height, timestamp, fees::text, encode("publicKey", 'hex') as "publicKey" from rise.rounds_fees"#,
        ),
        ("delegates_table", r#"select username, "transactionId" from rise.delegates"#),
    ];
    for (name, sql) in lists {
        let (wanted, here) = (sorted(table(dump, name)), sorted(rows(client, sql).await));
        if wanted != here {
            let missing = wanted.iter().filter(|row| !here.contains(row)).take(3);
            let extra = here.iter().filter(|row| !wanted.contains(row)).take(3);
            found.push(format!(
                "{name}: {} rows here, {} there; missing {:?}; extra {:?}",
                here.len(),
                wanted.len(),
                missing.collect::<Vec<_>>(),
                extra.collect::<Vec<_>>()
            ));
        }
    }
    found
}

/// A row that a branch taken back left behind: nothing in it.
fn is_empty(row: &Map<String, Value>) -> bool {
    row["balance"] == "0" && row["isDelegate"] == 0 && row["producedblocks"] == 0 && row["fees"] == "0"
}

/// Everything that the database holds, as text: two equal ones are the same state.
pub async fn everything(client: &Client) -> String {
    let mut all = String::new();
    for table in [
        "blocks",
        "transactions",
        "accounts",
        "delegates",
        "votes",
        "multisignature_members",
        "rounds",
        "delegate_history",
    ] {
        let sql = format!(
            "select coalesce(string_agg(r::text, E'\\n' order by r::text), '') from forebay.{table} r"
        );
        let text: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        all.push_str(&format!("{table}:\n{text}\n"));
    }
    all
}
