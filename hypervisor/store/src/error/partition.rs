//! What is wrong with a disk's partitions: [`PartitionFault`].

use crate::layout::{BLOCK, FIRST_DATA_BLOCK};
use crate::{gpt, mbr};

/// Why a disk has no partition that can be a store, or can't get one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionFault {
    /// Sector 0 is no MBR and there is no GPT.
    #[error("the disk has no partition table (neither a GPT nor an MBR)")]
    NoTable,
    /// A GPT is announced, but both copies of it are damaged.
    #[error("the disk's GPT is damaged: {primary}, and {backup}")]
    GptDamaged {
        /// What is wrong with the copy at the start of the disk.
        primary: gpt::Fault,
        /// What is wrong with the copy at its end.
        backup: gpt::Fault,
    },
    /// No partition has the type of a Stasis store.
    #[error(
        "the disk has no Stasis partition (GPT type {guid}, MBR type {mbr:#04x})",
        guid = gpt::STASIS_TYPE,
        mbr = mbr::STASIS_TYPE
    )]
    NoStasisPartition,
    /// The partition table describes a partition that can't be.
    #[error(
        "the Stasis partition (sectors {first}..={last}) does not lie on the disk of {disk} sectors"
    )]
    OutsideDisk {
        /// The first sector.
        first: u64,
        /// The last sector.
        last: u64,
        /// Sectors of the disk.
        disk: u64,
    },
    /// A partition that does not begin with a block of the disk.
    #[error(
        "the Stasis partition begins at sector {first}, which is no multiple of 8: where a disk's blocks have 4096 bytes, a write \
         that is cut short would hurt what stands beside it; begin it at a multiple of 8 sectors (2048 is the custom)"
    )]
    Unaligned {
        /// The first sector.
        first: u64,
    },
    /// There is no room for even an empty store.
    #[error("a partition of {bytes} bytes is too small for a store: it takes {needed} at least")]
    TooSmall {
        /// Bytes of the partition.
        bytes: u64,
        /// Bytes that it takes.
        needed: u64,
    },
    /// A disk too small for the partitions that it is to have.
    #[error("partition {index} (sectors {first}..={last}) does not fit into sectors {from}..={to}")]
    NoRoom {
        /// The place in the list.
        index: usize,
        /// The first sector.
        first: u64,
        /// The last sector.
        last: u64,
        /// The first sector that a partition may have.
        from: u64,
        /// The last sector that a partition may have.
        to: u64,
    },
    /// Two partitions that are to be made share sectors.
    #[error("partitions {index} and {other} overlap")]
    Overlap {
        /// One of them.
        index: usize,
        /// The other.
        other: usize,
    },
}

impl PartitionFault {
    /// Returns the fault of a partition that has so few blocks.
    pub(crate) const fn too_small(blocks: u64) -> Self {
        Self::TooSmall {
            bytes: blocks * BLOCK as u64,
            needed: (FIRST_DATA_BLOCK as u64 + 1) * BLOCK as u64,
        }
    }
}
