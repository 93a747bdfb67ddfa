//! A part of a volume's map in memory: [`Table`], what a node of level 0 says, by block.

use crate::layout::{ChildEntry, LEAF_BLOCKS};
use crate::map::Node;
use crate::space::Extent;
use alloc::vec::Vec;

const BLOCKS: usize = LEAF_BLOCKS as usize;
const WORDS: usize = BLOCKS.div_ceil(64);

/// Where up to [`LEAF_BLOCKS`] blocks of a volume stand.
#[derive(Debug)]
pub(super) struct Table {
    /// The block of the store for each block of the volume; 0 for one that is zeros and stands
    /// nowhere.
    at: [u32; BLOCKS],
    /// A bit for each block that only this map refers to, as it was written since the map was
    /// sealed: it can be written again where it stands.
    fresh: [u64; WORDS],
}

// A heap that has blocks of powers of two wastes nothing.
const _: () = assert!(size_of::<Table>() == 2048);

impl Table {
    /// A table of zeros.
    pub const EMPTY: Self = Self { at: [0; BLOCKS], fresh: [0; WORDS] };

    /// Makes the table what a node says.
    pub fn fill(&mut self, node: &Node) {
        for nth in (0..node.count()).filter(|nth| !node.is_hole(*nth)) {
            let (span, run) = (node.span(nth), node.run(nth).on_disk());
            for (at, block) in
                self.at[span.start as usize..span.end as usize].iter_mut().zip(run.first..)
            {
                *at = block;
            }
        }
    }

    /// Returns where a block stands; `None` if it is zeros and stands nowhere.
    pub fn get(&self, nth: u32) -> Option<u32> {
        Some(self.at[nth as usize]).filter(|block| *block != 0)
    }

    /// Returns whether a block can be written again where it stands.
    pub fn is_fresh(&self, nth: u32) -> bool {
        self.fresh[nth as usize / 64] & 1 << (nth % 64) != 0
    }

    /// Returns how many of the blocks from `nth` on, `most` at most, stand one behind the other, or
    /// nowhere, and are as fresh.
    pub fn run_length(&self, nth: u32, most: u32) -> u32 {
        let most = self.as_fresh(nth, most) as usize;
        let places = &self.at[nth as usize..][..most];
        // All that stand nowhere have 0.
        let step = u32::from(places[0] != 0);
        let (mut at, mut expected) = (1, places[0].wrapping_add(step));
        while at < most && places[at] == expected {
            (at, expected) = (at + 1, expected.wrapping_add(step));
        }
        at as u32
    }

    /// Returns how many of the blocks from `nth` on, `most` at most, can't be written where they
    /// stand.
    pub fn stale_length(&self, nth: u32, most: u32) -> u32 {
        if self.is_fresh(nth) { 0 } else { self.as_fresh(nth, most) }
    }

    /// Returns how many of the blocks from `nth` on, `most` at most, are as fresh as that one.
    fn as_fresh(&self, nth: u32, most: u32) -> u32 {
        let differs = |word: u64| if self.is_fresh(nth) { !word } else { word };
        let (mut at, end) = (nth, nth + most);
        while at < end {
            let others = differs(self.fresh[at as usize / 64]) >> (at % 64);
            if others != 0 {
                return (at + others.trailing_zeros()).min(end) - nth;
            }
            at = (at + 1).next_multiple_of(64);
        }
        most
    }

    /// Says that the blocks from `nth` on stand in `run`, which was written and is nobody else's.
    pub fn place(&mut self, nth: u32, run: Extent) {
        let places = self.at[nth as usize..].iter_mut().zip(run.first..);
        places.take(run.blocks as usize).for_each(|(at, block)| *at = block);
        let (mut at, end) = (nth, nth + run.blocks);
        while at < end {
            let next = (at + 1).next_multiple_of(64).min(end);
            self.fresh[at as usize / 64] |= u64::MAX >> (64 - (next - at)) << (at % 64);
            at = next;
        }
    }

    /// Says that a block is zeros.
    pub fn clear(&mut self, nth: u32) {
        self.at[nth as usize] = 0;
        self.fresh[nth as usize / 64] &= !(1 << (nth % 64));
    }

    /// Says that a committed map may refer to all blocks from now on.
    pub fn seal(&mut self) {
        self.fresh = [0; WORDS];
    }

    /// Returns the runs of the first `blocks` blocks, as they stand in a node; none if all are
    /// zeros.
    pub fn entries(&self, blocks: u32) -> Vec<ChildEntry> {
        let mut entries: Vec<ChildEntry> = Vec::new();
        if self.at.iter().all(|block| *block == 0) {
            return entries;
        }
        let mut before = None;
        for (at, &block) in (0..).zip(self.at.iter().take(blocks as usize)) {
            let expected = before.map(|before: u32| if before == 0 { 0 } else { before + 1 });
            if expected != Some(block) {
                let (at, block) = (u32::into(at), block.into());
                entries.push(ChildEntry { at, block, crc: 0.into(), count: 0.into() });
            }
            before = Some(block);
        }
        entries
    }

    /// Returns all blocks of the store that the table refers to.
    pub fn blocks(&self) -> impl Iterator<Item = u32> {
        self.at.iter().copied().filter(|block| *block != 0)
    }
}

#[cfg(test)]
mod tests;
