//! The Redis Function library: its code, its names, what its answers mean.

use redis::Value;

use crate::codec::CHECKSUM_BYTES;
use crate::codec::undo::UNDO_HEAD_BYTES_MAX;
use crate::error::FastError;

/// The library's name; raised together with the functions' prefix when the arguments change meaning.
pub(crate) const NAME: &str = "forebay_v1";

const BODY: &str = include_str!("library.lua");

/// The functions. Those that must work while Redis' memory is full say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// Whether a transaction may be opened.
    Guard,
    /// Says that a key was destroyed, also while memory is full.
    Damage,
    /// Any operation of the chain but a block, also while memory is full.
    StepBack,
    /// The state of a restore. Refused whole while memory is full.
    Write,
    /// An outbox entry that a restore brings back. Refused while memory is full.
    LoadEntry,
    /// Deletes, also while memory is full.
    Trim,
    /// Drops state and outbox.
    BeginClean,
    /// Removes keys.
    Clean,
    /// Takes the chain.
    Claim,
    /// Shows that the owner lives.
    Heartbeat,
    /// Gives the chain up.
    Release,
    /// Reads, also while memory is full, also on a replica.
    Read,
}

impl Function {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guard => "forebay_v1_guard",
            Self::Damage => "forebay_v1_damage",
            Self::StepBack => "forebay_v1_step_back",
            Self::Write => "forebay_v1_write",
            Self::LoadEntry => "forebay_v1_load_entry",
            Self::Trim => "forebay_v1_trim",
            Self::BeginClean => "forebay_v1_begin_clean",
            Self::Clean => "forebay_v1_clean",
            Self::Claim => "forebay_v1_claim",
            Self::Heartbeat => "forebay_v1_heartbeat",
            Self::Release => "forebay_v1_release",
            Self::Read => "forebay_v1_read",
        }
    }
}

/// The code as `FUNCTION LOAD` takes it.
pub(crate) fn code() -> String {
    format!(
        "#!lua name={NAME}\nlocal SUM_BYTES, UNDO_HEAD_BYTES = {CHECKSUM_BYTES}, {UNDO_HEAD_BYTES_MAX}\n{BODY}"
    )
}

/// Whether `FUNCTION LIST … WITHCODE` shows exactly our code.
pub(crate) fn is_loaded(listing: &Value) -> bool {
    let wanted = code();
    fn contains(value: &Value, wanted: &[u8]) -> bool {
        match value {
            Value::BulkString(bytes) => bytes == wanted,
            Value::Array(values) => values.iter().any(|value| contains(value, wanted)),
            Value::Map(pairs) => pairs.iter().any(|(_, value)| contains(value, wanted)),
            _ => false,
        }
    }
    contains(listing, wanted.as_bytes())
}

/// Whether the server says that it does not have the function: nothing ran, load it and call again.
pub(crate) fn is_missing(error: &redis::RedisError) -> bool {
    error.to_string().contains("Function not found")
}

/// What a function answered.
pub(crate) struct Answer {
    /// `OK`, or why not.
    pub(crate) word: String,
    details: Vec<String>,
}

impl Answer {
    pub(crate) fn of(doing: &str, value: Value) -> Result<Self, FastError> {
        let words: Vec<Vec<u8>> = redis::from_redis_value(value).map_err(|error| {
            FastError::UnexpectedAnswer { doing: doing.to_owned(), detail: error.to_string() }
        })?;
        let mut words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
        let word = words.next().unwrap_or_default();
        Ok(Self { word, details: words.collect() })
    }

    pub(crate) fn detail(&self, index: usize) -> &str {
        self.details.get(index).map_or("", String::as_str)
    }
}

/// What the caller assumed, for the message of a refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Assumed<'a> {
    pub(crate) doing: &'a str,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) tip: &'a str,
}

impl Answer {
    /// `Ok` if the function wrote; else the refusal. A refused call changed nothing.
    pub(crate) fn accepted(self, assumed: Assumed<'_>) -> Result<(), FastError> {
        let doing = assumed.doing.to_owned();
        Err(match self.word.as_str() {
            "OK" => return Ok(()),
            "FENCED" => FastError::Fenced {
                doing,
                epoch: assumed.epoch,
                found: self.detail(0).parse().ok(),
                released: self.detail(1) == "1",
            },
            "NOTREADY" => FastError::NotReady { state: self.detail(0).parse()? },
            "SEQ" => FastError::SeqConflict {
                doing,
                expected: assumed.seq,
                found: self.detail(0).parse().unwrap_or_default(),
            },
            "TIP" => FastError::TipConflict {
                doing,
                expected: assumed.tip.to_owned(),
                found: self.detail(0).to_owned(),
            },
            "BUCKETS" => FastError::BucketsChanged { doing },
            "OUTBOX" => FastError::OutboxConflict { doing, detail: self.detail(0).to_owned() },
            "WRONGTYPE" => FastError::Corrupt {
                key: self.detail(0).to_owned(),
                detail: format!("it is a {}", self.detail(1)),
            },
            "COUNT" => FastError::Corrupt {
                key: self.detail(0).to_owned(),
                detail: "a counter is not a number".to_owned(),
            },
            other => {
                FastError::UnexpectedAnswer { doing, detail: format!("{other} {}", self.details.join(" ")) }
            }
        })
    }
}
