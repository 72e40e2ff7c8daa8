//! Blocks and their bytes (RULES 1).

use sha2::{Digest, Sha256};

use crate::ids::{BlockId, Height, short_hash};
use crate::keys::{Hash, PublicKey, Signature};
use crate::transaction::Transaction;

/// A block with its transactions in order. The `id` is computed from the bytes, except for a genesis block, whose id is
/// given. The `height` follows from `previous_block`; it is not part of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What identifies it.
    pub id: BlockId,
    /// Its position in the chain.
    pub height: Height,
    /// 0 on all known networks.
    pub version: i32,
    /// Seconds since the network's epoch.
    pub timestamp: u32,
    /// The block before; `None` in a genesis block.
    pub previous_block: Option<BlockId>,
    /// As the header says; a block whose list differs is refused.
    pub number_of_transactions: u32,
    /// As the header says, units of 10^-8.
    pub total_amount: i64,
    /// As the header says, units of 10^-8.
    pub total_fee: i64,
    /// What the generator gets at the round's end, units of 10^-8.
    pub reward: i64,
    /// As the header says, bytes. Not checked by the reference node against the real length.
    pub payload_length: u32,
    /// sha256 of all transactions' bytes.
    pub payload_hash: Hash,
    /// Who forged it.
    pub generator_public_key: PublicKey,
    /// The generator's signature.
    pub block_signature: Signature,
    /// In the block's order.
    pub transactions: Vec<Transaction>,
}

impl Block {
    /// All header bytes, the signature included: what the id covers.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes_without_signature();
        bytes.extend(self.block_signature.0);
        bytes
    }

    /// The id that belongs to the bytes.
    #[must_use]
    pub fn computed_id(&self) -> BlockId {
        BlockId(short_hash(&self.to_bytes()))
    }

    /// What the generator signs: sha256 of the bytes without the signature.
    #[must_use]
    pub fn signature_hash(&self) -> Hash {
        Hash(Sha256::digest(self.bytes_without_signature()).into())
    }

    fn bytes_without_signature(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(176);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.timestamp.to_le_bytes());
        bytes.extend(self.previous_block.map_or(0, |id| id.0).to_be_bytes());
        bytes.extend(self.number_of_transactions.to_le_bytes());
        bytes.extend(self.total_amount.to_le_bytes());
        bytes.extend(self.total_fee.to_le_bytes());
        bytes.extend(self.reward.to_le_bytes());
        bytes.extend(self.payload_length.to_le_bytes());
        bytes.extend(self.payload_hash.0);
        bytes.extend(self.generator_public_key.0);
        bytes
    }
}

/// The payload's sha256 and its length in bytes, over the transactions' bytes in order.
#[must_use]
pub fn payload(transactions: &[Transaction]) -> (Hash, usize) {
    let mut hasher = Sha256::new();
    let mut length = 0;
    for transaction in transactions {
        let bytes = transaction.to_bytes();
        length += bytes.len();
        hasher.update(&bytes);
    }
    (Hash(hasher.finalize().into()), length)
}
