//! Reads and writes volumes: [`Volumes`].

use super::map::{NodeIndex, Open, VolumeMap};
use crate::block::{BlockDevice, SECTOR};
use crate::buffer::buffer;
use crate::error::{Error, VolumeFault};
use crate::free::UnderWay;
use crate::layout::{BLOCK, BLOCK_SECTORS, LEAF_BLOCKS};
use crate::map::Builder;
use crate::space::Extent;
use crate::store::{Result, Store};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks that no data are written to, so that something can be made zeros, and freed thereby, in a
/// store that is full otherwise.
pub(super) const SPARE: u64 = 8;

/// Zeros that are handed out at once of what stands nowhere, in bytes.
const ZEROS: usize = 64 << 10;

/// What is read from the device before it is seen that nobody takes it any more, in bytes.
const STEP: usize = 1 << 20;

/// The volumes of a store, for whoever has the store or has borrowed it.
///
/// A volume is opened by its first use, and stays open until [`close`](Self::close). Offsets and
/// lengths are in bytes and multiples of 512. What was written is read at once, and is in the
/// store, whatever happens, when [`flush`](Self::flush) has returned. Until then, a loss of power
/// leaves the volume as its last flush did.
///
/// # Errors
///
/// All methods return [`VolumeFault::NotThere`], [`VolumeFault::Beyond`], [`VolumeFault::Damaged`],
/// [`VolumeFault::WritesLost`], [`Error::OutOfMemory`], and what the device says; those that write
/// also [`VolumeFault::Full`]. Of a write that fails, any part may have been done.
#[derive(Debug)]
pub struct Volumes<'s, D: BlockDevice> {
    pub(super) store: &'s mut Store<D>,
    /// The map of the checkpoint that is being written.
    beside: Option<&'s Builder>,
    /// Is set when the device fails: it may be a write of the checkpoint that has failed.
    failed: Option<&'s mut bool>,
}

impl<D: BlockDevice> Store<D> {
    /// Returns the store's volumes, to read and write them.
    pub fn volumes_mut(&mut self) -> Volumes<'_, D> {
        Volumes { store: self, beside: None, failed: None }
    }
}

impl<'s, D: BlockDevice> Volumes<'s, D> {
    /// Returns the volumes of a store in which a checkpoint is being written.
    pub(crate) fn beside(
        store: &'s mut Store<D>,
        builder: Option<&'s Builder>,
        failed: &'s mut bool,
    ) -> Self {
        Self { store, beside: builder, failed: Some(failed) }
    }

    /// Returns the bytes of a volume.
    pub fn length(&mut self, name: &str) -> Result<u64, D> {
        self.with(name, |_, open, _| Ok(open.volume.length))
    }

    /// Fills `into` with what stands at `offset`.
    pub fn read(&mut self, name: &str, offset: u64, mut into: &mut [u8]) -> Result<(), D> {
        let read = self.read_while(name, offset, into.len() as u64, &mut copy_into(&mut into));
        read.map(drop)
    }

