//! Start, use, stop, adopt, crash.

use std::fs;
use std::time::Duration;

use forebay_servers::{PrivateServers, RedisProfile};
use rustix::process::Signal;

use crate::fixture::{Place, get, set, signal, superuser};

#[tokio::test]
async fn what_was_written_is_there_after_a_stop_and_a_new_start() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    assert!(!redis.is_adopted() && !postgres.is_adopted());
    set(&redis, "k", "v").await;
    superuser(&postgres).await.batch_execute("create table t as select 7 as n").await.unwrap();

    servers.stop().await.unwrap();
    assert!(!redis.is_running() && !postgres.is_running());
    assert!(servers.running_redis().await.unwrap().is_none());
    assert!(servers.running_postgres().await.unwrap().is_none());
    assert!(!servers.stop_redis().await.unwrap() && !servers.stop_postgres().await.unwrap());

    let (redis, postgres) = servers.start().await.unwrap();
    assert!(!redis.is_adopted() && !postgres.is_adopted());
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
    let row = superuser(&postgres).await.query_one("select n from t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
}

#[tokio::test]
async fn dropped_handles_leave_the_servers_running_and_another_open_adopts_them() {
    let place = Place::new().await;
    let first = place.open("a").await;
    let (redis, postgres) = first.start().await.unwrap();
    let pids = (redis.pid(), postgres.pid());
    drop((first, redis, postgres));

    let second = place.open("a").await;
    let (redis, postgres) = second.start().await.unwrap();
    assert!(redis.is_adopted() && postgres.is_adopted());
    assert_eq!((redis.pid(), postgres.pid()), pids);
    assert_eq!(second.running_redis().await.unwrap().unwrap().pid(), pids.0);
    assert_eq!(second.running_postgres().await.unwrap().unwrap().pid(), pids.1);
}

#[tokio::test]
async fn postgres_alone_is_started_alone() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    servers.start_postgres().await.unwrap();
    assert!(servers.running_redis().await.unwrap().is_none());
}

#[tokio::test]
async fn full_pages_of_the_wal_are_compressed_by_lz4_if_postgres_has_it() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let postgres = servers.start_postgres().await.unwrap();
    let asked = "select setting, 'lz4' = any (enumvals) from pg_settings where name = 'wal_compression'";
    let row = superuser(&postgres).await.query_one(asked, &[]).await.unwrap();
    let has_lz4: bool = row.get(1);
    assert_eq!(row.get::<_, &str>(0) == "lz4", has_lz4);
    assert_eq!(servers.postgres_conf().await.contains("wal_compression = 'lz4'"), has_lz4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_starts_at_once_give_one_server_of_each() {
    let place = Place::new().await;
    let (a, b) = (place.open("a").await, place.open("a").await);
    let (a, b) = tokio::join!(
        tokio::spawn(async move { a.start().await.unwrap() }),
        tokio::spawn(async move { b.start().await.unwrap() })
    );
    let ((redis_a, postgres_a), (redis_b, postgres_b)) = (a.unwrap(), b.unwrap());
    assert_eq!(redis_a.pid(), redis_b.pid());
    assert_eq!(postgres_a.pid(), postgres_b.pid());
    assert!(redis_a.is_adopted() != redis_b.is_adopted());
}

#[tokio::test]
async fn both_killed_at_once_start_again_with_everything_acknowledged() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    let session = superuser(&postgres).await;
    session.batch_execute("create table t (n int)").await.unwrap();
    // A session in the middle of a transaction: it holds the dead server's shared memory for a moment.
    session.batch_execute("insert into t values (1)").await.unwrap();
    session.batch_execute("begin; insert into t values (2)").await.unwrap();
    set(&redis, "k", "v").await;
    signal(redis.pid(), Signal::KILL);
    signal(postgres.pid(), Signal::KILL);

    let (redis, postgres) = servers.start().await.unwrap();
    assert!(!redis.is_adopted() && !postgres.is_adopted());
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
    let row = superuser(&postgres).await.query_one("select sum(n) from t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_lock_file_that_names_a_stranger_does_not_stop_postgres() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let redis = servers.start_redis().await.unwrap();
    let postgres = servers.start_postgres().await.unwrap();
    signal(postgres.pid(), Signal::KILL);
    while postgres.is_running() {
        tokio::task::yield_now().await;
    }
    // As after a restart of a container: the old process id now belongs to another process of the same account.
    let lock = servers.data_dir().join("postgres/data/postmaster.pid");
    let text = fs::read_to_string(&lock).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&lock, format!("{}\n{rest}", redis.pid())).unwrap();

    let again = servers.start_postgres().await.unwrap();
    assert!(!again.is_adopted());
    assert!(redis.is_running());
}

#[tokio::test]
async fn a_stopped_redis_is_reported_and_adopted_once_it_answers() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.timeouts.start = Duration::from_millis(300);
    let servers = PrivateServers::open(options).await.unwrap();
    let redis = servers.start_redis().await.unwrap();
    signal(redis.pid(), Signal::STOP);
    let error = servers.start_redis().await.unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", redis.pid())), "{error}");
    assert!(error.contains("did not answer"), "{error}");
    signal(redis.pid(), Signal::CONT);
    let again = servers.start_redis().await.unwrap();
    assert!(again.is_adopted());
    assert_eq!(again.pid(), redis.pid());
}

#[tokio::test]
async fn a_volatile_start_loads_what_a_durable_server_left_and_then_keeps_nothing() {
    let place = Place::new().await;
    let durable = place.open("a").await;
    let redis = durable.start_redis().await.unwrap();
    assert_eq!(redis.profile(), RedisProfile::Durable);
    set(&redis, "outbox", "unsynced").await;
    signal(redis.pid(), Signal::KILL);

    let mut options = place.options("a");
    options.redis.profile = RedisProfile::Volatile;
    let volatile = PrivateServers::open(options).await.unwrap();
    let redis = volatile.start_redis().await.unwrap();
    assert_eq!(redis.profile(), RedisProfile::Volatile);
    assert_eq!(get(&redis, "outbox").await.as_deref(), Some("unsynced"));
    volatile.stop_redis().await.unwrap();

    let redis = durable.start_redis().await.unwrap();
    assert_eq!(get(&redis, "outbox").await, None);
}

#[tokio::test]
async fn paths_that_are_long_or_unusual_get_their_sockets_elsewhere() {
    let place = Place::new().await;
    for name in ["x".repeat(120), "with blank, comma's \"quotes\" and é".to_owned()] {
        let servers = place.open(&name).await;
        let (redis, postgres) = servers.start().await.unwrap();
        set(&redis, "k", "v").await;
        superuser(&postgres).await.batch_execute("select 1").await.unwrap();
        let sockets = postgres.socket_dir().to_path_buf();
        assert!(!sockets.starts_with(place.path()), "{}", sockets.display());

        let (again, _) = place.open(&name).await.start().await.unwrap();
        assert!(again.is_adopted());
        assert_eq!(again.socket(), redis.socket());
        // The machine was rebooted: directories of that kind are empty then.
        servers.stop().await.unwrap();
        fs::remove_dir_all(&sockets).unwrap();
        let again = place.open(&name).await.start_redis().await.unwrap();
        assert_eq!(get(&again, "k").await.as_deref(), Some("v"));
        fs::remove_dir_all(again.socket().parent().unwrap()).unwrap();
    }
}
