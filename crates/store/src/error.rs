//! Failures of the two tiers as one, and the one function that decides what to do about each.

use std::fmt;

use forebay_fast::{FastError, FastErrorKind};
use forebay_ledger::ids::{BlockId, Height};
use forebay_ledger::refusal::Refusal;
use forebay_slow::{ErrorKind as SlowErrorKind, SlowError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The block may not follow the tip. Nothing was changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The chain has another block at this height. Nothing was changed.
    #[error(
        "the chain has block {ours} at height {height}, not {theirs}; take blocks back first to follow another branch"
    )]
    OtherBranch {
        /// The height in question.
        height: Height,
        /// The chain's block.
        ours: BlockId,
        /// The block that was given.
        theirs: BlockId,
    },
    /// A height that cannot be gone back to, or waited for. Nothing was changed.
    #[error("{0}")]
    Request(String),
    /// A server that a chain must not be entrusted to as it is set up. Nothing was changed.
    #[error("{problem}")]
    Configuration {
        /// What is wrong with it.
        problem: String,
        /// What to change.
        remedy: String,
    },
    /// Somebody else holds the chain.
    #[error("{0}")]
    Held(String),
    /// The two tiers, or a tier and the ledger, do not agree.
    #[error("{0}")]
    Disagreement(String),
    /// An accepted operation that can never become durable as it is. Those before it are; it and all later ones wait.
    #[error("poison entry: the operation with seq {seq} ({}) cannot be brought to PostgreSQL: {cause}; it and all later ones wait", at_height(*height))]
    Poison {
        /// The operation.
        seq: u64,
        /// Its block's height, as far as it is known.
        height: Option<Height>,
        /// Why.
        cause: Box<StoreError>,
    },
    /// The guard stopped the node: the slow tier is too far behind.
    #[error("{0}")]
    TooFarBehind(String),
    /// A server was away for longer than it is waited for, in the middle of something that cannot be put off.
    #[error("{tier} was away for {waited_s} s, and nothing can go on without it: {cause}")]
    Away {
        /// Which.
        tier: Tier,
        /// For how long.
        waited_s: u64,
        /// What the last attempt failed with.
        cause: String,
    },
    /// It was asked to stop while this was waited for.
    #[error(
        "the node was asked to stop while it waited for a server; the next start knows whether this was accepted"
    )]
    Stopping,
    /// The node has stopped or is stopping.
    #[error("the node has stopped: {0}")]
    Stopped(String),
    /// A failure of the fast tier.
    #[error("{0}")]
    Fast(#[from] FastError),
    /// A failure of the slow tier.
    #[error("{0}")]
    Slow(#[from] SlowError),
}

/// One of the two tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Redis.
    Fast,
    /// PostgreSQL.
    Slow,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "Redis",
            Self::Slow => "PostgreSQL",
        })
    }
}

fn at_height(height: Option<Height>) -> String {
    height.map_or_else(|| "height unknown".to_owned(), |height| format!("height {height}"))
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Tell the caller; the node goes on.
    Refuse,
    /// The same may work in a moment.
    Retry,
    /// The same may work once somebody gave the server room: try more slowly and raise the alarm.
    RetrySlowly,
    /// It is not known whether it was done: ask the server, then decide.
    Ask,
    /// Going on could lose or damage something: stop.
    Stop,
}

/// The only place that decides between retry, stop and refuse. Pure.
#[must_use]
pub fn decide(error: &StoreError) -> Decision {
    match error {
        StoreError::Refused(Refusal::IncompleteView(_))
        | StoreError::Disagreement(_)
        | StoreError::Poison { .. }
        | StoreError::TooFarBehind(_)
        | StoreError::Configuration { .. }
        | StoreError::Held(_)
        | StoreError::Away { .. }
        | StoreError::Stopping
        | StoreError::Stopped(_) => Decision::Stop,
        StoreError::Refused(_) | StoreError::OtherBranch { .. } | StoreError::Request(_) => Decision::Refuse,
        StoreError::Fast(error) => decide_fast(error.kind()),
        StoreError::Slow(error) => decide_slow(error.kind()),
    }
}

fn decide_fast(kind: FastErrorKind) -> Decision {
    match kind {
        FastErrorKind::Unavailable | FastErrorKind::AnotherRun | FastErrorKind::Untrusted => Decision::Retry,
        FastErrorKind::OutcomeUnknown => Decision::Ask,
        FastErrorKind::OutOfMemory | FastErrorKind::Persistence => Decision::RetrySlowly,
        _ => Decision::Stop,
    }
}

fn decide_slow(kind: SlowErrorKind) -> Decision {
    match kind {
        SlowErrorKind::Unavailable | SlowErrorKind::Conflict | SlowErrorKind::Untrusted => Decision::Retry,
        SlowErrorKind::Resources => Decision::RetrySlowly,
        // The position tells whether an earlier attempt was committed, or somebody else took over.
        SlowErrorKind::OutcomeUnknown | SlowErrorKind::Fenced => Decision::Ask,
        _ => Decision::Stop,
    }
}

impl StoreError {
    /// Whether a server cannot be trusted, by its certificate. Under a running node it is waited for, as one that is away: its
    /// certificate may be about to be renewed. A start has nothing to wait for.
    pub(crate) fn is_untrusted(&self) -> bool {
        match self {
            Self::Fast(error) => error.kind() == FastErrorKind::Untrusted,
            Self::Slow(error) => error.kind() == SlowErrorKind::Untrusted,
            _ => false,
        }
    }

    /// A short, stable name for machines.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::OtherBranch { .. } => "other-branch",
            Self::Request(_) => "request",
            Self::Configuration { .. } => "configuration",
            Self::Held(_) => "held",
            Self::Disagreement(_) => "disagreement",
            Self::Poison { .. } => "poison",
            Self::TooFarBehind(_) => "too-far-behind",
            Self::Stopping | Self::Stopped(_) => "stopped",
            Self::Fast(_) | Self::Away { tier: Tier::Fast, .. } => "redis",
            Self::Slow(_) | Self::Away { tier: Tier::Slow, .. } => "postgres",
        }
    }

    /// What the operator can do, one sentence.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::Refused(Refusal::PreviousBlock { .. }) => {
                "Send the blocks before it first; to follow another branch, take blocks back with `forebay pop`."
            }
            Self::Refused(_) => {
                "The block breaks a rule of this network: check that network and genesis block are the right ones."
            }
            Self::OtherBranch { .. } => {
                "Take blocks back with `forebay pop --to-height`, then apply the other branch."
            }
            Self::Request(_) => "Nothing was changed; the message says what is possible.",
            Self::Configuration { remedy, .. } => remedy,
            Self::Held(_) => "Stop the other node first, or work beside it with the commands that only read.",
            Self::Disagreement(_) => "Run `forebay verify --deep` to find what differs.",
            Self::Poison { .. } => {
                "Nothing is lost yet. Put right what the message names, or restore the damaged server's files, and start \
                 again. To give this operation and all later ones up instead, remove the chain's keys from Redis and start: \
                 the chain goes back to PostgreSQL's last block."
            }
            Self::TooFarBehind(_) => {
                "Make PostgreSQL work again, then start the node; the message says what the next start does."
            }
            Self::Away { .. } => {
                "See why that server is away (its log, its disk), and start the node again: what was accepted is still in Redis \
                 or PostgreSQL."
            }
            Self::Stopping | Self::Stopped(_) => {
                "Start it again; what was accepted is still in Redis or PostgreSQL."
            }
            Self::Fast(error) => error.remedy(),
            Self::Slow(error) => error.remedy(),
        }
    }
}
