//! Which pages of a memory are in a state: [`PageSet`].
//!
//! Guests write a few pages of most blocks, and all pages of some. So a block of [`BLOCK_SIZE`]
//! bytes is in the set as a whole, not at all, or by page. What is in the set as a whole costs one
//! step, whatever its size.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::ops::Range;
use stasis_state::change::BLOCK_PAGES;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{PAGE_SIZE, PageBits};

/// The heap has no memory to note which parts of a memory are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// Pages of a memory of some size, known by their offsets in bytes. What lies outside the memory is
/// never in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    /// Bytes of the memory.
    len: usize,
    blocks: Vec<Block>,
    /// Pages of each block that is in the set in part; of all others nothing.
    bits: Vec<PageBits>,
    /// Number of pages in the set.
    count: usize,
}

/// How much of a block is in the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Some,
    All,
}

impl PageSet {
    /// Returns the set without a page, of a memory of `len` bytes. The set takes 65 bytes of the
    /// heap for each block.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] if the heap does not have them.
    pub fn none(len: usize) -> Result<Self, NoMemory> {
        let count = len.div_ceil(BLOCK_SIZE);
        let (mut blocks, mut bits) = (Vec::new(), Vec::new());
        bits.try_reserve_exact(count)?;
        blocks.try_reserve_exact(count)?;
        bits.resize(count, PageBits::NONE);
        blocks.resize(count, Block::None);
        Ok(Self { len, blocks, bits, count: 0 })
    }

    /// Returns the bytes of the memory.
    pub const fn memory_len(&self) -> usize {
        self.len
    }

    /// Adds the page at `offset`. Returns whether all pages of its block are in the set now.
    pub fn insert(&mut self, offset: usize) -> bool {
        let (index, page) = (offset / BLOCK_SIZE, offset % BLOCK_SIZE / PAGE_SIZE);
        if offset >= self.len || self.blocks[index] == Block::All {
            return offset < self.len;
        }
        self.blocks[index] = Block::Some;
        let bits = &mut self.bits[index];
        self.count += usize::from(!bits.contains(page));
        bits.insert(page);
        let is_all = match pages_in(self.len, index) {
            BLOCK_PAGES => bits.is_all(page),
            pages => *bits == PageBits::of(0..pages),
        };
        if is_all {
            self.set_all(index);
        }
        is_all
    }

    /// Adds all pages in which `bytes` lie.
    pub fn insert_range(&mut self, bytes: Range<usize>) {
        let (mut at, end) = (bytes.start, bytes.end.min(self.len));
        while at < end {
            let block = at - at % BLOCK_SIZE;
            let block_end = self.len.min(block + BLOCK_SIZE);
            if at == block && end >= block_end {
                self.set_all(block / BLOCK_SIZE);
                at = block_end;
            } else {
                self.insert(at);
                at = at - at % PAGE_SIZE + PAGE_SIZE;
            }
        }
    }

    /// Adds all pages of the block in which `offset` lies.
    pub fn insert_block(&mut self, offset: usize) {
        if offset < self.len {
            self.set_all(offset / BLOCK_SIZE);
        }
    }

    /// Adds the pages of another set of the same memory.
    pub fn insert_all(&mut self, others: &Self) {
        for (index, block) in others.blocks.iter().enumerate().take(self.blocks.len()) {
            match block {
                Block::None => {}
                Block::Some => {
                    let start = index * BLOCK_SIZE;
                    for page in others.bits[index].pages() {
                        self.insert(start + page * PAGE_SIZE);
                    }
                }
                Block::All => self.set_all(index),
            }
        }
    }

    /// Returns whether the page at `offset` is in the set.
    pub fn contains(&self, offset: usize) -> bool {
        match self.blocks.get(offset / BLOCK_SIZE) {
            None | Some(Block::None) => false,
            Some(Block::All) => offset < self.len,
            Some(Block::Some) => {
                self.bits[offset / BLOCK_SIZE].contains(offset % BLOCK_SIZE / PAGE_SIZE)
            }
        }
    }

