//! Why nothing could be generated.

use forebay_ledger::apply::UndoError;
use forebay_ledger::ids::Height;
use forebay_ledger::profile::ProfileError;
use forebay_ledger::refusal::Refusal;

/// Why nothing could be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Options that cannot be met.
    #[error("{0}")]
    Options(String),
    /// Options that no network profile can have.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The next block would lie in the future, where every node refuses it.
    #[error(
        "block {height} would lie in the future: the chain's slots are used up to now; make fewer blocks, skip fewer slots, \
         or start at an earlier slot"
    )]
    Future {
        /// The block's height.
        height: Height,
    },
    /// No delegate of the round has a key that the network knows.
    #[error("nobody can forge block {height}: register more delegates (standby_delegates)")]
    NoForger {
        /// The block's height.
        height: Height,
    },
    /// The block that is to be taken back is the genesis block, or older than the blocks that are kept for that.
    #[error("no block can be taken back here: keep more (undo_blocks_max), or take back fewer")]
    NothingToTakeBack,
    /// The ledger refused what was generated: a defect of the generator.
    #[error("the ledger refused the generated block {height}: {refusal}")]
    Refused {
        /// The block's height.
        height: Height,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The ledger could not take a block back: a defect of the generator.
    #[error("taking a block back: {0}")]
    Undo(#[from] UndoError),
}
