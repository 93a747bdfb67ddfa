//! A store: [`Store::format`], [`Store::open`], and what can be done with its catalog.
//!
//! # Why no loss of power can hurt a committed checkpoint
//!
//! The catalog stands in two slots that are written in turn, each with a generation and a checksum.
//! A slot that was not written wholly fails its checksum, and the other one holds. So a reader ends
//! up with one of the (at most two) intact slots, and everything follows from two invariants:
//!
//! > **No block that an intact slot refers to is ever written.**
//! >
//! > **A slot is only written over a catalog that is known to be whole, or over nothing.**
//!
//! 1. What the other slot holds is known ([`Content`]): it was read, or written, and is whole. If
//!    it was torn, or a write to it failed, `settle` destroys its header, and flushes, before
//!    anything else is written. So a slot that is torn by a write holds at most parts of two
//!    catalogs, both of them whole once: the older one, which does not count, and the one under
//!    way. Without this, what two interrupted writes leave could add up to a catalog that nobody
//!    has committed.
//! 2. Contents and maps are written only to blocks that were found free in both slots: when a
//!    checkpoint is begun, or, in a store with block maps, when a block is needed. What is free
//!    there is derived from the maps of both (`free.rs`); blocks of a committed checkpoint may be
//!    referred to, and are not written. Where only blocks will do that the other slot still refers
//!    to, the current catalog is written there first. A [`Writer`] has ended all of its writes when
//!    it is gone, so none comes late to a block that is another checkpoint's by then.
//! 3. A slot is written by `write_catalog` alone. It flushes before, so that all data that the new
//!    catalog refers to, and the slot that a torn write would leave us with, are on the medium; and
//!    after, so that what is called committed is there, too.
//!
//! What remains of a checkpoint that was not committed are blocks that no slot refers to: free
//! ones. `tests/power_loss.rs` tries it: without any one of these steps it fails.

use crate::block::{BlockDevice, SECTOR};
use crate::catalog::{
    Catalog, Checkpoint, IntactSlot, Location, Which, claimed_generation, shown, valid_new_name,
};
use crate::error::Error;
use crate::free::{Damage, Space, largest_of};
use crate::layout::{
    BLOCK, BLOCK_SECTORS, FIRST_DATA_BLOCK, MAX_CHECKPOINTS, NEW_VERSION, SLOT_LEN, SLOT_OFFSET,
    VERSION, VERSION_OF_MAPS, VERSION_OF_UNITS, VERSION_OF_VOLUMES,
};
use crate::map::{BlockMap, Builder};
use crate::partition::Partition;
use crate::reader::Reader;
use crate::set::{MAX_MEMBERS, Member, set_name};
use crate::slots::{Content, DESTROYED};
use crate::space::{Extent, Extents, Free};
use crate::superblock::{Compression, Found};
use crate::unpacked::Unpacked;
use crate::volume::{Name, Open, Taken};
use crate::writer::{Blocks, Writer};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use core::ops::Range;

/// An open store on a device.
#[derive(Debug)]
pub struct Store<D> {
    pub(crate) device: D,
    partition: Partition,
    pub(crate) data: Range<u32>,
    pub(crate) superblock: Found,
    pub(crate) catalog: Catalog,
    /// The largest generation that may stand anywhere, also in a catalog that was never whole.
    last_generation: u64,
    /// The slot that holds `catalog`; the other one is written next.
    pub(crate) slot: usize,
    /// What stands in the slots.
    pub(crate) contents: [Content; 2],
    /// Checkpoints that are written and become part of the catalog with the next one.
    pub(crate) staged: Vec<Checkpoint>,
    /// Checkpoints that go when the next one is committed.
    replaced: Vec<u64>,
    /// What can be given out, in a store with block maps; `None` if nobody has looked.
    pub(crate) space: Option<Space>,
    /// What was found damaged.
    pub(crate) damage: Damage,
    /// The map that `read_of` has used last.
    pub(crate) recent: Option<BlockMap>,
    /// The packed unit that was read last.
    pub(crate) unpacked: Unpacked,
    /// Volumes that are in use.
    pub(crate) open: Vec<Open>,
    /// Volumes as they were at the instants of checkpoints that are not committed yet.
    pub(crate) sealed: Vec<Taken>,
    /// How often a node of a volume's map was used.
    pub(crate) uses: u64,
    /// Volumes in use that have lost writes.
    pub(crate) lost: Vec<Name>,
    /// Whether the device has failed to flush, and nobody has looked yet what was lost thereby.
    pub(crate) flush_has_failed: bool,
}

