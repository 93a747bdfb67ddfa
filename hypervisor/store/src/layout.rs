//! How a store stands on the disk, byte for byte. `docs/store.md` says the same in words.

use crate::block::SECTOR;
pub use crate::crc32c::crc32c;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The newest version of the layout. Stores of all versions before it are read and written, too.
pub const VERSION: u32 = 5;
/// The version of a new store. It goes to [`VERSION_OF_VOLUMES`] with its first volume, and to
/// [`VERSION_OF_UNITS`] when it is to compress.
pub const NEW_VERSION: u32 = 3;
/// The first version whose checkpoints have block maps, and share blocks.
pub const VERSION_OF_MAPS: u32 = 3;
/// The first version that has volumes.
pub const VERSION_OF_VOLUMES: u32 = 4;
/// The first version whose checkpoints may have packed units.
pub const VERSION_OF_UNITS: u32 = 5;
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
/// Extents of a checkpoint without a block map, at most.
pub const MAX_EXTENTS: usize = 8;
/// Bytes of a name, at most.
pub const NAME_LEN: usize = 32;
/// Checkpoints of a store, at most: what fits into a slot.
pub const MAX_CHECKPOINTS: usize = (SLOT_LEN - size_of::<CatalogHeader>()) / size_of::<Entry>();

/// The first sector of the partition. Written when the store is formatted, and when it goes to
/// another version.
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
    /// How new checkpoints are compressed: [`METHOD_NONE`] or [`METHOD_LZ4`]. Before version 5
    /// zero, and ignored.
    pub compress: U32,
    /// Zero; ignored.
    pub reserved: [u8; 484],
}

impl Superblock {
    /// What a store begins with.
    pub const MAGIC: [u8; 8] = *b"STASISCP";
}

/// Nothing is compressed.
pub const METHOD_NONE: u8 = 0;
/// Compressed as one block of LZ4, without a frame.
pub const METHOD_LZ4: u8 = 1;

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
    /// [`SETS_BY_NAME`], [`SETS_IN_ENTRIES`], [`MAPS_IN_ENTRIES`] or [`KINDS_IN_ENTRIES`]; in a
    /// store of version 1 zero.
    pub sets: U32,
    /// Zero; ignored.
    pub reserved: [u8; 92],
}

/// The entries do not say which checkpoints are a set: only names, numbers and times do, as in
/// version 1.
pub const SETS_BY_NAME: u32 = 0;
/// Each entry says whether it is a member of a set, and which.
pub const SETS_IN_ENTRIES: u32 = 1;
/// Each entry is a [`MapEntry`], and a checkpoint's. Since version 3.
pub const MAPS_IN_ENTRIES: u32 = 2;
/// Each entry is a [`MapEntry`], and says its kind. Since version 4.
pub const KINDS_IN_ENTRIES: u32 = 3;

/// The kind of an entry that is a checkpoint.
pub const KIND_CHECKPOINT: u8 = 0;
/// The kind of an entry that is a volume.
pub const KIND_VOLUME: u8 = 1;

impl CatalogHeader {
    /// What a catalog slot begins with.
    pub const MAGIC: [u8; 8] = *b"STASISCT";
}

/// A checkpoint in the catalog of a store that has no block maps.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Entry {
    /// The number, given out once and never again; from 1.
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
    /// The name, UTF-8, padded with 0.
    pub name: [u8; NAME_LEN],
    /// Where its contents stand, in order; the unused ones are zero.
    pub extents: [EntryExtent; MAX_EXTENTS],
}

