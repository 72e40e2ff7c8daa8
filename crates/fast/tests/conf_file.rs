//! A server that is started with the file that is printed: it fits, its users may what they need, and it loads what it wrote.

use forebay_fast::conf::{ADMIN_USER, Place, READER_USER, RedisConf, Users};
use forebay_fast::{Expected, FastOptions, FastTier, Position, RestoredHead};
use forebay_ledger::account::Account;
use forebay_ledger::ids::Address;
use forebay_servers::RedisServer;
use forebay_servers::testing::{TestOptions, TestServers};
use redis::aio::MultiplexedConnection;

use crate::common::holder;

/// A private server with the whole file; its users' passwords are their names.
struct FromFile {
    servers: TestServers,
    conf: RedisConf,
    redis: RedisServer,
}

impl FromFile {
    async fn start() -> Self {
        let options = TestOptions { redis: false, postgres: false, ..TestOptions::default() };
        let servers = TestServers::with(options).await.unwrap();
        let place = servers.servers().redis_place().unwrap();
        let passwords = &place.passwords;
        let conf = RedisConf {
            users: Some(Users::with_passwords(&passwords.node, &passwords.reader, Some(&passwords.admin))),
            place: Place::Private {
                socket: place.socket.clone(),
                directory: place.directory.clone(),
                pid_file: place.pid_file.clone(),
                log_file: place.log_file.clone(),
            },
            chain: "test".to_owned(),
            is_durable: true,
            loads_append_only: false,
            maxmemory_bytes: 64 << 20,
            maxmemory_bytes_min: 32 << 20,
            cores: 8,
            defragments: Some(servers.servers().redis_defragments().await.unwrap()),
            tls: None,
        };
        let redis = servers.servers().with_redis_conf(conf.text()).start_redis().await.unwrap();
        Self { servers, conf, redis }
    }

    async fn node(&self) -> FastTier {
        FastTier::connect(&self.redis.redis_url(), "test", FastOptions::default()).await.unwrap()
    }

    fn url_of(&self, user: &str) -> String {
        let passwords = self.servers.servers().redis_place().unwrap().passwords;
        let password = if user == ADMIN_USER { passwords.admin } else { passwords.reader };
        format!("redis+unix://{}?user={user}&pass={password}", self.redis.socket().display())
    }

    async fn user(&self, user: &str) -> MultiplexedConnection {
        redis::Client::open(self.url_of(user)).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    async fn restart(&mut self) {
        self.servers.servers().stop_redis().await.unwrap();
        self.redis = self.servers.servers().with_redis_conf(self.conf.text()).start_redis().await.unwrap();
    }
}

async fn load_some(tier: &FastTier) {
    tier.claim(None, 1, &holder()).await.unwrap();
    tier.begin_clean(1).await.unwrap();
    let expected = Expected { accounts: 100, transactions: 0 };
    let mut restore = tier.begin_restore(1, expected).await.unwrap();
    let accounts: Vec<Account> = (0..100).map(|n| Account::new(Address(n))).collect();
    restore.load_accounts(&accounts).await.unwrap();
    let head = RestoredHead { position: Position { epoch: 1, seq: 1 }, tip: None, genesis_account: None };
    restore.finish(&head).await.unwrap();
}

#[tokio::test]
async fn a_server_with_the_file_fits_it() {
    let server = FromFile::start().await;
    let live = server.node().await.live_server().await.unwrap();
    assert_eq!(server.conf.check(&live), []);
    assert_eq!(live.settings.as_ref().unwrap()["maxmemory"], (64 << 20).to_string());
    server.servers.servers().stop_redis().await.unwrap();
}

#[tokio::test]
async fn what_the_node_wrote_is_there_after_a_restart_although_the_default_user_is_off() {
    let mut server = FromFile::start().await;
    load_some(&server.node().await).await;
    server.restart().await;
    let tier = server.node().await;
    assert_eq!(tier.head().await.unwrap().position, Position { epoch: 1, seq: 1 });
    assert_eq!(tier.scan_keys(|_| {}).await.unwrap().expiring, 0);
    assert!(tier.scan_keys(|_| {}).await.unwrap().ours > 50);
    server.servers.servers().stop_redis().await.unwrap();
}

#[tokio::test]
async fn the_node_may_what_it_needs_and_nothing_dangerous() {
    let server = FromFile::start().await;
    let tier = server.node().await;
    load_some(&tier).await;
    tier.clean(1, |_| {}).await.unwrap_err();
    let url = server.redis.redis_url();
    let mut node = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for command in [
        &["FLUSHALL"][..],
        &["KEYS", "*"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["SHUTDOWN"],
        &["SET", "other", "1"],
        &["ACL", "SETUSER", "x"],
        &["REPLICAOF", "127.0.0.1", "1"],
    ] {
        assert_refused(&mut node, command).await;
    }
    server.servers.servers().stop_redis().await.unwrap();
}

#[tokio::test]
async fn the_reader_reads_the_chain_and_changes_nothing_and_a_stranger_does_not_come_in() {
    let server = FromFile::start().await;
    load_some(&server.node().await).await;
    let mut reader = server.user(READER_USER).await;
    let state: String =
        redis::cmd("HGET").arg("{test}:meta").arg("state").query_async(&mut reader).await.unwrap();
    assert_eq!(state, "ready");
    let read: redis::Value = redis::cmd("FCALL_RO")
        .arg("forebay_v1_read")
        .arg(3)
        .arg(&["{test}:owner", "{test}:meta", "{test}:outbox"])
        .query_async(&mut reader)
        .await
        .unwrap();
    assert!(matches!(read, redis::Value::Array(_)), "{read:?}");
    for command in [
        &["HSET", "{test}:meta", "state", "x"][..],
        &["GET", "other"],
        &["FCALL", "forebay_v1_release", "3", "{test}:owner", "{test}:meta", "{test}:outbox", "1"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["CLIENT", "KILL", "ID", "1"],
    ] {
        assert_refused(&mut reader, command).await;
    }
    let url = format!("redis+unix://{}", server.redis.socket().display());
    let mut stranger = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let error = redis::cmd("PING").query_async::<String>(&mut stranger).await.unwrap_err();
    assert_eq!(error.code(), Some("NOAUTH"), "{error}");
    server.servers.servers().stop_redis().await.unwrap();
}

async fn assert_refused(connection: &mut MultiplexedConnection, command: &[&str]) {
    let mut words = command.iter();
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(*word);
    });
    let error = cmd.query_async::<redis::Value>(connection).await.unwrap_err();
    assert_eq!(error.code(), Some("NOPERM"), "{command:?}: {error}");
}

#[tokio::test]
async fn a_reader_comes_back_after_its_connection_was_ended() {
    let server = FromFile::start().await;
    load_some(&server.node().await).await;
    let reader =
        FastTier::connect(&server.url_of(READER_USER), "test", FastOptions::default()).await.unwrap();
    assert_eq!(reader.counts().await.unwrap().value.accounts, 100);
    let mut admin = server.user(ADMIN_USER).await;
    let ended: i64 =
        redis::cmd("CLIENT").arg(&["KILL", "USER", READER_USER]).query_async(&mut admin).await.unwrap();
    assert!(ended > 0);
    // The first call may find the old connection broken; it may not be ended by a reader, and need not.
    let mut answers = 0;
    for _ in 0..3 {
        answers += u32::from(reader.counts().await.is_ok());
    }
    assert!(answers >= 2, "{answers} of 3");
    server.servers.servers().stop_redis().await.unwrap();
}
