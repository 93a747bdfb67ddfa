//! The map of a volume in use: [`VolumeMap`].
//!
//! Of the nodes of the map, those are in memory that were used last, of all volumes together
//! (`load`): a block is found by a look-up, and opening a volume reads nothing. A node that has
//! changed is kept until it is written (`seal`), with all nodes above it, which change with it.

use super::late::Keeper;
use super::table::Table;
use super::{Name, Volume, root_level};
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::layout::{ChildEntry, LEAF_BLOCKS, MAX_CHILDREN};
use crate::map::{Node, NodeRef, Visitor, Whose};
use crate::space::Extent;
use crate::store::{Result, Store};
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

/// A volume in use.
#[derive(Debug)]
pub(crate) struct Open {
    /// The volume; its root is the catalog's, or was when it was opened.
    pub volume: Volume,
    pub map: VolumeMap,
    /// What keeps its late writes; `None` if nobody makes such.
    pub late: Option<Keeper>,
}

impl Open {
    /// Returns a volume that is used from now on.
    pub fn new(volume: Volume) -> Self {
        let map = VolumeMap::new(&volume);
        Self { volume, map, late: None }
    }
}

/// Where all blocks of a volume stand.
#[derive(Debug)]
pub(crate) struct VolumeMap {
    pub(super) name: Name,
    blocks: u32,
    /// The level of the root.
    pub(super) top: u8,
    pub(super) root: Option<NodeRef>,
    /// The nodes in memory, in the order of their places.
    pub(super) kept: Vec<Kept>,
    /// Blocks that must stay free for late writes.
    pub promised: u64,
}

/// The level of a node, and how many nodes of that level are before it.
pub(super) type NodeIndex = (u8, u32);

/// A node in memory.
#[derive(Debug)]
pub(super) struct Kept {
    pub place: NodeIndex,
    /// When it was used last, by the store's count of uses.
    pub used: u64,
    /// Whether it differs from what is on the disk.
    pub is_dirty: bool,
    pub content: Content,
}

/// What a node says.
#[derive(Debug)]
pub(super) enum Content {
    /// Of level 0: one table.
    Leaf(Vec<Table>),
    /// Of another level: all of its children, also those that are not there.
    Upper(Vec<ChildEntry>),
}

/// Memory that a table takes, in units of 2 KiB.
const LEAF_UNITS: usize = 1;
/// Memory that a node above level 0 takes.
pub(super) const UPPER_UNITS: usize = 2;

impl Content {
    /// Returns a node of zeros with this place and number of children.
    fn empty<E: Display + Debug>(
        (level, _): NodeIndex,
        children: usize,
    ) -> core::result::Result<Self, Error<E>> {
        if level == 0 {
            let mut table = vector(1)?;
            table.push(Table::EMPTY);
            return Ok(Self::Leaf(table));
        }
        let mut entries = vector(MAX_CHILDREN)?;
        // A child is about fewer blocks than 32 bits count.
        let width = Node::width(level - 1) as u32;
        entries.extend((0..children as u32).map(|child| entry(child * width, None)));
        Ok(Self::Upper(entries))
    }

    fn fill(&mut self, node: &Node) {
        match self {
            Self::Leaf(table) => table.iter_mut().for_each(|table| table.fill(node)),
            Self::Upper(entries) => {
                let holes = (0..node.count()).map(|nth| (!node.is_hole(nth)).then_some(nth));
                for (slot, nth) in entries.iter_mut().zip(holes) {
                    *slot = entry(slot.at.get(), nth.map(|nth| node.child(nth)));
                }
            }
        }
    }

    pub(super) fn units(&self) -> usize {
        if matches!(self, Self::Leaf(_)) { LEAF_UNITS } else { UPPER_UNITS }
    }
}

/// Returns the entry of a child that begins at `at`, or of one that is not there.
fn entry(at: u32, child: Option<NodeRef>) -> ChildEntry {
    let (block, crc, count) = child.map_or((0, 0, 0), |node| (node.block, node.crc, node.count));
    ChildEntry { at: at.into(), block: block.into(), crc: crc.into(), count: count.into() }
}

/// A vector with room for `len` values, or an error where that is too much to ask for.
fn vector<T, E: Display + Debug>(len: usize) -> core::result::Result<Vec<T>, Error<E>> {
    let mut vector = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    vector.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(vector)
}

impl VolumeMap {
    /// Returns the map of a volume, of which nothing is read yet.
    pub fn new(volume: &Volume) -> Self {
        let (name, blocks, root) = (volume.name, volume.blocks(), volume.root);
        Self { name, blocks, top: root_level(blocks), root, kept: Vec::new(), promised: 0 }
    }

    /// Returns how many blocks the volume has.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the leaf that is about a block, and the block's place in it.
    pub(super) fn leaf_of(index: u32) -> (NodeIndex, u32) {
        ((0, index / LEAF_BLOCKS), index % LEAF_BLOCKS)
    }

    /// Returns how many blocks a node maps.
    pub(super) fn span(&self, (level, nth): NodeIndex) -> u32 {
        let width = Node::width(level);
        let rest = u64::from(self.blocks).saturating_sub(width * u64::from(nth));
        rest.min(width) as u32
    }

    /// Returns the node above one that is not the root.
    pub(super) fn above((level, nth): NodeIndex) -> NodeIndex {
        (level + 1, nth / MAX_CHILDREN as u32)
    }

