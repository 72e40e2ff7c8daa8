//! Blocks in and out over HTTP: accepted, durable, refused with a reason, twice the same, and only by those who may.

use std::sync::Arc;

use forebay_api::{Limits, Listener, Server, WritePolicy};
use forebay_fast::encode_block;
use forebay_ledger::block::Block;
use forebay_ledger::json::block_to_value;
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::{Bench, TestNode};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Served, api, body_of, tier_options};

const TOKEN: &str = "a token that nobody guesses";

struct Writing {
    chain: OracleChain,
    bench: Bench,
    node: TestNode,
    served: Served,
}

async fn writing() -> Option<Writing> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    let served = Served::writable(&bench, node.node.clone(), TOKEN).await;
    Some(Writing { chain, bench, node, served })
}

impl Writing {
    async fn send(&self, method: Method, path: &str, body: Vec<u8>, kind: &str) -> Response {
        let request = self.served.client.request(method, format!("{}{path}", self.served.url));
        request.bearer_auth(TOKEN).header("content-type", kind).body(body).send().await.unwrap()
    }

    async fn give(&self, path: &str, blocks: &[Block]) -> (u16, Value) {
        let values: Vec<Value> =
            blocks.iter().map(|block| block_to_value(block, &self.chain.profile)).collect();
        let body = if let [one] = values.as_slice() { one.clone() } else { Value::Array(values) };
        body_of(self.send(Method::POST, path, body.to_string().into_bytes(), "application/json").await).await
    }

    async fn take(&self, path: &str) -> (u16, Value) {
        body_of(self.send(Method::DELETE, path, Vec::new(), "application/json").await).await
    }
}

