//! A tier is away, or behind: what can be answered is, what cannot says why, nothing wrong is said, and all is well again
//! when the tier is back, without a restart of the API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_api::{Limits, TierOptions};
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::{Bench, TestNode};
use forebay_testkit::proxy::{Direction, Endpoint, Flow, Proxy};
use serde_json::{Value, json};

use crate::support::{Served, at, reader, tier_options, until};

/// An API that reaches both servers through proxies.
struct Faulty {
    chain: OracleChain,
    node: TestNode,
    served: Served,
    redis: Proxy,
    postgres: Proxy,
    directory: PathBuf,
    _bench: Bench,
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn faulty(name: &str, limits: Limits) -> Option<Faulty> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..150]).await;
    node.settle().await;
    let directory = std::env::temp_dir().join(format!("forebay-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = |name: &str| Endpoint::Unix(directory.join(name));
    let redis =
        Proxy::start(socket("redis.sock"), Endpoint::Unix(bench.servers.redis().socket())).await.unwrap();
    let server = bench.servers.postgres();
    let real = Endpoint::Unix(server.socket_dir().join(format!(".s.PGSQL.{}", server.port())));
    let postgres = Proxy::start(socket(".s.PGSQL.5432"), real).await.unwrap();

    let Endpoint::Unix(redis_socket) = redis.endpoint() else { panic!("a Unix socket") };
    let url = bench
        .options
        .redis_url
        .replace(bench.servers.redis().socket().to_str().unwrap(), redis_socket.to_str().unwrap());
    assert_ne!(url, bench.options.redis_url);
    let direct = reader(&bench);
    let mut through = tokio_postgres::Config::new();
    through.host_path(&directory).port(5432).user("forebay_reader").dbname("forebay");
    if let Some(password) = direct.get_password() {
        through.password(password);
    }
    let tiers = TierOptions {
        redis: at(url),
        postgres: at(through),
        redis_timeout: Duration::from_millis(1500),
        wait_max: Duration::from_secs(3),
        ..tier_options(&bench)
    };
    let served = Served::with(&bench, Some(node.node.clone()), NOW, tiers, limits).await;
    Some(Faulty { chain, node, served, redis, postgres, directory, _bench: bench })
}

const SINGLE: [&str; 6] = [
    "/api/accounts?address=12333350760210376657R",
    "/api/accounts/getBalance?address=1R",
    "/api/accounts/delegates?address=9829842864375954536R",
    "/api/delegates/get?username=ora_del_0",
    "/api/blocks/getStatus",
    "/api/transactions/get?id=14427670995595934402",
];
const LISTS: [&str; 5] = [
    "/api/blocks?limit=2",
    "/api/transactions?limit=3",
    "/api/delegates?limit=4",
    "/api/accounts/top?limit=2",
    "/api/delegates/count",
];

async fn tier_of(served: &Served, path: &str) -> (u16, Option<String>, Value) {
    let response = served.get(path).await;
    let tier = response.headers().get("x-forebay-tier").map(|tier| tier.to_str().unwrap().to_owned());
    let (status, body) = crate::support::body_of(response).await;
    (status, tier, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_single_things_are_answered_and_lists_say_why_not() {
    let Some(faulty) = faulty("without-postgres", Limits::default()).await else { return };
    let served = &faulty.served;
    let mut before = Vec::new();
    for path in SINGLE.iter().chain(&LISTS) {
        before.push(served.json(path).await);
    }
    faulty.postgres.refuse();
    faulty.postgres.cut();
    for (path, (_, expected)) in SINGLE.iter().zip(&before) {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier.as_deref(), &body), (200, Some("fast"), expected), "{path}");
    }
    for path in LISTS {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier, &body["reason"]), (503, None, &json!("postgres-away")), "{path}: {body}");
        assert_eq!(body["success"], false);
    }
    // New blocks are seen meanwhile.
    faulty.node.apply_all(&faulty.chain.blocks[150..160]).await;
    assert_eq!(served.json("/api/blocks/getHeight").await.1["height"], 161);
    faulty.node.settle().await;
    faulty.postgres.heal();
    until("lists are answered again", || async { served.json(LISTS[0]).await.0 == 200 }).await;
    for path in LISTS {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier.as_deref()), (200, Some("slow")), "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_is_made_again_and_redis_answers() {
    let Some(faulty) = faulty("cut", Limits::default()).await else { return };
    // PostgreSQL does not have the newest block: only Redis can show it.
    faulty.postgres.refuse();
    faulty.postgres.cut();
    for round in 0..10 {
        faulty.redis.cut();
        // Whoever asks first, and those who ask meanwhile.
        let answers = SINGLE.map(|path| tier_of(&faulty.served, path));
        for (status, tier, body) in futures_util::future::join_all(answers).await {
            assert_eq!((status, tier.as_deref()), (200, Some("fast")), "round {round}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_postgres_answers_the_same() {
    let Some(faulty) = faulty("without-redis", Limits::default()).await else { return };
    let served = &faulty.served;
    let mut before = Vec::new();
    for path in SINGLE {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier.as_deref()), (200, Some("fast")), "{path}: {body}");
        before.push(body);
    }
    faulty.redis.refuse();
    faulty.redis.cut();
    for (path, expected) in SINGLE.iter().zip(&before) {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier.as_deref(), &body), (200, Some("slow"), expected), "{path}");
    }
    faulty.redis.heal();
    until("Redis answers again", || async {
        tier_of(served, "/api/blocks/getHeight").await.1.as_deref() == Some("fast")
    })
    .await;

    // A Redis that swallows what it is told holds nobody up for long.
    faulty.redis.set_flow(Direction::ToServer, Flow::Swallow);
    for path in SINGLE {
        let (status, tier, body) = tier_of(served, path).await;
        assert_eq!((status, tier.as_deref()), (200, Some("slow")), "{path}: {body}");
    }
    // Without both, nothing is made up.
    faulty.postgres.refuse();
    faulty.postgres.cut();
    for path in SINGLE.iter().chain(&LISTS) {
        let (status, _, body) = tier_of(served, path).await;
        assert_eq!((status, &body["success"]), (503, &json!(false)), "{path}: {body}");
    }
    faulty.redis.heal();
    faulty.postgres.heal();
    until("both answer again", || async {
        tier_of(served, "/api/blocks/getHeight").await.1.as_deref() == Some("fast")
            && served.json("/api/delegates/count").await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_its_height_and_not_for_ever() {
    let Some(faulty) = faulty("waiting", Limits::default()).await else { return };
    let served = &faulty.served;
    let ask = |path: &str, height: &str| {
        let request =
            served.client.get(format!("{}{path}", served.url)).header("x-forebay-wait-height", height);
        async move { crate::support::body_of(request.send().await.unwrap()).await }
    };
    for path in ["/api/blocks/getHeight", "/api/blocks?limit=1"] {
        assert_eq!(ask(path, "151").await.0, 200);
        let (status, body) = ask(path, "152").await;
        assert_eq!((status, &body["reason"]), (412, &json!("height-not-reached")), "{body}");
        let (status, body) = ask(path, "soon").await;
        assert_eq!((status, &body["reason"]), (400, &json!("malformed")), "{body}");
    }
    // What comes while it waits is enough.
    let waiting = [ask("/api/blocks/getHeight", "152"), ask("/api/blocks?limit=1", "152")];
    let (answers, ()) = tokio::join!(
        futures_util::future::join_all(waiting),
        faulty.node.apply_all(&faulty.chain.blocks[150..151])
    );
    assert_eq!(answers[0].1["height"], 152);
    assert_eq!(answers[1].1["blocks"][0]["height"], 152);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_is_told_to_come_again() {
    let limits = Limits { requests_per_second_max: 5, body_bytes_max: 1000, ..Limits::default() };
    let Some(faulty) = faulty("limits", limits).await else { return };
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(faulty.served.get("/api/blocks/getEpoch").await.status().as_u16());
    }
    assert!(statuses.starts_with(&[200; 10]), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    let one_at_once = Limits { requests_max: 0, ..Limits::default() };
    let served = Served::with(&faulty._bench, None, NOW, tier_options(&faulty._bench), one_at_once).await;
    let (status, body) = served.json("/api/blocks/getEpoch").await;
    assert_eq!((status, &body["reason"]), (503, &json!("busy")), "{body}");
}