/// How far a generation may be ahead of the current one and still be believed, of a slot that is
/// not whole.
const GENERATIONS_AHEAD: u64 = 1 << 32;

/// How full a store is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What all checkpoints together can take.
    pub capacity: u64,
    /// What is free.
    pub free: u64,
    /// The largest checkpoint that would fit: less than `free` where the gaps are many.
    pub largest: u64,
}

/// The result of something that uses the device `D`.
pub type Result<T, D> = core::result::Result<T, Error<<D as BlockDevice>::Error>>;

impl<D> Store<D> {
    /// Returns the same store, on what `map` makes of its device: another way to the same disk.
    /// Between two uses, a store can so be kept on what is no [`BlockDevice`] and can't be used.
    pub fn map_device<E>(self, map: impl FnOnce(D) -> E) -> Store<E> {
        Store {
            device: map(self.device),
            partition: self.partition,
            data: self.data,
            superblock: self.superblock,
            catalog: self.catalog,
            last_generation: self.last_generation,
            slot: self.slot,
            contents: self.contents,
            staged: self.staged,
            replaced: self.replaced,
            space: self.space,
            damage: self.damage,
            recent: self.recent,
            unpacked: self.unpacked,
            open: self.open,
            sealed: self.sealed,
            uses: self.uses,
            lost: self.lost,
            flush_has_failed: self.flush_has_failed,
        }
    }
}

impl<D: BlockDevice> Store<D> {
    /// Makes an empty store of a partition, whatever was in it.
    pub fn format(device: D, partition: Partition) -> Result<Self, D> {
        Self::format_as(device, partition, NEW_VERSION)
    }

    /// Makes an empty store of version 2 or a later one, for a Stasis that knows no newer one.
    pub fn format_as(device: D, partition: Partition, version: u32) -> Result<Self, D> {
        if !(2..=VERSION).contains(&version) {
            return Err(Error::UnsupportedVersion { found: version });
        }
        let blocks = partition.sectors() / BLOCK_SECTORS;
        if blocks <= u64::from(FIRST_DATA_BLOCK) {
            return Err(too_small(blocks));
        }
        if !partition.is_aligned() {
            return Err(Error::PartitionUnaligned { first: partition.first() });
        }
        let mut store = Self::new(device, partition);
        let blocks = blocks.min(u64::from(u32::MAX));
        store.superblock = Found { blocks, version, ..store.superblock };
        store.data = FIRST_DATA_BLOCK..store.superblock.usable_blocks();
        // First there is no store, then both slots are those of the new one, then there is that.
        store.write_sectors(0, &[0; SECTOR])?;
        store.flush()?;
        for (slot, offset) in SLOT_OFFSET.into_iter().enumerate() {
            let image = store.catalog.encode(version, None);
            store.write_sectors(offset / SECTOR as u64, image.bytes())?;
            store.contents[slot] = Content::Catalog(image, Vec::new(), Vec::new());
        }
        // This flushes before it writes sector 0.
        store.write_superblock(version)?;
        Ok(store)
    }

