//! Who may do what: the program's role can change blocks, transactions and the position, and nothing else.

use tokio_postgres::Client;

use crate::support::Database;
use crate::support::chain::{Chain, apply};

async fn refused(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}: {error}");
}

async fn tables(admin: &Client) -> Vec<String> {
    let sql =
        "select relname::text from pg_class where relnamespace = 'forebay'::regnamespace and relkind = 'r'";
    admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_writer_changes_blocks_transactions_and_position_only() {
    let chain = Chain::first_up_to(3);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=3), 10).await;
    let admin = database.client(&database.admin()).await;
    let writer = database.client(&database.writer()).await;
    for table in tables(&admin).await {
        let inserts = ["blocks", "transactions"].contains(&table.as_str());
        if !inserts {
            refused(&writer, &format!("insert into forebay.{table} default values")).await;
            refused(&writer, &format!("delete from forebay.{table}")).await;
        }
        if table != "position" {
            let sql = "select attname::text from pg_attribute where attrelid = ('forebay.' || $1)::regclass and attnum = 1";
            let column: String = admin.query_one(sql, &[&table]).await.unwrap().get(0);
            refused(&writer, &format!("update forebay.{table} set {column} = {column}")).await;
        }
        refused(&writer, &format!("truncate forebay.{table}")).await;
        refused(&writer, &format!("alter table forebay.{table} disable trigger all")).await;
        writer.batch_execute(&format!("select * from forebay.{table}")).await.unwrap();
    }
    refused(&writer, "insert into forebay.accounts (address, balance, created_height) values (1, 1, 1)")
        .await;
    refused(&writer, "update forebay.accounts set balance = balance + 1").await;
    refused(&writer, "delete from forebay.accounts").await;
    refused(&writer, "set session_replication_role = replica").await;
    refused(&writer, &format!("set role {}", database.names.owner)).await;
    refused(&writer, "create table forebay.mine (i integer)").await;
    refused(&writer, "create table public.mine (i integer)").await;
    refused(&writer, "create schema mine").await;
    refused(&writer, "create temp table mine (i integer)").await;
    refused(&writer, "select forebay_code.shift_sums(1, 3, null, 0, -1)").await;
    refused(&writer, "select forebay_code.count_votes(3)").await;
}

#[tokio::test]
async fn the_programs_sessions_are_neither_owner_nor_superuser() {
    let chain = Chain::first_up_to(1);
    let database = Database::new(&chain.parameters()).await;
    for config in [database.writer(), database.reader()] {
        let client = database.client(&config).await;
        let row = client
            .query_one(
                "select r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication, \
                     session_user = current_user, \
                     (select count(*) from pg_class c where c.relowner = r.oid), \
                     (select count(*) from pg_auth_members m where m.member = r.oid) \
                 from pg_roles r where r.rolname = session_user",
                &[],
            )
            .await
            .unwrap();
        assert!(!row.get::<_, bool>(0) && row.get::<_, bool>(1));
        assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(3)), (0, 0));
    }
}

#[tokio::test]
async fn the_reader_sees_the_chain_and_changes_nothing() {
    let chain = Chain::first_up_to(12);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=12), 10).await;
    let admin = database.client(&database.admin()).await;
    let reader = database.client(&database.reader()).await;
    let sql =
        "select relname::text from pg_class where relnamespace = 'rise'::regnamespace and relkind = 'v'";
    let views: Vec<String> = admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(views.len(), 13);
    for view in views {
        reader.query(&format!("select * from rise.{view}"), &[]).await.unwrap();
        let may =
            "select has_table_privilege($1::text, 'rise.' || $2::text, 'insert, update, delete, truncate')";
        assert!(
            !admin.query_one(may, &[&database.names.reader, &view]).await.unwrap().get::<_, bool>(0),
            "{view}"
        );
    }
    reader.query("select * from forebay_log.operations", &[]).await.unwrap();
    // The chain's own tables are public knowledge, and lists need their indexes; what the program keeps for itself is not.
    let kept_back = ["migrations", "operations", "write_log_limits"];
    for table in tables(&admin).await {
        let sql = format!("select * from forebay.{table}");
        if kept_back.contains(&table.as_str()) {
            refused(&reader, &sql).await;
        } else {
            reader.query(&sql, &[]).await.unwrap();
        }
        refused(&reader, &format!("delete from forebay.{table}")).await;
        refused(&reader, &format!("truncate forebay.{table}")).await;
    }
    refused(&reader, "insert into forebay.blocks default values").await;
    refused(&reader, "select forebay_code.delegates_digest()").await;
    refused(&reader, &format!("set role {}", database.names.writer)).await;
}

#[tokio::test]
async fn functions_of_the_owner_have_a_fixed_search_path_and_nobody_calls_them() {
    let chain = Chain::first_up_to(1);
    let database = Database::new(&chain.parameters()).await;
    let admin = database.client(&database.admin()).await;
    let rows = admin
        .query(
            "select p.proname::text, p.prosecdef, coalesce(array_to_string(p.proconfig, ' '), ''), \
                 has_function_privilege($1::text, p.oid, 'execute'), has_function_privilege($2::text, p.oid, 'execute') \
             from pg_proc p where p.pronamespace = 'forebay_code'::regnamespace",
            &[&database.names.writer, &database.names.reader],
        )
        .await
        .unwrap();
    let mut owners = 0;
    for row in &rows {
        let (name, definer): (String, bool) = (row.get(0), row.get(1));
        if definer {
            owners += 1;
            assert!(row.get::<_, &str>(2).contains("search_path=forebay, forebay_code, pg_temp"), "{name}");
        }
        let may = row.get::<_, bool>(3) || row.get::<_, bool>(4);
        assert_eq!(may, name == "unsigned_text", "{name}");
    }
    assert_eq!(owners, 4);

    let sql = "select p.proname::text, p.provolatile::text, p.prosecdef, array_to_string(p.proconfig, ' '), \
             has_function_privilege($1::text, p.oid, 'execute'), has_function_privilege('pg_monitor', p.oid, 'execute') \
         from pg_proc p where p.pronamespace = 'rise'::regnamespace";
    let lookups = admin.query(sql, &[&database.names.reader]).await.unwrap();
    assert_eq!(lookups.len(), 5);
    for row in lookups {
        let name: &str = row.get(0);
        assert_eq!((row.get::<_, &str>(1), row.get::<_, bool>(2)), ("s", true), "{name}");
        assert!(row.get::<_, &str>(3).contains("search_path=forebay, forebay_code, pg_temp"), "{name}");
        assert!(row.get::<_, bool>(4) && !row.get::<_, bool>(5), "{name}");
    }
}
