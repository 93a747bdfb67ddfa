//! [`Written`]: which parts of a guest's RAM may hold anything but zeros.
//!
//! A guest's RAM is all zeros at first. Whoever records what is written from then on knows most of
//! the zero pages without reading them.

use alloc::{collections::TryReserveError, vec::Vec};
use core::ops::Range;

/// Bytes of a block: what one entry of a level 2 translation table maps. A block counts as written
/// as soon as one of its bytes is.
pub const BLOCK_SIZE: usize = 2 << 20;

/// The blocks of a guest's RAM that may hold anything but zeros. Addresses are offsets from the
/// start of RAM, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    blocks: Vec<bool>,
}

impl Written {
    /// Returns the record of `len` bytes of RAM, none of which was written. The record takes a byte
    /// of the heap for each block.
    ///
    /// # Errors
    ///
    /// [`TryReserveError`] if the heap does not have them.
    pub fn nowhere(len: usize) -> Result<Self, TryReserveError> {
        let count = len.div_ceil(BLOCK_SIZE);
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(count)?;
        blocks.resize(count, false);
        Ok(Self { blocks })
    }

    /// Makes it the record of RAM each byte of which may have been written.
    pub fn mark_all(&mut self) {
        self.blocks.fill(true);
    }

    /// Makes it the record of RAM of which nothing was written.
    pub fn clear(&mut self) {
        self.blocks.fill(false);
    }

    /// Makes it what `other` is, a record of as much RAM. Takes nothing of the heap.
    ///
    /// # Panics
    ///
    /// If the other is one of more or less RAM.
    pub fn copy_from(&mut self, other: &Self) {
        self.blocks.copy_from_slice(&other.blocks);
    }

    /// Marks bytes as written. Ignores bytes that lie outside the RAM.
    pub fn mark(&mut self, bytes: Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let last = (bytes.end - 1) / BLOCK_SIZE;
        let count = last + 1 - bytes.start / BLOCK_SIZE;
        let touched = self.blocks.iter_mut().skip(bytes.start / BLOCK_SIZE).take(count);
        touched.for_each(|block| *block = true);
    }

    /// Returns whether the byte at `offset` may have been written.
    pub fn contains(&self, offset: usize) -> bool {
        self.blocks.get(offset / BLOCK_SIZE).is_some_and(|block| *block)
    }

    /// Returns the offset of the first byte from `offset` on that may have been written; `None` if
    /// there is none.
    pub fn next(&self, offset: usize) -> Option<usize> {
        let first = offset / BLOCK_SIZE;
        let skipped = self.blocks.get(first..)?.iter().position(|block| *block)?;
        Some(offset.max((first + skipped) * BLOCK_SIZE))
    }

    /// Returns the offsets of the blocks that may have been written, in ascending order.
    pub fn blocks(&self) -> impl Iterator<Item = usize> {
        let written = self.blocks.iter().enumerate().filter(|(_, block)| **block);
        written.map(|(number, _)| number * BLOCK_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 3 * BLOCK_SIZE;

    fn marked(bytes: Range<usize>) -> Vec<usize> {
        let mut written = Written::nowhere(SIZE).unwrap();
        written.mark(bytes);
        written.blocks().collect()
    }

    #[test]
    fn a_byte_counts_for_its_block() {
        assert_eq!(marked(0..1), [0]);
        assert_eq!(marked(BLOCK_SIZE - 1..BLOCK_SIZE + 1), [0, BLOCK_SIZE]);
        assert_eq!(marked(BLOCK_SIZE..2 * BLOCK_SIZE), [BLOCK_SIZE]);
        assert_eq!(marked(0..SIZE).len(), 3);
    }

    #[test]
    fn the_next_byte_is_in_a_block_that_was_written() {
        let mut written = Written::nowhere(SIZE).unwrap();
        written.mark(BLOCK_SIZE..BLOCK_SIZE + 1);
        assert_eq!(written.next(0), Some(BLOCK_SIZE));
        assert_eq!(written.next(BLOCK_SIZE + 5), Some(BLOCK_SIZE + 5));
        assert_eq!(written.next(2 * BLOCK_SIZE), None);
        assert_eq!(written.next(SIZE), None);
    }

    #[test]
    fn nothing_and_what_is_no_ram_count_for_none() {
        assert_eq!(marked(5..5), [0; 0]);
        assert_eq!(marked(SIZE..SIZE + 1), [0; 0]);
        assert_eq!(marked(SIZE - 1..usize::MAX), [2 * BLOCK_SIZE]);
    }

    #[test]
    fn what_is_no_whole_number_of_blocks_ends_with_one() {
        let mut written = Written::nowhere(BLOCK_SIZE + 4096).unwrap();
        written.mark(BLOCK_SIZE + 4095..BLOCK_SIZE + 4096);
        assert!(written.contains(BLOCK_SIZE) && !written.contains(BLOCK_SIZE - 1));
        let mut copy = Written::nowhere(BLOCK_SIZE + 4096).unwrap();
        copy.copy_from(&written);
        assert_eq!(copy, written);
        copy.mark_all();
        assert!(copy.contains(0) && copy.contains(BLOCK_SIZE));
        copy.clear();
        assert_eq!(copy.next(0), None);
    }
}
