//! A block as `/api/blocks/get` answers it, written once. All of it belongs to the block's body but the confirmations, which
//! grow with the tip: those are left open, and put in for each answer.

use forebay_ledger::ids::Height;

use super::BlockTag;
use super::block::Block;
use super::transaction::Single;
use crate::answer::SUCCESS;
use crate::tiers::{Chain, NumberedBlock};

/// What stands in front of the block.
const FIELD: &[u8] = b",\"block\":";
/// What a block without transactions ends with, and what closes it after some.
const NO_TRANSACTIONS: &[u8] = b"[]}";
/// What a transaction at height 0 ends with, while the tip is below it.
const NO_CONFIRMATIONS: &[u8] = b",\"confirmations\":0}";

/// A body with gaps.
#[derive(Debug, PartialEq, Eq)]
pub struct WrittenBlock {
    height: Height,
    tag: BlockTag,
    text: Box<[u8]>,
    /// Where in the text a transaction's confirmations belong, ascending.
    gaps: Box<[usize]>,
}

impl WrittenBlock {
    /// Writes a block. `None`: it cannot be JSON, which does not happen to texts and numbers.
    pub fn of(found: &NumberedBlock, chain: &Chain) -> Option<Self> {
        let block = &found.block;
        let mut text = Vec::with_capacity(1024 + block.transactions.len() * 768);
        text.extend(SUCCESS);
        text.extend(FIELD);
        serde_json::to_writer(&mut text, &Block::<Single>::without_transactions(block)).ok()?;
        let list_at = text.len().checked_sub(NO_TRANSACTIONS.len())?;
        if !text.ends_with(NO_TRANSACTIONS) {
            return None;
        }
        text.truncate(list_at + 1);
        let mut gaps = Vec::with_capacity(block.transactions.len());
        for (one, row_id) in block.transactions.iter().zip(found.transactions_before + 1..) {
            if !gaps.is_empty() {
                text.push(b',');
            }
            // At no tip nothing is confirmed.
            let shown = Single::in_block(one, block.height, block.id, row_id, 0, chain);
            serde_json::to_writer(&mut text, &shown).ok()?;
            if !text.ends_with(NO_CONFIRMATIONS) {
                return None;
            }
            text.truncate(text.len() - 2);
            gaps.push(text.len());
            text.push(b'}');
        }
        text.extend(b"]}}");
        Some(Self { height: block.height, tag: BlockTag::of(block), text: text.into(), gaps: gaps.into() })
    }

    /// Tells it from others.
    pub fn tag(&self) -> BlockTag {
        self.tag
    }

    /// The block's height.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.gaps)
    }

    /// The whole body at a tip of this height.
    pub fn at_tip(&self, tip: Height) -> Vec<u8> {
        let confirmations = super::transaction::confirmations(self.height, tip).to_string();
        let mut body = Vec::with_capacity(self.text.len() + self.gaps.len() * confirmations.len());
        let mut written = 0;
        for gap in &self.gaps {
            body.extend(self.text.get(written..*gap).unwrap_or_default());
            body.extend(confirmations.as_bytes());
            written = *gap;
        }
        body.extend(self.text.get(written..).unwrap_or_default());
        body
    }
}

#[cfg(test)]
mod tests {
    use forebay_ledger::ids::BlockId;

    use super::*;

    #[test]
    fn confirmations_are_put_where_they_belong() {
        let text = br#"[{"a":},{"a":}]"#.to_vec().into();
        let tag = BlockTag { id: BlockId(1), signatures: None };
        let block = WrittenBlock { height: 10, tag, text, gaps: [6, 13].into() };
        assert_eq!(block.at_tip(10), br#"[{"a":1},{"a":1}]"#);
        assert_eq!(block.at_tip(1009), br#"[{"a":1000},{"a":1000}]"#);
        // The tip went back below it: never shown, and nothing to fall over.
        assert_eq!(block.at_tip(3), br#"[{"a":0},{"a":0}]"#);
    }
}
