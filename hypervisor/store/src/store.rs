//! A store: [`Store::format`], [`Store::open`], and what can be done with its catalog.
//!
//! # Why no loss of power can hurt a committed checkpoint
//!
//! The catalog stands in two slots that are written in turn, each with a generation and a checksum.
//! A slot that was not written wholly fails its checksum, and the other one holds. So a reader ends
//! up with one of the (at most two) intact slots, and everything follows from one invariant:
//!
//! > **No block that an intact slot refers to is ever written.**
//!
//! 1. Data is written only to blocks that [`Store::begin`] found free in the current catalog.
//! 2. By then, the other slot refers to no block that the current catalog does not refer to. After a
//!    new checkpoint that is so by itself: the other slot is the current catalog less that checkpoint.
//!    After a deletion, after a commit that failed (its slot may hold the old, the new, or nothing),
//!    and after opening a store that was left like that, it is not: `other_slot_differs`. Then `begin`
//!    first writes the current catalog to the other slot as well.
//! 3. A slot is written by `write_catalog` alone. It flushes before, so that all data that the new
//!    catalog refers to, and the slot that a torn write would leave us with, are on the medium; and
//!    after, so that what is called committed is there, too.
//!
//! What remains of a checkpoint that was not committed are blocks that no slot refers to: free ones.
//! `tests/power_loss.rs` tries it: without any one of these steps it fails.

use crate::block::{BlockDevice, SECTOR};
use crate::catalog::{Catalog, Checkpoint, IntactSlot, Which, shown, valid_name};
use crate::error::Error;
use crate::layout::{
    BLOCK, BLOCK_SECTORS, FIRST_DATA_BLOCK, MAX_CHECKPOINTS, SLOT_LEN, SLOT_OFFSET, Superblock,
    VERSION, checksum,
};
use crate::partition::Partition;
use crate::reader::Reader;
use crate::space::Free;
use crate::writer::Writer;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use core::ops::Range;
use zerocopy::IntoBytes;

/// An open store on a device.
#[derive(Debug)]
pub struct Store<D> {
    device: D,
    partition: Partition,
    data: Range<u32>,
    catalog: Catalog,
    /// The slot that holds `catalog`; the other one is written next.
    slot: usize,
    /// Whether the other slot may refer to blocks that `catalog` does not refer to.
    other_slot_differs: bool,
    /// Checkpoints that are written and become part of the catalog with the next one.
    staged: Vec<Checkpoint>,
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

impl<D: BlockDevice> Store<D> {
    /// Makes an empty store of a partition, whatever was in it.
    pub fn format(device: D, partition: Partition) -> Result<Self, D> {
        let blocks = partition.sectors() / BLOCK_SECTORS;
        if blocks <= u64::from(FIRST_DATA_BLOCK) {
            return Err(too_small(blocks));
        }
        // Block numbers have 32 bits: of a partition beyond 16 TiB, the rest stays unused.
        let blocks = blocks.min(u64::from(u32::MAX));
        let mut store = Self {
            device,
            partition,
            data: FIRST_DATA_BLOCK..blocks as u32,
            catalog: Catalog::new(),
            slot: 0,
            other_slot_differs: false,
            staged: Vec::new(),
        };
        // First there is no store, then both slots are those of the new one, then there is that.
        store.write_sectors(0, &[0; SECTOR])?;
        store.flush()?;
        for offset in SLOT_OFFSET {
            store.write_sectors(offset / SECTOR as u64, &store.catalog.encode())?;
        }
        store.flush()?;
        let mut superblock = Superblock {
            magic: Superblock::MAGIC,
            crc: 0.into(),
            version: VERSION.into(),
            blocks: blocks.into(),
            reserved: [0; 488],
        };
        superblock.crc = checksum(superblock.as_bytes()).into();
        store.write_sectors(0, superblock.as_bytes())?;
        store.flush()?;
        Ok(store)
    }