/// A checkpoint in the catalog of a store whose checkpoints have block maps. Up to its name it is
/// an [`Entry`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MapEntry {
    /// The number, given out once and never again; from 1. Of a volume 0.
    pub number: U64,
    /// Bytes of its contents.
    pub length: U64,
    /// When it was begun: seconds since 1970, or 0 where the host has no clock.
    pub created: U64,
    /// Level of its map's root: how many levels of nodes are below it.
    pub root_level: u8,
    /// Which member of its set it is, from 0.
    pub set_index: u8,
    /// How many members the set had when it was stored; 0: it is no member of one.
    pub set_count: u8,
    /// [`KIND_CHECKPOINT`] or [`KIND_VOLUME`]; before version 4 zero.
    pub kind: u8,
    /// Pages of memory that are stored in it; 0: its writer has not said.
    pub pages: U32,
    /// The name, UTF-8, padded with 0.
    pub name: [u8; NAME_LEN],
    /// What its writer calls it by; 0: nothing.
    pub identity: [u8; 16],
    /// The identity of the checkpoint that it was made after; 0: of none.
    pub parent: [u8; 16],
    /// The block of its map's root; 0 if it has no bytes.
    pub root: U32,
    /// CRC-32C of that block.
    pub root_crc: U32,
    /// Entries of the root.
    pub root_count: U32,
    /// The block that lists the volumes of its guest as they were at its instant; 0 if there are
    /// none. Since version 4.
    pub instants: U32,
    /// CRC-32C of that block.
    pub instants_crc: U32,
    /// The number of volumes in it.
    pub instants_count: U32,
    /// Zero; ignored.
    pub reserved_end: [u8; 8],
}

/// What a block begins with that lists volumes as they were at the instant of a checkpoint. Its
/// [`InstantEntry`]s follow, and then zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InstantsHeader {
    /// [`InstantsHeader::MAGIC`].
    pub magic: [u8; 4],
    /// The number of entries.
    pub count: U32,
    /// Zero.
    pub reserved: [u8; 56],
}

impl InstantsHeader {
    /// What such a block begins with.
    pub const MAGIC: [u8; 4] = *b"SVOL";
}

/// A volume as it was at the instant of a checkpoint.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InstantEntry {
    /// The name that it had, UTF-8, padded with 0.
    pub name: [u8; NAME_LEN],
    /// Length in bytes.
    pub length: U64,
    /// The block of its map's root; 0 if all of it is zeros.
    pub root: U32,
    /// CRC-32C of that block.
    pub root_crc: U32,
    /// Entries of the root.
    pub root_count: U32,
    /// Level of the root.
    pub root_level: u8,
    /// Zero.
    pub reserved: [u8; 11],
}

/// Volumes of a checkpoint, at most.
pub const MAX_INSTANTS: usize = (BLOCK - size_of::<InstantsHeader>()) / size_of::<InstantEntry>();
/// Blocks of a volume that a node of level 0 maps: they have room in it even if no two of them
/// follow each other on the disk, and what is kept of it in memory is 2 KiB.
pub const LEAF_BLOCKS: u32 = 496;
/// Blocks of a volume, at most: 1 TiB.
pub const MAX_VOLUME_BLOCKS: u32 = 1 << 28;

/// What a block of a map begins with; its entries follow, and then zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NodeHeader {
    /// [`NodeHeader::MAGIC`].
    pub magic: [u8; 4],
    /// Levels of nodes below it; 0: its entries are [`RunEntry`] or [`PackedEntry`], as its kind
    /// says, else [`ChildEntry`].
    pub level: u8,
    /// [`RUNS`] or [`PACKED_RUNS`]; of a node of another level than 0 zero.
    pub kind: u8,
    /// Number of entries, 1 at least.
    pub count: U16,
    /// Blocks of contents that it maps.
    pub blocks: U32,
    /// Zero.
    pub reserved_end: U32,
}

impl NodeHeader {
    /// What a block of a map begins with.
    pub const MAGIC: [u8; 4] = *b"SMAP";
}

/// The kind of a leaf whose entries are [`RunEntry`].
pub const RUNS: u8 = 0;
/// The kind of a leaf whose entries are [`PackedEntry`]. Since version 5.
pub const PACKED_RUNS: u8 = 1;

