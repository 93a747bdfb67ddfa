//! What can be wrong with a guest's image, or with the room for it; and what is possible, but
//! likely not meant.

use super::Kind;
use crate::magic::Found;
use stasis_state::OutOfRange;

/// The error of [`check`](super::check) and [`load`](super::load): what is wrong with a guest's
/// image, or with the room for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A part has no bytes at all.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The image has a known format that can't be loaded.
    #[error("it is {0}; an arm64 Image, an ELF file or raw code is needed, not compressed")]
    Foreign(&'static str),
    /// The image has no known format.
    #[error(
        "it is no arm64 Image and no ELF file: it begins with {0} (say kind = \"raw\" if it is bare code)"
    )]
    Unknown(Found),
    /// The image is not of the kind that the configuration says.
    #[error("it is not of kind \"{kind}\": found {found}")]
    OtherKind {
        /// Kind that the configuration says.
        kind: Kind,
        /// Format that the image seems to have.
        found: Found,
    },
    /// The image is for a processor in big-endian mode.
    #[error("it is big-endian; only little-endian guests are loaded")]
    BigEndian,
    /// The image is an ELF file for another architecture.
    #[error(
        "it is an ELF file for machine {machine} of {bits} bits, not for AArch64 (183, 64 bits)"
    )]
    OtherMachine {
        /// The file's `e_machine`.
        machine: u16,
        /// Width of the file's class: 32 or 64 bits.
        bits: u8,
    },
    /// The image is an ELF file that is no program, with this `e_type`.
    #[error("it is an ELF file of type {0}, not an executable (2 or 3)")]
    NotExecutable(u16),
    /// A header or a segment points behind the end of the file, or contradicts itself.
    #[error("the ELF file is damaged or cut short: {0}")]
    Elf(&'static str),
    /// The ELF file has more segments than any linker makes.
    #[error("the ELF file has {found} segments, {limit} at most are loaded")]
    TooManySegments {
        /// Number of segments that take memory.
        found: usize,
        /// Most segments that are loaded.
        limit: usize,
    },
    /// A segment is not in the guest's RAM.
    #[error(
        "its segment at {start:#x} of {size:#x} bytes is outside the guest's RAM, {ram_start:#x} to {ram_end:#x}"
    )]
    SegmentOutsideRam {
        /// Physical address of the segment.
        start: u64,
        /// Bytes of the segment in memory.
        size: u64,
        /// First address of RAM.
        ram_start: u64,
        /// First address behind RAM.
        ram_end: u64,
    },
    /// The entry point is not in the guest's RAM.
    #[error(
        "its entry point {entry:#x} is outside the guest's RAM, {ram_start:#x} to {ram_end:#x}"
    )]
    EntryOutsideRam {
        /// Address of the entry point.
        entry: u64,
        /// First address of RAM.
        ram_start: u64,
        /// First address behind RAM.
        ram_end: u64,
    },
    /// Something was placed outside of RAM: a bug of this module.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The guest's RAM has no room for a part.
    #[error("{what} does not fit: it needs {needed} bytes of RAM, and {available} are there")]
    DoesNotFit {
        /// Name of the part: the image, the initrd or the device tree.
        what: &'static str,
        /// Bytes that the part needs; for an image, counted from the start of RAM.
        needed: u64,
        /// Bytes that are available in one piece.
        available: u64,
    },
}

/// Something in a guest's parts that is possible, but likely not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The guest has an initial RAM disk, and its image, of this kind, is no Linux.
    #[error(
        "initrd is for Linux, and the image is of kind \"{0}\": its code finds the RAM disk only if it reads /chosen of its device tree"
    )]
    InitrdOfBareCode(Kind),
}