    /// Opens the store in a partition. Give it `&mut device` to keep the device if that fails.
    pub fn open(device: D, partition: Partition) -> Result<Self, D> {
        let mut store = Self::new(device, partition);
        store.superblock = store.read_superblock()?;
        store.data = FIRST_DATA_BLOCK..store.superblock.usable_blocks();

        // What is found may have been left in the device's cache. What is listed must last.
        store.flush()?;
        let mut bytes = [vec![0; SLOT_LEN], vec![0; SLOT_LEN]];
        for (bytes, offset) in bytes.iter_mut().zip(SLOT_OFFSET) {
            store.read_sectors(offset / SECTOR as u64, bytes)?;
        }
        let slots = [IntactSlot::parse(&bytes[0]), IntactSlot::parse(&bytes[1])];
        let generation = |slot: usize| slots[slot].as_ref().map(IntactSlot::generation);
        store.slot = usize::from(generation(1) > generation(0));
        let newest = slots[store.slot].as_ref().ok_or(Error::CatalogDamaged)?;
        store.catalog = newest.check(store.superblock.version, store.data.clone())?;
        let Catalog { checkpoints, volumes, .. } = store.catalog.clone();
        store.contents[store.slot] = Content::Catalog(newest.image(), checkpoints, volumes);

        let other = 1 - store.slot;
        store.contents[other] = match &slots[other] {
            Some(slot) => {
                match slot.check::<D::Error>(store.superblock.version, store.data.clone()) {
                    Ok(Catalog { checkpoints, volumes, .. }) => {
                        Content::Catalog(slot.image(), checkpoints, volumes)
                    }
                    Err(_) => Content::Unknown,
                }
            }
            None if bytes[other].starts_with(&DESTROYED) => Content::Destroyed,
            None => Content::Unknown,
        };
        // A write that was cut short had a generation, too.
        let current = store.catalog.generation;
        let believed = current..current.saturating_add(GENERATIONS_AHEAD);
        let claimed =
            claimed_generation(&bytes[other]).filter(|claimed| believed.contains(claimed));
        store.last_generation = claimed.unwrap_or(current);
        Ok(store)
    }

    fn new(device: D, partition: Partition) -> Self {
        Self {
            device,
            partition,
            data: 0..0,
            superblock: Found {
                blocks: 0,
                version: NEW_VERSION,
                compression: Compression::None,
                copy_holds: false,
            },
            catalog: Catalog::new(),
            last_generation: 1,
            slot: 0,
            contents: [Content::Unknown, Content::Unknown],
            staged: Vec::new(),
            replaced: Vec::new(),
            space: None,
            damage: Damage::default(),
            recent: None,
            unpacked: Unpacked::default(),
            open: Vec::new(),
            sealed: Vec::new(),
            uses: 0,
            lost: Vec::new(),
            flush_has_failed: false,
        }
    }

    /// Returns the partition that the store is in.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Returns the version of the store's layout. It grows where something is to be stored that an
    /// older version can't say: older programs refuse the store then.
    pub fn version(&self) -> u32 {
        self.superblock.version
    }

    /// Returns how the store compresses the checkpoints that it gets.
    pub fn compression(&self) -> Compression {
        self.superblock.compression
    }

    /// Returns the checkpoints, in the order of their numbers.
    pub fn list(&self) -> &[Checkpoint] {
        &self.catalog.checkpoints
    }

    /// Returns the number that the next checkpoint will have.
    pub fn next_number(&self) -> u64 {
        self.catalog.next_number
    }

