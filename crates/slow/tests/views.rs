//! The views of schema `rise`: the names, types and values that RISE tools know.

use serde_json::{Value, json};

use crate::support::Database;
use crate::support::chain::{Chain, apply, oracle};
use crate::support::dump::rows;

/// The reference node's tables (the oracle's TABLES.md): `v` varchar with its length, `i` integer, `s` smallint, `b` bigint,
/// `x` bytea, `t` text.
const TABLES: [(&str, &str); 12] = [
    (
        "blocks",
        "id v20, rowId i, version i, timestamp i, height i, previousBlock v20, numberOfTransactions i, totalAmount b, \
         totalFee b, reward b, payloadLength i, payloadHash x, generatorPublicKey x, blockSignature x",
    ),
    (
        "trs",
        "id v20, rowId i, blockId v20, height i, type s, timestamp i, senderPublicKey x, senderId v22, recipientId v22, \
         amount b, fee b, signature x, signSignature x, requesterPublicKey x, signatures t",
    ),
    ("signatures", "transactionId v20, publicKey x"),
    ("delegates", "transactionId v20, username v20"),
    ("votes", "transactionId v20, votes t"),
    ("multisignatures", "transactionId v20, min i, lifetime i, keysgroup t"),
    (
        "mem_accounts",
        "address v22, publicKey x, secondPublicKey x, username v20, isDelegate s, u_isDelegate s, secondSignature s, \
         u_secondSignature s, nameexist s, u_nameexist s, virgin s, u_username v20, balance b, u_balance b, vote b, \
         votesWeight b, rate b, fees b, rewards b, multimin b, u_multimin b, multilifetime b, u_multilifetime b, \
         delegates t, u_delegates t, multisignatures t, u_multisignatures t, blockId v20, producedblocks i, \
         missedblocks i, cmb i",
    ),
    ("mem_accounts2delegates", "accountId v22, dependentId v64"),
    ("mem_accounts2u_delegates", "accountId v22, dependentId v64"),
    ("mem_accounts2multisignatures", "accountId v22, dependentId v64"),
    ("mem_accounts2u_multisignatures", "accountId v22, dependentId v64"),
    ("rounds_fees", "height i, timestamp i, fees b, publicKey x"),
];

#[tokio::test]
async fn names_and_types_are_the_reference_nodes() {
    let chain = Chain::first_up_to(1);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    for (table, columns) in TABLES {
        let mut expected: Vec<String> = columns.split(", ").map(|column| column.trim().to_owned()).collect();
        let found = admin
            .query(
                "select column_name::text || ' ' || case data_type when 'character varying' then 'v' \
                     || character_maximum_length when 'integer' then 'i' when 'smallint' then 's' when 'bigint' then 'b' \
                     when 'bytea' then 'x' when 'text' then 't' else data_type end \
                 from information_schema.columns where table_schema = 'rise' and table_name = $1::text",
                &[&table],
            )
            .await
            .unwrap();
        let mut found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{table}");
    }
}

