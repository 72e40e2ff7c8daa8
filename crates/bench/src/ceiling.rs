//! The ceiling of `accept`: the same keys and bytes, written by a plain pipeline. No reads, no checks, no outbox, nothing
//! atomic; bytes are made ready before the clock starts, and many blocks are on their way at the same time.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use forebay_fast::{Buckets, Keys, Position, plain_writes};
use forebay_ledger::apply::Applied;

use crate::error::BenchError;
use crate::load::Load;

/// The database of Redis that control arms write to; nodes use 0.
const DATABASE: u8 = 1;
/// What the server's input buffer and ours hold comfortably; more gives nothing.
const BYTES_AHEAD: usize = 1 << 20;

pub(crate) struct Ceiling {
    stream: UnixStream,
    keys: Keys,
    buckets: Buckets,
    seq: u64,
}

/// Commands in the protocol's bytes.
pub(crate) struct Packed {
    bytes: Vec<u8>,
    commands: usize,
}

impl Packed {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), commands: 0 }
    }

    pub(crate) fn push<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        self.bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            let word = word.as_ref();
            self.bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            self.bytes.extend(word);
            self.bytes.extend(b"\r\n");
        }
        self.commands += 1;
    }

    pub(crate) fn commands(&self) -> usize {
        self.commands
    }
}

impl Ceiling {
    /// Brings the state after the genesis block into a database of its own. `buckets`: those of the node's.
    pub(crate) async fn open(socket: PathBuf, load: &Load, buckets: Buckets) -> Result<Self, BenchError> {
        let keys = Keys::new(&load.network.profile.name)?;
        let mut ceiling = Self { stream: open(&socket)?, keys, buckets, seq: 0 };
        let genesis = ceiling.pack(std::iter::once(&load.genesis))?;
        ceiling.write(genesis).await?;
        Ok(ceiling)
    }

    /// The commands of blocks, ready to be sent.
    pub(crate) fn pack<'a>(
        &mut self,
        blocks: impl Iterator<Item = &'a Applied>,
    ) -> Result<Packed, BenchError> {
        let mut packed = Packed::new();
        for Applied { block, changes, undo } in blocks {
            self.seq += 1;
            let position = Position { epoch: 1, seq: self.seq };
            let commands = plain_writes(&self.keys, &self.buckets, changes, undo.as_ref(), block, position)?;
            commands.iter().for_each(|words| packed.push(words));
        }
        Ok(packed)
    }

    /// Sends commands and waits for all answers; the seconds that it took.
    pub(crate) async fn write(&mut self, packed: Packed) -> Result<f64, BenchError> {
        write_all(&self.stream, packed).await
    }
}

/// A plain connection to the control arms' database.
pub(crate) fn open(socket: &Path) -> Result<UnixStream, BenchError> {
    let doing = || BenchError::io(format!("connecting to {}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(doing())?;
    stream.write_all(format!("SELECT {DATABASE}\r\n").as_bytes()).map_err(doing())?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).map_err(doing())?;
    Ok(stream)
}

/// Sends commands whose answers are one line each, and waits for all answers; the seconds that it took.
pub(crate) async fn write_all(stream: &UnixStream, packed: Packed) -> Result<f64, BenchError> {
    let failed = || BenchError::io("writing to Redis, for a control arm");
    let mut sink = stream.try_clone().map_err(failed())?;
    let mut source = stream.try_clone().map_err(failed())?;
    let Packed { bytes, commands } = packed;
    let began = Instant::now();
    let sender = tokio::task::spawn_blocking(move || {
        bytes.chunks(BYTES_AHEAD).try_for_each(|chunk| sink.write_all(chunk))
    });
    let receiver = tokio::task::spawn_blocking(move || -> std::io::Result<Option<String>> {
        let mut left = commands;
        let mut answers = vec![0; 1 << 16];
        let mut error = None;
        let mut at_line_start = true;
        while left > 0 {
            let length = source.read(&mut answers)?;
            let read = answers.get(..length).unwrap_or_default();
            if read.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            for byte in read {
                if at_line_start && *byte == b'-' {
                    error = Some(String::from_utf8_lossy(read).chars().take(200).collect());
                }
                at_line_start = *byte == b'\n';
                left -= usize::from(at_line_start);
            }
        }
        Ok(error)
    });
    sender.await?.map_err(failed())?;
    match receiver.await?.map_err(failed())? {
        None => Ok(began.elapsed().as_secs_f64()),
        Some(error) => Err(BenchError::Other(format!("Redis refused a control arm's command: {error}"))),
    }
}
