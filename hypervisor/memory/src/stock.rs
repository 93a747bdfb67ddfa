//! Pages of the pool that are handed out one by one: [`Stock`].
//!
//! The pool has pieces of whole blocks. Tables of translations, and the frames that guests' pages
//! are copied to, are single pages. So the stock takes a block when it has no page left, and names
//! a block that has all its pages again, for the pool. A page may have several users, and is free
//! when the last one has given it back.

use alloc::vec::Vec;
use stasis_state::PageBits;
use stasis_state::change::BLOCK_PAGES;
use stasis_state::written::BLOCK_SIZE;

use crate::PAGE_SIZE;
use crate::range::Range;

/// Most blocks that the stock has: their notes take 600 bytes each of the hypervisor's own memory.
pub const MAX_BLOCKS: usize = 2048;

/// Blocks of [`BLOCK_SIZE`] bytes, and who uses which of their pages.
#[derive(Debug, Default)]
pub struct Stock {
    /// The blocks, by address.
    blocks: Vec<Block>,
    /// All blocks before this one have no free page.
    first: usize,
}

#[derive(Debug)]
struct Block {
    start: u64,
    free: PageBits,
    /// How many users each page has besides the first one.
    others: Vec<u8>,
}

/// There is no memory to note one more block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNote;

/// A page has as many users as can be counted, or is not the stock's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShared;

/// What became of a page that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// The page has other users.
    Used,
    /// The stock has the page.
    Kept,
    /// The page was the last one of this block that was in use. The block is not the stock's any
    /// more.
    Whole(Range),
    /// The page is of no block of the stock's.
    Unknown,
}

impl Block {
    /// Returns the number in the block of the page at an address.
    fn number(&self, page: u64) -> usize {
        ((page - self.start) / PAGE_SIZE) as usize
    }
}

impl Stock {
    /// Returns a stock without a block.
    pub const fn new() -> Self {
        Self { blocks: Vec::new(), first: 0 }
    }

    /// Adds a block, none of whose pages is in use. It begins at `start`, and nobody else uses it.
    ///
    /// # Errors
    ///
    /// [`NoNote`]: the block stays the caller's.
    pub fn add(&mut self, start: u64) -> Result<(), NoNote> {
        if self.blocks.len() == MAX_BLOCKS {
            return Err(NoNote);
        }
        let mut others = Vec::new();
        others.try_reserve_exact(BLOCK_PAGES).map_err(|_| NoNote)?;
        others.resize(BLOCK_PAGES, 0);
        self.blocks.try_reserve(1).map_err(|_| NoNote)?;
        let place = self.blocks.partition_point(|block| block.start < start);
        self.blocks.insert(place, Block { start, free: PageBits::ALL, others });
        self.first = self.first.min(place);
        Ok(())
    }

    /// Takes a page, which has one user then, and returns its address; `None` if no page is free.
    pub fn take(&mut self) -> Option<u64> {
        while let Some(block) = self.blocks.get_mut(self.first) {
            if let Some(page) = block.free.pages().next() {
                block.free.remove(page);
                return Some(block.start + page as u64 * PAGE_SIZE);
            }
            self.first += 1;
        }
        None
    }

    /// Returns how many pages can be taken before the next block is added.
    pub fn free_pages(&self) -> usize {
        self.blocks[self.first.min(self.blocks.len())..].iter().map(|one| one.free.count()).sum()
    }

    /// Returns the index of the block that a page is in.
    fn index(&self, page: u64) -> Option<usize> {
        let index = self.blocks.partition_point(|block| block.start <= page).checked_sub(1)?;
        (page - self.blocks[index].start < BLOCK_SIZE as u64).then_some(index)
    }

    /// Notes one more user of a page that was taken.
    ///
    /// # Errors
    ///
    /// [`NotShared`]: the page has 256 users, or is no page of the stock's that was taken.
    pub fn share(&mut self, page: u64) -> Result<(), NotShared> {
        let block = self.index(page).map(|index| &mut self.blocks[index]).ok_or(NotShared)?;
        let number = block.number(page);
        let others = block.others[number].checked_add(1).filter(|_| !block.free.contains(number));
        block.others[number] = others.ok_or(NotShared)?;
        Ok(())
    }

