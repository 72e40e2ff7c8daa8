//! The OpenAPI document says what is served, and what is served keeps to HTTP's manners.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_api::Api;
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::Bench;
use serde_json::Value;

use crate::support::Served;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("$ref", Value::String(target)) => drop(found.insert(target.clone())),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_openapi_3_1_and_whole() {
    let document = Api::document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    assert!(targets.len() > 20, "{}", targets.len());
    for target in targets {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target} is not there");
    }
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operations.insert(format!("{id} {method}")), "{path}: {id} twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
        }
    }
    assert!(operations.len() >= 48, "{}", operations.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_served_with_good_manners() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..300]).await;
    node.settle().await;
    let served = Served::start(&bench, Some(node.node.clone()), NOW).await;
    assert_eq!(served.json("/openapi.json").await, (200, Api::document()));
    let page = served.get("/docs/").await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger"));

    for (path, methods) in Api::document()["paths"].as_object().unwrap() {
        if methods.get("get").is_some() && path != "/v1/events" {
            let response = served.get(&path.replace("{id}", "1")).await;
            let html = response.headers()["content-type"].to_str().unwrap().starts_with("text/html");
            assert!(!html, "{path} is not served");
            assert!(response.headers().contains_key("x-request-id"), "{path}");
        }
    }
    // A slash at the end changes nothing; other methods and paths are unknown.
    assert_eq!(served.json("/api/blocks/getHeight/").await.1["height"], 301);
    let posted = served.client.post(format!("{}/api/blocks", served.url)).send().await.unwrap();
    assert_eq!(posted.status(), 404);
    let (status, page) = served.json("/api/%3Cscript%3E?x=<b>").await;
    assert_eq!(status, 404);
    assert!(!page.as_str().unwrap().contains("<script>"), "{page}");

    // A settled block is its id's for ever; a young one is asked for again.
    let settled = format!("/v1/blocks/{}", chain.blocks[5].id);
    let young = format!("/v1/blocks/{}", chain.blocks[298].id);
    for (path, cache) in [(&settled, "immutable"), (&young, "no-cache")] {
        let response = served.get(path).await;
        assert!(response.headers()["cache-control"].to_str().unwrap().contains(cache), "{path}");
        let etag = response.headers()["etag"].clone();
        let again = served
            .client
            .get(format!("{}{path}", served.url))
            .header("if-none-match", &etag)
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304, "{path}");
        assert_eq!(again.headers()["etag"], etag);
        assert!(again.bytes().await.unwrap().is_empty());
    }
    assert_eq!(served.json("/v1/blocks?height=6").await.1["block"]["id"], chain.blocks[4].id.to_string());
    assert_eq!(served.json("/v1/blocks/1").await.0, 404);

    // Browsers, compression, names of requests.
    let asked = |header: &'static str, value: &'static str| {
        let request = served.client.get(format!("{}/api/blocks?limit=5", served.url)).header(header, value);
        async move { request.send().await.unwrap() }
    };
    let response = asked("origin", "https://wallet.example").await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(
        response.headers()["access-control-expose-headers"].to_str().unwrap().contains("x-forebay-height")
    );
    assert_eq!(asked("accept-encoding", "gzip").await.headers()["content-encoding"], "gzip");
    assert_eq!(asked("x-request-id", "mine-1").await.headers()["x-request-id"], "mine-1");
    assert_ne!(asked("x-request-id", "not a name").await.headers()["x-request-id"], "not a name");
    let head = served.client.head(format!("{}/api/blocks", served.url)).send().await.unwrap();
    assert_eq!(head.status(), 200);
}
