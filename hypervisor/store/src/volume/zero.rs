//! Makes parts of a volume zeros, which stand nowhere: [`Store::zero_volume`].

use super::map::{NodeIndex, Open, VolumeMap};
use crate::block::BlockDevice;
use crate::error::{Error, VolumeFault};
use crate::free::UnderWay;
use crate::layout::BLOCK;
use crate::space::Extent;
use crate::store::{Result, Store};
use core::ops::Range;

impl<D: BlockDevice> Store<D> {
    /// Makes bytes of a volume zeros. In a store that has no room for the nodes that change with
    /// it, the volume is flushed in between: what was made zeros until then is free after that.
    pub(super) fn zero_volume(
        &mut self,
        open: &mut Open,
        offset: u64,
        len: u64,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        let (block, end) = (BLOCK as u64, offset + len);
        let (first, behind) = (offset.next_multiple_of(block), end - end % block);
        if first >= behind {
            return self.write_zeros(&mut open.map, offset..end, beside);
        }
        self.write_zeros(&mut open.map, offset..first, beside)?;
        self.write_zeros(&mut open.map, behind..end, beside)?;
        self.settle()?;
        let (mut index, end) = ((first / block) as u32, (behind / block) as u32);
        while index < end {
            let (leaf, nth) = VolumeMap::leaf_of(index);
            let blocks = (end - index).min(open.map.span(leaf) - nth);
            let zeros = (leaf, nth..nth + blocks);
            match self.zero_in_leaf(&mut open.map, zeros.clone(), beside) {
                Err(Error::Volume(VolumeFault::Full { .. })) => {
                    self.commit_volume(open, beside)?;
                    self.zero_in_leaf(&mut open.map, zeros, beside)?;
                }
                other => other?,
            }
            index += blocks;
            // Each leaf is work of memory, for which no device is waited.
            self.device.pause();
        }
        Ok(())
    }

    /// Writes zeros to parts of blocks, fewer than two whole ones.
    fn write_zeros(
        &mut self,
        map: &mut VolumeMap,
        bytes: Range<u64>,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        let zeros = &mut |piece: &mut [u8]| {
            piece.fill(0);
            true
        };
        self.write_volume(map, bytes.start, bytes.end - bytes.start, zeros, beside).map(drop)
    }

    /// Makes whole blocks of a leaf zeros that stand nowhere.
    fn zero_in_leaf(
        &mut self,
        map: &mut VolumeMap,
        (leaf, blocks): (NodeIndex, Range<u32>),
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        if leaf.0 < map.top {
            self.load(map, VolumeMap::above(leaf), false)?;
        }
        if map.node_ref(leaf).is_none() && map.table_mut(leaf).is_none() {
            return Ok(());
        }
        self.make_memory(map, beside)?;
        self.make_room_for(map, leaf, 0, beside)?;
        self.space_is_stale();
        if blocks.len() as u32 == map.span(leaf) {
            return self.clear_leaf(map, leaf);
        }
        self.load_to_change(map, leaf)?;
        let Some(table) = map.table_mut(leaf) else { return Ok(()) };
        for nth in blocks {
            if let Some(block) = table.get(nth).filter(|_| table.is_fresh(nth)) {
                self.give_back(Extent::one(block));
            }
            table.clear(nth);
        }
        Ok(())
    }

    /// Makes a leaf one that is not there: the nodes above it change alone.
    fn clear_leaf(&mut self, map: &mut VolumeMap, leaf: NodeIndex) -> Result<(), D> {
        if leaf.0 < map.top {
            self.load_to_change(map, VolumeMap::above(leaf))?;
        }
        map.set_node_ref(leaf, None);
        map.drop_node(leaf);
        Ok(())
    }
}
