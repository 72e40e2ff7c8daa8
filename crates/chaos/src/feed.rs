//! A connection to a node's feed.

use std::io;
use std::path::Path;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// What a node answers to a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Done.
    Done(Done),
    /// Not done.
    Error {
        /// Why.
        error: Refused,
    },
}

/// An operation that the chain has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Done {
    /// The block's id, decimal text.
    pub id: String,
    /// Its height.
    pub height: u32,
    /// Who accepted it.
    pub epoch: u64,
    /// The operation's number; of the last one for a block that was known.
    pub seq: u64,
    /// What an acceptance is worth.
    pub profile: String,
    /// PostgreSQL has it.
    pub durable: bool,
    /// The chain had the block already.
    #[serde(default)]
    pub known: bool,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// A stable name.
    pub kind: String,
    /// For people.
    pub message: String,
}

impl Refused {
    /// The block does not follow the tip.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.kind.as_str(), "previous-block" | "other-branch")
    }

    /// A server or the node itself is in trouble: the same may work later. A verdict on the operation is not.
    pub fn is_trouble(&self) -> bool {
        let kinds = [
            "redis",
            "postgres",
            "stopped",
            "restoring",
            "held",
            "disagreement",
            "too-far-behind",
            "recovering",
        ];
        kinds.contains(&self.kind.as_str())
    }
}

/// One connection.
pub struct Feed {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    is_broken: bool,
}

impl Feed {
    /// Connects to a feed's socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        Ok(Self { reader: BufReader::new(reader), writer, is_broken: false })
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The connection is lost; what was sent may have arrived.
    pub async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.writer.write_all(line).await
    }

    /// The next answer.
    ///
    /// # Errors
    /// The connection is lost, or the answer is none.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).await {
            Ok(1..) if line.ends_with('\n') => {
                serde_json::from_str(&line).map_err(|error| io::Error::other(format!("{error}: {line}")))
            }
            ended => {
                self.is_broken = true;
                Err(ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            }
        }
    }

    /// Answers that are still to come are of no interest: the connection must not be used again.
    pub fn give_up(&mut self) {
        self.is_broken = true;
    }

    /// Whether it can be used no more.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }
}