    /// Returns whether all pages of the block in which `offset` lies are in the set.
    pub fn contains_block(&self, offset: usize) -> bool {
        self.blocks.get(offset / BLOCK_SIZE) == Some(&Block::All)
    }

    /// Returns whether no page of the block in which `offset` lies is in the set.
    pub fn is_block_without(&self, offset: usize) -> bool {
        self.blocks.get(offset / BLOCK_SIZE).is_none_or(|block| *block == Block::None)
    }

    /// Returns the bytes of the pages in the set that lie in `bytes`, ascending: neighbours of a
    /// block together. `bytes` are whole pages.
    pub fn runs(&self, bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let blocks = bytes.start / BLOCK_SIZE..bytes.end.div_ceil(BLOCK_SIZE);
        let within = move |run: Range<usize>| run.start.max(bytes.start)..run.end.min(bytes.end);
        let runs = blocks.flat_map(|index| {
            let start = index * BLOCK_SIZE;
            self.of_block(start)
                .runs()
                .map(move |run| start + run.start * PAGE_SIZE..start + run.end * PAGE_SIZE)
        });
        runs.map(within).filter(|run| !run.is_empty())
    }

    /// Returns which pages of the block in which `offset` lies are in the set.
    pub fn of_block(&self, offset: usize) -> PageBits {
        let index = offset / BLOCK_SIZE;
        match self.blocks.get(index) {
            None | Some(Block::None) => PageBits::NONE,
            Some(Block::Some) => self.bits[index],
            Some(Block::All) => PageBits::of(0..pages_in(self.len, index)),
        }
    }

    /// Returns the offset of each block of which pages are in the set, and which: ascending.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, Part)> {
        let blocks = self.blocks.iter().zip(&self.bits).enumerate();
        blocks.filter_map(|(index, (block, bits))| match block {
            Block::None => None,
            Block::Some => Some((index * BLOCK_SIZE, Part::Pages(*bits))),
            Block::All => Some((index * BLOCK_SIZE, Part::All)),
        })
    }

    /// Returns how many pages are in the set.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Makes it what `other` is, a set of pages of the same memory. Takes nothing of the heap.
    ///
    /// # Panics
    ///
    /// If the other is of more or less memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.blocks.copy_from_slice(&other.blocks);
        self.bits.copy_from_slice(&other.bits);
        self.count = other.count;
    }

    /// Removes all pages, in one step for each block.
    pub fn clear(&mut self) {
        self.blocks.fill(Block::None);
        self.bits.fill(PageBits::NONE);
        self.count = 0;
    }

    fn set_all(&mut self, index: usize) {
        let others = match self.blocks[index] {
            Block::None => 0,
            Block::Some => self.bits[index].count(),
            Block::All => return,
        };
        self.count += pages_in(self.len, index) - others;
        self.blocks[index] = Block::All;
        self.bits[index] = PageBits::NONE;
    }
}

/// Returns how many pages of the block with this number a memory of `len` bytes has. The last page
/// may end behind the memory.
fn pages_in(len: usize, index: usize) -> usize {
    (len - index * BLOCK_SIZE).div_ceil(PAGE_SIZE).min(BLOCK_PAGES)
}

