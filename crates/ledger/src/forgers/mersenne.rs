//! The Mersenne Twister MT19937 (Matsumoto and Nishimura, 2002): the second generation's list draws with it.

/// Words of state.
const WORDS: usize = 624;
/// How far ahead the word is that a new word is mixed with.
const SHIFT: usize = 397;

/// A generator of 32-bit numbers, the same on every platform.
#[derive(Debug, Clone)]
pub struct MersenneTwister {
    /// The newest 624 words of the sequence, as a ring.
    words: [u32; WORDS],
    /// Where the oldest of them is: the one that the next word replaces.
    oldest: usize,
}

impl MersenneTwister {
    /// Seeded with a list of words: the reference's `init_by_array`.
    #[must_use]
    pub fn from_words(key: &[u32]) -> Self {
        let mut twister = Self::from_word(19_650_218);
        let mut i = 1;
        let entries =
            key.iter().zip(0u32..).cycle().take(if key.is_empty() { 0 } else { WORDS.max(key.len()) });
        for (word, index) in entries {
            let mixed = twister.at(i) ^ twister.scrambled_before(i).wrapping_mul(1_664_525);
            twister.set(i, mixed.wrapping_add(*word).wrapping_add(index));
            i = twister.step(i);
        }
        for _ in 1..WORDS {
            let mixed = twister.at(i) ^ twister.scrambled_before(i).wrapping_mul(1_566_083_941);
            // Below 624: the cast keeps it.
            twister.set(i, mixed.wrapping_sub(i as u32));
            i = twister.step(i);
        }
        twister.set(0, 0x8000_0000);
        twister
    }

    /// Seeded with one word: the reference's `init_genrand`.
    fn from_word(seed: u32) -> Self {
        let mut words = [0; WORDS];
        let mut previous = seed;
        for (word, index) in words.iter_mut().zip(0u32..) {
            if index > 0 {
                previous = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
            }
            *word = previous;
        }
        Self { words, oldest: 0 }
    }

    /// The next number: the reference's `genrand_int32`.
    pub fn next_u32(&mut self) -> u32 {
        let i = self.oldest;
        let joined = (self.at(i) & 0x8000_0000) | (self.at(i + 1) & 0x7fff_ffff);
        let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
        let word = self.at(i + SHIFT) ^ (joined >> 1) ^ twist;
        self.set(i, word);
        self.oldest = (i + 1) % WORDS;
        temper(word)
    }

    /// While seeding, the walk over the words repeats the last word at the place of the first.
    fn step(&mut self, i: usize) -> usize {
        if i + 1 < WORDS {
            return i + 1;
        }
        self.set(0, self.at(WORDS - 1));
        1
    }

    fn scrambled_before(&self, i: usize) -> u32 {
        let before = self.at(i + WORDS - 1);
        before ^ (before >> 30)
    }

    fn at(&self, i: usize) -> u32 {
        // The remainder is always inside the ring; the default is never taken.
        self.words.get(i % WORDS).copied().unwrap_or_default()
    }

    fn set(&mut self, i: usize, value: u32) {
        if let Some(word) = self.words.get_mut(i % WORDS) {
            *word = value;
        }
    }
}

fn temper(mut word: u32) -> u32 {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c_5680;
    word ^= (word << 15) & 0xefc6_0000;
    word ^ (word >> 18)
}