    /// Hands the `len` bytes at `offset` to `take` in pieces, in their order, for as long as it
    /// returns true: for whoever has no buffer that could be lent, such as a guest. Returns whether
    /// that was so to the end.
    pub fn read_while(
        &mut self,
        name: &str,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, D> {
        let beside = offset..offset.saturating_add(len);
        self.with_late(name, Some(beside), |store, open, _| {
            check(open, offset, len)?;
            store.read_volume(&mut open.map, offset, len, take)
        })
    }

    /// Writes bytes at `offset`.
    pub fn write(&mut self, name: &str, offset: u64, mut from: &[u8]) -> Result<(), D> {
        let written = self.write_while(name, offset, from.len() as u64, &mut |piece| {
            let (now, later) = from.split_at(piece.len());
            piece.copy_from_slice(now);
            from = later;
            true
        });
        written.map(drop)
    }

    /// Writes `len` bytes at `offset`, which `fill` puts into the pieces that it is given, in their
    /// order, for as long as it returns true. Returns whether that was so to the end: what `fill`
    /// has refused is as it was, and so is all behind it.
    pub fn write_while(
        &mut self,
        name: &str,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, D> {
        self.with(name, |store, open, beside| {
            check(open, offset, len)?;
            store.write_volume(&mut open.map, offset, len, fill, beside)
        })
    }

    /// Makes `len` bytes at `offset` zeros. Whole blocks take no room any more.
    pub fn zero(&mut self, name: &str, offset: u64, len: u64) -> Result<(), D> {
        self.with(name, |store, open, beside| {
            check(open, offset, len)?;
            store.zero_volume(open, offset, len, beside)
        })
    }

    /// Makes all that was written to a volume part of the store, as one: it is all there then, or,
    /// if this fails or power does, it is all there or nothing of it.
    pub fn flush(&mut self, name: &str) -> Result<(), D> {
        self.with(name, |store, open, beside| store.commit_volume(open, beside))
    }

    /// Opens the volume `name` as it was at the instant of the checkpoint with this number, in the
    /// place of the volume of this name, until it is [closed](Self::close). For whoever only reads
    /// it: a flush would make the volume what it was then.
    ///
    /// # Errors
    ///
    /// Also those of [`Store::instants`], and [`VolumeFault::NoInstant`].
    pub fn open_instant(&mut self, number: u64, name: &str) -> Result<(), D> {
        let instant = self.store.instant(number, name)?;
        let volume = instant.volume(instant.name, 0);
        self.close(name);
        self.store
            .open
            .try_reserve(1)
            .map_err(|_| Error::OutOfMemory { bytes: size_of::<Open>() })?;
        self.store.open.push(Open::new(volume));
        Ok(())
    }

    /// Fills `into` with what stood at `offset` of a volume at the instant of the checkpoint with
    /// this number.
    ///
    /// # Errors
    ///
    /// Also those of [`Store::instants`], and [`VolumeFault::NoInstant`].
    pub fn read_instant(
        &mut self,
        number: u64,
        name: &str,
        offset: u64,
        mut into: &mut [u8],
    ) -> Result<(), D> {
        let instant = self.store.instant(number, name)?;
        let volume = instant.volume(instant.name, 0);
        let mut open = Open::new(volume);
        let len = into.len() as u64;
        check(&open, offset, len)?;
        self.store.read_volume(&mut open.map, offset, len, &mut copy_into(&mut into)).map(drop)
    }

    /// Returns the first blocks of 4096 bytes from block `from` on that may hold anything but
    /// zeros, and follow each other; `None` if there are none.
    pub fn next_data(&mut self, name: &str, from: u32) -> Result<Option<Range<u32>>, D> {
        self.with(name, |store, open, _| {
            let map = &mut open.map;
            let mut at = from;
            while at < map.blocks() {
                let (place, blocks) = store.locate(map, at, map.blocks() - at)?;
                if place.is_some() {
                    return Ok(Some(at..at + blocks));
                }
                at += blocks;
            }
            Ok(None)
        })
    }

    /// Calls `action` with the store and a volume that is in use, which the store does not have
    /// meanwhile, and with what else is under way. Its late writes are written before.
    pub(super) fn with<T>(
        &mut self,
        name: &str,
        action: impl FnOnce(&mut Store<D>, &mut Open, &[&dyn UnderWay<D>]) -> Result<T, D>,
    ) -> Result<T, D> {
        self.with_late(name, None, action)
    }

    /// Does as [`with`](Self::with); also where late writes are refused, if `action` only reads
    /// these bytes `beside` them.
    fn with_late<T>(
        &mut self,
        name: &str,
        beside: Option<Range<u64>>,
        action: impl FnOnce(&mut Store<D>, &mut Open, &[&dyn UnderWay<D>]) -> Result<T, D>,
    ) -> Result<T, D> {
        let mut open = self.store.take_open(name)?;
        let builder = self.beside.map(|builder| builder as &dyn UnderWay<D>);
        let is_beside =
            |open: &Open| beside.as_ref().is_some_and(|read| open.is_beside_refused(read));
        let mut written = Ok(());
        // What was refused once is not tried again by each read: that may take the disk long.
        if !is_beside(&open) {
            written = self.store.write_late(&mut open, builder.as_slice());
            self.note_failed(&written);
        }
        let result = match written {
            Err(error) if !is_beside(&open) => Err(error),
            _ => action(self.store, &mut open, builder.as_slice()),
        };
        // The list of open volumes has room: one was taken out, or reserved.
        self.store.open.push(open);
        self.note_failed(&result);
        result
    }

    /// Notes that the device has failed, which may be of the checkpoint that is being written.
    fn note_failed<T>(&mut self, result: &Result<T, D>) {
        if let (Some(failed), Err(Error::Device { .. })) = (&mut self.failed, result) {
            // What can't be read has nothing to do with the checkpoint.
            **failed |= !result.as_ref().is_err_and(Error::is_of_reading);
        }
    }
}

/// Returns what copies pieces to `into`, one behind the other.
fn copy_into<'i>(into: &'i mut &mut [u8]) -> impl FnMut(&[u8]) -> bool + 'i {
    |piece| {
        let (now, later) = core::mem::take(into).split_at_mut(piece.len());
        now.copy_from_slice(piece);
        *into = later;
        true
    }
}