    /// Returns whether a page has more than one user.
    pub fn is_shared(&self, page: u64) -> bool {
        self.index(page).is_some_and(|index| {
            let block = &self.blocks[index];
            block.others[block.number(page)] > 0
        })
    }

    /// Takes a page back from one of its users.
    pub fn give_back(&mut self, page: u64) -> GivenBack {
        let Some(index) = self.index(page) else { return GivenBack::Unknown };
        let block = &mut self.blocks[index];
        let number = block.number(page);
        debug_assert!(!block.free.contains(number), "{page:#x} is free already");
        if let Some(fewer) = block.others[number].checked_sub(1) {
            block.others[number] = fewer;
            return GivenBack::Used;
        }
        block.free.insert(number);
        self.first = self.first.min(index);
        if block.free != PageBits::ALL {
            return GivenBack::Kept;
        }
        GivenBack::Whole(Range::new(self.blocks.remove(index).start, BLOCK_SIZE as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
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
        [3 * SIZE, SIZE].into_iter().for_each(|start| stock.add(start).unwrap());
        let pages: Vec<u64> = core::iter::from_fn(|| stock.take()).take(513).collect();
        assert_eq!(pages[512], 3 * SIZE, "the first page of the second block");
        assert_eq!(stock.give_back(3 * SIZE), GivenBack::Whole(Range::new(3 * SIZE, SIZE)));
        assert_eq!(stock.give_back(3 * SIZE), GivenBack::Unknown);
        for page in &pages[1..512] {
            assert_eq!(stock.give_back(*page), GivenBack::Kept);
        }
        assert_eq!(stock.take(), Some(pages[1]), "what was given back is had again");
        assert_eq!(stock.give_back(pages[0]), GivenBack::Kept);
        assert_eq!(stock.give_back(pages[1]), GivenBack::Whole(Range::new(SIZE, SIZE)));
        assert_eq!(stock.take(), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Add(u64),
        Take,
        /// Shares the page with this number among those that are in use, or gives it back.
        Share(usize),
        GiveBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0u64..4).prop_map(Step::Add),
            6 => Just(Step::Take),
            3 => any::<usize>().prop_map(Step::Share),
            6 => any::<usize>().prop_map(Step::GiveBack),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

        #[test]
        fn a_page_is_free_when_each_of_its_users_has_given_it_back(
            steps in proptest::collection::vec(step(), 0..200)
        ) {
            let (mut stock, mut blocks) = (Stock::new(), BTreeSet::new());
            let mut users: BTreeMap<u64, usize> = BTreeMap::new();
            for step in steps {
                let nth = |n: usize| users.keys().nth(n % users.len().max(1)).copied();
                match step {
                    Step::Add(n) if blocks.insert(n * SIZE) => stock.add(n * SIZE).unwrap(),
                    Step::Add(_) => {}
                    Step::Take => match stock.take() {
                        Some(page) => prop_assert_eq!(users.insert(page, 1), None),
                        None => prop_assert_eq!(users.len(), blocks.len() * BLOCK_PAGES),
                    },
                    Step::Share(n) => if let Some(page) = nth(n) {
                        stock.share(page).unwrap();
                        *users.get_mut(&page).unwrap() += 1;
                    },
                    Step::GiveBack(n) => if let Some(page) = nth(n) {
                        let count = users.get_mut(&page).unwrap();
                        *count -= 1;
                        let is_used = *count > 0;
                        if !is_used {
                            users.remove(&page);
                        }
                        let start = page / SIZE * SIZE;
                        let is_whole = users.range(start..start + SIZE).next().is_none();
                        let expected = match (is_whole, is_used) {
                            (true, _) => GivenBack::Whole(Range::new(start, SIZE)),
                            (false, true) => GivenBack::Used,
                            (false, false) => GivenBack::Kept,
                        };
                        prop_assert_eq!(stock.give_back(page), expected);
                        if is_whole {
                            blocks.remove(&start);
                        }
                    },
                }
                prop_assert_eq!(stock.free_pages(), blocks.len() * BLOCK_PAGES - users.len());
                for (page, count) in &users {
                    prop_assert_eq!(stock.is_shared(*page), *count > 1);
                }
            }
            prop_assert_eq!(stock.give_back(9 * SIZE), GivenBack::Unknown);
            prop_assert_eq!(stock.share(9 * SIZE), Err(NotShared));
        }
    }
}
