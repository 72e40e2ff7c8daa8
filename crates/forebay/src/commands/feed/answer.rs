//! What a feed answers: one line for each line that it took.

use forebay_fast::Position;
use forebay_ledger::ids::{BlockId, Height};
use forebay_store::{Profile, StoreError};
use serde::Serialize;

/// One answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Done.
    Accepted(Accepted),
    /// Not done, and nothing was changed.
    Error {
        /// Why.
        error: AnsweredError,
    },
}

/// An operation that was done.
#[derive(Debug, Serialize)]
pub struct Accepted {
    /// The block that was applied or awaited, or the tip that a pop left; decimal text.
    id: String,
    /// Its height.
    height: Height,
    /// Who accepted it.
    epoch: u64,
    /// The operation's number.
    seq: u64,
    /// Always true here: it is applied in Redis.
    accepted: bool,
    /// What the acceptance survives: `durable` or `volatile`.
    profile: &'static str,
    /// PostgreSQL has it.
    durable: bool,
    /// The chain had this block already, and nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    known: bool,
}

/// Why something was not done.
#[derive(Debug, Serialize)]
pub struct AnsweredError {
    /// A short, stable name.
    kind: &'static str,
    /// For people.
    message: String,
    /// What to do.
    remedy: String,
}

impl Answer {
    /// Done.
    pub fn accepted(
        id: BlockId,
        height: Height,
        position: Position,
        profile: Profile,
        durable: bool,
        known: bool,
    ) -> Self {
        let Position { epoch, seq } = position;
        Self::Accepted(Accepted {
            id: id.to_string(),
            height,
            epoch,
            seq,
            accepted: true,
            profile: profile.name(),
            durable,
            known,
        })
    }

    /// Not done.
    pub fn error(kind: &'static str, message: impl ToString, remedy: &str) -> Self {
        Self::Error { error: AnsweredError { kind, message: message.to_string(), remedy: remedy.to_owned() } }
    }

    /// One line, with its end.
    pub fn line(&self) -> Vec<u8> {
        // Texts and numbers always become JSON.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl From<&StoreError> for Answer {
    fn from(error: &StoreError) -> Self {
        Self::error(error.kind(), error, error.remedy())
    }
}