    /// Opens the store in a partition. Give it `&mut device` to keep the device if that fails.
    pub fn open(device: D, partition: Partition) -> Result<Self, D> {
        let mut store = Self {
            device,
            partition,
            data: 0..0,
            catalog: Catalog::new(),
            slot: 0,
            other_slot_differs: false,
            staged: Vec::new(),
        };
        store.data = FIRST_DATA_BLOCK..store.read_superblock()?;

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
        store.catalog = newest.check(store.data.clone())?;

        // Entries never change, so what the other slot refers to is known by its entries.
        let other = slots[1 - store.slot]
            .as_ref()
            .and_then(|slot| slot.check::<D::Error>(store.data.clone()).ok());
        store.other_slot_differs = !other.is_some_and(|other| {
            let known = |entry| store.catalog.checkpoints.contains(entry);
            other.checkpoints.iter().all(known)
        });
        Ok(store)
    }

    fn read_superblock(&mut self) -> Result<u32, D> {
        let mut sector = [0; SECTOR];
        if self.partition.sectors() == 0 {
            return Err(Error::Unformatted);
        }
        self.read_sectors(0, &mut sector)?;
        let superblock = zerocopy::transmute_ref!(&sector);
        let Superblock { magic, crc, .. } = superblock;
        if *magic != Superblock::MAGIC {
            return Err(Error::Unformatted);
        }
        let (stored, computed) = (crc.get(), checksum(&sector));
        if stored != computed {
            return Err(Error::SuperblockDamaged { stored, computed });
        }
        let found = superblock.version.get();
        if found != VERSION {
            return Err(Error::UnsupportedVersion { found });
        }
        let blocks = superblock.blocks.get();
        if blocks > self.partition.sectors() / BLOCK_SECTORS {
            return Err(Error::StoreOutsidePartition {
                store: blocks.saturating_mul(BLOCK as u64),
                partition: self.partition.bytes(),
            });
        }
        match u32::try_from(blocks) {
            Ok(blocks) if blocks > FIRST_DATA_BLOCK => Ok(blocks),
            Ok(_) => Err(too_small(blocks)),
            Err(_) => Ok(u32::MAX),
        }
    }

    /// The checkpoints, in the order of their numbers.
    pub fn list(&self) -> &[Checkpoint] {
        &self.catalog.checkpoints
    }

    /// The number that the next checkpoint will have.
    pub fn next_number(&self) -> u64 {
        self.catalog.next_number
    }

    /// The checkpoint that `which` means: a number, or the newest with a name.
    pub fn find<'w>(&self, which: impl Into<Which<'w>>) -> Result<&Checkpoint, D> {
        self.catalog.find(which.into())
    }

    /// How full the store is.
    pub fn usage(&self) -> Usage {
        let free = self.free();
        Usage {
            capacity: self.data.len() as u64 * BLOCK as u64,
            free: free.blocks() * BLOCK as u64,
            largest: free.largest() * BLOCK as u64,
        }
    }

    fn free(&self) -> Free {
        let staged = self.staged.iter().flat_map(|checkpoint| checkpoint.extents.iter().copied());
        Free::new(self.data.clone(), self.catalog.extents().chain(staged))
    }

