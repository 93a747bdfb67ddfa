//! A set of interrupts in the order in which a GIC offers them: by priority, then by INTID. It
//! holds every INTID there is, so it cannot overflow; all its operations take constant time.

use alloc::{vec, vec::Vec};

/// Levels of priority that a list register can tell apart.
pub(crate) const LEVELS: usize = 32;

/// Returns the level of a priority: the better, the lower.
pub(crate) fn level(priority: u8) -> u8 {
    priority >> 3
}

/// A set of interrupts, in the order in which a GIC offers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// The levels that are not empty: bit n is level n.
    levels: u32,
    /// For each level, its words that are not 0: bit n is word n.
    words: [u32; LEVELS],
    /// For each word and level, a bit for each INTID.
    bits: Vec<[u32; LEVELS]>,
}

impl Queue {
    /// Returns an empty set that has room for INTIDs below `intids`.
    pub(crate) fn new(intids: usize) -> Self {
        Self { levels: 0, words: [0; LEVELS], bits: vec![[0; LEVELS]; intids.div_ceil(32)] }
    }

    /// Returns the levels that are not empty: bit n is level n.
    #[inline]
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    /// Puts an interrupt in, at `level`.
    #[inline]
    pub(crate) fn insert(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level) % LEVELS, usize::from(intid / 32));
        self.bits[word][level] |= 1 << (intid % 32);
        self.words[level] |= 1 << word;
        self.levels |= 1 << level;
    }

    /// Takes an interrupt out that is in at `level`, if it is.
    #[inline]
    pub(crate) fn remove(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level) % LEVELS, usize::from(intid / 32));
        let bits = &mut self.bits[word][level];
        *bits &= !(1 << (intid % 32));
        if *bits == 0 {
            self.empty(level, word);
        }
    }

    /// Returns the best interrupt, with its level.
    #[inline]
    pub(crate) fn first(&self) -> Option<(u8, u16)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let word = self.words[level].trailing_zeros() as usize;
        let bits = self.bits.get(word)?[level];
        Some((level as u8, (word * 32) as u16 + bits.trailing_zeros() as u16))
    }

    /// Takes the best interrupt out, and returns it with its level.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u8, u16)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let word = self.words[level].trailing_zeros() as usize;
        let bits = &mut self.bits.get_mut(word)?[level];
        let bit = bits.trailing_zeros();
        *bits &= bits.wrapping_sub(1);
        if *bits == 0 {
            self.empty(level, word);
        }
        Some((level as u8, (word * 32) as u16 + bit as u16))
    }

    /// Notes that nothing is left in a word of a level.
    #[inline]
    fn empty(&mut self, level: usize, word: usize) {
        self.words[level] &= !(1 << word);
        if self.words[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}
