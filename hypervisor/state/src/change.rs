//! What of a memory has changed since an earlier checkpoint of it: [`BlockChange`] by block,
//! [`PageBits`] by page.
//!
//! The owner of the memory knows it ([`ReadRam::block_change`](crate::ReadRam::block_change)), and
//! a checkpoint's writer asks: what has not changed is in the [`Baseline`] already, and is neither
//! looked at nor written again.

use core::ops::Range;

use crate::PAGE_SIZE;
use crate::written::BLOCK_SIZE;

/// Pages of a block.
pub const BLOCK_PAGES: usize = BLOCK_SIZE / PAGE_SIZE;
/// Pages that a word of [`PageBits`] has a bit for.
const WORD: usize = u64::BITS as usize;

/// The committed checkpoint that a memory's changes are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Number of the checkpoint in its store.
    pub number: u64,
    /// Identity of the checkpoint, which no other one has, whatever its number.
    pub identity: u128,
}

/// What became of a block of [`BLOCK_SIZE`] bytes since the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockChange {
    /// The block was never written: it is zeros.
    Empty,
    /// The block is what the baseline has. It must not be read: a snapshot does not keep it.
    Unchanged,
    /// These pages may differ from the baseline. All others are what the baseline has, and must not
    /// be read.
    Pages(PageBits),
}

/// Some of the pages of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageBits(pub [u64; BLOCK_PAGES / WORD]);

impl PageBits {
    /// No page.
    pub const NONE: Self = Self([0; BLOCK_PAGES / WORD]);
    /// All pages of a block.
    pub const ALL: Self = Self([u64::MAX; BLOCK_PAGES / WORD]);

    /// Returns the pages with these numbers, counted from the block's start. A block has no more
    /// than [`BLOCK_PAGES`].
    pub fn of(pages: Range<usize>) -> Self {
        let mut bits = Self::NONE;
        for (n, word) in bits.0.iter_mut().enumerate() {
            *word = below(pages.end, n) & !below(pages.start, n);
        }
        bits
    }

    /// Returns whether the page with this number is one of them.
    #[inline]
    pub fn contains(&self, page: usize) -> bool {
        self.0.get(page / WORD).is_some_and(|word| word >> (page % WORD) & 1 != 0)
    }

    /// Adds the page with this number, below [`BLOCK_PAGES`].
    #[inline]
    pub fn insert(&mut self, page: usize) {
        if let Some(word) = self.0.get_mut(page / WORD) {
            *word |= 1 << (page % WORD);
        }
    }

    /// Removes the page with this number.
    pub fn remove(&mut self, page: usize) {
        if let Some(word) = self.0.get_mut(page / WORD) {
            *word &= !(1 << (page % WORD));
        }
    }

    /// Returns whether they are all pages of a block. Looks first at the neighbours of the page
    /// with this number, below [`BLOCK_PAGES`], so that it takes a few instructions mostly.
    #[inline]
    pub fn is_all(&self, page: usize) -> bool {
        self.0.get(page / WORD) == Some(&u64::MAX) && *self == Self::ALL
    }

    /// Returns how many pages they are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the number of the first page from `page` on that is one of them, or that is not.
    fn first_from(&self, page: usize, is_one: bool) -> Option<usize> {
        let mut mask = u64::MAX << (page % WORD);
        for (n, word) in self.0.iter().enumerate().skip(page / WORD) {
            let found = if is_one { *word } else { !*word } & mask;
            if found != 0 {
                return Some(n * WORD + found.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Returns the numbers of the pages, ascending, neighbours together.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let bits = *self;
        let mut end = 0;
        core::iter::from_fn(move || {
            let start = bits.first_from(end, true)?;
            end = bits.first_from(start, false).unwrap_or(BLOCK_PAGES);
            Some(start..end)
        })
    }

    /// Returns the numbers of the pages, ascending.
    pub fn pages(&self) -> impl Iterator<Item = usize> + use<> {
        self.0.into_iter().enumerate().flat_map(|(n, mut word)| {
            core::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.checked_sub(1)?;
                Some(n * WORD + bit)
            })
        })
    }
}

/// Returns the bits of word `n` that are for pages below `end`.
fn below(end: usize, n: usize) -> u64 {
    match end.saturating_sub(n * WORD) {
        0 => 0,
        bits if bits >= WORD => u64::MAX,
        bits => (1 << bits) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn the_last_page_of_the_last_word_is_a_page() {
        assert_eq!(PageBits::ALL.pages().last(), Some(BLOCK_PAGES - 1));
        assert_eq!(PageBits::of(BLOCK_PAGES - 1..BLOCK_PAGES).0[7], 1 << 63);
        assert_eq!(PageBits::of(0..usize::MAX), PageBits::ALL);
        assert!(!PageBits::ALL.contains(BLOCK_PAGES));
    }

    proptest! {
        #[test]
        fn bits_are_those_of_the_range(start in 0..=BLOCK_PAGES, len in 0..=BLOCK_PAGES) {
            let range = start..(start + len).min(BLOCK_PAGES);
            let bits = PageBits::of(range.clone());
            prop_assert_eq!(bits.pages().collect::<Vec<_>>(), range.clone().collect::<Vec<_>>());
            prop_assert_eq!(bits.count(), range.len());
            prop_assert!(bits.runs().flatten().eq(range.clone()) && bits.runs().count() <= 1);
            let contained = (0..BLOCK_PAGES).filter(|page| bits.contains(*page));
            prop_assert_eq!(contained.collect::<Vec<_>>(), range.collect::<Vec<_>>());
        }
    }
}
