//! The proxy in front of a real Redis: each fault is what it says, and is over when it is healed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use forebay_servers::testing::TestServers;
use forebay_testkit::proxy::{Direction, Endpoint, Flow, Proxy};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

/// Longer than anything here takes, shorter than a test may hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// What counts as "no answer".
const SILENCE: Duration = Duration::from_millis(300);
/// Longer than an answer takes on a machine that has much else to do.
const LATE: Duration = Duration::from_secs(2);

struct Bench {
    servers: TestServers,
    proxy: Proxy,
}

impl Bench {
    async fn unix() -> Self {
        let servers = TestServers::start_redis().await.unwrap();
        let listen = Endpoint::Unix(servers.data_dir().join("proxy.sock"));
        Self::with(servers, listen).await
    }

    async fn with(servers: TestServers, listen: Endpoint) -> Self {
        let proxy = Proxy::start(listen, Endpoint::Unix(servers.redis().socket())).await.unwrap();
        Self { servers, proxy }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let url = match self.proxy.endpoint() {
            Endpoint::Unix(path) => format!("redis+unix://{}", path.display()),
            Endpoint::Tcp(address) => format!("redis://{address}"),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LATE))
            .set_response_timeout(Some(PATIENCE));
        Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await
    }

    /// As soon as connections are taken again.
    async fn connect_at_last(&self) -> MultiplexedConnection {
        let begin = Instant::now();
        loop {
            match self.connect().await {
                Ok(connection) => return connection,
                Err(_) => assert!(begin.elapsed() < PATIENCE, "it never takes connections again"),
            }
            // A refused connection returns without waiting: others would never run.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn set(connection: &mut MultiplexedConnection, value: u32) -> RedisResult<()> {
    redis::cmd("SET").arg("n").arg(value).query_async(connection).await
}

async fn get(connection: &mut MultiplexedConnection) -> RedisResult<u32> {
    redis::cmd("GET").arg("n").query_async(connection).await
}

#[tokio::test]
async fn it_carries_everything_over_unix_sockets_and_tcp() {
    let servers = TestServers::start_redis().await.unwrap();
    let bench = Bench::with(servers, Endpoint::Tcp("127.0.0.1:0".parse().unwrap())).await;
    let mut connection = bench.connect().await.unwrap();
    let large = vec![7_u8; 1 << 20];
    redis::cmd("SET").arg("large").arg(&large).exec_async(&mut connection).await.unwrap();
    let back: Vec<u8> = redis::cmd("GET").arg("large").query_async(&mut connection).await.unwrap();
    assert!(back == large);
    assert_eq!(bench.proxy.connections(), 1);
    assert!(bench.proxy.passed_bytes(Direction::ToClient) > 1 << 20);

    let socket = bench.servers.data_dir().join("proxy.sock");
    let bench = Bench::with(bench.servers, Endpoint::Unix(socket)).await;
    let mut connection = bench.connect().await.unwrap();
    set(&mut connection, 1).await.unwrap();
    assert_eq!(get(&mut connection).await.unwrap(), 1);
}

#[tokio::test]
async fn a_delayed_answer_comes_late_and_a_healed_one_at_once() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    bench.proxy.set_delay(Direction::ToClient, LATE);
    let begin = Instant::now();
    set(&mut connection, 1).await.unwrap();
    assert!(begin.elapsed() >= LATE);
    bench.proxy.heal();
    let begin = Instant::now();
    set(&mut connection, 2).await.unwrap();
    assert!(begin.elapsed() < LATE);
}

#[tokio::test]
async fn a_cut_ends_open_connections_and_takes_new_ones() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    set(&mut connection, 1).await.unwrap();
    bench.proxy.cut();
    assert!(get(&mut connection).await.is_err());
    assert_eq!(get(&mut bench.connect().await.unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_cut_after_some_bytes_of_the_answer_leaves_the_write_done_and_unanswered() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    let passed = bench.proxy.passed_bytes(Direction::ToClient);
    // "+OK\r\n" has five.
    bench.proxy.cut_after(Direction::ToClient, 3);
    assert!(set(&mut connection, 5).await.is_err());
    assert_eq!(bench.proxy.passed_bytes(Direction::ToClient), passed + 3);
    let mut again = bench.connect().await.unwrap();
    assert_eq!(get(&mut again).await.unwrap(), 5);
    // Once only.
    set(&mut again, 6).await.unwrap();
}

#[tokio::test]
async fn a_cut_after_some_bytes_of_the_question_leaves_the_write_undone() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    set(&mut connection, 1).await.unwrap();
    bench.proxy.cut_after(Direction::ToServer, 10);
    assert!(set(&mut connection, 2).await.is_err());
    assert_eq!(get(&mut bench.connect().await.unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_black_hole_gives_no_answer_and_loses_what_it_took() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    set(&mut connection, 1).await.unwrap();
    bench.proxy.set_flow(Direction::ToServer, Flow::Swallow);
    assert!(tokio::time::timeout(SILENCE, set(&mut connection, 2)).await.is_err());
    assert!(bench.connect().await.is_err(), "a new connection gets no answer either");
    bench.proxy.heal();
    // What was swallowed would make the rest of the stream nonsense: such a connection ends.
    assert!(get(&mut connection).await.is_err());
    assert_eq!(get(&mut bench.connect().await.unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_stalled_question_arrives_when_the_stall_is_over() {
    let bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    bench.proxy.set_flow(Direction::ToServer, Flow::Stall);
    let question = tokio::spawn(async move { set(&mut connection, 9).await });
    tokio::time::sleep(SILENCE).await;
    assert!(!question.is_finished());
    bench.proxy.heal();
    question.await.unwrap().unwrap();
    assert_eq!(get(&mut bench.connect().await.unwrap()).await.unwrap(), 9);
}

#[tokio::test]
async fn refusing_takes_no_new_connection_and_leaves_the_open_ones() {
    let bench = Bench::unix().await;
    let mut open = bench.connect().await.unwrap();
    bench.proxy.refuse();
    assert!(bench.connect().await.is_err(), "a connection was taken");
    set(&mut open, 3).await.unwrap();
    bench.proxy.heal();
    let mut again = bench.connect_at_last().await;
    assert_eq!(get(&mut again).await.unwrap(), 3);
}

/// Whoever connects while the proxy has not even noticed yet is not carried either.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_cut_is_gone_from_that_moment_on() {
    let bench = Bench::unix().await;
    for round in 0..30 {
        let mut open = bench.connect_at_last().await;
        set(&mut open, round).await.unwrap();
        bench.proxy.refuse();
        bench.proxy.cut();
        assert!(bench.connect().await.is_err(), "round {round}: a connection was taken");
        assert!(get(&mut open).await.is_err(), "round {round}: an open connection answered");
        bench.proxy.heal();
    }
}

#[tokio::test]
async fn a_server_that_is_away_looks_like_a_closed_connection_until_it_is_back() {
    let mut bench = Bench::unix().await;
    let mut connection = bench.connect().await.unwrap();
    set(&mut connection, 1).await.unwrap();
    bench.servers.kill_redis().await;
    assert!(get(&mut connection).await.is_err());
    assert!(bench.connect().await.is_err());
    bench.servers.restart_redis().await.unwrap();
    set(&mut bench.connect().await.unwrap(), 2).await.unwrap();
}
