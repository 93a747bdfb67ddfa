//! How a store is made of a partition ([`Store::format`]), and found again ([`Store::open`]).

use super::{Result, Store};
use crate::block::{BlockDevice, SECTOR};
use crate::catalog::{Catalog, IntactSlot, claimed_generation};
use crate::error::{Error, PartitionFault};
use crate::free::Damage;
use crate::layout::{BLOCK_SECTORS, FIRST_DATA_BLOCK, NEW_VERSION, SLOT_LEN, SLOT_OFFSET, VERSION};
use crate::partition::Partition;
use crate::slots::{Content, DESTROYED};
use crate::superblock::{Compression, Found};
use crate::unpacked::Unpacked;
use alloc::vec;
use alloc::vec::Vec;

/// How far a generation may be ahead of the current one and still be believed, of a slot that is
/// not whole.
const GENERATIONS_AHEAD: u64 = 1 << 32;

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
            return Err(PartitionFault::too_small(blocks).into());
        }
        if !partition.is_aligned() {
            return Err(PartitionFault::Unaligned { first: partition.first() }.into());
        }
        let mut store = Self::new(device, partition);
        let blocks = blocks.min(u64::from(u32::MAX));
        store.superblock = Found { blocks, version, ..store.superblock };
        store.data = FIRST_DATA_BLOCK..store.superblock.usable_blocks();
        // First there is no store, then both slots are those of the new one, then there is that.
        store.write_sectors(0, &[0; SECTOR])?;
        store.flush()?;
        for (slot, offset) in SLOT_OFFSET.into_iter().enumerate() {
            let image = store.catalog.encode(version, None, |bytes| store.crc32c(bytes));
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
        let parse = |bytes| IntactSlot::parse(bytes, |covered| store.crc32c(covered));
        let slots = [parse(&bytes[0]), parse(&bytes[1])];
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
}