    /// Returns the checkpoint that `which` means: a number, or the newest with a name.
    pub fn find<'w>(&self, which: impl Into<Which<'w>>) -> Result<&Checkpoint, D> {
        self.catalog.find(which.into())
    }

    /// Returns the number of the checkpoint that this one was made after, if that is there.
    pub fn parent_of(&self, checkpoint: &Checkpoint) -> Option<u64> {
        let is_parent = |one: &&Checkpoint| one.identity == checkpoint.parent;
        let parent = self.list().iter().find(is_parent);
        parent.filter(|parent| parent.identity != [0; 16]).map(|parent| parent.number)
    }

    /// Returns how full the store is. Where checkpoints have block maps, this reads all of them.
    pub fn usage(&mut self) -> Usage {
        let (free, largest) = if self.has_maps() {
            let free = self.free_blocks();
            (free, largest_of(free))
        } else {
            let free = self.free();
            (free.blocks(), free.largest())
        };
        Usage {
            capacity: self.data.len() as u64 * BLOCK as u64,
            free: free * BLOCK as u64,
            largest: largest * BLOCK as u64,
        }
    }

    /// Returns whether checkpoints of this store have block maps, so that they can
    /// [share](Writer::share) blocks.
    pub fn has_maps(&self) -> bool {
        self.superblock.version >= VERSION_OF_MAPS
    }

    /// Returns whether checkpoints of this store may have packed units.
    pub(crate) fn has_units(&self) -> bool {
        self.superblock.version >= VERSION_OF_UNITS
    }

    /// What is free in the current catalog, and not taken by `others`. Of a store without block
    /// maps.
    fn free_but_for(&self, others: impl Iterator<Item = Extent>) -> Free {
        let staged = self.staged.iter().flat_map(|one| one.place.extents().iter().copied());
        Free::new(self.data.clone(), self.catalog.extents().chain(staged).chain(others))
    }

    fn free(&self) -> Free {
        self.free_but_for(core::iter::empty())
    }

    /// Begins a checkpoint of at most `length` bytes, for which there is room; if the store
    /// compresses, whether there is shows as it grows. Nothing changes until it is committed.
    ///
    /// `created` is the time in seconds since 1970, or 0 where nobody knows it.
    pub fn begin(&mut self, name: &str, length: u64, created: u64) -> Result<Writer<'_, D>, D> {
        self.begin_with(name, Some(length), created)
    }

    /// Begins a checkpoint of which nobody knows yet how long it gets. It takes room as it grows;
    /// where there is none, that is an error then. Otherwise it is what [`begin`](Self::begin) is.
    pub fn begin_open(&mut self, name: &str, created: u64) -> Result<Writer<'_, D>, D> {
        self.begin_with(name, None, created)
    }

    fn begin_with(
        &mut self,
        name: &str,
        limit: Option<u64>,
        created: u64,
    ) -> Result<Writer<'_, D>, D> {
        let name = valid_new_name(name).ok_or_else(|| Error::NameInvalid { name: shown(name) })?;
        self.check_room_for(1)?;
        let (place, blocks) = if self.has_maps() {
            self.settle()?;
            self.finish_upgrade()?;
            // How many it takes when it is compressed, nobody knows.
            let known = limit.filter(|_| self.compression() == Compression::None);
            let blocks = known.map(|length| length.div_ceil(BLOCK as u64));
            self.prepare_space(blocks, limit.unwrap_or(0))?;
            (Location::Map(None), Blocks::Mapped(Builder::default()))
        } else {
            let extents = self.reserve(limit)?;
            (Location::Extents(Extents::new()), Blocks::Reserved(extents, 0))
        };
        let checkpoint = Checkpoint {
            number: 0,
            name,
            length: 0,
            created,
            pages: None,
            member: None,
            identity: [0; 16],
            parent: [0; 16],
            instants: None,
            place,
        };
        Writer::new(self, checkpoint, limit, blocks)
    }

    /// Chooses the blocks of a new checkpoint, in a store without block maps: as many as a
    /// checkpoint can have, if nobody knows how many it needs.
    fn reserve(&mut self, length: Option<u64>) -> Result<Extents, D> {
        let free = self.free();
        let blocks = length.map_or(free.largest(), |length| length.div_ceil(BLOCK as u64));
        let extents = free.allocate(blocks).ok_or(Error::Full {
            needed: length.unwrap_or(0),
            free: free.blocks() * BLOCK as u64,
            largest: free.largest() * BLOCK as u64,
        })?;
        self.settle()?;
        let other = self.contents[1 - self.slot].checkpoints();
        let other = other.iter().flat_map(|one| one.place.extents().iter().copied());
        let in_both = self.free_but_for(other);
        match in_both.allocate(blocks) {
            Some(unused) if in_both.has_gap(blocks) => Ok(unused),
            // Only what the other slot refers to will do, so it must forget it. (Pieces would do,
            // too; but they stay pieces.)
            _ => {
                self.write_catalog(self.catalog.clone())?;
                Ok(extents)
            }
        }
    }

    /// Returns the checkpoints in the slot that does not hold.
    pub(crate) fn other_slot_checkpoints(&self) -> Vec<Checkpoint> {
        self.contents[1 - self.slot].checkpoints().to_vec()
    }

    /// Checks that the catalog has room for `count` checkpoints more than there are and are staged.
    pub fn check_room_for(&self, count: usize) -> Result<(), D> {
        let kept = self.list().iter().filter(|one| !self.replaced.contains(&one.number)).count();
        let wanted = kept + self.catalog.volumes.len() + self.staged.len() + count;
        if wanted > MAX_CHECKPOINTS {
            return Err(Error::TooManyCheckpoints);
        }
        if self.catalog.next_number > u64::MAX - wanted as u64 {
            return Err(Error::Exhausted { counter: "checkpoint numbers" });
        }
        Ok(())
    }

    /// Makes a checkpoint, and those that are staged, part of the store. Their contents are
    /// written.
    pub(crate) fn commit(&mut self, checkpoint: Checkpoint) -> Result<Checkpoint, D> {
        // Also if this fails: whoever tries again tries all of it.
        let mut new = core::mem::take(&mut self.staged);
        let replaced = core::mem::take(&mut self.replaced);
        new.push(checkpoint);
        number(&mut new, self.catalog.next_number)?;
        let mut catalog = self.catalog.clone();
        catalog.checkpoints.retain(|one| !replaced.contains(&one.number));
        catalog.next_number += new.len() as u64;
        catalog.checkpoints.append(&mut new);
        // Whether a commit that fails reached the disk is unknown: its number stays taken.
        self.catalog.next_number = catalog.next_number;
        self.write_catalog(catalog)?;
        // The checkpoint was pushed above.
        self.list().last().cloned().ok_or(Error::WriterFailed)
    }

    pub(crate) fn stage(&mut self, checkpoint: Checkpoint) {
        self.staged.push(checkpoint);
    }

    /// Gives up what was [staged](Writer::stage), and what was to be [replaced](Self::replace).
    pub fn discard_staged(&mut self) {
        self.staged.clear();
        self.replaced.clear();
        self.space_is_stale();
    }

    /// Deletes these checkpoints when the next one is committed: in the same catalog, so it costs
    /// nothing, and none of them is gone before the new one is there.
    pub fn replace(&mut self, numbers: &[u64]) -> Result<(), D> {
        self.check_there(numbers)?;
        self.replaced = numbers.to_vec();
        Ok(())
    }

    /// Deletes the checkpoint with this number, for good.
    pub fn delete(&mut self, number: u64) -> Result<(), D> {
        self.delete_all(&[number])
    }

    /// Deletes the checkpoints with these numbers, all or none. Whoever still reads one of them
    /// must see to it that nobody does this.
    pub fn delete_all(&mut self, numbers: &[u64]) -> Result<(), D> {
        self.check_there(numbers)?;
        let mut catalog = self.catalog.clone();
        catalog.checkpoints.retain(|c| !numbers.contains(&c.number));
        self.write_catalog(catalog)
    }

    /// Checks that these checkpoints are there.
    fn check_there(&self, numbers: &[u64]) -> Result<(), D> {
        numbers.iter().try_for_each(|number| self.find(*number).map(|_| ()))
    }

    /// Opens a checkpoint for reading.
    pub fn open_checkpoint<'w>(&mut self, which: impl Into<Which<'w>>) -> Result<Reader<'_, D>, D> {
        let checkpoint = self.find(which)?.clone();
        Reader::new(self, checkpoint)
    }

    /// Returns whether the slot that does not hold may have a catalog that nobody knows.
    pub(crate) fn other_slot_is_unknown(&self) -> bool {
        matches!(self.contents[1 - self.slot], Content::Unknown)
    }

    /// Puts right what interrupted writes have left, before anything else is written.
    pub(crate) fn settle(&mut self) -> Result<(), D> {
        if self.superblock.copy_holds {
            self.write_superblock(self.superblock.version)?;
        }
        let other = 1 - self.slot;
        if self.other_slot_is_unknown() {
            self.write_sectors(SLOT_OFFSET[other] / SECTOR as u64, &DESTROYED)?;
            self.flush()?;
            self.contents[other] = Content::Destroyed;
        }
        Ok(())
    }

    /// Makes `catalog` the current one, atomically: in the other slot, with a generation of its
    /// own.
    pub(crate) fn write_catalog(&mut self, mut catalog: Catalog) -> Result<(), D> {
        // More would be written beyond the slot.
        if catalog.len() > MAX_CHECKPOINTS {
            return Err(Error::TooManyCheckpoints);
        }
        self.settle()?;
        if self.superblock.version == 1 && !catalog.fits_version_1() {
            self.write_superblock(2)?;
        }
        if self.superblock.version < VERSION_OF_VOLUMES && catalog.has_volumes() {
            self.write_superblock(VERSION_OF_VOLUMES)?;
        }
        if self.has_maps() {
            self.give_maps(&mut catalog)?;
        }
        // Also counted when it fails, so that no two different catalogs ever have the same.
        let next = self.last_generation.checked_add(1);
        self.last_generation = next.ok_or(Error::Exhausted { counter: "generations" })?;
        catalog.generation = self.last_generation;
        let other = 1 - self.slot;
        self.flush()?;
        let before = core::mem::replace(&mut self.contents[other], Content::Unknown);
        let image = catalog.encode(self.superblock.version, before.image());
        for run in image.changes(before.image()) {
            let sector = (SLOT_OFFSET[other] + run.start as u64) / SECTOR as u64;
            self.write_sectors(sector, &image.bytes()[run])?;
        }
        self.flush()?;
        self.contents[other] =
            Content::Catalog(image, catalog.checkpoints.clone(), catalog.volumes.clone());
        self.space_is_stale();
        self.slot = other;
        self.catalog = catalog;
        Ok(())
    }

    /// Returns the device, to ask how it does. Whoever writes to it breaks the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Gives the device back.
    pub fn into_device(self) -> D {
        self.device
    }
}

