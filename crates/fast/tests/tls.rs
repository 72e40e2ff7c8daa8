//! `rediss://`: the server's certificate is checked against those that the operating system trusts.
#![cfg(feature = "tls")]

use std::path::Path;
use std::process::Command;

use forebay_fast::{FastErrorKind, FastOptions, FastTier};

use crate::common::{Bench, holder};

const ADDRESS: &str = "FOREBAY_TEST_TLS_ADDRESS";

/// Runs in a process of its own, whose trusted certificates the test below chooses. Without an address it has nothing to do.
#[tokio::test]
async fn as_a_client() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let tier = FastTier::connect(&address, "tls", FastOptions::default()).await.unwrap();
    tier.claim(None, 1, &holder()).await.unwrap();
    assert_eq!(tier.owner().await.unwrap().unwrap().epoch, 1);
}

fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_trusted_certificate_connects_and_an_unknown_one_is_for_the_operator() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is missing under CI=true");
        eprintln!("skipped: openssl is missing");
        return;
    }
    let bench = Bench::new().await;
    let folder = bench.servers.data_dir().join("redis");
    openssl(
        &folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign",
    );
    openssl(&folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    std::fs::write(folder.join("extensions"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        &folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    );
    std::fs::set_permissions(folder.join("server.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let path = |name: &str| folder.join(name).display().to_string();
    let words = [
        "CONFIG",
        "SET",
        "tls-cert-file",
        &path("server.pem"),
        "tls-key-file",
        &path("server.key"),
        "tls-ca-cert-file",
        &path("ca.pem"),
        "tls-auth-clients",
        "no",
        "tls-port",
        &port,
    ];
    let _: () = bench.command(&words).await;
    let address = format!("rediss://localhost:{port}");

    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_a_client"])
        .env("SSL_CERT_FILE", path("ca.pem"))
        .env(ADDRESS, &address)
        .status()
        .unwrap();
    assert!(status.success());
    let error = FastTier::connect(&address, "tls", FastOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Untrusted, "{error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert!(error.remedy().contains("SSL_CERT_FILE"), "{}", error.remedy());

    // A server that does not speak TLS, and one that is not there.
    let clear = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = clear.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = clear.accept().unwrap();
        stream.write_all(b"-ERR unknown command\r\n").unwrap();
    });
    let address = format!("rediss://localhost:{port}");
    let error = FastTier::connect(&address, "tls", FastOptions::default()).await.unwrap_err();
    answering.join().unwrap();
    assert_eq!(error.kind(), FastErrorKind::Untrusted, "{error}");
    let error = FastTier::connect(&address, "tls", FastOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), FastErrorKind::Unavailable, "{error}");
}
