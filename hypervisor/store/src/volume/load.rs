//! Which nodes of the maps of volumes are in memory: those that were used last, of all volumes
//! together.
//!
//! [`MAX_UNITS`] bound what all maps in use take. Where there is no more, the node that was used
//! least recently is dropped, whosesoever it is, unless it has changed. Before so much has changed
//! that reads would find no memory, a write writes what has changed (`seal`); a read never does.

use super::map::{NodeIndex, Open, UPPER_UNITS, VolumeMap};
use super::table::Table;
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::map::Whose;
use crate::store::{Result, Store};
use alloc::vec::Vec;

/// Memory for the nodes of all volumes in use, in units of 2 KiB: 1 MiB, a quarter of what Stasis
/// has on a machine. The tables of 1 GiB fit.
const MAX_UNITS: usize = 512;
/// Memory of it that nodes which have changed leave to others: several times what one access needs.
const CLEAN_UNITS: usize = 32;

impl<D: BlockDevice> Store<D> {
    /// Brings a node into memory, after reading it if need be. Returns whether it is there: if all
    /// of it is zeros, only if somebody asked to `make` it.
    pub(super) fn load(
        &mut self,
        map: &mut VolumeMap,
        place: NodeIndex,
        make: bool,
    ) -> Result<bool, D> {
        self.uses += 1;
        if let Some(node) = map.get_mut(place) {
            node.used = self.uses;
            return Ok(true);
        }
        if place.0 < map.top && !self.load(map, VolumeMap::above(place), make)? {
            return Ok(false);
        }
        let of = map.node_ref(place);
        if of.is_none() && !make {
            return Ok(false);
        }
        let whose = Whose::Volume(map.name);
        let node = of.map(|of| self.read_node(whose, &of, map.span(place))).transpose()?;
        self.drop_nodes(map, MAX_UNITS - UPPER_UNITS);
        if let Err(Error::OutOfMemory { .. }) = map.keep::<D::Error>(place, node.as_ref()) {
            self.drop_nodes(map, 0);
            map.keep(place, node.as_ref())?;
        }
        map.get_mut(place).into_iter().for_each(|node| node.used = self.uses);
        Ok(true)
    }

    /// Returns the table of a leaf; `None` if all of it is zeros.
    pub(super) fn table<'m>(
        &mut self,
        map: &'m mut VolumeMap,
        leaf: NodeIndex,
    ) -> Result<Option<&'m mut Table>, D> {
        let is_there = self.load(map, leaf, false)?;
        Ok(if is_there { map.table_mut(leaf) } else { None })
    }

    /// Brings a node and all above it into memory, and notes that they will differ from what is on
    /// the disk. Whoever asks for it has seen to it that there is [room](Self::make_room_for) for
    /// them.
    pub(super) fn load_to_change(
        &mut self,
        map: &mut VolumeMap,
        place: NodeIndex,
    ) -> Result<(), D> {
        if place.0 < map.top {
            self.load_to_change(map, VolumeMap::above(place))?;
        }
        self.load(map, place, true)?;
        map.get_mut(place).into_iter().for_each(|node| node.is_dirty = true);
        Ok(())
    }

    /// Writes what has changed of maps, where it leaves too little memory for others.
    pub(super) fn make_memory(
        &mut self,
        map: &mut VolumeMap,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        while self.units(map, true) > MAX_UNITS - CLEAN_UNITS {
            self.settle()?;
            if map.is_dirty() {
                self.seal(map, beside)?;
                continue;
            }
            let largest = (0..self.open.len()).max_by_key(|at| self.open[*at].map.needed());
            let Some(at) = largest else { return Ok(()) };
            let mut other: Open = self.open.swap_remove(at);
            let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
            under_way.push(map);
            let sealed = self.seal(&mut other.map, &under_way);
            // The list of open volumes has room: one was taken out.
            self.open.push(other);
            sealed?;
        }
        Ok(())
    }

    /// Returns the memory that nodes of all maps in use take, or those that have changed.
    fn units(&self, map: &VolumeMap, dirty: bool) -> usize {
        let all = self.open.iter().map(|open| &open.map).chain([map]).flat_map(|map| &map.kept);
        all.filter(|node| node.is_dirty || !dirty).map(|node| node.content.units()).sum()
    }

    /// Drops nodes that have not changed, those that were used least recently, until all others
    /// take `most` units or none is left.
    fn drop_nodes(&mut self, map: &mut VolumeMap, most: usize) {
        let mut units = self.units(map, false);
        while units > most {
            let maps = self.open.iter_mut().map(|open| &mut open.map).chain([&mut *map]);
            let least = maps.filter_map(|map| {
                let clean = map.kept.iter().filter(|node| !node.is_dirty);
                let (used, place) = clean.map(|node| (node.used, node.place)).min()?;
                Some((used, place, map))
            });
            let Some((_, place, map)) = least.min_by_key(|(used, ..)| *used) else { return };
            units -= map.get_mut(place).map_or(0, |node| node.content.units());
            map.drop_node(place);
        }
    }
}

#[cfg(test)]
mod tests;
