//! The fixture that tests of other crates stand on.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use forebay_servers::testing::{TestOptions, TestServers};
use forebay_servers::{RedisProfile, SUPERUSER};
use tokio_postgres::NoTls;

#[tokio::test]
async fn test_servers_answer_and_vanish_with_the_value() {
    let servers = TestServers::start().await.unwrap();
    let mut redis = redis::Client::open(servers.redis().redis_url())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    redis::cmd("SET").arg("a").arg("1").exec_async(&mut redis).await.unwrap();
    let (postgres, connection) =
        tokio_postgres::connect(&servers.postgres().connection_string(SUPERUSER).unwrap(), NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let row = postgres.query_one("select current_database()::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "forebay");

    let (redis_server, postgres_server) = (servers.redis().clone(), servers.postgres().clone());
    let directory = servers.data_dir().to_path_buf();
    drop(servers);
    assert!(!redis_server.is_running());
    assert!(!postgres_server.is_running());
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_killed_redis_of_the_durable_profile_has_every_acknowledged_write() {
    let options =
        TestOptions { postgres: false, redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut servers = TestServers::with(options).await.unwrap();
    let client = redis::Client::open(servers.redis().redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg("a").arg("1").exec_async(&mut connection).await.unwrap();
    servers.kill_redis().await;
    servers.restart_redis().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let value: String = redis::cmd("GET").arg("a").query_async(&mut connection).await.unwrap();
    assert_eq!(value, "1");
}

#[tokio::test]
async fn a_killed_postgres_recovers_and_keeps_what_was_committed() {
    let mut servers = TestServers::start_postgres().await.unwrap();
    let config = servers.postgres().config(SUPERUSER).unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create table t (n int); insert into t values (7)").await.unwrap();
    servers.kill_postgres().await;
    servers.restart_postgres().await.unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("select n from t", &[]).await.unwrap().get::<_, i32>(0), 7);
}

#[tokio::test]
async fn roles_and_the_database_s_owner_are_as_asked() {
    let options = TestOptions {
        redis: false,
        postgres_roles: vec!["owner".to_owned()],
        postgres_database_owner: Some("owner".to_owned()),
        ..TestOptions::default()
    };
    let servers = TestServers::with(options).await.unwrap();
    let (client, connection) = servers.postgres().config("owner").unwrap().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create schema s; create table s.t (n int)").await.unwrap();
}