#[tokio::test]
async fn blocks_and_transactions_show_what_the_node_shows() {
    let chain = Chain::first();
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=420), 1000).await;
    let reader = database.client(&database.reader()).await;
    let text = std::fs::read_to_string(oracle().join("chain/blocks.jsonl")).unwrap();
    let shown: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let sql = r#"select id, "rowId", version, timestamp, height, "previousBlock", "numberOfTransactions",
        "totalAmount", "totalFee", reward, "payloadLength", encode("payloadHash", 'hex') as "payloadHash",
        encode("generatorPublicKey", 'hex') as "generatorPublicKey",
        encode("blockSignature", 'hex') as "blockSignature" from rise.blocks order by height"#;
    let blocks = rows(&reader, sql).await;
    assert_eq!(blocks.len(), shown.len());
    for (block, shown) in blocks.iter().zip(&shown) {
        for (column, value) in block {
            assert_eq!(*value, shown[column], "block {} {column}", shown["height"]);
        }
    }

    let sql = r#"select t.id, "rowId", "blockId", height, type, timestamp,
            encode("senderPublicKey", 'hex') as "senderPublicKey", "senderId", "recipientId", amount, fee,
            encode(signature, 'hex') as signature, encode("signSignature", 'hex') as "signSignature",
            encode("requesterPublicKey", 'hex') as "requesterPublicKey", signatures,
            encode(s."publicKey", 'hex') as second, d.username, v.votes, m.min, m.lifetime, m.keysgroup
        from rise.trs t
        left join rise.signatures s on s."transactionId" = t.id
        left join rise.delegates d on d."transactionId" = t.id
        left join rise.votes v on v."transactionId" = t.id
        left join rise.multisignatures m on m."transactionId" = t.id
        order by "rowId""#;
    let transactions = rows(&reader, sql).await;
    let shown: Vec<&Value> =
        shown.iter().flat_map(|block| block["transactions"].as_array().unwrap()).collect();
    assert_eq!(transactions.len(), shown.len());
    let joined = |list: &Value| {
        let texts: Vec<&str> =
            list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect();
        if texts.is_empty() { Value::Null } else { json!(texts.join(",")) }
    };
    for (transaction, shown) in transactions.iter().zip(&shown) {
        for (column, value) in transaction {
            let asset = &shown["asset"];
            let expected = match column.as_str() {
                "signatures" => joined(&shown["signatures"]),
                "second" => asset["signature"]["publicKey"].clone(),
                "username" => asset["delegate"]["username"].clone(),
                "votes" => joined(&asset["votes"]),
                "min" | "lifetime" => asset["multisignature"][column].clone(),
                "keysgroup" => joined(&asset["multisignature"]["keysgroup"]),
                other => shown[other].clone(),
            };
            assert_eq!(*value, expected, "transaction {} {column}", shown["id"]);
        }
    }
}

#[tokio::test]
async fn single_rows_are_found_by_their_text_without_reading_the_whole_view() {
    let chain = Chain::first_up_to(205);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=205), 205).await;
    let reader = database.client(&database.reader()).await;
    for (view, key, lookup) in [
        ("blocks", "id", "block_by_id"),
        ("trs", "id", "tr_by_id"),
        ("mem_accounts", "address", "mem_account_by_address"),
    ] {
        // Each row's lookup gives the row, and nothing else.
        let sql = format!(
            "select count(*), count(*) filter (where found is distinct from v) \
             from rise.{view} v left join lateral rise.{lookup}(v.{key}) found on true"
        );
        let row = reader.query_one(&sql, &[]).await.unwrap();
        let rows: i64 =
            reader.query_one(&format!("select count(*) from rise.{view}"), &[]).await.unwrap().get(0);
        assert!(rows > 100, "{view}: {rows}");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (rows, 0), "{view}");
        for nothing in
            ["", "R", "1", "2R", "x", "-1", "1e3R", "018446744073709551617R", "99999999999999999999R"]
        {
            let found = reader.query(&format!("select from rise.{lookup}($1)"), &[&nothing]).await.unwrap();
            assert!(found.is_empty(), "{lookup}({nothing})");
        }
    }

    // With an index at hand, the tables are not read from end to end.
    let admin = database.client(&database.admin()).await;
    admin.batch_execute("analyze; select pg_stat_force_next_flush()").await.unwrap();
    let scans = "select pg_stat_clear_snapshot(), coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_user_tables \
         where schemaname = 'forebay' and relname in ('transactions', 'accounts', 'blocks')";
    let id = chain.main[100].block.transactions[0].id.to_string();
    let mut read = Vec::new();
    for sql in ["select from rise.tr_by_id($1)", "select from rise.trs where id = $1"] {
        let before: i64 = admin.query_one(scans, &[]).await.unwrap().get(1);
        assert_eq!(admin.query(sql, &[&id]).await.unwrap().len(), 1);
        admin.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
        read.push(admin.query_one(scans, &[]).await.unwrap().get::<_, i64>(1) - before);
    }
    assert!(read[0] == 0 && read[1] > 0, "rows read by sequential scans: {read:?}");
}
