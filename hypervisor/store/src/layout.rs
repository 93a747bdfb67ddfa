//! How a store stands on the disk, byte for byte. `docs/store.md` says the same in words.

use crate::block::SECTOR;
use crc::{CRC_32_ISCSI, Crc, Table};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The newest version of the layout, which a new store has. Stores of version 1 are read and written, too.
pub const VERSION: u32 = 2;
/// Bytes of a block, the unit in which space is given out.
pub const BLOCK: usize = 4096;
/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = (BLOCK / SECTOR) as u64;
/// The sector of the superblock's copy; since version 2.
pub const SUPERBLOCK_COPY: u64 = BLOCK_SECTORS;
/// Where the two catalog slots stand, in bytes from the partition's start.
pub const SLOT_OFFSET: [u64; 2] = [0x1_0000, 0x2_0000];
/// Bytes of a catalog slot.
pub const SLOT_LEN: usize = 0x1_0000;
/// The first block that holds data.
pub const FIRST_DATA_BLOCK: u32 = 0x3_0000 / BLOCK as u32;
/// Extents of a checkpoint, at most.
pub const MAX_EXTENTS: usize = 8;
/// Bytes of a name, at most.
pub const NAME_LEN: usize = 32;
/// Checkpoints of a store, at most: what fits into a slot.
pub const MAX_CHECKPOINTS: usize = (SLOT_LEN - size_of::<CatalogHeader>()) / size_of::<Entry>();

/// The first sector of the partition. Written when the store is formatted, and when it goes to another version.
///
/// `magic`, `crc` and `version` stay where they are in every version to come.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`Superblock::MAGIC`].
    pub magic: [u8; 8],
    /// CRC-32C of all bytes of the sector that follow this field.
    pub crc: U32,
    /// The version of the layout, from 1 to [`VERSION`].
    pub version: U32,
    /// Size of the store in blocks.
    pub blocks: U64,
    /// Zero; ignored.
    pub reserved: [u8; 488],
}

impl Superblock {
    /// What a store begins with.
    pub const MAGIC: [u8; 8] = *b"STASISCP";
}

/// What a catalog slot begins with; its entries follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CatalogHeader {
    /// [`CatalogHeader::MAGIC`].
    pub magic: [u8; 8],
    /// CRC-32C of everything that follows this field, to the end of the last entry.
    pub crc: U32,
    /// Number of entries.
    pub count: U32,
    /// Of two intact slots the one with the larger generation holds.
    pub generation: U64,
    /// The number that the next checkpoint will get.
    pub next_number: U64,
    /// [`SETS_BY_NAME`] or [`SETS_IN_ENTRIES`]; in a store of version 1 zero, and ignored.
    pub sets: U32,
    /// Zero; ignored.
    pub reserved: [u8; 92],
}

/// The entries do not say which checkpoints are a set: only names, numbers and times do, as in version 1.
pub const SETS_BY_NAME: u32 = 0;
/// Each entry says whether it is a member of a set, and which.
pub const SETS_IN_ENTRIES: u32 = 1;

impl CatalogHeader {
    /// What a catalog slot begins with.
    pub const MAGIC: [u8; 8] = *b"STASISCT";
}

/// A checkpoint in the catalog.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Entry {
    /// Its number, given out once and never again; from 1.
    pub number: U64,
    /// Bytes of its contents.
    pub length: U64,
    /// When it was begun: seconds since 1970, or 0 where the host has no clock.
    pub created: U64,
    /// Number of extents in use.
    pub extent_count: u8,
    /// Which member of its set it is, from 0; since version 2.
    pub set_index: u8,
    /// How many members the set had when it was stored; 0: it is no member of one. Since version 2.
    pub set_count: u8,
    /// Zero.
    pub reserved: u8,
    /// Pages of memory that are stored in it; 0: its writer has not said.
    pub pages: U32,
    /// Its name, UTF-8, padded with 0.
    pub name: [u8; NAME_LEN],
    /// Where its contents stand, in order; the unused ones are zero.
    pub extents: [EntryExtent; MAX_EXTENTS],
}

/// A run of blocks.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryExtent {
    /// Its first block, counted from the start of the partition.
    pub first: U32,
    /// Its number of blocks.
    pub blocks: U32,
}

const _: () = assert!(size_of::<Superblock>() == SECTOR);
const _: () = assert!(size_of::<CatalogHeader>() == 128);
const _: () = assert!(size_of::<Entry>() == 128);
const _: () = assert!(MAX_CHECKPOINTS == 511);

static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// Returns the CRC-32C of what follows the `crc` field, which superblock and catalog have at the same place.
pub fn checksum(bytes: &[u8]) -> u32 {
    const { assert!(core::mem::offset_of!(Superblock, crc) == 8) };
    const { assert!(core::mem::offset_of!(CatalogHeader, crc) == 8) };
    CRC32C.checksum(bytes.get(12..).unwrap_or_default())
}
