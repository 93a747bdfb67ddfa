//! A set of interrupts in the order in which a GIC offers them: by priority, then by INTID. It holds
//! every INTID there is, so it cannot overflow; all its operations take constant time.

use alloc::{vec, vec::Vec};

/// Levels of priority that a list register can tell apart.
const LEVELS: usize = 32;

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

    pub(crate) fn is_empty(&self) -> bool {
        self.levels == 0
    }

    pub(crate) fn insert(&mut self, level: u8, intid: u16) {
        let (level, word) = (usize::from(level), usize::from(intid / 32));
        self.bits[level * self.words_per_level + word] |= 1 << (intid % 32);
        self.words[level] |= 1 << word;
        self.levels |= 1 << level;
    }

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

    /// The best interrupt, with its level.
    pub(crate) fn first(&self) -> Option<(u8, u16)> {
        self.first_from(0, 0)
    }

    /// All of them, best first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, u16)> {
        let mut next = self.first();
        core::iter::from_fn(move || {
            let (level, intid) = next?;
            next = self.first_from(level, intid + 1);
            Some((level, intid))
        })
    }

    /// The best that is not before INTID `from` of `level`.
    fn first_from(&self, level: u8, from: u16) -> Option<(u8, u16)> {
        let here = self.first_in_level(level, from).map(|intid| (level, intid));
        here.or_else(|| {
            let worse = u64::from(self.levels) & (u64::MAX << (level + 1));
            let level = worse.trailing_zeros() as u8;
            (worse != 0)
                .then(|| self.first_in_level(level, 0))
                .flatten()
                .map(|intid| (level, intid))
        })
    }

    fn first_in_level(&self, level: u8, from: u16) -> Option<u16> {
        let level = usize::from(level);
        let row = &self.bits[level * self.words_per_level..][..self.words_per_level];
        let first_word = usize::from(from / 32);
        let first = row.get(first_word)? & (u32::MAX << (from % 32));
        let (word, bits) = if first != 0 {
            (first_word, first)
        } else {
            let words = u64::from(self.words[level]) & (u64::MAX << (first_word + 1));
            let word = words.trailing_zeros() as usize;
            (word, *row.get(word)?)
        };
        Some((word * 32) as u16 + bits.trailing_zeros() as u16)
    }
}