    /// Returns the root of the map, as far as it was written.
    pub fn root(&self) -> Option<NodeRef> {
        self.root
    }

    /// Returns whether anything was changed since the map was sealed.
    pub fn is_dirty(&self) -> bool {
        self.kept.iter().any(|node| node.is_dirty)
    }

    /// Returns how many blocks it takes to write what has changed of the map, at most.
    pub fn needed(&self) -> u64 {
        self.kept.iter().filter(|node| node.is_dirty).count() as u64
    }

    /// Returns how many nodes change at most with a leaf that has not changed yet.
    pub(super) fn path_length(&self) -> u64 {
        u64::from(self.top) + 1
    }

    fn find(&self, place: NodeIndex) -> core::result::Result<usize, usize> {
        self.kept.binary_search_by_key(&place, |node| node.place)
    }

    /// Returns a node that is in memory.
    pub(super) fn get_mut(&mut self, place: NodeIndex) -> Option<&mut Kept> {
        let at = self.find(place).ok()?;
        self.kept.get_mut(at)
    }

    /// Returns the table of a leaf that is in memory.
    pub(super) fn table_mut(&mut self, leaf: NodeIndex) -> Option<&mut Table> {
        match &mut self.get_mut(leaf)?.content {
            Content::Leaf(table) => table.first_mut(),
            Content::Upper(_) => None,
        }
    }

    /// Returns what is known of a node that is the root, or below one that is in memory; `None` if
    /// all below it is zeros.
    pub(super) fn node_ref(&self, place: NodeIndex) -> Option<NodeRef> {
        if place.0 == self.top {
            return self.root;
        }
        let above = &self.kept[self.find(Self::above(place)).ok()?];
        let Content::Upper(entries) = &above.content else { return None };
        child(entries, place)
    }

    /// Notes what is known of a node that is the root, or below one that is in memory.
    pub(super) fn set_node_ref(&mut self, place: NodeIndex, node: Option<NodeRef>) {
        if place.0 == self.top {
            self.root = node;
        } else if let Some(Kept { content: Content::Upper(entries), .. }) =
            self.get_mut(Self::above(place))
        {
            let slot = &mut entries[place.1 as usize % MAX_CHILDREN];
            *slot = entry(slot.at.get(), node);
        }
    }

    /// Puts a node into memory: what a node on the disk says, or zeros.
    pub(super) fn keep<E: Display + Debug>(
        &mut self,
        place: NodeIndex,
        node: Option<&Node>,
    ) -> core::result::Result<(), Error<E>> {
        let Err(at) = self.find(place) else { return Ok(()) };
        let children = match place.0.checked_sub(1) {
            Some(below) => u64::from(self.span(place)).div_ceil(Node::width(below)) as usize,
            None => 0,
        };
        let none = |_| Error::OutOfMemory { bytes: size_of::<Kept>() };
        self.kept.try_reserve(1).map_err(none)?;
        let mut content = Content::empty(place, children)?;
        node.into_iter().for_each(|node| content.fill(node));
        self.kept.insert(at, Kept { place, used: 0, is_dirty: false, content });
        Ok(())
    }

    /// Drops a node from memory.
    pub(super) fn drop_node(&mut self, place: NodeIndex) {
        if let Ok(at) = self.find(place) {
            self.kept.remove(at);
        }
    }
}

/// Returns the child with a place, of those of the node above it; `None` if it is not there.
fn child(entries: &[ChildEntry], (level, nth): NodeIndex) -> Option<NodeRef> {
    let ChildEntry { block, crc, count, .. } = entries.get(nth as usize % MAX_CHILDREN)?;
    let node = NodeRef { block: block.get(), crc: crc.get(), count: count.get(), level };
    Some(node).filter(|node| node.block != 0)
}

impl VolumeMap {
    /// Shows a visitor a node that is on the disk, and what is below it there, unless it is in
    /// memory.
    fn show<D: BlockDevice>(
        &self,
        store: &mut Store<D>,
        (place, node): (NodeIndex, NodeRef),
        visitor: &mut dyn Visitor,
    ) -> Result<(), D> {
        if self.find(place).is_ok() {
            visitor.run(Extent::one(node.block));
            return Ok(());
        }
        store.visit(Whose::Volume(self.name), node, self.span(place), visitor)
    }
}

impl<D: BlockDevice> UnderWay<D> for VolumeMap {
    fn visit(&self, store: &mut Store<D>, visitor: &mut dyn Visitor) -> Result<(), D> {
        let root = self.root.map(|root| ((self.top, 0), root));
        let mut result = root.map_or(Ok(()), |root| self.show(store, root, visitor));
        for node in &self.kept {
            match &node.content {
                Content::Leaf(table) => {
                    let blocks = table.iter().flat_map(Table::blocks);
                    blocks.for_each(|block| visitor.run(Extent::one(block)));
                }
                Content::Upper(entries) => {
                    let (level, nth) = node.place;
                    let first = nth * MAX_CHILDREN as u32;
                    for place in (first..).take(entries.len()).map(|nth| (level - 1, nth)) {
                        let child = child(entries, place).map(|node| (place, node));
                        let shown = child.map_or(Ok(()), |child| self.show(store, child, visitor));
                        result = result.and(shown);
                    }
                }
            }
        }
        result
    }
}
