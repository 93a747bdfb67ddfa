//! A store: [`Store`], what it knows, and what it says of itself. `open` makes it and finds it,
//! `begin` finds room for a checkpoint, `commit` writes the catalog.
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
//!    to, the current catalog is written there first. A [`Writer`](crate::Writer) has ended all of
//!    its writes when it is gone, so none comes late to a block that is another checkpoint's by
//!    then.
//! 3. A slot is written by `write_catalog` (`commit`) alone. It flushes before, so that all data
//!    that the new catalog refers to, and the slot that a torn write would leave us with, are on the
//!    medium; and after, so that what is called committed is there, too.
//!
//! What remains of a checkpoint that was not committed are blocks that no slot refers to: free
//! ones. `tests/power_loss` tries it: without any one of these steps it fails.

mod begin;
mod commit;
mod open;

use crate::block::BlockDevice;
use crate::catalog::{Catalog, Checkpoint, Which};
use crate::error::Error;
use crate::free::{Damage, Space, largest_of};
use crate::layout::{BLOCK, VERSION_OF_MAPS, VERSION_OF_UNITS};
use crate::map::BlockMap;
use crate::partition::Partition;
use crate::reader::Reader;
use crate::slots::Content;
use crate::superblock::{Compression, Found};
use crate::unpacked::Unpacked;
use crate::volume::{Name, Open, Taken};
use alloc::vec::Vec;
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

    /// Returns the checkpoints in the slot that does not hold.
    pub(crate) fn other_slot_checkpoints(&self) -> Vec<Checkpoint> {
        self.contents[1 - self.slot].checkpoints().to_vec()
    }

    /// Opens a checkpoint for reading.
    pub fn open_checkpoint<'w>(&mut self, which: impl Into<Which<'w>>) -> Result<Reader<'_, D>, D> {
        let checkpoint = self.find(which)?.clone();
        Reader::new(self, checkpoint)
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
