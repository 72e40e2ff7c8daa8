//! Hostile input gets an answer in the family's form or a plain refusal, never a 500, and the server goes on.

use std::sync::Arc;
use std::time::Duration;

use forebay_api::Api;
use forebay_testkit::chain::OracleChain;
use forebay_testkit::node::{Bench, TestNode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::Served;

const TOKEN: &str = "t";

async fn served() -> Option<(Bench, TestNode, Served)> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..110]).await;
    node.settle().await;
    let served = Served::writable(&bench, node.node.clone(), TOKEN).await;
    Some((bench, node, served))
}

/// Every parameter of every route, in queries as documented.
fn parameters() -> Vec<(String, Vec<String>)> {
    let document = Api::document();
    let paths = document["paths"].as_object().unwrap();
    let reads = paths.iter().filter(|(path, methods)| methods.get("get").is_some() && *path != "/v1/events");
    reads
        .map(|(path, methods)| {
            let all = methods["get"]["parameters"].as_array().cloned().unwrap_or_default();
            let in_query = all.iter().filter(|one| one["in"] == "query");
            (path.clone(), in_query.map(|one| one["name"].as_str().unwrap().to_owned()).collect())
        })
        .collect()
}

const NASTY: [&str; 24] = [
    "",
    "0",
    "-1",
    "1e9",
    "99999999999999999999999999",
    "-99999999999999999999999999",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616R",
    "0R",
    "00R",
    "1R,2R,",
    ",",
    "%00",
    "%ff%fe",
    "'%20or%20'1'='1",
    ");drop%20table%20blocks;--",
    "%F0%9F%92%A9",
    "NaN",
    "null",
    "[]",
    "true",
    "height:asc;",
];

/// What an answer to anything looks like.
fn check(what: &str, status: u16, body: &Value) {
    assert!(status < 500 || status == 503, "{what}: {status} {body}");
    match body {
        Value::Object(fields) => {
            assert!(fields.get("success").is_some_and(Value::is_boolean), "{what}: {body}");
            if status != 200 {
                assert!(fields["error"].is_string() && fields["reason"].is_string(), "{what}: {body}");
            }
        }
        Value::String(page) => assert!(status == 404 || page.is_empty(), "{what}: {status} {page}"),
        other => panic!("{what}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_takes_every_nasty_value() {
    let Some((_bench, _node, served)) = served().await else { return };
    for (path, names) in parameters() {
        let path = path.replace("{id}", "1");
        for name in &names {
            for value in NASTY {
                let target = format!("{path}?{name}={value}");
                let (status, body) = served.json(&target).await;
                check(&target, status, &body);
            }
            let twice = format!("{path}?{name}=1&{name}=2&{name}[a]=3");
            let (status, body) = served.json(&twice).await;
            check(&twice, status, &body);
        }
    }
    assert_eq!(served.json("/api/blocks/getHeight").await.1["height"], 111);
}

#[test]
fn random_requests_are_answered_or_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some((_bench, _node, served)) = runtime.block_on(served()) else { return };
    let routes = parameters();
    let count = routes.len();
    let value = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[0-9]{1,21}R",
        "[0-9a-f]{64}",
        "\\PC{0,30}",
        proptest::sample::select(NASTY.to_vec()).prop_map(str::to_owned),
    ];
    let pairs = prop::collection::vec((any::<prop::sample::Index>(), value), 0..6);
    let requests = (0..count, pairs, any::<bool>());
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    runner
        .run(&requests, |(route, pairs, is_prefixed)| {
            let (path, names) = &routes[route];
            let query: Vec<(String, String)> = pairs
                .iter()
                .filter(|_| !names.is_empty())
                .map(|(index, value)| {
                    let prefix = if is_prefixed { "and:" } else { "" };
                    (format!("{prefix}{}", names[index.index(names.len())]), value.clone())
                })
                .collect();
            let mut url =
                reqwest::Url::parse(&format!("{}{}", served.url, path.replace("{id}", "x"))).unwrap();
            url.query_pairs_mut().extend_pairs(&query);
            let (status, body) = runtime.block_on(async {
                crate::support::body_of(served.client.get(url.clone()).send().await.unwrap()).await
            });
            check(url.as_str(), status, &body);
            Ok(())
        })
        .unwrap();

    // Bodies: bytes of any kind, and JSON of any shape.
    let bodies = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "(\\[|\\{|\"previousBlock\"|:|,|\\]|\\}|\"1\"|-1|1e400|null|\"transactions\"){0,40}"
            .prop_map(String::into_bytes),
    ];
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    runner
        .run(&(bodies, any::<bool>()), |(body, is_bytes)| {
            let kind = if is_bytes { "application/octet-stream" } else { "application/json" };
            let request = served.client.post(format!("{}/v1/blocks", served.url)).bearer_auth(TOKEN);
            let request = request.header("content-type", kind).body(body.clone());
            let (status, answer) =
                runtime.block_on(async { crate::support::body_of(request.send().await.unwrap()).await });
            check(&format!("{body:?}"), status, &answer);
            Ok(())
        })
        .unwrap();
    assert_eq!(runtime.block_on(served.json("/api/blocks/getHeight")).1["height"], 111);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_ends_its_connection_only() {
    let Some((_bench, _node, served)) = served().await else { return };
    let address = served.url.strip_prefix("http://").unwrap();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1_000_000));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(
        "POST /v1/blocks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{deep}",
        deep.len()
    );
    for bytes in [
        &b"\0\0\0\0"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/blocks/get?id=\xff\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /api/blocks/../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /v1/blocks HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        long.as_bytes(),
        deep.as_bytes(),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // The other side may end it before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection ends");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains(" 500 "), "{text}");
        assert_eq!(served.json("/api/blocks/getHeight").await.0, 200);
    }
}
