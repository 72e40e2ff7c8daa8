//! As much of HTTP and of Prometheus' text as a monitor needs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

/// An address that nobody listens on now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Status and body; `None`: nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: forebay\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

pub fn get_json(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, body) = get(address, path).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

/// What a scrape says.
pub struct Scrape {
    pub text: String,
    /// By name with labels, as it stands there.
    pub samples: BTreeMap<String, f64>,
}

impl Scrape {
    #[track_caller]
    pub fn of(address: SocketAddr) -> Self {
        let (status, text) = get(address, "/metrics").unwrap();
        assert_eq!(status, 200);
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(sample).collect();
        Self { text, samples }
    }

    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("{name} is not in\n{}", self.text))
    }
}
