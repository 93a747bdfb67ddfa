//! Where a block of a checkpoint stands: [`BlockMap`].

use super::{Node, NodeRef, Run, Whose};
use crate::block::BlockDevice;
use crate::buffer::buffer;
use crate::catalog::{Checkpoint, Location};
use crate::error::Error;
use crate::layout::BLOCK;
use crate::space::{Extent, locate};
use crate::store::{Result, Store};
use alloc::vec::Vec;

/// The map of a checkpoint. The nodes that were read last are kept: one of each level, whatever the
/// map's size.
#[derive(Debug)]
pub(crate) struct BlockMap {
    number: u64,
    place: Location,
    blocks: u32,
    /// The root, and then a node of each level below it.
    path: Vec<(NodeRef, Node)>,
}

/// A node, and the blocks of contents that it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub node: NodeRef,
    pub begin: u32,
    pub blocks: u32,
}

impl BlockMap {
    /// Returns the map of a checkpoint, of which nothing is read yet.
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let (number, place) = (checkpoint.number, checkpoint.place.clone());
        Self { number, place, blocks: checkpoint.blocks(), path: Vec::new() }
    }

    /// Returns whether this is the map of that checkpoint.
    pub fn is_of(&self, checkpoint: &Checkpoint) -> bool {
        self.number == checkpoint.number && self.place == checkpoint.place
    }

    /// Returns where block `index` of the contents stands, and how many blocks follow it there, or
    /// in its unit, without a break. `None` behind the end.
    pub fn locate<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        index: u32,
    ) -> Result<Option<Run>, D> {
        if let Location::Extents(extents) = &self.place {
            return Ok(locate(extents, index.into()).map(Run::from));
        }
        let Some(leaf) = self.leaf(store, index)? else { return Ok(None) };
        let depth = self.depth_of(&leaf.node);
        let node = self.node(store, depth, &leaf)?;
        let nth = node.index_of(index - leaf.begin);
        let skipped = index - leaf.begin - node.span(nth).start;
        Ok(Some(node.run(nth).skip(skipped)))
    }

    /// Returns the leaf that is about block `index` of the contents. `None` behind the end, and
    /// where the checkpoint has no map.
    pub fn leaf<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        index: u32,
    ) -> Result<Option<Found>, D> {
        let Location::Map(Some(root)) = self.place else { return Ok(None) };
        if index >= self.blocks {
            return Ok(None);
        }
        let mut found = Found { node: root, begin: 0, blocks: self.blocks };
        while found.node.level > 0 {
            let depth = self.depth_of(&found.node);
            let node = self.node(store, depth, &found)?;
            let nth = node.index_of(index - found.begin);
            let span = node.span(nth);
            found = Found {
                node: node.child(nth),
                begin: found.begin + span.start,
                blocks: span.end - span.start,
            };
        }
        Ok(Some(found))
    }

    /// How many nodes are above this one.
    fn depth_of(&self, node: &NodeRef) -> usize {
        let Location::Map(Some(root)) = self.place else { return 0 };
        usize::from(root.level - node.level)
    }

    /// Reads a node, unless it is the last one that was read at this depth, and was as long: a
    /// forged map may say something else of it here.
    fn node<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        depth: usize,
        found: &Found,
    ) -> Result<&Node, D> {
        let is_kept =
            |(kept, node): &(NodeRef, Node)| *kept == found.node && node.blocks() == found.blocks;
        if !self.path.get(depth).is_some_and(is_kept) {
            self.path.truncate(depth);
            let node =
                store.read_node(Whose::Checkpoint(self.number), &found.node, found.blocks)?;
            self.path.push((found.node, node));
        }
        // The node at this depth is there: nobody asks for one before the one above it.
        self.path
            .get(depth)
            .map(|(_, node)| node)
            .ok_or(Error::MapDamaged { number: self.number, block: found.node.block })
    }
}

impl<D: BlockDevice> Store<D> {
    /// Reads a node of a map.
    pub(crate) fn read_node(&mut self, whose: Whose, of: &NodeRef, blocks: u32) -> Result<Node, D> {
        let damaged = whose.damaged(of.block);
        if !Extent::one(of.block).is_within(&self.data) {
            return Err(damaged);
        }
        let mut bytes = buffer(BLOCK)?;
        self.read_blocks(of.block, &mut bytes)?;
        if self.crc32c(&bytes) != of.crc {
            return Err(damaged);
        }
        let node = Node::check(bytes, of, blocks, &self.data, whose.is_sparse());
        node.filter(|node| !node.is_packed() || self.has_units()).ok_or(damaged)
    }
}
