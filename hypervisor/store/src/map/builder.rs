//! Makes the map of a new checkpoint: [`Builder`].

use super::{Node, NodeRef, Run, Visitor, Whose};
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::layout::{ChildEntry, MAX_CHILDREN, MAX_LEVEL, MAX_PACKED_RUNS, MAX_RUNS};
use crate::space::Extent;
use crate::store::{Result, Store};
use alloc::vec::Vec;

/// Runs that a leaf has at least, to stand in a second map. The runs of a smaller one are copied,
/// so that maps do not come to consist of small leaves: of two leaves beside each other, one at
/// least has as many.
pub(super) const MIN_SHARED_RUNS: u32 = 128;

/// A map that grows at its end. Nodes that are full are written at once, so its memory is bounded:
/// what it keeps is one node of each level.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    levels: [Level; MAX_LEVEL as usize + 1],
    /// Blocks that were taken for what will be added next.
    pub spot: Option<Extent>,
    /// The block that lists the volumes of the checkpoint.
    pub list: Option<Extent>,
}

/// The node of a level that is not full yet.
#[derive(Debug, Default)]
struct Level {
    entries: Vec<ChildEntry>,
    /// Blocks of contents that the entries are about.
    blocks: u32,
}

impl Level {
    /// Returns the number of blocks that an entry is about.
    fn blocks_of(&self, nth: usize) -> u32 {
        let end = self.entries.get(nth + 1).map_or(self.blocks, |next| next.at.get());
        end - self.entries[nth].at.get()
    }

    fn push(&mut self, [block, crc, count]: [u32; 3], blocks: u32) {
        let at = self.blocks.into();
        self.entries.push(ChildEntry {
            at,
            block: block.into(),
            crc: crc.into(),
            count: count.into(),
        });
        self.blocks += blocks;
    }

    /// Returns the run that an entry of a leaf is.
    fn run(&self, nth: usize) -> Run {
        let ChildEntry { block, crc, .. } = self.entries[nth];
        Run::decode(block.get(), crc.get(), self.blocks_of(nth))
    }

    fn child(&self, nth: usize, level: u8) -> NodeRef {
        let ChildEntry { block, crc, count, .. } = self.entries[nth];
        NodeRef { block: block.get(), crc: crc.get(), count: count.get(), level: level - 1 }
    }
}

impl Builder {
    /// Returns how many nodes the map of this many blocks of contents has at most, wherever they
    /// stand. A leaf that may have packed runs has fewer entries; what they save is more than it
    /// takes, unless nothing shrinks and no two blocks follow each other.
    pub fn most_nodes(blocks: u64) -> u64 {
        let mut nodes = blocks.div_ceil(MAX_RUNS as u64);
        let mut all = nodes;
        while nodes > 1 {
            nodes = nodes.div_ceil(MAX_CHILDREN as u64);
            all += nodes;
        }
        all
    }

    /// Returns how many blocks of contents the map has.
    pub fn blocks(&self) -> u64 {
        self.levels.iter().map(|level| u64::from(level.blocks)).sum()
    }

    /// Adds a run of blocks behind all others.
    pub fn push_run<D: BlockDevice>(&mut self, store: &mut Store<D>, run: Run) -> Result<(), D> {
        self.check_length::<D>(run.blocks)?;
        let leaf = &mut self.levels[0];
        if let Some(last) = leaf.entries.len().checked_sub(1)
            && leaf.run(last).goes_on_with(&run)
        {
            leaf.blocks += run.blocks;
            return Ok(());
        }
        let (block, word) = run.encode();
        leaf.push([block, word, 0], run.blocks);
        let is_full = leaf.entries.len() == most_runs(store);
        if is_full { self.close(store, 0) } else { Ok(()) }
    }