/// A run of blocks in a map. It goes on to where the next one begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RunEntry {
    /// Blocks of contents in the node before it.
    pub at: U32,
    /// Where its first block stands, counted from the start of the partition; 0 in a volume:
    /// nowhere, all of it is zeros.
    pub block: U32,
}

/// A run of blocks in a map that may be in a packed unit. It goes on to where the next one begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PackedEntry {
    /// Blocks of contents in the node before it.
    pub at: U32,
    /// Where its first block stands, or the first block of the unit, counted from the start of the
    /// partition.
    pub block: U32,
    /// Blocks that the unit takes on the disk, 1 to 15; 0: the run is in no unit.
    pub unit_blocks: u8,
    /// Blocks of contents in the unit before the run.
    pub skip: u8,
    /// Zero.
    pub reserved: U16,
}

/// What a packed unit begins with. The compressed bytes follow, and then zeros.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UnitHeader {
    /// The number of compressed bytes.
    pub length: U16,
    /// Blocks of contents, 2 to [`UNIT_BLOCKS`].
    pub blocks: u8,
    /// [`METHOD_LZ4`].
    pub method: u8,
}

/// Blocks of contents of a packed unit, at most: 64 KiB.
pub const UNIT_BLOCKS: u32 = 16;

/// A node below another one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChildEntry {
    /// Blocks of contents in the parent before it.
    pub at: U32,
    /// The block, counted from the start of the partition; 0 in a volume: there is none, and all
    /// below it is zeros.
    pub block: U32,
    /// CRC-32C of all 4096 bytes of the block.
    pub crc: U32,
    /// The child's number of entries.
    pub count: U32,
}

/// Entries of a node of level 0, at most.
pub const MAX_RUNS: usize = (BLOCK - size_of::<NodeHeader>()) / size_of::<RunEntry>();
/// Entries of a node of level 0 whose runs may be packed, at most.
pub const MAX_PACKED_RUNS: usize = (BLOCK - size_of::<NodeHeader>()) / size_of::<PackedEntry>();
/// Entries of any other node, at most.
pub const MAX_CHILDREN: usize = (BLOCK - size_of::<NodeHeader>()) / size_of::<ChildEntry>();
/// The highest level of a node: with it, a map has room for more runs than there are blocks.
pub const MAX_LEVEL: u8 = 3;

/// A run of blocks.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryExtent {
    /// The first block, counted from the start of the partition.
    pub first: U32,
    /// Number of blocks.
    pub blocks: U32,
}

const _: () = assert!(size_of::<Superblock>() == SECTOR);
const _: () = assert!(size_of::<CatalogHeader>() == 128);
const _: () = assert!(size_of::<Entry>() == 128);
const _: () = assert!(size_of::<MapEntry>() == size_of::<Entry>());
const _: () = assert!(MAX_CHECKPOINTS == 511);
const _: () = assert!(MAX_RUNS == 510 && MAX_PACKED_RUNS == 340 && MAX_CHILDREN == 255);
const _: () = assert!(UNIT_BLOCKS as usize * BLOCK - BLOCK <= u16::MAX as usize);
const _: () = assert!(LEAF_BLOCKS as usize <= MAX_RUNS);
const _: () = assert!(size_of::<InstantEntry>() == 64 && MAX_INSTANTS == 63);

/// Returns the CRC-32C of what follows the `crc` field, which superblock and catalog have at the
/// same place.
pub fn checksum(bytes: &[u8]) -> u32 {
    checksum_by(crc32c, bytes)
}

/// Returns the same [`checksum`], by another function that computes CRC-32C.
pub fn checksum_by(crc32c: impl Fn(&[u8]) -> u32, bytes: &[u8]) -> u32 {
    const { assert!(core::mem::offset_of!(Superblock, crc) == 8) };
    const { assert!(core::mem::offset_of!(CatalogHeader, crc) == 8) };
    crc32c(bytes.get(12..).unwrap_or_default())
}
