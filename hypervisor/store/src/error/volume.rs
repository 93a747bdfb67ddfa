//! What is wrong with a volume, or with what is wanted of it: [`VolumeFault`].

use crate::layout::{BLOCK, MAX_INSTANTS, NEW_VERSION};
use alloc::string::String;

/// Why a volume can't be used, or not in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeFault {
    /// An entry of a volume that breaks a rule.
    #[error("the entry of volume {name:?} in the catalog is not valid")]
    Invalid {
        /// The name that the entry states.
        name: String,
    },
    /// Two volumes of one name.
    #[error("the catalog has two volumes {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A block of a volume's map that is not what it was, or breaks a rule.
    #[error("the block map of volume {name:?} is damaged: block {block} is not as it was written")]
    Damaged {
        /// The volume's name.
        name: String,
        /// The block, counted from the start of the partition.
        block: u32,
    },
    /// A list of volumes that can't be.
    #[error("checkpoint {number} claims {count} volumes, listed in block {block}, and can't")]
    InstantsInvalid {
        /// The checkpoint's number.
        number: u64,
        /// The block of the list.
        block: u32,
        /// The number of volumes.
        count: u32,
    },
    /// A guest has more volumes than a checkpoint can have.
    #[error("{count} volumes are more than a checkpoint can have: {MAX_INSTANTS}")]
    TooManyInstants {
        /// The number of volumes.
        count: usize,
    },
    /// A checkpoint does not have this volume.
    #[error("checkpoint {number} has no volume {name:?}")]
    NoInstant {
        /// The checkpoint's number.
        number: u64,
        /// The volume's name.
        name: String,
    },
    /// Nothing is called so.
    #[error("there is no volume {name:?}")]
    NotThere {
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("there is a volume {name:?} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// A name that a volume can't have.
    #[error(
        "{name:?} can't be a volume's name: 1 to 32 bytes without white space, not a number alone, no - in front, no / at the end"
    )]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// A size that a volume can't have.
    #[error(
        "volume {name:?} can't have {length} bytes: its size is a multiple of {BLOCK}, at least that and at most 1 TiB"
    )]
    Size {
        /// The name.
        name: String,
        /// The size in bytes.
        length: u64,
    },
    /// The store's version has no way to say what a volume is.
    #[error(
        "a store of version {version} can't have volumes: `store upgrade` makes it one of version {NEW_VERSION}, which can"
    )]
    NotInVersion {
        /// The store's version.
        version: u32,
    },
    /// An access that is not to whole sectors of the volume.
    #[error("bytes {offset}+{len} are no sectors of volume {name:?}, which has {length} bytes")]
    Beyond {
        /// The volume's name.
        name: String,
        /// The first byte.
        offset: u64,
        /// Bytes of the access.
        len: u64,
        /// Bytes of the volume.
        length: u64,
    },
    /// What was written to a volume and not flushed is not on the disk.
    #[error("writes to volume {name:?} were lost, as the disk failed before they were flushed")]
    WritesLost {
        /// The volume's name.
        name: String,
    },
    /// There is no room for what was written to a volume.
    #[error("the store is full: nothing more can be written to volume {name:?}")]
    Full {
        /// The volume's name.
        name: String,
    },
}