/// Checks that an access is to bytes that a volume has, and to whole sectors.
pub(super) fn check<E: core::fmt::Display + core::fmt::Debug>(
    open: &Open,
    offset: u64,
    len: u64,
) -> core::result::Result<(), Error<E>> {
    let length = open.volume.length;
    let is_whole = offset.is_multiple_of(SECTOR as u64) && len.is_multiple_of(SECTOR as u64);
    if is_whole && offset.checked_add(len).is_some_and(|end| end <= length) {
        return Ok(());
    }
    Err(VolumeFault::Beyond { name: open.volume.name.to_string(), offset, len, length }.into())
}

impl<D: BlockDevice> Store<D> {
    /// Takes a volume out of those in use, and opens it if it is none of them. There is room to put
    /// it back.
    fn take_open(&mut self, name: &str) -> Result<Open, D> {
        self.check_not_lost(name)?;
        let is_it = |open: &Open| open.volume.name.as_str() == name;
        if let Some(at) = self.open.iter().position(is_it) {
            // `Vec::swap_remove` would copy it twice, and mostly it is the last one.
            let last = self.open.len() - 1;
            if at != last {
                self.open.swap(at, last);
            }
            if let Some(open) = self.open.pop() {
                return Ok(open);
            }
        }
        let volume = self.find_volume(name)?.clone();
        self.open.try_reserve(1).map_err(|_| Error::OutOfMemory { bytes: size_of::<Open>() })?;
        Ok(Open::new(volume))
    }

    /// Makes what was written to a volume part of the store.
    pub(super) fn commit_volume(
        &mut self,
        open: &mut Open,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        // A commit that has failed may refer to blocks that are free.
        self.settle()?;
        self.seal(&mut open.map, beside)?;
        open.volume.root = open.map.root();
        let mut catalog = self.catalog.clone();
        match catalog.volumes.binary_search_by_key(&open.volume.name, |one| one.name) {
            Ok(at) if catalog.volumes[at] == open.volume => return Ok(()),
            Ok(at) => catalog.volumes[at] = open.volume.clone(),
            Err(at) => catalog.volumes.insert(at, open.volume.clone()),
        }
        self.end_blocks()?;
        self.write_catalog(catalog)
    }

    /// Returns where a block of a volume stands, or `None` if it is zeros, and how many blocks,
    /// `most` at most, follow it there, or are zeros as it is.
    fn locate(
        &mut self,
        map: &mut VolumeMap,
        index: u32,
        most: u32,
    ) -> Result<(Option<u32>, u32), D> {
        let (leaf, nth) = VolumeMap::leaf_of(index);
        let most = most.min(map.span(leaf) - nth);
        Ok(match self.table(map, leaf)? {
            Some(table) => (table.get(nth), table.run_length(nth, most)),
            None => (None, most),
        })
    }

