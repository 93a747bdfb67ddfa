//! Everything that can go wrong with a store, each in words that name it. What concerns the disk's
//! partitions, and volumes, has types of its own.

mod partition;
mod volume;

use crate::buffer;
use crate::layout::{BLOCK, MAX_CHECKPOINTS, NEW_VERSION, VERSION};
use alloc::string::String;
use core::fmt::{Debug, Display};
pub use partition::PartitionFault;
pub use volume::VolumeFault;

/// What a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// To read.
    Reading,
    /// To write.
    Writing,
    /// To make what was written last.
    Flushing,
}

impl Display for Doing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Flushing => "flushing",
        })
    }
}

/// Why a store, or something in it, can't be used. `E` is the device's own error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E: Display + Debug> {
    /// The device failed.
    #[error("the disk failed {doing} at sector {lba}: {error}")]
    Device {
        /// What the device was asked for.
        doing: Doing,
        /// The first sector of the request.
        lba: u64,
        /// What the device says.
        error: E,
    },
    /// The disk's partitions are not as they must be.
    #[error(transparent)]
    Partition(#[from] PartitionFault),
    /// Something is wrong with a volume.
    #[error(transparent)]
    Volume(#[from] VolumeFault),

    /// No store was ever made in the partition.
    #[error("the Stasis partition holds no store yet: `stasis disk FILE` makes a disk with one")]
    Unformatted,
    /// The superblock's checksum is wrong.
    #[error(
        "the store's superblock is damaged (checksum {stored:#010x}, expected {computed:#010x})"
    )]
    SuperblockDamaged {
        /// The checksum that it states.
        stored: u32,
        /// The checksum that it has.
        computed: u32,
    },
    /// Made by another version of Stasis.
    #[error("the store has version {found}; this Stasis knows versions 1 to {VERSION}")]
    UnsupportedVersion {
        /// The version that the superblock states.
        found: u32,
    },
    /// The partition shrank, or was never the store's.
    #[error("the store needs {store} bytes but its partition has {partition}")]
    StoreOutsidePartition {
        /// Bytes that the superblock states.
        store: u64,
        /// Bytes of the partition.
        partition: u64,
    },
    /// Neither catalog slot has the right checksum.
    #[error("both copies of the store's catalog are damaged")]
    CatalogDamaged,
    /// A checkpoint whose number was not given out yet.
    #[error("the catalog has checkpoint {number}, but the next number to give out is {next}")]
    NumberNotIssued {
        /// The number.
        number: u64,
        /// The number that a new checkpoint would get.
        next: u64,
    },
    /// A number that stands twice.
    #[error("the catalog has two checkpoints {number}")]
    DuplicateNumber {
        /// The number.
        number: u64,
    },
    /// A stored name that breaks the rules.
    #[error("the name of checkpoint {number} in the catalog is not valid")]
    StoredNameInvalid {
        /// The number.
        number: u64,
    },
    /// More pieces than an entry can have.
    #[error("checkpoint {number} claims {found} extents")]
    TooManyExtents {
        /// The number.
        number: u64,
        /// The number of extents that it states.
        found: u32,
    },
    /// A catalog that says in another way which checkpoints are a set.
    #[error("the catalog says in an unknown way ({found}) which checkpoints are a set")]
    UnknownSets {
        /// The way that it states.
        found: u32,
    },
    /// A member of a set that can't be.
    #[error("checkpoint {number} claims to be member {index} of a set of {count}, and can't be")]
    MemberInvalid {
        /// The number.
        number: u64,
        /// The place in the set, as it states.
        index: u8,
        /// The members of the set, as it states.
        count: u8,
    },
    /// Something stands behind the pieces that an entry has.
    #[error("checkpoint {number} has {found} extents, and something behind them that is not 0")]
    UnusedExtent {
        /// The number.
        number: u64,
        /// The number of extents that it states.
        found: u32,
    },
    /// A piece that is empty, or beyond the store.
    #[error("checkpoint {number} claims blocks {first}+{blocks}; the data blocks are {from}..{to}")]
    ExtentOutside {
        /// The number.
        number: u64,
        /// First block of the extent.
        first: u32,
        /// Number of blocks.
        blocks: u32,
        /// First data block.
        from: u32,
        /// The end of the data blocks.
        to: u32,
    },
    /// Length and pieces that don't agree.
    #[error("checkpoint {number} claims {length} bytes in {blocks} blocks of {BLOCK}")]
    LengthMismatch {
        /// The number.
        number: u64,
        /// The length that it states.
        length: u64,
        /// Blocks in its extents.
        blocks: u64,
    },
    /// A block that two pieces claim.
    #[error("checkpoints {number} and {other} both claim block {block}")]
    ExtentsOverlap {
        /// One checkpoint.
        number: u64,
        /// The other, or the same.
        other: u64,
        /// The first block that both claim.
        block: u32,
    },

    /// A root of a block map that can't be.
    #[error(
        "checkpoint {number} claims {length} bytes, and block {block} as the root of its block map, of level {level} with {count} entries"
    )]
    RootInvalid {
        /// The checkpoint's number.
        number: u64,
        /// The length that it states.
        length: u64,
        /// The root's block.
        block: u32,
        /// The root's level.
        level: u8,
        /// The root's entries.
        count: u32,
    },
    /// A block of a map that is not what it was, or breaks a rule.
    #[error(
        "the block map of checkpoint {number} is damaged: block {block} is not as it was written"
    )]
    MapDamaged {
        /// The checkpoint's number; 0 while it is being written.
        number: u64,
        /// The block, counted from the start of the partition.
        block: u32,
    },
    /// Compressed contents that can't be unpacked.
    #[error("the disk is damaged: what is compressed in block {block} is not as it was written")]
    UnitDamaged {
        /// The first block of the unit, counted from the start of the partition.
        block: u32,
    },
    /// A store that is compressed in a way that this version does not know.
    #[error(
        "the store is compressed by method {found}, which this version does not know: it knows 1, which is lz4"
    )]
    UnknownCompression {
        /// What the superblock says.
        found: u32,
    },
    /// More blocks than a block number can count.
    #[error("a checkpoint of {blocks} blocks of {BLOCK} bytes is too long")]
    TooLong {
        /// Blocks that it would have.
        blocks: u64,
    },
    /// Blocks were to be shared in a store whose version has no way to say so.
    #[error(
        "a store of version {version} can't share blocks between checkpoints: `store upgrade` makes it one of version {NEW_VERSION}"
    )]
    NoSharing {
        /// The store's version.
        version: u32,
    },
    /// Blocks were to be shared that are not there, or at a place that is no beginning of a block.
    #[error(
        "blocks {start}..{end} of checkpoint {number} can't be shared: it has {blocks} whole ones, and {written} bytes are before them"
    )]
    BadShare {
        /// The number of the checkpoint whose blocks they are.
        number: u64,
        /// The first of them.
        start: u64,
        /// The end of them.
        end: u64,
        /// Whole blocks that the checkpoint has.
        blocks: u64,
        /// Bytes of the new checkpoint before them.
        written: u64,
    },
    /// What was to be written again does not stand in the first run of blocks, or was not written.
    #[error("bytes {offset}+{len} can't be written again: only the first {possible} can")]
    BadRewrite {
        /// The first byte.
        offset: u64,
        /// Bytes to be written.
        len: usize,
        /// Bytes that can be written again.
        possible: u64,
    },
    /// The disk got full in the midst of a checkpoint.
    #[error(
        "the store is full: {written} bytes of the checkpoint were written, and nothing more is free"
    )]
    NoRoom {
        /// Bytes that were written.
        written: u64,
    },

    /// Not enough room.
    #[error("the store is full: {needed} bytes needed, {free} free; at most {largest} would fit")]
    Full {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free in all.
        free: u64,
        /// The largest checkpoint that would fit: less than `free` where the gaps are many.
        largest: u64,
    },
    /// Every entry of the catalog is taken.
    #[error(
        "the catalog has {MAX_CHECKPOINTS} entries, checkpoints and volumes, and can't have more: delete one"
    )]
    TooManyCheckpoints,
    /// Checkpoints that are stored at once, and are no set by their names.
    #[error(
        "{name:?} can't be in one set with the others: a member is called SET/GUEST, and a set has 2 to 255"
    )]
    NoSet {
        /// The name of the one that does not fit.
        name: String,
    },
    /// Nothing is called so.
    #[error("there is no set \"{name}/\"")]
    NoSuchSet {
        /// The name, without the mark.
        name: String,
    },
    /// Some of a set's members were deleted.
    #[error(
        "the set \"{name}/\" has lost members: {there} of {count} are there; resume them one by one: {left}"
    )]
    SetIncomplete {
        /// The name, without the mark.
        name: String,
        /// How many are there.
        there: usize,
        /// How many there were.
        count: usize,
        /// The names of those that are there.
        left: String,
    },
    /// A counter came to its end, which only a forged store can bring about.
    #[error("the store's {counter} are used up")]
    Exhausted {
        /// "checkpoint numbers" or "generations".
        counter: &'static str,
    },
    /// A name that a checkpoint can't have.
    #[error(
        "{name:?} can't be a checkpoint's name: 1 to 32 bytes without white space, not a number alone, no - in front, no / at the end"
    )]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// Nothing has this number or name.
    #[error("there is no checkpoint {which}")]
    NoSuchCheckpoint {
        /// What was asked for.
        which: String,
    },
    /// More was written than [`begin`](crate::Store::begin) was told.
    #[error("{wanted} bytes do not fit into the {reserved} that the checkpoint was begun with")]
    LongerThanBegun {
        /// Bytes reserved.
        reserved: u64,
        /// Bytes that the checkpoint would have.
        wanted: u64,
    },
    /// A write failed before, so what was written is not whole.
    #[error("the checkpoint can't be committed: writing it failed")]
    WriterFailed,
    /// A read past the end of a checkpoint.
    #[error("bytes {offset}+{len} lie beyond the checkpoint's {length}")]
    ReadBeyondEnd {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: usize,
        /// Bytes of the checkpoint.
        length: u64,
    },
    /// Maps with so many nodes that a look at all of them does not end.
    #[error(
        "the block maps of the store are too large to find out what is free: delete a checkpoint"
    )]
    MapsTooLarge,
    /// No memory for a buffer.
    #[error("no memory for a buffer of {bytes} bytes")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

impl<E: Display + Debug> From<buffer::OutOfMemory> for Error<E> {
    fn from(buffer::OutOfMemory { bytes }: buffer::OutOfMemory) -> Self {
        Self::OutOfMemory { bytes }
    }
}

impl<E: Display + Debug> Error<E> {
    /// Returns whether a checkpoint's map, or what is compressed in it, is not what was written.
    pub const fn is_of_damage(&self) -> bool {
        matches!(self, Self::MapDamaged { .. } | Self::UnitDamaged { .. })
    }

    /// Returns whether memory was lacking: whoever tries again may have it.
    pub(crate) const fn is_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }

    /// Returns whether something that is on the disk was not read, or is not what was written:
    /// nothing is wrong with what is being written.
    pub const fn is_of_reading(&self) -> bool {
        matches!(self, Self::Device { doing: Doing::Reading, .. }) || self.is_of_damage()
    }
}