fn framed(blocks: &[Block]) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        let bytes = encode_block(block);
        body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        body.extend(bytes);
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_and_go_in_json_and_bytes_and_a_repeated_request_does_nothing_more() {
    let Some(writing) = writing().await else { return };
    let blocks = &writing.chain.blocks;

    let (status, body) = writing.give("/v1/blocks?wait=durable", &blocks[..1]).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    assert_eq!(
        (&body["acceptedHeight"], &body["durableHeight"], &body["durable"]),
        (&json!(2), &json!(2), &json!(true))
    );
    assert_eq!(body["blocks"][0]["id"], blocks[0].id.to_string());
    assert_eq!(body["blocks"][0]["known"], false);

    let (status, body) = writing.give("/v1/blocks", &blocks[..20]).await;
    assert_eq!((status, &body["acceptedHeight"]), (200, &json!(21)), "{body}");
    let known: Vec<bool> =
        body["blocks"].as_array().unwrap().iter().map(|one| one["known"].as_bool().unwrap()).collect();
    assert_eq!(known.iter().filter(|known| **known).count(), 1, "the first was there");

    let bytes = framed(&blocks[20..40]);
    let response = writing.send(Method::POST, "/v1/blocks", bytes.clone(), "application/octet-stream").await;
    let (status, body) = body_of(response).await;
    assert_eq!((status, &body["acceptedHeight"]), (200, &json!(41)), "{body}");
    let response = writing.send(Method::POST, "/v1/blocks", bytes, "application/octet-stream").await;
    let (_, again) = body_of(response).await;
    assert!(again["blocks"].as_array().unwrap().iter().all(|one| one["known"] == true), "{again}");
    assert_eq!(again["acceptedHeight"], 41);

    // A word that was mistyped must not become a take-back of one block.
    let (status, body) = writing.take("/v1/blocks/tip?cuont=3").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.to_string().contains("cuont"), "{body}");

    let tip = blocks[39].id;
    let path = format!("/v1/blocks/tip?count=10&tip={tip}&wait=durable");
    let (status, body) = writing.take(&path).await;
    assert_eq!(
        (status, &body["acceptedHeight"], &body["durable"]),
        (200, &json!(31), &json!(true)),
        "{body}"
    );
    assert_eq!(body["tip"]["id"], blocks[29].id.to_string());
    let (status, body) = writing.take(&path).await;
    assert_eq!((status, &body["reason"]), (409, &json!("other-tip")), "{body}");

    writing.node.settle().await;
    let verified = writing.bench.verify(true).await;
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_block_says_why_and_what_came_before_it_stays() {
    let Some(writing) = writing().await else { return };
    let blocks = &writing.chain.blocks;
    let mut wrong = blocks[2].clone();
    wrong.reward += 1;
    let (status, body) = writing.give("/v1/blocks", &[blocks[0].clone(), blocks[1].clone(), wrong]).await;
    assert_eq!((status, &body["index"], &body["acceptedHeight"]), (422, &json!(2), &json!(3)), "{body}");
    assert_eq!(body["success"], false);
    assert_eq!(body["reason"], "block-signature");
    assert_eq!(body["blocks"].as_array().unwrap().len(), 2);

    let (status, body) = writing.give("/v1/blocks", &[blocks[9].clone()]).await;
    assert_eq!((status, &body["reason"]), (409, &json!("previous-block")), "{body}");
    let (status, body) = writing.give("/v1/blocks", &[(*writing.chain.genesis).clone()]).await;
    assert_eq!((status, &body["blocks"][0]["known"]), (200, &json!(true)), "{body}");

    for (body, kind) in [
        (&b"{"[..], "application/json"),
        (b"[1]", "application/json"),
        (b"{\"previousBlock\":\"1\"}", "application/json"),
        (b"\0\0\0\x05ab", "application/octet-stream"),
        (b"\0\0\0\x02ab", "application/octet-stream"),
    ] {
        let (status, told) =
            body_of(writing.send(Method::POST, "/v1/blocks", body.to_vec(), kind).await).await;
        assert_eq!((status, &told["reason"]), (400, &json!("malformed")), "{told}");
    }
    for path in ["/v1/blocks/tip?count=3", "/v1/blocks/tip?count=100000"] {
        let (status, body) = writing.take(path).await;
        assert_eq!((status, &body["reason"]), (400, &json!("request")), "{body}");
    }
    assert_eq!(writing.served.json("/api/blocks/getHeight").await.1["height"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_or_the_socket_writes() {
    let Some(writing) = writing().await else { return };
    let block = block_to_value(&writing.chain.blocks[0], &writing.chain.profile).to_string();
    let post = |url: &str, token: Option<&str>| {
        let mut request = writing.served.client.post(format!("{url}/v1/blocks")).body(block.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        async move { body_of(request.send().await.unwrap()).await }
    };
    for token in [None, Some(""), Some("a token that somebody guesses")] {
        let (status, body) = post(&writing.served.url, token).await;
        assert_eq!((status, &body["reason"]), (401, &json!("token")), "{body}");
    }
    // Without a token of its own, and without a node.
    let node = Some(writing.node.node.clone());
    let tokenless = Served::start(&writing.bench, node.clone(), NOW).await;
    assert_eq!(post(&tokenless.url, Some(TOKEN)).await.0, StatusCode::FORBIDDEN.as_u16());
    let reading = Served::start(&writing.bench, None, NOW).await;
    let (status, body) = post(&reading.url, Some(TOKEN)).await;
    assert_eq!((status, &body["reason"]), (403, &json!("writes-off")), "{body}");

    // An address that others reach, with the right token: off unless it is allowed.
    for (on_public_addresses, expected) in [(false, 403), (true, 200)] {
        let writes = WritePolicy { token: Some(TOKEN.to_owned()), on_public_addresses };
        let api =
            api(&writing.bench, node.clone(), NOW, tier_options(&writing.bench), Limits::default(), writes);
        let listener = Listener::tcp(([0, 0, 0, 0], 0).into(), None).await.unwrap();
        assert!(!listener.is_local());
        let url = format!("http://127.0.0.1:{}", listener.address().unwrap().port());
        let server = Server::start(&api, vec![listener]);
        assert_eq!(post(&url, Some(TOKEN)).await.0, expected);
        server.stop().await;
    }

    // A socket needs no token.
    let directory = std::env::temp_dir().join(format!("forebay-api-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("api.sock");
    let listener = Listener::unix(&path).unwrap();
    let api = api(
        &writing.bench,
        node,
        NOW,
        tier_options(&writing.bench),
        Limits::default(),
        WritePolicy::default(),
    );
    let server = Server::start(&api, vec![listener]);
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let head = format!(
        "POST /v1/blocks HTTP/1.1\r\nhost: forebay\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        block.len()
    );
    stream.write_all(format!("{head}{block}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
    assert!(!path.exists(), "the socket goes with the server");
    std::fs::remove_dir_all(&directory).unwrap();
}
