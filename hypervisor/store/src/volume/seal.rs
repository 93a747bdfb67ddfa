//! Writes what has changed of a volume's map, from the leaves to the root: [`Store::seal`].

use super::map::VolumeMap;
use super::table::Table;
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::layout::{ChildEntry, MAX_CHILDREN, crc32c};
use crate::map::{Node, NodeRef};
use crate::store::{Result, Store};
use alloc::string::ToString;
use alloc::vec::Vec;

impl<D: BlockDevice> Store<D> {
    /// Writes what has changed of a map. Its root stands for all of the volume then, and what the map refers to is not written any more. `beside` is what else is
    /// being written.
    ///
    /// # Errors
    ///
    /// [`Error::VolumeFull`], and what the device says. The map is as it was then, and can be sealed later.
    pub(super) fn seal(
        &mut self,
        map: &mut VolumeMap,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        if !map.is_dirty() {
            return Ok(());
        }
        // The nodes that are written anew are nobody's then.
        self.space_is_stale();
        let written = self.write_changes(map, beside);
        let ended = self.end_blocks();
        written.and(ended)?;
        for nth in map.dirty.drain(..) {
            let leaf = &mut map.leaves[nth as usize];
            leaf.is_dirty = false;
            leaf.table.iter_mut().for_each(Table::seal);
        }
        Ok(())
    }

    /// Begins to write the nodes of a map that have changed.
    fn write_changes(&mut self, map: &mut VolumeMap, beside: &[&dyn UnderWay<D>]) -> Result<(), D> {
        map.dirty.sort_unstable();
        let mut changed = map.dirty.clone();
        for nth in &changed {
            let nth = *nth as usize;
            let blocks = map.span(0, nth);
            let table = map.leaves[nth].table.first();
            let entries = table.map(|table: &Table| table.entries(blocks)).unwrap_or_default();
            self.write_node(map, (0, nth), &entries, beside)?;
        }
        for level in 1..map.levels.len() {
            changed.iter_mut().for_each(|nth| *nth /= MAX_CHILDREN as u32);
            changed.dedup();
            for nth in &changed {
                let entries = children(map, level, *nth as usize);
                self.write_node(map, (level as u8, *nth as usize), &entries, beside)?;
            }
        }
        Ok(())
    }

    /// Writes a node of a map with these entries, or none if there are none, and notes it in the map.
    fn write_node(
        &mut self,
        map: &mut VolumeMap,
        (level, nth): (u8, usize),
        entries: &[ChildEntry],
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        let mut node = None;
        if !entries.is_empty() {
            let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
            under_way.push(map);
            let taken = self.take_beside(1, self.kept_for_volumes(), &under_way)?;
            let full = || Error::VolumeFull { name: map.name.to_string() };
            let block = taken.ok_or_else(full)?.first;
            let bytes = Node::encode(level, map.span(level, nth), entries);
            self.begin_block(block, &bytes)?;
            node = Some(NodeRef { block, crc: crc32c(&bytes), count: entries.len() as u32, level });
        }
        map.levels[usize::from(level)][nth] = node;
        Ok(())
    }
}

/// Returns the entries of a node above level 0; none if all below it is zeros.
fn children(map: &VolumeMap, level: usize, nth: usize) -> Vec<ChildEntry> {
    let below = map.levels[level - 1].iter().skip(nth * MAX_CHILDREN).take(MAX_CHILDREN);
    let width = Node::width(level as u8 - 1) as u32;
    let entry = |(child, node): (u32, &Option<NodeRef>)| {
        let (block, crc, count) = node.map_or((0, 0, 0), |node| (node.block, node.crc, node.count));
        ChildEntry {
            at: (child * width).into(),
            block: block.into(),
            crc: crc.into(),
            count: count.into(),
        }
    };
    if below.clone().all(Option::is_none) {
        return Vec::new();
    }
    (0..).zip(below).map(entry).collect()
}
