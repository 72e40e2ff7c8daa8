//! Cutting a batch into segments: runs of blocks that end at the latest with their round.

use forebay_ledger::ids::Height;

/// Whether a segment must end with the block: it closes a round, or is the genesis block.
pub(crate) fn ends_segment(height: Height, delegates_per_round: u32) -> bool {
    height == 1 || height.is_multiple_of(delegates_per_round.max(1))
}

/// The ranges to delete, newest first, so that every block above `to_height` up to `tip` goes and no range crosses the
/// end of a round.
pub(crate) fn ranges_back(tip: Height, to_height: Height, delegates_per_round: u32) -> Vec<(Height, Height)> {
    let mut ranges = Vec::new();
    let mut last = tip;
    while last > to_height {
        let round_start = (last - 1) / delegates_per_round.max(1) * delegates_per_round.max(1) + 1;
        // The genesis block is a segment of its own.
        let round_start = if round_start == 1 && last > 1 { 2 } else { round_start };
        let first = round_start.max(to_height + 1);
        ranges.push((first, last));
        last = first - 1;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::ranges_back;

    #[test]
    fn a_take_back_never_crosses_a_round_end() {
        assert_eq!(ranges_back(205, 99, 101), [(203, 205), (102, 202), (100, 101)]);
        assert_eq!(ranges_back(202, 201, 101), [(202, 202)]);
        assert_eq!(ranges_back(101, 1, 101), [(2, 101)]);
        assert_eq!(ranges_back(50, 50, 101), []);
    }
}
