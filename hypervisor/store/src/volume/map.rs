//! The map of a volume in use: [`VolumeMap`].
//!
//! All nodes above level 0 are known from the beginning: they are few. Of level 0, what was used is kept as [`Table`]s, [`MAX_TABLES`] of all volumes at most, so that a block is found by
//! a look-up; the others are read when they are needed. A table that has changed is kept until it was written (`seal`).

use super::table::Table;
use super::{Name, Volume, root_level};
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::layout::{LEAF_BLOCKS, MAX_CHILDREN};
use crate::map::{Node, NodeRef, Visitor, Whose};
use crate::space::Extent;
use crate::store::{Result, Store};
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

/// Tables that are kept in memory for each volume, at most: 1 MiB, for 1 GiB of the volume.
pub(super) const MAX_TABLES: usize = 528;

/// A volume in use.
#[derive(Debug)]
pub(crate) struct Open {
    /// The volume; its root is the catalog's, or was when it was opened.
    pub volume: Volume,
    pub map: VolumeMap,
}

/// Where all blocks of a volume stand.
#[derive(Debug)]
pub(crate) struct VolumeMap {
    pub(super) name: Name,
    pub(super) blocks: u32,
    /// The nodes of each level; the last one has the root alone. `None` for a node that is not there, as all below it is zeros.
    pub(super) levels: Vec<Vec<Option<NodeRef>>>,
    pub(super) leaves: Vec<Leaf>,
    /// Leaves whose table, or whose absence, differs from their node, in any order.
    pub(super) dirty: Vec<u32>,
    /// Tables in memory.
    pub(super) tables: usize,
}

/// A node of level 0 in memory.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    /// One table, or none.
    pub table: Vec<Table>,
    pub is_dirty: bool,
}

/// A vector of `len` default values, or an error where that is too much to ask for.
fn vector<T: Default, E: Display + Debug>(len: usize) -> core::result::Result<Vec<T>, Error<E>> {
    let mut vector = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    vector.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    vector.resize_with(len, T::default);
    Ok(vector)
}

impl VolumeMap {
    /// Returns the map of a volume, whose nodes above level 0 are read.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::VolumeDamaged`], and what the device says.
    pub fn open<D: BlockDevice>(store: &mut Store<D>, volume: &Volume) -> Result<Self, D> {
        let blocks = volume.blocks();
        let top = root_level(blocks);
        let mut levels = Vec::new();
        for level in 0..=top {
            let count = u64::from(blocks).div_ceil(Node::width(level)) as usize;
            levels.push(vector(count)?);
        }
        let leaves = vector(levels[0].len())?;
        let mut map =
            Self { name: volume.name, blocks, levels, leaves, dirty: Vec::new(), tables: 0 };
        map.levels[usize::from(top)][0] = volume.root;
        for level in (1..=top).rev() {
            map.read_level(store, level)?;
        }
        Ok(map)
    }

    /// Reads the nodes of a level, which say those of the level below.
    fn read_level<D: BlockDevice>(&mut self, store: &mut Store<D>, level: u8) -> Result<(), D> {
        let above = usize::from(level);
        for nth in 0..self.levels[above].len() {
            let Some(of) = self.levels[above][nth] else { continue };
            let node = store.read_node(Whose::Volume(self.name), &of, self.span(level, nth))?;
            let below = self.levels[above - 1].iter_mut().skip(nth * MAX_CHILDREN);
            for (child, slot) in (0..node.count()).zip(below) {
                *slot = Some(node.child(child)).filter(|_| !node.is_hole(child));
            }
        }
        Ok(())
    }

    /// Returns the root of the map, as far as it was written.
    pub fn root(&self) -> Option<NodeRef> {
        self.levels.last().and_then(|top| top.first().copied().flatten())
    }

    /// Returns how many blocks the `nth` node of a level maps.
    pub(super) fn span(&self, level: u8, nth: usize) -> u32 {
        let width = Node::width(level);
        let rest = u64::from(self.blocks).saturating_sub(width * nth as u64);
        rest.min(width) as u32
    }

