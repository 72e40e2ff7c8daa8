//! Listening: TLS, an end in order, clients that never finish what they say.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use forebay_api::{Limits, Listener, Server, Tls, WritePolicy};
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::node::{Bench, TestNode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Served, api, tier_options};

const ASK: &[u8] = b"GET /api/blocks/getHeight HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

async fn bench() -> Option<(OracleChain, Bench, TestNode)> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(Arc::clone(&chain.profile), Arc::clone(&chain.genesis)).await;
    let node = bench.start().await.unwrap();
    Some((chain, bench, node))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_speaks_https_and_nothing_else() {
    let Some((_chain, bench, _node)) = bench().await else { return };
    let directory = std::env::temp_dir().join(format!("forebay-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-out",
        ])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(Tls::from_files(&key, &certificate).is_err(), "the two are not the same");
    let tls = Tls::from_files(&certificate, &key).unwrap();

    let api = api(&bench, None, NOW, tier_options(&bench), Limits::default(), WritePolicy::default());
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), Some(tls)).await.unwrap();
    assert!(listener.place().starts_with("https://"));
    let address = listener.address().unwrap();
    let server = Server::start(&api, vec![listener]);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\"height\":1}"), "{answer}");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(ASK).await.unwrap();
    let mut answer = Vec::new();
    // It may be reset before it has read all.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    server.stop().await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_lets_requests_under_way_be_answered_and_takes_no_more() {
    let Some((chain, bench, node)) = bench().await else { return };
    let limits = Limits { requests_max: 1, ..Limits::default() };
    let mut served = Served::with(&bench, Some(node.node.clone()), NOW, tier_options(&bench), limits).await;
    let waiting = served
        .client
        .get(format!("{}/api/blocks/getHeight", served.url))
        .header("x-forebay-wait-height", "2")
        .send();
    let waiting = tokio::spawn(waiting);
    crate::support::until("the one request is under way", || async {
        served.json("/api/blocks/getEpoch").await.0 == 503
    })
    .await;
    let address = served.url.strip_prefix("http://").unwrap().to_owned();
    let stopping = tokio::spawn(served.server.take().unwrap().stop());
    crate::support::until("nobody listens any more", || async {
        TcpStream::connect(&address).await.is_err()
    })
    .await;
    assert!(!waiting.is_finished());
    node.apply_all(&chain.blocks[..1]).await;
    let (status, body) = crate::support::body_of(waiting.await.unwrap().unwrap()).await;
    assert_eq!((status, &body["height"]), (200, &serde_json::json!(2)), "{body}");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_head_is_let_go_and_others_are_answered() {
    let Some((_chain, bench, _node)) = bench().await else { return };
    let limits = Limits { connections_max: 4, idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let served = Served::with(&bench, None, NOW, tier_options(&bench), limits).await;
    let address = served.url.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&ASK[..20]).await.unwrap();
        slow.push(stream);
    }
    // All connections are taken; this one waits until one of them is let go.
    assert_eq!(served.json("/api/blocks/getHeight").await.0, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn further_routes_are_behind_the_same_layers() {
    let Some((_chain, bench, _node)) = bench().await else { return };
    let api = api(&bench, None, NOW, tier_options(&bench), Limits::default(), WritePolicy::default());
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let url = listener.place().to_owned();
    let further = axum::Router::new().route("/further", axum::routing::get(async || "found"));
    let server = Server::start_with(&api, vec![listener], further);

    let client = reqwest::Client::new();
    for (path, status) in [("/further", 200), ("/api/blocks/getHeight", 200), ("/nowhere", 404)] {
        let response =
            client.get(format!("{url}{path}")).header("x-request-id", "mine").send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()["x-request-id"], "mine", "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
    }
    server.stop().await;
}
