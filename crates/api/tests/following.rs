//! Events: every operation once, in order, over both kinds of streams; resumed from any place, across a restart.

use std::sync::Arc;

use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::Bench;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::Served;

/// A stream of server-sent events that is read event by event.
struct Stream {
    response: reqwest::Response,
    read: String,
}

/// An event: its id, if it has one, and what it says.
type Told = (Option<String>, Value);

impl Stream {
    async fn open(served: &Served, after: Option<&str>) -> Self {
        let mut request = served.client.get(format!("{}/v1/events", served.url));
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    async fn next(&mut self) -> Told {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name: &str| {
                    event.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
                };
                if let Some(data) = field("data:") {
                    return (field("id:"), serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let chunk = tokio::time::timeout(std::time::Duration::from_secs(60), self.response.chunk()).await;
            let chunk = chunk.expect("an event comes").unwrap().expect("the stream goes on");
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next so many events of the chain itself; durability and the guard are told in between.
    async fn chain_events(&mut self, count: usize) -> Vec<Told> {
        let mut found = Vec::new();
        while found.len() < count {
            let told = self.next().await;
            if !matches!(told.1["type"].as_str(), Some("durable" | "guard")) {
                found.push(told);
            }
        }
        found
    }

    async fn until(&mut self, condition: impl Fn(&Value) -> bool) -> Value {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            loop {
                let (_, event) = self.next().await;
                if condition(&event) {
                    return event;
                }
            }
        });
        waited.await.expect("the event comes")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_told_once_in_order_and_resumed_from_any_place() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let mut node = bench.start().await.unwrap();
    let served = Served::start(&bench, Some(node.node.clone()), NOW).await;
    let mut live = Stream::open(&served, Some("0")).await;
    let genesis = live.chain_events(1).await;
    assert_eq!(genesis[0].1["height"], 1);

    node.apply_all(&chain.blocks[..105]).await;
    node.take_back_to(100).await;
    node.settle().await;
    // 105 blocks, the end of round 1, six blocks taken back one by one.
    let told = live.chain_events(105 + 1 + 6).await;
    let kinds: Vec<&str> = told.iter().map(|(_, event)| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "accepted").count(), 105);
    assert_eq!(told[100].1["type"], "round-end");
    assert_eq!((&told[100].1["round"], &told[100].1["height"]), (&json!(1), &json!(101)));
    assert_eq!(told[99].0, None, "a round's last block is told with its end");
    assert_eq!(told[111].1["type"], "taken-back");
    assert_eq!(told[111].1["id"], chain.blocks[98].id.to_string());
    let heights: Vec<u64> = told
        .iter()
        .filter(|(_, event)| event["type"] == "accepted")
        .map(|(_, event)| event["height"].as_u64().unwrap())
        .collect();
    assert_eq!(heights, (2..=106).collect::<Vec<u64>>());
    let seqs: Vec<u64> = told.iter().map(|(_, event)| event["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == pair[0]));
    live.until(|event| event["type"] == "durable" && event["height"] == 100).await;

    // From the middle: the rest, the same.
    let middle = told[50].0.clone().unwrap();
    let mut resumed = Stream::open(&served, Some(&middle)).await;
    assert_eq!(resumed.chain_events(61).await, told[51..]);

    // After a restart the outbox is empty: the write log tells.
    node.stop().await.unwrap();
    let node = bench.start().await.unwrap();
    let served = Served::start(&bench, Some(node.node.clone()), NOW).await;
    let mut resumed = Stream::open(&served, Some(&middle)).await;
    let again = resumed.chain_events(61).await;
    let bare = |told: &[Told]| -> Vec<Value> {
        told.iter().map(|(_, event)| json!([event["type"], event["seq"], event["height"]])).collect()
    };
    assert_eq!(bare(&again), bare(&told[51..]));
    node.apply_all(&chain.blocks[99..102]).await;
    let more = resumed.chain_events(4).await;
    assert_eq!(more[0].1["height"], 101);

    // A place that this history does not have.
    for strange in ["7-20", "1-9999"] {
        let mut lost = Stream::open(&served, Some(strange)).await;
        let first = lost.chain_events(1).await;
        assert_eq!(first[0].1["type"], "reset", "{strange}: {first:?}");
    }
    let (status, body) = served.json("/v1/events?after=x").await;
    assert_eq!((status, &body["reason"]), (400, &json!("malformed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_tells_the_same_and_ends_with_the_server() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    let mut served = Served::start(&bench, None, NOW).await;
    let url = format!("{}/v1/events?after=0", served.url.replace("http:", "ws:"));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    node.apply_all(&chain.blocks[..30]).await;
    let mut heights = Vec::new();
    while heights.len() < 31 {
        let message = socket.next().await.unwrap().unwrap();
        if let Ok(text) = message.into_text()
            && let Ok(event) = serde_json::from_str::<Value>(&text)
            && event["type"] == "accepted"
        {
            heights.push(event["height"].as_u64().unwrap());
        }
    }
    assert_eq!(heights, (1..=31).collect::<Vec<u64>>());
    let stopping = tokio::spawn(served.server.take().unwrap().stop());
    let mut is_closed = false;
    while let Some(Ok(message)) = socket.next().await {
        is_closed |= message.is_close();
    }
    assert!(is_closed);
    stopping.await.unwrap();
}
