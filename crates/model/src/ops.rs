//! Operations and chains, packed into one word: a state is copied millions of times.

use std::fmt;

/// An operation of the chain: a block with a number of its own, or the newest block taken back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Op(u8);

impl Op {
    /// The newest block is taken back.
    pub const POP: Self = Self(15);
    /// Blocks have the numbers 1 to this.
    pub const BLOCKS_MAX: u8 = 14;

    /// The block with this number.
    #[must_use]
    pub fn block(number: u8) -> Self {
        Self(number.clamp(1, Self::BLOCKS_MAX))
    }

    /// Its number; `None` for a pop.
    #[must_use]
    pub fn number(self) -> Option<u8> {
        (self != Self::POP).then_some(self.0)
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "b{number}"),
            None => f.write_str("pop"),
        }
    }
}

/// A list of at most eight operations (or, as a chain, of blocks), oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ops(u32);

impl Ops {
    /// Nothing.
    pub const EMPTY: Self = Self(0);
    /// What fits.
    pub const LENGTH_MAX: u8 = 8;

    /// How many.
    #[must_use]
    pub fn len(self) -> u8 {
        u8::try_from((32 - self.0.leading_zeros()).div_ceil(4)).unwrap_or(Self::LENGTH_MAX)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The operation at an index, from 0.
    #[must_use]
    pub fn get(self, index: u8) -> Option<Op> {
        (index < self.len()).then(|| Op(nibble(self.0 >> (4 * u32::from(index)))))
    }

    /// The newest.
    #[must_use]
    pub fn last(self) -> Option<Op> {
        self.get(self.len().checked_sub(1)?)
    }

    /// With one more; unchanged if full (bounds are chosen so that this never happens).
    #[must_use]
    pub fn with(self, op: Op) -> Self {
        let length = self.len();
        if length >= Self::LENGTH_MAX {
            self
        } else {
            Self(self.0 | u32::from(op.0) << (4 * u32::from(length)))
        }
    }

    /// With all of another list behind.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        others.iter().fold(self, Self::with)
    }

    /// The oldest few.
    #[must_use]
    pub fn first(self, count: u8) -> Self {
        if count >= Self::LENGTH_MAX { self } else { Self(self.0 & ((1 << (4 * u32::from(count))) - 1)) }
    }

    /// Without the oldest few.
    #[must_use]
    pub fn skip(self, count: u8) -> Self {
        if count >= Self::LENGTH_MAX { Self::EMPTY } else { Self(self.0 >> (4 * u32::from(count))) }
    }

    /// Oldest first.
    pub fn iter(self) -> impl Iterator<Item = Op> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// This chain after an operation; `None`: there is no block to take back (the genesis block stays, and is not in it).
    #[must_use]
    pub fn after(self, op: Op) -> Option<Self> {
        match op.number() {
            Some(_) => Some(self.with(op)),
            None => Some(self.first(self.len().checked_sub(1)?)),
        }
    }

    /// The chain that these operations lead to from the genesis block.
    #[must_use]
    pub fn chain(self) -> Option<Self> {
        self.iter().try_fold(Self::EMPTY, Self::after)
    }
}

fn nibble(word: u32) -> u8 {
    u8::try_from(word & 15).unwrap_or_default()
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_are_cut_at_both_ends() {
        let ops = (1..=8).fold(Ops::EMPTY, |ops, number| ops.with(Op::block(number)));
        assert_eq!(
            (ops.len(), ops.get(0), ops.get(7), ops.get(8)),
            (8, Some(Op::block(1)), Some(Op::block(8)), None)
        );
        assert_eq!(ops.first(2).and(ops.skip(2)), ops);
        assert_eq!((ops.skip(7).last(), ops.skip(8)), (Some(Op::block(8)), Ops::EMPTY));
    }

    #[test]
    fn a_chain_is_the_fold_of_its_operations() {
        let ops = Ops::EMPTY.with(Op::block(1)).with(Op::block(2)).with(Op::POP).with(Op::block(3));
        assert_eq!(ops.chain(), Some(Ops::EMPTY.with(Op::block(1)).with(Op::block(3))));
        assert_eq!(Ops::EMPTY.with(Op::POP).chain(), None);
    }
}
