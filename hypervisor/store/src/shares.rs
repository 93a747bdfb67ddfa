//! What each checkpoint shares with others, and what deleting it would free:
//! [`Store::freed_by_each`].
//!
//! Two looks at all maps: the first finds the blocks, and the nodes, that are referred to more than
//! once, the second counts what else a checkpoint has. Memory is bounded by looking at a window of
//! the disk at a time.

use crate::block::BlockDevice;
use crate::blockset::{BlockSet, PAGE_BLOCKS};
use crate::catalog::{Checkpoint, Location};
use crate::layout::BLOCK;
use crate::map::{Expected, SeenNodes, Visitor, Whose};
use crate::space::Extent;
use crate::store::Store;
use crate::volume::Volume;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks of the disk that are looked at together: 8 GiB, for which the two sets take 512 KiB at
/// most.
const WINDOW: u32 = 64 * PAGE_BLOCKS;

/// Finds the blocks of a window that are referred to more than once.
struct Finding {
    once: BlockSet,
    twice: BlockSet,
    /// Nodes that were read, wherever they stand.
    seen: SeenNodes,
    /// Nodes that were read a second time.
    seen_twice: SeenNodes,
}

impl Visitor for Finding {
    fn node(&mut self, node: &Expected) -> bool {
        self.run(Extent::one(node.node.block));
        // The second time, all below it is found to be there twice. After that there is nothing to
        // find.
        !self.seen_twice.has(node) && !self.is_exhausted()
    }

    fn read(&mut self, node: &Expected) {
        let is_second = self.seen.has(node);
        let seen = if is_second { &mut self.seen_twice } else { &mut self.seen };
        seen.insert(node);
    }

    fn fault(&mut self) {
        self.seen.note_repeated();
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

impl Finding {
    /// Returns what is known of a window of a store of so many blocks before anything was looked
    /// at.
    fn new(window: &Range<u32>, blocks: u32) -> Self {
        Self {
            once: BlockSet::new(window.clone()),
            twice: BlockSet::new(window.clone()),
            seen: SeenNodes::new(blocks),
            seen_twice: SeenNodes::new(blocks),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.seen.is_exhausted() || self.seen_twice.is_exhausted()
    }
}

/// Counts the blocks of a window that only one checkpoint or volume refers to.
struct Counting<'a> {
    found: &'a Finding,
    count: u64,
}

impl Visitor for Counting<'_> {
    fn node(&mut self, node: &Expected) -> bool {
        self.run(Extent::one(node.node.block));
        !self.found.seen_twice.has(node)
    }

    fn run(&mut self, run: Extent) {
        self.count += self.found.twice.free_within(run);
    }

    fn read(&mut self, _node: &Expected) {}

    fn fault(&mut self) {}
}

/// The owner of blocks: a checkpoint or a volume.
enum Owner {
    Checkpoint(Checkpoint),
    Volume(Volume),
}

impl<D: BlockDevice> Store<D> {
    /// Returns for each checkpoint, in the order of [`list`](Self::list), how many bytes of the
    /// disk would be free if it alone were deleted: what it shares with no other one, and its map.
    /// Of a checkpoint with a damaged map, only what is known is counted; of a block that it has at
    /// two places, nothing. Where maps are too large to tell, all is 0.
    ///
    /// Where checkpoints have block maps, this reads all of them twice for each 8 GiB of the store.
    pub fn freed_by_each(&mut self) -> Vec<u64> {
        let mut freed = self.freed_by_all();
        freed.truncate(self.list().len());
        freed
    }

    /// Returns for each volume, in the order of [`volumes`](Self::volumes), how many bytes of the
    /// disk would be free if it alone were deleted, as [`freed_by_each`](Self::freed_by_each) does
    /// for checkpoints.
    pub fn freed_by_each_volume(&mut self) -> Vec<u64> {
        let checkpoints = self.list().len();
        self.freed_by_all().split_off(checkpoints)
    }

    /// Returns what deleting each checkpoint, and then each volume, would free.
    fn freed_by_all(&mut self) -> Vec<u64> {
        let checkpoints = self.list().to_vec().into_iter().map(Owner::Checkpoint);
        let all: Vec<Owner> =
            checkpoints.chain(self.volumes().to_vec().into_iter().map(Owner::Volume)).collect();
        let mut freed = vec![0; all.len()];
        let mut start = self.data.start;
        while start < self.data.end {
            let window = start..self.data.end.min(start.saturating_add(WINDOW));
            let mut finding = Finding::new(&window, self.data.len() as u32);
            all.iter().for_each(|one| self.show(one, &mut finding));
            if finding.is_exhausted() {
                return vec![0; all.len()];
            }
            for (one, freed) in all.iter().zip(&mut freed) {
                let mut counting = Counting { found: &finding, count: 0 };
                self.show(one, &mut counting);
                *freed += counting.count * BLOCK as u64;
            }
            start = window.end;
        }
        freed
    }

    /// Shows a visitor what a checkpoint or a volume has. What is damaged is left out.
    fn show(&mut self, owner: &Owner, visitor: &mut dyn Visitor) {
        let checkpoint = match owner {
            Owner::Checkpoint(checkpoint) => checkpoint,
            Owner::Volume(volume) => {
                if let Some(root) = volume.root {
                    let _ = self.visit(Whose::Volume(volume.name), root, volume.blocks(), visitor);
                }
                return;
            }
        };
        let _ = self.show_instants(checkpoint, visitor);
        match &checkpoint.place {
            Location::Extents(extents) => extents.iter().for_each(|extent| visitor.run(*extent)),
            Location::Map(None) => {}
            Location::Map(Some(root)) => {
                let whose = Whose::Checkpoint(checkpoint.number);
                let _ = self.visit(whose, *root, checkpoint.blocks(), visitor);
            }
        }
    }
}
