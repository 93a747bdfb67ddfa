//! What each checkpoint shares with others, and what deleting it would free: [`Store::freed_by_each`].
//!
//! Two looks at all maps: the first finds the blocks that are referred to more than once, the second counts what else a checkpoint has. Memory is bounded by
//! looking at a part of the disk at a time.

use crate::block::BlockDevice;
use crate::blockset::{BlockSet, PAGE_BLOCKS};
use crate::catalog::{Checkpoint, Place};
use crate::layout::BLOCK;
use crate::map::{NodeRef, Visitor};
use crate::space::Extent;
use crate::store::Store;
use alloc::vec;
use alloc::vec::Vec;

/// Blocks of the disk that are looked at together: 8 GiB, for which the two sets take 512 KiB at most.
const WINDOW: u32 = 64 * PAGE_BLOCKS;

/// Finds the blocks of a window that are referred to more than once.
struct Finding {
    once: BlockSet,
    twice: BlockSet,
}

impl Visitor for Finding {
    fn node(&mut self, node: &NodeRef) -> bool {
        let is_known = self.twice.has(node.block);
        self.run(Extent::one(node.block));
        // The second time, all below it is found to be there twice. After that there is nothing to find.
        !is_known
    }

    fn run(&mut self, run: Extent) {
        let end = run.first.saturating_add(run.blocks);
        let mut at = run.first;
        while at < end {
            let behind = Extent { first: end, blocks: 0 };
            let gap = self.once.gap(at, end, 1, u32::MAX).unwrap_or(behind);
            self.twice.insert(Extent { first: at, blocks: gap.first - at });
            at = gap.first + gap.blocks;
        }
        self.once.insert(run);
    }
}

/// Counts the blocks of a window that only one checkpoint refers to.
struct Counting<'a> {
    twice: &'a BlockSet,
    count: u64,
}

impl Visitor for Counting<'_> {
    fn node(&mut self, node: &NodeRef) -> bool {
        self.run(Extent::one(node.block));
        !self.twice.has(node.block)
    }

    fn run(&mut self, run: Extent) {
        self.count += self.twice.free_within(run);
    }
}

impl<D: BlockDevice> Store<D> {
    /// Returns for each checkpoint, in the order of [`list`](Self::list), how many bytes of the disk would be free if it alone were deleted: what it shares with no
    /// other one, and its map. Of a checkpoint with a damaged map, only what is known is counted; of a block that it has at two places, nothing.
    ///
    /// Where checkpoints have block maps, this reads all of them twice.
    pub fn freed_by_each(&mut self) -> Vec<u64> {
        let all = self.list().to_vec();
        let mut freed = vec![0; all.len()];
        let mut start = self.data.start;
        while start < self.data.end {
            let window = start..self.data.end.min(start.saturating_add(WINDOW));
            let mut finding = Finding {
                once: BlockSet::new(window.clone()),
                twice: BlockSet::new(window.clone()),
            };
            all.iter().for_each(|one| self.show(one, &mut finding));
            for (one, freed) in all.iter().zip(&mut freed) {
                let mut counting = Counting { twice: &finding.twice, count: 0 };
                self.show(one, &mut counting);
                *freed += counting.count * BLOCK as u64;
            }
            start = window.end;
        }
        freed
    }

    /// Shows a visitor what a checkpoint has. What is damaged is left out.
    fn show(&mut self, checkpoint: &Checkpoint, visitor: &mut dyn Visitor) {
        match &checkpoint.place {
            Place::Extents(extents) => extents.iter().for_each(|extent| visitor.run(*extent)),
            Place::Map(None) => {}
            Place::Map(Some(root)) => {
                let _ = self.visit(checkpoint.number, *root, checkpoint.blocks(), visitor);
            }
        }
    }
}
