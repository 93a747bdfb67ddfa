//! A set of interrupts in the order in which a GIC offers them: by priority, then by INTID. It holds
//! every INTID there is, so it cannot overflow; all its operations take constant time.

use alloc::{vec, vec::Vec};

/// Levels of priority that a list register can tell apart.
pub(crate) const LEVELS: usize = 32;

/// The level of a priority.
pub(crate) fn level(priority: u8) -> u8 {
    priority >> 3
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Bit n: level n is not empty.
    levels: u32,
    /// Per level, bit w: word w of it is not 0.
    words: [u32; LEVELS],
    /// Per word and level, a bit per INTID.
    bits: Vec<[u32; LEVELS]>,
}

impl Queue {
    pub(crate) fn new(intids: usize) -> Self {
        Self { levels: 0, words: [0; LEVELS], bits: vec![[0; LEVELS]; intids.div_ceil(32)] }
    }

    /// Bit n: level n is not empty.
    #[inline]
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    #[inline]
    pub(crate) fn insert(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level) % LEVELS, usize::from(intid / 32));
        self.bits[word][level] |= 1 << (intid % 32);
        self.words[level] |= 1 << word;
        self.levels |= 1 << level;
    }

    #[inline]
    pub(crate) fn remove(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level) % LEVELS, usize::from(intid / 32));
        let bits = &mut self.bits[word][level];
        *bits &= !(1 << (intid % 32));
        if *bits == 0 {
            self.empty(level, word);
        }
    }

    /// The best interrupt, with its level.
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

    /// Takes the best interrupt out.
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

    /// Nothing is left in a word of a level.
    #[inline]
    fn empty(&mut self, level: usize, word: usize) {
        self.words[level] &= !(1 << word);
        if self.words[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
}
