//! Runs of blocks, and which of them a new checkpoint gets in a store without block maps.

use crate::layout::MAX_EXTENTS;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::ops::Range;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The first block, counted from the start of the partition.
    pub first: u32,
    /// Number of blocks.
    pub blocks: u32,
}

impl Extent {
    /// Returns the run that is this block alone.
    pub const fn one(block: u32) -> Self {
        Self { first: block, blocks: 1 }
    }

    /// Returns whether the run has a block, and lies within `data`.
    pub fn is_within(&self, data: &Range<u32>) -> bool {
        let end = self.first.checked_add(self.blocks);
        self.blocks > 0 && self.first >= data.start && end.is_some_and(|end| end <= data.end)
    }

    /// Returns the run without its first `blocks` blocks, which it has.
    #[must_use]
    pub const fn skip(self, blocks: u32) -> Self {
        Self { first: self.first + blocks, blocks: self.blocks - blocks }
    }

    /// Returns the first `blocks` blocks of the run, or all if it has fewer.
    #[must_use]
    pub fn at_most(self, blocks: u64) -> Self {
        // No more than `self.blocks`.
        Self { first: self.first, blocks: blocks.min(self.blocks.into()) as u32 }
    }
}

/// The extents of one checkpoint, in the order of its bytes.
pub type Extents = ArrayVec<Extent, MAX_EXTENTS>;

/// The free blocks of a store, as gaps between what is in use.
#[derive(Debug)]
pub struct Free {
    /// Largest first, and of the same size in the order of the disk.
    gaps: Vec<Extent>,
}

impl Free {
    /// Returns what `used` leaves of `data`.
    pub fn new(data: Range<u32>, used: impl Iterator<Item = Extent>) -> Self {
        let mut gaps: Vec<Extent> = Vec::new();
        let mut from = data.start;
        let end = Extent { first: data.end, blocks: 0 };
        let used = BinaryHeap::from_iter(used).into_sorted_vec();
        for extent in used.into_iter().chain([end]) {
            if extent.first > from {
                let gap = Extent { first: from, blocks: extent.first - from };
                let place = gaps.partition_point(|other| other.blocks >= gap.blocks);
                gaps.insert(place, gap);
            }
            from = from.max(extent.first.saturating_add(extent.blocks));
        }
        Self { gaps }
    }

    /// Returns how many blocks are free in all.
    pub fn blocks(&self) -> u64 {
        self.gaps.iter().map(|gap| u64::from(gap.blocks)).sum()
    }

    /// Returns how many blocks the largest checkpoint would have that fits.
    pub fn largest(&self) -> u64 {
        let pieces = self.gaps.iter().take(MAX_EXTENTS);
        pieces.map(|gap| u64::from(gap.blocks)).sum()
    }

    /// The smallest gap that has room for this many blocks.
    fn smallest(&self, blocks: u64) -> Option<&Extent> {
        self.gaps.iter().rev().find(|gap| u64::from(gap.blocks) >= blocks)
    }

    /// Returns whether that many blocks can be had in one piece.
    pub fn has_gap(&self, blocks: u64) -> bool {
        blocks == 0 || self.smallest(blocks).is_some()
    }

    /// Returns blocks for a new checkpoint: in one piece if possible, from the smallest gap that
    /// will do, to keep the large ones whole; else in as few pieces as possible. None if it does
    /// not fit.
    pub fn allocate(&self, blocks: u64) -> Option<Extents> {
        let best: &[Extent] = match self.smallest(blocks) {
            Some(gap) => core::slice::from_ref(gap),
            None => &self.gaps,
        };
        let mut extents = Extents::new();
        let mut missing = blocks;
        for gap in best {
            if missing == 0 {
                break;
            }
            let taken = missing.min(u64::from(gap.blocks));
            missing -= taken;
            let piece = Extent {
                first: gap.first,
                // At most `gap.blocks`, so it fits.
                blocks: taken as u32,
            };
            extents.try_push(piece).ok()?;
        }
        (missing == 0).then_some(extents)
    }
}

/// Keeps of `extents` what holds the first `blocks` blocks.
pub fn truncate(extents: &Extents, blocks: u64) -> Extents {
    let mut left = blocks;
    let mut kept = Extents::new();
    for extent in extents {
        let taken = left.min(u64::from(extent.blocks));
        left -= taken;
        if taken > 0 {
            kept.push(Extent { first: extent.first, blocks: taken as u32 });
        }
    }
    kept
}

/// Returns where block `index` of a file stands, and how many blocks follow it there without a
/// break.
pub fn locate(extents: &Extents, index: u64) -> Option<Extent> {
    let mut skipped = index;
    for extent in extents {
        let blocks = u64::from(extent.blocks);
        if skipped < blocks {
            return Some(extent.skip(skipped as u32));
        }
        skipped -= blocks;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn extent(first: u32, blocks: u32) -> Extent {
        Extent { first, blocks }
    }

    fn free(used: &[Extent]) -> Free {
        Free::new(10..110, used.iter().copied())
    }

    #[test]
    fn an_empty_store_is_one_gap() {
        assert_eq!(free(&[]).gaps, [extent(10, 100)]);
    }

    #[test]
    fn gaps_are_what_is_left_between_extents() {
        let free = free(&[extent(50, 10), extent(10, 5), extent(105, 5)]);
        assert_eq!(free.gaps, [extent(60, 45), extent(15, 35)]);
        assert_eq!((free.blocks(), free.largest()), (80, 80));
    }

    #[test]
    fn the_smallest_gap_that_fits_is_taken() {
        let free = free(&[extent(30, 50)]);
        assert_eq!(free.allocate(20).unwrap()[..], [extent(10, 20)]);
        assert_eq!(free.allocate(21).unwrap()[..], [extent(80, 21)]);
    }

    #[test]
    fn what_fits_no_gap_is_split_over_the_largest() {
        let free = free(&[extent(30, 50)]);
        assert_eq!(free.allocate(45).unwrap()[..], [extent(80, 30), extent(10, 15)]);
        assert_eq!(free.allocate(51), None);
    }

    #[test]
    fn a_checkpoint_is_split_into_eight_pieces_at_most() {
        let used: Vec<_> = (0..10).map(|n| extent(10 + 10 * n + 5, 5)).collect();
        let free = free(&used);
        assert_eq!((free.blocks(), free.largest()), (50, 40));
        assert_eq!(free.allocate(40).unwrap().len(), 8);
        assert_eq!(free.allocate(41), None);
    }

    #[test]
    fn nothing_takes_no_extent() {
        assert!(free(&[]).allocate(0).unwrap().is_empty());
        assert!(free(&[extent(10, 100)]).allocate(0).unwrap().is_empty());
    }

    #[test]
    fn blocks_are_found_across_extents() {
        let extents: Extents = [extent(20, 2), extent(50, 3)].into_iter().collect();
        assert_eq!(locate(&extents, 1), Some(extent(21, 1)));
        assert_eq!(locate(&extents, 3), Some(extent(51, 2)));
        assert_eq!(locate(&extents, 5), None);
        assert_eq!(truncate(&extents, 3)[..], [extent(20, 2), extent(50, 1)]);
        assert_eq!(truncate(&extents, 2)[..], [extent(20, 2)]);
    }
}