    /// Hands the `len` bytes at `offset` to `take` in pieces, in their order, for as long as it
    /// returns true. Returns whether that was so to the end.
    fn read_volume(
        &mut self,
        map: &mut VolumeMap,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<bool, D> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let within = at % BLOCK as u64;
            let wanted = (within + end - at).div_ceil(BLOCK as u64);
            let most = u32::try_from(wanted).unwrap_or(u32::MAX);
            let (place, blocks) = self.locate(map, (at / BLOCK as u64) as u32, most)?;
            let now = (u64::from(blocks) * BLOCK as u64 - within).min(end - at);
            let now = now.min(STEP as u64) as usize;
            let is_taken = match place {
                Some(block) => {
                    let sector = u64::from(block) * BLOCK_SECTORS + within / SECTOR as u64;
                    let mut is_taken = true;
                    let take = &mut |piece: &[u8]| is_taken = is_taken && take(piece);
                    self.read_sectors_with(sector, now, take)?;
                    is_taken
                }
                None => self.take_zeros(now, take)?,
            };
            if !is_taken {
                return Ok(false);
            }
            at += now as u64;
        }
        Ok(true)
    }

    /// Hands `len` zeros to `take` in pieces, for as long as it returns true. Returns whether that
    /// was so to the end. The device does nothing for them, so others get the core behind each
    /// [`ZEROS`].
    fn take_zeros(&mut self, len: usize, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool, D> {
        let zeros: Vec<u8> = buffer(len.min(ZEROS))?;
        for at in (0..len).step_by(ZEROS) {
            let piece = &zeros[..ZEROS.min(len - at)];
            if !take(piece) {
                return Ok(false);
            }
            if piece.len() == ZEROS {
                self.device.pause();
            }
        }
        Ok(true)
    }

    /// Writes `len` bytes at `offset`, which `fill` makes, piece by piece, for as long as it
    /// returns true. Returns whether that was so to the end.
    pub(super) fn write_volume(
        &mut self,
        map: &mut VolumeMap,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<bool, D> {
        if len == 0 {
            return Ok(true);
        }
        // A commit that has failed may refer to blocks that are free.
        self.settle()?;
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let (index, within) = ((at / BLOCK as u64) as u32, at % BLOCK as u64);
            let whole = (end - at) / BLOCK as u64;
            let (now, is_filled) = if within == 0 && whole > 0 {
                let (leaf, nth) = VolumeMap::leaf_of(index);
                let blocks = u32::try_from(whole).unwrap_or(u32::MAX).min(LEAF_BLOCKS - nth);
                let is_filled = self.write_in_leaf(map, (leaf, nth..nth + blocks), fill, beside)?;
                (u64::from(blocks) * BLOCK as u64, is_filled)
            } else {
                let part = within..(within + end - at).min(BLOCK as u64);
                (part.end - part.start, self.write_part(map, index, part, fill, beside)?)
            };
            if !is_filled {
                return Ok(false);
            }
            at += now;
        }
        Ok(true)
    }

    /// Writes a part of the block `index`, which is read before.
    fn write_part(
        &mut self,
        map: &mut VolumeMap,
        index: u32,
        part: Range<u64>,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<bool, D> {
        let mut block: Vec<u8> = buffer(BLOCK)?;
        let mut rest = &mut block[..];
        let offset = u64::from(index) * BLOCK as u64;
        self.read_volume(map, offset, BLOCK as u64, &mut copy_into(&mut rest))?;
        if !fill(&mut block[part.start as usize..part.end as usize]) {
            return Ok(false);
        }
        let (leaf, nth) = VolumeMap::leaf_of(index);
        let whole = &mut |piece: &mut [u8]| {
            piece.copy_from_slice(&block);
            true
        };
        self.write_in_leaf(map, (leaf, nth..nth + 1), whole, beside)
    }

    /// Writes blocks that one leaf is about: in their places those that nobody else refers to, and
    /// others to free blocks. `fill` makes them, for as long as it returns true; returns whether
    /// that was so to the end.
    fn write_in_leaf(
        &mut self,
        map: &mut VolumeMap,
        (leaf, blocks): (NodeIndex, Range<u32>),
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<bool, D> {
        self.make_memory(map, beside)?;
        self.make_room_for(map, leaf, SPARE + 1, beside)?;
        self.load_to_change(map, leaf)?;
        let mut nth = blocks.start;
        while nth < blocks.end {
            let most = blocks.end - nth;
            let Some(table) = map.table_mut(leaf) else { return Ok(true) };
            let run = match table.get(nth).filter(|_| table.is_fresh(nth)) {
                Some(first) => Extent { first, blocks: table.run_length(nth, most) },
                None => {
                    let stale = table.stale_length(nth, most);
                    self.take_for(map, stale, beside)?
                }
            };
            // What stood there before may be nobody's now.
            self.space_is_stale();
            if !self.write_run(run, fill)? {
                return Ok(false);
            }
            map.table_mut(leaf).into_iter().for_each(|table| table.place(nth, run));
            nth += run.blocks;
        }
        Ok(true)
    }

    /// Writes blocks, which `fill` makes, and waits until the device has them. Returns whether
    /// `fill` has made all.
    fn write_run(
        &mut self,
        run: Extent,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, D> {
        let begun = self.begin_blocks_while(run.first, run.blocks as usize * BLOCK, fill);
        // Also where it was not begun: the device keeps an error until it is asked.
        let ended = self.end_blocks();
        begun.and_then(|is_filled| ended.map(|()| is_filled))
    }

    /// Takes `want` free blocks that follow each other, or fewer, so that all maps in use can still
    /// be written.
    fn take_for(
        &mut self,
        map: &VolumeMap,
        want: u32,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<Extent, D> {
        let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
        under_way.push(map);
        let kept = self.kept_for_volumes() + map.needed() + SPARE;
        let taken = self.take_beside(want, kept, &under_way)?;
        taken.ok_or(Error::Volume(VolumeFault::Full { name: map.name.to_string() }))
    }

    /// Returns how many blocks must stay free, so that what has changed of the maps in use can be
    /// written, and late writes.
    pub(crate) fn kept_for_volumes(&self) -> u64 {
        self.open.iter().map(|open| open.map.needed() + open.map.promised).sum()
    }

    /// Sees to it that there is room for a node that will change, and those above it, and for
    /// `more` blocks.
    pub(super) fn make_room_for(
        &mut self,
        map: &mut VolumeMap,
        place: NodeIndex,
        more: u64,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        if map.get_mut(place).is_some_and(|node| node.is_dirty) {
            return Ok(());
        }
        let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
        under_way.push(map);
        let needed = self.kept_for_volumes() + map.needed() + map.path_length() + more;
        if self.make_room(needed, &under_way)? {
            return Ok(());
        }
        Err(VolumeFault::Full { name: map.name.to_string() }.into())
    }
}
