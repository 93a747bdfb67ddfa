//! Pages of the pool that are handed out one by one: [`Stock`].
//!
//! The pool has pieces of whole blocks. Tables of translations are single pages, so the stock takes a block when it has no page left, and names a block
//! that has all its pages again, for the pool.

use alloc::vec::Vec;
use stasis_state::PageBits;
use stasis_state::written::BLOCK_SIZE;

use crate::PAGE_SIZE;
use crate::range::Range;

/// Blocks of [`BLOCK_SIZE`] bytes, and which of their pages are free.
#[derive(Debug, Default)]
pub struct Stock {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    start: u64,
    free: PageBits,
}

/// There is no memory to note one more block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNote;

/// What became of a page that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// The stock has the page.
    Kept,
    /// The page was the last one of this block that was in use. The block is not the stock's any more.
    Whole(Range),
    /// The page is of no block of the stock's.
    Unknown,
}

impl Stock {
    /// Returns a stock without a block.
    pub const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Adds a block, none of whose pages is in use. It begins at `start`, and nobody else uses it.
    ///
    /// # Errors
    ///
    /// [`NoNote`]: the block stays the caller's.
    pub fn add(&mut self, start: u64) -> Result<(), NoNote> {
        self.blocks.try_reserve(1).map_err(|_| NoNote)?;
        self.blocks.push(Block { start, free: PageBits::ALL });
        Ok(())
    }

    /// Takes a page, and returns its address; `None` if no page is free.
    pub fn take(&mut self) -> Option<u64> {
        self.blocks.iter_mut().find_map(|block| {
            let page = block.free.pages().next()?;
            block.free.remove(page);
            Some(block.start + page as u64 * PAGE_SIZE)
        })
    }

    /// Puts a page back that was taken.
    pub fn give_back(&mut self, page: u64) -> GivenBack {
        let size = BLOCK_SIZE as u64;
        let is_of = |block: &Block| (block.start..block.start + size).contains(&page);
        let Some(index) = self.blocks.iter().position(is_of) else { return GivenBack::Unknown };
        let block = &mut self.blocks[index];
        let number = ((page - block.start) / PAGE_SIZE) as usize;
        debug_assert!(!block.free.contains(number), "{page:#x} is free already");
        block.free.insert(number);
        if block.free != PageBits::ALL {
            return GivenBack::Kept;
        }
        GivenBack::Whole(Range::new(self.blocks.swap_remove(index).start, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    const SIZE: u64 = BLOCK_SIZE as u64;

    #[test]
    fn each_page_of_each_block_is_had_once() {
        let mut stock = Stock::new();
        assert_eq!(stock.take(), None);
        [0, 6 * SIZE].into_iter().for_each(|start| stock.add(start).unwrap());
        let pages: BTreeSet<u64> = core::iter::from_fn(|| stock.take()).collect();
        let of_block = |start| (start..start + SIZE).step_by(PAGE_SIZE as usize);
        assert!(pages.into_iter().eq(of_block(0).chain(of_block(6 * SIZE))));
    }

    #[test]
    fn a_block_of_which_no_page_is_in_use_is_given_up() {
        let mut stock = Stock::new();
        [2 * SIZE, SIZE].into_iter().for_each(|start| stock.add(start).unwrap());
        let pages: Vec<u64> = core::iter::from_fn(|| stock.take()).take(513).collect();
        assert_eq!(pages[512], SIZE, "the first page of the second block");
        assert_eq!(stock.give_back(SIZE), GivenBack::Whole(Range::new(SIZE, SIZE)));
        assert_eq!(stock.give_back(SIZE), GivenBack::Unknown);
        for page in &pages[1..512] {
            assert_eq!(stock.give_back(*page), GivenBack::Kept);
        }
        assert_eq!(stock.take(), Some(pages[1]), "what was given back is had again");
        assert_eq!(stock.give_back(pages[0]), GivenBack::Kept);
        assert_eq!(stock.give_back(pages[1]), GivenBack::Whole(Range::new(2 * SIZE, SIZE)));
        assert_eq!(stock.take(), None);
    }
}
