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
    /// Per level, a bit per INTID.
    bits: Vec<u32>,
    words_per_level: usize,
}

impl Queue {
    pub(crate) fn new(intids: usize) -> Self {
        let words_per_level = intids.div_ceil(32);
        Self {
            levels: 0,
            words: [0; LEVELS],
            bits: vec![0; LEVELS * words_per_level],
            words_per_level,
        }
    }

    /// Bit n: level n is not empty.
    #[inline]
    pub(crate) fn levels(&self) -> u32 {
        self.levels
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.levels == 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level), usize::from(intid / 32));
        self.bits[level * self.words_per_level + word] |= 1 << (intid % 32);
        self.words[level] |= 1 << word;
        self.levels |= 1 << level;
    }

    #[inline]
    pub(crate) fn remove(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level), usize::from(intid / 32));
        let bits = &mut self.bits[level * self.words_per_level + word];
        *bits &= !(1 << (intid % 32));
        if *bits == 0 {
            self.words[level] &= !(1 << word);
            if self.words[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }

    /// The level of the best interrupt; [`LEVELS`] if there is none.
    #[inline]
    pub(crate) fn best_level(&self) -> u32 {
        self.levels.trailing_zeros()
    }

    /// The best interrupt, with its level.
    #[inline]
    pub(crate) fn first(&self) -> Option<(u8, u16)> {
        if self.is_empty() {
            return None;
        }
        let level = self.best_level() as usize;
        let word = self.words.get(level)?.trailing_zeros() as usize;
        let bits = self.bits.get(level * self.words_per_level + word)?;
        Some((level as u8, (word * 32) as u16 + bits.trailing_zeros() as u16))
    }

    /// Takes the best interrupt out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u8, u16)> {
        let (level, intid) = self.first()?;
        self.remove(level, intid);
        Some((level, intid))
    }
}