    /// Returns whether anything was changed since the map was sealed.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Returns how many blocks it takes, at most, to write what has changed of the map, and `more` leaves.
    pub fn needed(&self, more: usize) -> u64 {
        let changed = self.dirty.len() + more;
        // A leaf of zeros has no node, and no table.
        let leaves = changed.min(self.tables + more);
        let above = self.levels.iter().skip(1).map(|level| level.len().min(changed));
        (leaves + above.sum::<usize>()) as u64
    }

    /// Returns the table of a leaf, after reading it if need be; `None` if all of it is zeros and nobody asked to `make` one.
    pub(super) fn table<D: BlockDevice>(
        &mut self,
        store: &mut Store<D>,
        leaf: usize,
        make: bool,
    ) -> Result<Option<&mut Table>, D> {
        if self.leaves[leaf].table.is_empty() {
            let node = self.levels[0][leaf];
            if node.is_none() && !make {
                return Ok(None);
            }
            self.make_table(leaf)?;
            if let Some(of) = node {
                let node = store.read_node(Whose::Volume(self.name), &of, self.span(0, leaf));
                let node = node.inspect_err(|_| self.drop_table(leaf))?;
                self.leaves[leaf].table[0].fill(&node);
            }
        }
        Ok(self.leaves[leaf].table.first_mut())
    }

    /// Returns whether a leaf needs memory for its table, and there is none but by writing what has changed.
    pub fn is_crowded(&mut self, leaf: usize) -> bool {
        if !self.leaves[leaf].table.is_empty() || self.tables < MAX_TABLES {
            return false;
        }
        self.drop_clean_tables();
        self.tables >= MAX_TABLES
    }

    /// Makes a leaf have a table of zeros.
    fn make_table<E: Display + Debug>(
        &mut self,
        leaf: usize,
    ) -> core::result::Result<(), Error<E>> {
        let mut table: Vec<Table> = Vec::new();
        if table.try_reserve_exact(1).is_err() {
            self.drop_clean_tables();
            let none = |_| Error::OutOfMemory { bytes: size_of::<Table>() };
            table.try_reserve_exact(1).map_err(none)?;
        }
        table.push(Table::EMPTY);
        self.leaves[leaf].table = table;
        self.tables += 1;
        Ok(())
    }

    fn drop_clean_tables(&mut self) {
        for leaf in 0..self.leaves.len() {
            if !self.leaves[leaf].is_dirty {
                self.drop_table(leaf);
            }
        }
    }

    fn drop_table(&mut self, leaf: usize) {
        self.tables -= self.leaves[leaf].table.len();
        self.leaves[leaf].table = Vec::new();
    }

    /// Notes that a leaf will differ from its node.
    pub(super) fn mark_dirty<E: Display + Debug>(
        &mut self,
        leaf: usize,
    ) -> core::result::Result<(), Error<E>> {
        if !self.leaves[leaf].is_dirty {
            let none = |_| Error::OutOfMemory { bytes: size_of::<u32>() };
            self.dirty.try_reserve(1).map_err(none)?;
            self.dirty.push(leaf as u32);
            self.leaves[leaf].is_dirty = true;
        }
        Ok(())
    }

    /// Makes all blocks of a leaf zeros. The leaf is dirty.
    pub(super) fn clear_leaf(&mut self, leaf: usize) {
        self.drop_table(leaf);
        self.levels[0][leaf] = None;
    }

    /// Returns the leaf that is about a block, and the block's place in it.
    pub(super) fn place_of(index: u32) -> (usize, u32) {
        ((index / LEAF_BLOCKS) as usize, index % LEAF_BLOCKS)
    }
}

impl<D: BlockDevice> UnderWay<D> for VolumeMap {
    fn visit(&self, store: &mut Store<D>, visitor: &mut dyn Visitor) -> Result<(), D> {
        let nodes = self.levels.iter().flatten().flatten();
        nodes.for_each(|node| visitor.run(Extent::one(node.block)));
        let mut result = Ok(());
        for (nth, leaf) in self.leaves.iter().enumerate() {
            match (leaf.table.first(), self.levels[0][nth]) {
                (Some(table), _) => {
                    table.blocks().for_each(|block| visitor.run(Extent::one(block)))
                }
                (None, Some(node)) => {
                    let whose = Whose::Volume(self.name);
                    result = result.and(store.visit(whose, node, self.span(0, nth), visitor));
                }
                (None, None) => {}
            }
        }
        result
    }
}