    /// Begins a checkpoint of at most `length` bytes. Nothing changes until it is committed.
    ///
    /// `created` is the time in seconds since 1970, or 0 where nobody knows it.
    pub fn begin(&mut self, name: &str, length: u64, created: u64) -> Result<Writer<'_, D>, D> {
        let name = valid_name(name).ok_or_else(|| Error::NameInvalid { name: shown(name) })?;
        if self.catalog.checkpoints.len() + self.staged.len() >= MAX_CHECKPOINTS {
            return Err(Error::TooManyCheckpoints);
        }
        let number = self.catalog.next_number.saturating_add(self.staged.len() as u64);
        if number == u64::MAX {
            return Err(Error::Exhausted { counter: "checkpoint numbers" });
        }
        let free = self.free();
        let extents = free.allocate(length.div_ceil(BLOCK as u64)).ok_or(Error::Full {
            needed: length,
            free: free.blocks() * BLOCK as u64,
            largest: free.largest() * BLOCK as u64,
        })?;
        if self.other_slot_differs {
            self.write_catalog(self.catalog.clone())?;
            self.other_slot_differs = false;
        }
        let checkpoint = Checkpoint { number, name, length: 0, created, pages: None, extents };
        Writer::new(self, checkpoint, length)
    }

    /// Makes a checkpoint, and those that are staged, part of the store. Their contents are written.
    pub(crate) fn commit(&mut self, checkpoint: Checkpoint) -> Result<(), D> {
        let mut catalog = self.catalog.clone();
        catalog.next_number = checkpoint.number + 1;
        // Also if this fails: whoever tries again tries all of it.
        catalog.checkpoints.append(&mut self.staged);
        catalog.checkpoints.push(checkpoint);
        // Whether a commit that fails reached the disk is unknown: its number stays taken.
        self.catalog.next_number = catalog.next_number;
        self.write_catalog(catalog)
    }

    pub(crate) fn stage(&mut self, checkpoint: Checkpoint) {
        self.staged.push(checkpoint);
    }

    /// Gives up what was [staged](Writer::stage).
    pub fn discard_staged(&mut self) {
        self.staged.clear();
    }

    /// Deletes the checkpoint with this number, for good.
    pub fn delete(&mut self, number: u64) -> Result<(), D> {
        self.delete_all(&[number])
    }

    /// Deletes the checkpoints with these numbers, all or none.
    pub fn delete_all(&mut self, numbers: &[u64]) -> Result<(), D> {
        numbers.iter().try_for_each(|number| self.find(*number).map(drop))?;
        let mut catalog = self.catalog.clone();
        catalog.checkpoints.retain(|c| !numbers.contains(&c.number));
        self.write_catalog(catalog)?;
        self.other_slot_differs = true;
        Ok(())
    }

    /// Opens a checkpoint for reading.
    pub fn open_checkpoint<'w>(&mut self, which: impl Into<Which<'w>>) -> Result<Reader<'_, D>, D> {
        let checkpoint = self.find(which)?.clone();
        Reader::new(self, checkpoint)
    }

    /// Makes `catalog` the current one, atomically: in the other slot, with a generation of its own.
    fn write_catalog(&mut self, mut catalog: Catalog) -> Result<(), D> {
        // Also counted when it fails, so that no two different catalogs ever have the same.
        self.catalog.generation = self
            .catalog
            .generation
            .checked_add(1)
            .ok_or(Error::Exhausted { counter: "generations" })?;
        catalog.generation = self.catalog.generation;
        let slot = 1 - self.slot;
        self.flush()?;
        let differs = core::mem::replace(&mut self.other_slot_differs, true);
        self.write_sectors(SLOT_OFFSET[slot] / SECTOR as u64, &catalog.encode())?;
        self.flush()?;
        self.other_slot_differs = differs;
        self.slot = slot;
        self.catalog = catalog;
        Ok(())
    }

    pub(crate) fn write_blocks(&mut self, block: u32, data: &[u8]) -> Result<(), D> {
        self.write_sectors(u64::from(block) * BLOCK_SECTORS, data)
    }

    pub(crate) fn write_sectors(&mut self, sector: u64, data: &[u8]) -> Result<(), D> {
        let lba = self.partition.first() + sector;
        self.device.write(lba, data).map_err(|error| Error::Device { doing: "writing", lba, error })
    }

    pub(crate) fn read_sectors(&mut self, sector: u64, buf: &mut [u8]) -> Result<(), D> {
        let lba = self.partition.first() + sector;
        self.device.read(lba, buf).map_err(|error| Error::Device { doing: "reading", lba, error })
    }

    fn flush(&mut self) -> Result<(), D> {
        let lba = self.partition.first();
        self.device.flush().map_err(|error| Error::Device { doing: "flushing", lba, error })
    }

    /// The device, to ask how it does. Whoever writes to it breaks the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Gives the device back.
    pub fn into_device(self) -> D {
        self.device
    }
}

fn too_small<E: Display + Debug>(blocks: u64) -> Error<E> {
    Error::PartitionTooSmall {
        bytes: blocks * BLOCK as u64,
        needed: u64::from(FIRST_DATA_BLOCK + 1) * BLOCK as u64,
    }
}

/// A buffer of `len` zeros, or an error where an allocation of that size is too much to ask for.
pub(crate) fn buffer<E: Display + Debug>(len: usize) -> core::result::Result<Vec<u8>, Error<E>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len })?;
    buffer.resize(len, 0);
    Ok(buffer)
}