/// Gives new checkpoints their numbers, from `first` on; several are a set.
fn number<E: Display + Debug>(
    new: &mut [Checkpoint],
    first: u64,
) -> core::result::Result<(), Error<E>> {
    let count = new.len();
    let set = new.first().and_then(|one| set_name(&one.name)).map(ToString::to_string);
    for (index, one) in new.iter_mut().enumerate() {
        one.number = first + index as u64;
        if count == 1 {
            continue;
        }
        if set.is_none() || set_name(&one.name) != set.as_deref() || count > MAX_MEMBERS {
            return Err(Error::NoSet { name: one.name.to_string() });
        }
        one.member = Some(Member { index: index as u8, count: count as u8 });
    }
    Ok(())
}

pub(crate) fn too_small<E: Display + Debug>(blocks: u64) -> Error<E> {
    Error::PartitionTooSmall {
        bytes: blocks * BLOCK as u64,
        needed: u64::from(FIRST_DATA_BLOCK + 1) * BLOCK as u64,
    }
}

/// Returns a buffer of `len` zeros, or an error where an allocation of that size is too much to ask
/// for.
pub(crate) fn buffer<E: Display + Debug>(len: usize) -> core::result::Result<Vec<u8>, Error<E>> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len })?;
    // Copy zeros: this crate is built for size, and there `resize` writes them byte by byte, by six
    // instructions for each.
    while buffer.len() < len {
        buffer.extend_from_slice(&ZEROS[..BLOCK.min(len - buffer.len())]);
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_long_as_it_was_asked_for_and_zeros() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 32 * BLOCK] {
            let found: core::result::Result<Vec<u8>, Error<core::convert::Infallible>> =
                buffer(len);
            assert_eq!(found.ok(), Some(vec![0; len]));
        }
    }
}
