//! What tells answers about blocks apart, for caches.

use std::fmt;

use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, short_hash};

/// A block's id, and a checksum of the signatures of groups in it: those the id does not cover, so the block may come again
/// with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTag {
    pub(super) id: BlockId,
    pub(super) signatures: Option<u64>,
}

impl BlockTag {
    /// The same from either tier.
    pub fn of(block: &Block) -> Self {
        let signatures: Vec<u8> = block
            .transactions
            .iter()
            .flat_map(|transaction| {
                // Whose they are is a part of it.
                let id = (!transaction.signatures.is_empty()).then_some(transaction.id.0.to_be_bytes());
                let signatures = transaction.signatures.iter().flat_map(|signature| signature.0);
                id.into_iter().flatten().chain(signatures)
            })
            .collect();
        let signatures = (!signatures.is_empty()).then(|| short_hash(&signatures));
        Self { id: block.id, signatures }
    }

    /// Whether the id says all of it.
    pub fn is_id_alone(self) -> bool {
        self.signatures.is_none()
    }
}

impl fmt::Display for BlockTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.signatures.map_or(Ok(()), |signatures| write!(f, "-{signatures:016x}"))
    }
}
