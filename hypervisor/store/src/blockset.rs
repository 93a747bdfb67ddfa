//! Which blocks of a store are taken: [`BlockSet`], a bitmap whose memory is bounded.
//!
//! The bitmap has a page of 4 KiB for each [`PAGE_BLOCKS`] blocks (128 MiB of the disk) of which
//! some are taken and some are free. Where all or none are, it has none. If there is no memory for
//! a page, or the set has [`MAX_PAGES`] already, all blocks that the page would be about count as
//! taken: they are not given out, and nothing is lost. So that a block is taken does not tell by
//! whom, nor that anybody has looked at it.

use crate::space::Extent;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks that a page of the bitmap is about.
pub const PAGE_BLOCKS: u32 = 1 << 15;

/// Pages that a set has, at most: 1 MiB. They suffice for 32 GiB of the disk, however they are
/// used.
pub const MAX_PAGES: usize = 256;

const WORDS: usize = PAGE_BLOCKS as usize / 64;

/// What a set knows of [`PAGE_BLOCKS`] blocks: nothing is taken, all is, or the index of their
/// page, plus 2.
type Part = u16;
const EMPTY: Part = 0;
const FULL: Part = 1;

/// A page of the bitmap, and how many of its bits are set.
#[derive(Debug)]
struct Page {
    words: Vec<u64>,
    count: u32,
}

/// A set of blocks.
#[derive(Debug)]
pub struct BlockSet {
    /// Blocks that can be in the set. All others count as taken.
    range: Range<u32>,
    /// A part for each [`PAGE_BLOCKS`] blocks from block 0 on.
    parts: Vec<Part>,
    pages: Vec<Page>,
    /// Indices of pages that are not in use.
    spare: Vec<Part>,
    /// Blocks in the set.
    count: u64,
}

impl BlockSet {
    /// Returns an empty set, for the blocks of `range`. Where there is no memory for as much as the
    /// list of parts, no block is free.
    pub fn new(range: Range<u32>) -> Self {
        let wanted = range.end.div_ceil(PAGE_BLOCKS) as usize;
        let mut parts = Vec::new();
        let range = match parts.try_reserve_exact(wanted) {
            Ok(()) => range,
            Err(_) => range.start..range.start,
        };
        parts.resize(parts.capacity().min(wanted), EMPTY);
        Self { range, parts, pages: Vec::new(), spare: Vec::new(), count: 0 }
    }

    /// Returns the number of blocks that are not in the set.
    pub fn free(&self) -> u64 {
        self.range.len() as u64 - self.count
    }

    /// Returns the blocks from `first` on that follow each other and are not in the set, `most` at
    /// most; `None` if `first` is in it, or can't be.
    pub fn free_from(&self, first: u32, most: u32) -> Option<Extent> {
        let end = self.next(first, first.saturating_add(most).min(self.range.end), true);
        let is_free = self.range.contains(&first) && end > first;
        is_free.then(|| Extent { first, blocks: end - first })
    }

    /// Returns how many blocks of `extent` can be in the set and are not.
    pub fn free_within(&self, extent: Extent) -> u64 {
        let (mut at, end) = (extent.first, extent.first.saturating_add(extent.blocks));
        let mut count = 0;
        while let Some(gap) = self.gap(at, end, 1, u32::MAX) {
            count += u64::from(gap.blocks);
            at = gap.first + gap.blocks;
        }
        count
    }

    /// Adds the blocks of `extent` that can be in the set. Returns how many of them were not in it.
    pub fn insert(&mut self, extent: Extent) -> u64 {
        let before = self.count;
        let end = extent.first.saturating_add(extent.blocks).min(self.range.end);
        let mut at = extent.first.max(self.range.start);
        while at < end {
            let within = self.within(at, end);
            self.insert_in_part(within.clone());
            at = within.end;
        }
        self.count - before
    }

    /// Takes the blocks of `extent` out of the set. Where there is no memory for a page, they stay
    /// in it.
    pub fn remove(&mut self, extent: Extent) {
        let end = extent.first.saturating_add(extent.blocks).min(self.range.end);
        let mut at = extent.first.max(self.range.start);
        while at < end {
            let within = self.within(at, end);
            if self.part(at) != EMPTY
                && let Some(part) = self.page_for(at)
            {
                let cleared = self.pages[usize::from(part) - 2].change(&within, false);
                self.count -= u64::from(cleared);
            }
            at = within.end;
        }
    }

    /// Returns the first `least` to `most` blocks, all from `from` on and before `to`, that follow
    /// each other and are not in the set.
    pub fn gap(&self, from: u32, to: u32, least: u32, most: u32) -> Option<Extent> {
        let to = to.min(self.range.end);
        let mut at = from.max(self.range.start);
        while at < to {
            let first = self.next(at, to, false);
            let end = self.next(first, to.min(first.saturating_add(most)), true);
            if first < to && end - first >= least {
                return Some(Extent { first, blocks: end - first });
            }
            at = end.max(first);
        }
        None
    }

