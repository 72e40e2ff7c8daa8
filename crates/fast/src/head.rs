//! Where the chain in Redis stands: state, position, tip.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use forebay_ledger::ids::{Address, BlockId, Height};
use forebay_ledger::state::Tip;

use crate::error::FastError;
use crate::keys::{Buckets, FORMAT_VERSION};

/// What the keys of a chain are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no state.
    Empty,
    /// Keys are being removed.
    Cleaning,
    /// Keys are being loaded from the slow tier.
    Restoring,
    /// A rewind was accepted: the slow tier has to do it, then Redis is restored.
    Rewinding,
    /// Reads and writes.
    Ready,
    /// Another program destroyed a key under a step: no reads, no writes, until Redis is restored. Position and outbox are
    /// whole.
    Damaged,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Cleaning => "cleaning",
            Self::Restoring => "restoring",
            Self::Rewinding => "rewinding",
            Self::Ready => "ready",
            Self::Damaged => "damaged",
        }
    }

    /// Whether position and outbox say what was accepted.
    #[must_use]
    pub fn has_outbox(self) -> bool {
        matches!(self, Self::Ready | Self::Rewinding | Self::Damaged)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for State {
    type Err = FastError;

    fn from_str(text: &str) -> Result<Self, FastError> {
        [Self::Empty, Self::Cleaning, Self::Restoring, Self::Rewinding, Self::Ready, Self::Damaged]
            .into_iter()
            .find(|state| state.word() == text)
            .ok_or_else(|| FastError::Corrupt {
                key: "meta state".to_owned(),
                detail: format!("\"{text}\" is no state"),
            })
    }
}

/// An operation's place in the order of all: the epoch that accepted it, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Who accepted it.
    pub epoch: u64,
    /// Grows by one with each operation.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl Position {
    /// Reads `<epoch>-<seq>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The least position after it.
    pub(crate) fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { epoch: self.epoch, seq },
            None => Self { epoch: self.epoch.saturating_add(1), seq: 0 },
        }
    }
}

/// What the slow tier is known to have flushed. Told by [`Trim`](crate::Trim); a note, not a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Its last operation.
    pub position: Position,
    /// Its height.
    pub height: Height,
}

/// What a step must find in Redis, or it is refused and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The writer's epoch.
    pub epoch: u64,
    /// The last accepted operation.
    pub seq: u64,
    /// The newest block; `None` before the genesis block.
    pub tip: Option<BlockId>,
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the keys are good for.
    pub state: State,
    /// The last accepted operation; epoch and number 0 when there is none.
    pub position: Position,
    /// The newest block.
    pub tip: Option<Tip>,
    /// The genesis block's generator: the account that gave away the supply. `None` before that block.
    pub genesis_account: Option<Address>,
    /// The round that the next block belongs to; 0 before the genesis block.
    pub round: u32,
    /// Accounts in Redis.
    pub accounts: u64,
    /// How keys are spread; zeros unless restoring or ready.
    pub buckets: Buckets,
    /// What the slow tier is known to have.
    pub durable: Option<Durable>,
}

/// The place in the chain's history that data were read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPoint {
    /// The last accepted operation.
    pub position: Position,
    /// The tip's height; 0 before the genesis block.
    pub height: Height,
}

/// Data with the point that they belong to: all of it was read in one atomic call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// When.
    pub at: ReadPoint,
    /// What.
    pub value: T,
}

impl Head {
    /// The point in history that this head is.
    #[must_use]
    pub fn point(&self) -> ReadPoint {
        ReadPoint { position: self.position, height: self.tip.map_or(0, |tip| tip.height) }
    }

    /// The fence of a writer that has just read this head.
    #[must_use]
    pub fn fence(&self, epoch: u64) -> Fence {
        Fence { epoch, seq: self.position.seq, tip: self.tip.map(|tip| tip.id) }
    }

    pub(crate) fn empty() -> Self {
        Self {
            state: State::Empty,
            position: Position { epoch: 0, seq: 0 },
            tip: None,
            genesis_account: None,
            round: 0,
            accounts: 0,
            buckets: Buckets { accounts: 0, transactions: 0 },
            durable: None,
        }
    }

    /// From the fields of the meta hash.
    pub(crate) fn of_fields(key: &str, fields: &HashMap<String, String>) -> Result<Self, FastError> {
        if fields.is_empty() {
            return Ok(Self::empty());
        }
        let meta = Meta { key, fields };
        let format: u32 = meta.number("format")?;
        if format != FORMAT_VERSION {
            return Err(FastError::Misconfigured {
                doing: "read the chain in Redis".to_owned(),
                detail: format!("its format is {format}, this program knows {FORMAT_VERSION}"),
            });
        }
        Ok(Self {
            state: meta.text("state").unwrap_or_default().parse()?,
            position: Position { epoch: meta.number("epoch")?, seq: meta.number("seq")? },
            tip: meta.tip()?,
            genesis_account: meta.text("genesis").map(|_| meta.number("genesis").map(Address)).transpose()?,
            round: meta.number("round")?,
            accounts: meta.number("accounts")?,
            buckets: Buckets {
                accounts: meta.number("account_buckets")?,
                transactions: meta.number("transaction_buckets")?,
            },
            durable: meta.durable()?,
        })
    }
}

/// The tip as the check of a step compares it.
pub(crate) fn tip_word(tip: Option<BlockId>) -> String {
    tip.map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// The fields that say where the chain stands after an operation.
pub(crate) fn position_fields(position: Position, tip: Option<&Tip>) -> Vec<(&'static str, String)> {
    vec![
        ("epoch", position.epoch.to_string()),
        ("seq", position.seq.to_string()),
        ("tip", tip_word(tip.map(|tip| tip.id))),
        ("height", tip.map_or(0, |tip| tip.height).to_string()),
        ("timestamp", tip.map_or(0, |tip| tip.timestamp).to_string()),
        ("transactions", tip.map_or(0, |tip| tip.transactions_total).to_string()),
    ]
}

struct Meta<'a> {
    key: &'a str,
    fields: &'a HashMap<String, String>,
}

impl Meta<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A missing number is 0: a chain that is being cleaned has few fields.
    fn number<N: FromStr + Default>(&self, name: &str) -> Result<N, FastError> {
        let Some(text) = self.text(name) else { return Ok(N::default()) };
        text.parse().map_err(|_| self.corrupt(name, text))
    }

    fn corrupt(&self, name: &str, text: &str) -> FastError {
        FastError::Corrupt {
            key: format!("{} {name}", self.key),
            detail: format!("\"{text}\" is not a number"),
        }
    }

    fn tip(&self) -> Result<Option<Tip>, FastError> {
        let Some(text) = self.text("tip").filter(|text| *text != "none") else { return Ok(None) };
        Ok(Some(Tip {
            id: text.parse().map_err(|_| self.corrupt("tip", text))?,
            height: self.number("height")?,
            timestamp: self.number("timestamp")?,
            transactions_total: self.number("transactions")?,
        }))
    }

    fn durable(&self) -> Result<Option<Durable>, FastError> {
        let Some(text) = self.text("durable") else { return Ok(None) };
        let position = Position::parse(text).ok_or_else(|| self.corrupt("durable", text))?;
        Ok(Some(Durable { position, height: self.number("durable_height")? }))
    }
}
