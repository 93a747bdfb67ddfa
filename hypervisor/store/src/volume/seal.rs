//! Writes what has changed of a volume's map, from the leaves to the root: [`Store::seal`].

use super::map::{Content, VolumeMap};
use super::table::Table;
use crate::block::BlockDevice;
use crate::error::{Error, VolumeFault};
use crate::free::UnderWay;
use crate::layout::ChildEntry;
use crate::map::{Node, NodeRef};
use crate::store::{Result, Store};
use alloc::string::ToString;
use alloc::vec::Vec;

impl<D: BlockDevice> Store<D> {
    /// Writes what has changed of a map. Its root stands for all of the volume then, and what the
    /// map refers to is not written any more. `beside` is what else is being written. What other
    /// maps need stays free.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::Full`], and what the device says. The map is as it was then, and can be
    /// sealed later.
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
        let written = self.write_nodes(map, beside);
        // Also where one was not begun: the device keeps an error until the writes are ended.
        let ended = self.end_blocks();
        written.and(ended)?;
        for node in map.kept.iter_mut().filter(|node| node.is_dirty) {
            node.is_dirty = false;
            if let Content::Leaf(table) = &mut node.content {
                table.iter_mut().for_each(Table::seal);
            }
        }
        Ok(())
    }

    /// Begins to write all nodes that have changed: those below before those above, which refer to
    /// them.
    fn write_nodes(&mut self, map: &mut VolumeMap, beside: &[&dyn UnderWay<D>]) -> Result<(), D> {
        for at in 0..map.kept.len() {
            let node = &map.kept[at];
            if node.is_dirty {
                let place = node.place;
                let written = self.write_node(map, at, beside)?;
                map.set_node_ref(place, written);
            }
        }
        Ok(())
    }

    /// Begins to write a node of a map, unless all of it is zeros.
    fn write_node(
        &mut self,
        map: &VolumeMap,
        at: usize,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<Option<NodeRef>, D> {
        let node = &map.kept[at];
        let blocks = map.span(node.place);
        let leaf: Vec<ChildEntry>;
        let entries = match &node.content {
            Content::Leaf(table) => {
                leaf = table.first().map(|table| table.entries(blocks)).unwrap_or_default();
                &leaf
            }
            Content::Upper(entries) => entries,
        };
        if entries.iter().all(|entry| entry.block.get() == 0) {
            return Ok(None);
        }
        let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
        under_way.push(map);
        let taken = self.take_beside(1, self.kept_for_volumes(), &under_way)?;
        let full = || Error::Volume(VolumeFault::Full { name: map.name.to_string() });
        let block = taken.ok_or_else(full)?.first;
        let level = node.place.0;
        let bytes = Node::encode(level, blocks, entries);
        self.begin_blocks(block, &bytes)?;
        Ok(Some(NodeRef { block, crc: self.crc32c(&bytes), count: entries.len() as u32, level }))
    }
}