/// How much of a block is in a set, if not nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Each page.
    All,
    /// These pages, at least one.
    Pages(PageBits),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A block and a part of one, which ends with a page in the last word of its bits.
    const PAGES: usize = BLOCK_PAGES + 450;
    const LEN: usize = PAGES * PAGE_SIZE;

    #[test]
    fn the_last_page_of_a_memory_is_in_the_set_and_none_behind_it() {
        let mut set = PageSet::none(LEN).unwrap();
        assert!(!set.insert(LEN - 1));
        assert!(set.contains(LEN - PAGE_SIZE) && !set.contains(LEN - PAGE_SIZE - 1));
        assert!(!set.insert(LEN) && !set.contains(LEN));
        assert_eq!(set.of_block(LEN - 1), PageBits::of(449..450));
        set.insert_range(BLOCK_SIZE..usize::MAX);
        assert_eq!(set.of_block(BLOCK_SIZE), PageBits::of(0..450));
        assert!(set.contains_block(BLOCK_SIZE) && !set.contains_block(0));
        assert_eq!(set.count(), 450);
    }

    /// 2^48 bytes of bits are more than a process has addresses for.
    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where memory does")]
    fn a_set_that_the_heap_has_no_room_for_is_refused() {
        assert_eq!(PageSet::none(isize::MAX as usize), Err(NoMemory));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(usize),
        Range(usize, usize),
        Block(usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let offset = 0..LEN + BLOCK_SIZE;
        let step = prop_oneof![
            8 => offset.clone().prop_map(Step::Insert),
            4 => (offset.clone(), 0..2 * BLOCK_SIZE).prop_map(|(at, len)| Step::Range(at, len)),
            2 => offset.prop_map(Step::Block),
            1 => Just(Step::Clear),
        ];
        // Miri has more to do with the list of numbers than with the set.
        proptest::collection::vec(step, 0..if cfg!(miri) { 3 } else { 20 })
    }

    /// Does the steps with a set of pages, and with a list of their numbers.
    fn both(steps: Vec<Step>) -> (PageSet, BTreeSet<usize>) {
        let (mut set, mut list) = (PageSet::none(LEN).unwrap(), BTreeSet::new());
        for step in steps {
            let pages = match step {
                Step::Insert(at) => {
                    let is_whole = set.insert(at);
                    assert_eq!(is_whole, at < LEN && set.contains_block(at));
                    at / PAGE_SIZE..at / PAGE_SIZE + 1
                }
                Step::Range(at, len) => {
                    set.insert_range(at..at + len);
                    let end = if len == 0 { at } else { at + len };
                    at / PAGE_SIZE..if len == 0 { 0 } else { end.div_ceil(PAGE_SIZE) }
                }
                Step::Block(at) => {
                    set.insert_block(at);
                    let first = at / BLOCK_SIZE * BLOCK_PAGES;
                    first..if at < LEN { first + BLOCK_PAGES } else { 0 }
                }
                Step::Clear => {
                    set.clear();
                    list.clear();
                    0..0
                }
            };
            list.extend(pages.filter(|page| *page < PAGES));
        }
        (set, list)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 32 }))]

        #[test]
        fn a_copy_is_the_set_whatever_it_was(steps in steps(), others in steps()) {
            let ((set, _), (mut copy, _)) = (both(steps), both(others));
            copy.copy_from(&set);
            prop_assert_eq!(copy, set);
        }

        #[test]
        fn a_set_has_what_a_list_of_its_pages_has(steps in steps(), others in steps()) {
            let ((mut set, mut list), (other_set, other_list)) = (both(steps), both(others));
            set.insert_all(&other_set);
            list.extend(other_list);
            let has = (0..PAGES + 10).filter(|page| set.contains(page * PAGE_SIZE));
            prop_assert_eq!(has.collect::<BTreeSet<_>>(), list.clone());
            prop_assert_eq!(set.count(), list.len());
            let of_blocks = set.blocks().flat_map(|(start, part)| {
                let bits = set.of_block(start);
                let is_all = part == Part::All;
                assert!(is_all || part == Part::Pages(bits));
                bits.pages().map(move |page| start / PAGE_SIZE + page)
            });
            prop_assert!(of_blocks.eq(list.iter().copied()));
            let within = PAGE_SIZE..LEN - PAGE_SIZE;
            let of_runs = set.runs(within).flat_map(|run| run.step_by(PAGE_SIZE));
            let inner = list.into_iter().filter(|page| (1..PAGES - 1).contains(page));
            prop_assert!(of_runs.map(|at| at / PAGE_SIZE).eq(inner));
        }
    }
}