    /// Returns the first block from `at` on that is in the set, or, unless `taken`, is not; `to` if
    /// there is none before it.
    fn next(&self, mut at: u32, to: u32, taken: bool) -> u32 {
        while at < to {
            let part = self.part(at);
            let end = self.within(at, to).end;
            if part == EMPTY || part == FULL {
                if taken == (part == FULL) {
                    return at;
                }
                at = end;
                continue;
            }
            let words = &self.page(part).words;
            while at < end {
                let bit = at % PAGE_BLOCKS;
                let word = words[bit as usize / 64];
                let wanted = if taken { word } else { !word } >> (bit % 64);
                if wanted != 0 {
                    return to.min(at + wanted.trailing_zeros());
                }
                at = end.min(at - at % 64 + 64);
            }
        }
        to
    }

    /// Returns the blocks from `at` on, before `end`, that one part is about.
    fn within(&self, at: u32, end: u32) -> Range<u32> {
        let behind = (at - at % PAGE_BLOCKS).saturating_add(PAGE_BLOCKS);
        at..end.min(behind)
    }

    /// Returns all blocks of the set's range that the part of `block` is about.
    fn whole(&self, block: u32) -> Range<u32> {
        let start = block - block % PAGE_BLOCKS;
        start.max(self.range.start)..self.within(start, self.range.end).end
    }

    fn part(&self, block: u32) -> Part {
        self.parts.get((block / PAGE_BLOCKS) as usize).copied().unwrap_or(FULL)
    }

    fn page(&self, part: Part) -> &Page {
        &self.pages[usize::from(part) - 2]
    }

    /// Adds blocks that one part is about.
    fn insert_in_part(&mut self, blocks: Range<u32>) {
        if self.part(blocks.start) == FULL {
            return;
        }
        let whole = self.whole(blocks.start);
        let part = if blocks == whole { None } else { self.page_for(blocks.start) };
        let Some(page) = part.map(|part| &mut self.pages[usize::from(part) - 2]) else {
            return self.fill_part(blocks.start);
        };
        self.count += u64::from(page.change(&blocks, true));
        if page.count as usize == whole.len() {
            self.fill_part(blocks.start);
        }
    }

    /// Counts all blocks that the part of `block` is about as taken.
    fn fill_part(&mut self, block: u32) {
        let index = (block / PAGE_BLOCKS) as usize;
        let before = core::mem::replace(&mut self.parts[index], FULL);
        let counted = match before {
            EMPTY => 0,
            FULL => return,
            part => {
                self.spare.push(part);
                self.page(part).count
            }
        };
        self.count += self.whole(block).len() as u64 - u64::from(counted);
    }

    /// Returns the part of a block, which has a page; a new one if it had none. `None` if there is
    /// no memory for it.
    fn page_for(&mut self, block: u32) -> Option<Part> {
        let part = self.part(block);
        if part > FULL {
            return Some(part);
        }
        let new = self.spare_page()?;
        let whole = self.whole(block);
        let page = &mut self.pages[usize::from(new) - 2];
        page.words.fill(0);
        page.count = 0;
        if part == FULL {
            page.change(&whole, true);
        }
        self.parts[(block / PAGE_BLOCKS) as usize] = new;
        Some(new)
    }

    fn spare_page(&mut self) -> Option<Part> {
        if let Some(part) = self.spare.pop() {
            return Some(part);
        }
        if self.pages.len() >= MAX_PAGES {
            return None;
        }
        let mut words = Vec::new();
        words.try_reserve_exact(WORDS).ok()?;
        words.resize(WORDS, 0);
        self.pages.push(Page { words, count: 0 });
        // At most MAX_PAGES + 1.
        Some(self.pages.len() as Part + 1)
    }
}

impl Page {
    /// Sets or clears the bits of these blocks, which the page is about. Returns how many have
    /// changed.
    fn change(&mut self, blocks: &Range<u32>, set: bool) -> u32 {
        let mut changed = 0;
        let (mut bit, end) = (blocks.start % PAGE_BLOCKS, (blocks.end - 1) % PAGE_BLOCKS + 1);
        while bit < end {
            let behind = end.min(bit - bit % 64 + 64);
            let mask = u64::MAX >> (64 - (behind - bit)) << (bit % 64);
            let word = &mut self.words[bit as usize / 64];
            let after = if set { *word | mask } else { *word & !mask };
            changed += (*word ^ after).count_ones();
            *word = after;
            bit = behind;
        }
        self.count = if set { self.count + changed } else { self.count - changed };
        changed
    }
}

#[cfg(test)]
mod tests;
