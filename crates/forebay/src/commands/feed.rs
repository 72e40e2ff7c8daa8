//! later
use forebay_fast::Position;
use forebay_ledger::ids::Height;
use forebay_store::Progress;

/// An operation with which everything up to a height of the chain is done: durable with it, that height is durable.
///
/// Above a height stand `tip - height` blocks, and each took at least one operation since.
pub fn position_of(progress: &Progress, height: Height) -> Position {
    let above = progress.tip.map_or(0, |tip| tip.height.saturating_sub(height));
    Position { seq: progress.position.seq.saturating_sub(u64::from(above)), ..progress.position }
}