    /// Returns whether a leaf with `count` runs of another map is to be [adopted](Self::adopt),
    /// rather than its runs copied.
    pub fn should_adopt<D: BlockDevice>(&self, store: &Store<D>, count: u32) -> bool {
        let begun = self.levels[0].entries.len();
        let is_large = |runs: usize| runs >= MIN_SHARED_RUNS as usize;
        let fits = begun + count as usize <= most_runs(store);
        is_large(count as usize) && (begun == 0 || is_large(begun) || !fits)
    }

    /// Adds a leaf of another map, with its `blocks` blocks of contents, behind all others.
    pub fn adopt<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        leaf: NodeRef,
        blocks: u32,
    ) -> Result<(), D> {
        self.check_length::<D>(blocks)?;
        if !self.levels[0].entries.is_empty() {
            self.close(store, 0)?;
        }
        self.push_node(store, leaf, blocks)
    }

    /// Writes what is not written yet, and returns the root; `None` if the map has no blocks.
    pub fn finish<D: BlockDevice>(&mut self, store: &mut Store<D>) -> Result<Option<NodeRef>, D> {
        for level in 0..=MAX_LEVEL {
            let (here, above) = self.levels[usize::from(level)..].split_at(1);
            let is_top = above.iter().all(|level| level.entries.is_empty());
            match here[0].entries.len() {
                0 => continue,
                1 if is_top && level > 0 => return Ok(Some(here[0].child(0, level))),
                _ => {}
            }
            let (node, blocks) = self.write(store, level)?;
            if is_top {
                return Ok(Some(node));
            }
            self.push_node(store, node, blocks)?;
        }
        Ok(None)
    }

    fn check_length<D: BlockDevice>(&self, more: u32) -> Result<(), D> {
        let blocks = self.blocks() + u64::from(more);
        if blocks > u32::MAX.into() { Err(Error::TooLong { blocks }) } else { Ok(()) }
    }

    /// Adds a node to the level above it.
    fn push_node<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        node: NodeRef,
        blocks: u32,
    ) -> Result<(), D> {
        let above = node.level + 1;
        let level = self.levels.get_mut(usize::from(above));
        let level = level.ok_or(Error::TooLong { blocks: blocks.into() })?;
        level.push([node.block, node.crc, node.count], blocks);
        if level.entries.len() == Node::most(above) { self.close(store, above) } else { Ok(()) }
    }

    /// Writes the node of a level, and adds it to the level above.
    fn close<D: BlockDevice>(&mut self, store: &mut Store<D>, level: u8) -> Result<(), D> {
        let (node, blocks) = self.write(store, level)?;
        self.push_node(store, node, blocks)
    }

    /// Writes the node of a level, which has none then.
    fn write<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        level: u8,
    ) -> Result<(NodeRef, u32), D> {
        // Whoever looks for room needs to see what the node has.
        let block = store.take_blocks(1, self)?.first;
        let Level { entries, blocks } = core::mem::take(&mut self.levels[usize::from(level)]);
        let bytes = match level {
            0 if store.has_units() => Node::encode_packed(blocks, &entries),
            _ => Node::encode(level, blocks, &entries),
        };
        let node = NodeRef { block, crc: store.crc32c(&bytes), count: entries.len() as u32, level };
        store.begin_blocks(block, &bytes)?;
        Ok((node, blocks))
    }
}

/// Returns the most runs of a new leaf.
fn most_runs<D: BlockDevice>(store: &Store<D>) -> usize {
    if store.has_units() { MAX_PACKED_RUNS } else { MAX_RUNS }
}

impl<D: BlockDevice> UnderWay<D> for Builder {
    fn visit(&self, store: &mut Store<D>, visitor: &mut dyn Visitor) -> Result<(), D> {
        self.spot.into_iter().chain(self.list).for_each(|taken| visitor.run(taken));
        for (level, here) in (0..).zip(&self.levels) {
            for nth in 0..here.entries.len() {
                let blocks = here.blocks_of(nth);
                if level == 0 {
                    visitor.run(here.run(nth).on_disk());
                } else {
                    store.visit(Whose::Checkpoint(0), here.child(nth, level), blocks, visitor)?;
                }
            }
        }
        Ok(())
    }
}
