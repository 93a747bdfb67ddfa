//! The errors of the format. The message of each is one line that a person understands.

use thiserror::Error;

use crate::ram::OutOfRange;

use crate::{
    envelope::{Name, RecordPlace},
    header::{VERSION, Version},
    invariants::Violation,
    name::{BadName, Shown},
};

/// The rule of the format that a file or a state breaks, or what a host lacks for its guest. The
/// messages explain the variants.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("this is not a checkpoint: it does not begin with STASIS")]
    NotACheckpoint,
    #[error("the file ends after {has} of {needs} bytes")]
    Truncated { has: u64, needs: u64 },
    #[error("the file has {has} bytes, but its header says {said}")]
    TooLong { has: u64, said: u64 },
    #[error("the header says it is {found} bytes long, which no header is")]
    HeaderLength { found: u32 },
    #[error("header: CRC is {found:#010x} but should be {computed:#010x}")]
    HeaderCrc { found: u32, computed: u32 },
    #[error("written by format {found}; this reads up to {VERSION}")]
    Version { found: Version },
    #[error("needs features {bits:#x} of format {version}; this reads up to {VERSION}")]
    UnknownFeatures { bits: u64, version: Version },
    #[error("the header's reserved field is {found:#x} but should be 0")]
    HeaderReserved { found: u32 },

    #[error("record {index} has no room for its header: {left} bytes are left in the file")]
    RecordHeaderCut { index: u32, left: u64 },
    #[error("{place} is {length} bytes long, but {left} are left in the file")]
    RecordCut { place: RecordPlace, length: u64, left: u64 },
    #[error("{place}: CRC is {found:#010x} but should be {computed:#010x}")]
    RecordCrc { place: RecordPlace, found: u32, computed: u32 },
    #[error("{place}: a reserved field or the padding is not 0")]
    RecordReserved { place: RecordPlace },
    #[error("{place} is unknown: written by format {version}; this reads up to {VERSION}")]
    UnknownRecord { place: RecordPlace, version: Version },
    #[error("{place}: its instance is {}, but there is none such", place.instance)]
    Instance { place: RecordPlace },
    #[error("{place} is {length} bytes long; such a record has at most {limit}")]
    RecordTooLong { place: RecordPlace, length: u32, limit: u32 },
    #[error("{place} is there twice")]
    RecordTwice { place: RecordPlace },
    #[error("there is no record {0}")]
    RecordMissing(Name),
    #[error("{place} is of vCPU {}, but the guest has {nr_vcpus}", place.instance)]
    RecordOfNoVcpu { place: RecordPlace, nr_vcpus: u8 },
    #[error("{place}: {left} bytes follow it")]
    AfterEnd { place: RecordPlace, left: u64 },
    #[error("there is no record END")]
    NoEnd,

    #[error("{place}: the register at byte {at} does not fit in the record")]
    RegisterCut { place: RecordPlace, at: usize },
    #[error("{place}: register {id:#06x} is unknown to this version, and is not 0")]
    UnknownRegister { place: RecordPlace, id: u16 },
    #[error("{place}: register {id:#06x} has elements of {width} bytes, which none has")]
    RegisterWidth { place: RecordPlace, id: u16, width: u8 },
    #[error("{place}: {name} has elements of {found} bytes but should have {expected}")]
    WrongWidth { place: RecordPlace, name: &'static str, found: u8, expected: u8 },
    #[error("{place}: {name} has {count} elements from {first} on, of {limit} that there are")]
    WrongCount { place: RecordPlace, name: &'static str, first: u16, count: u16, limit: u16 },
    #[error("{place}: register {id:#06x} is there twice")]
    RegisterTwice { place: RecordPlace, id: u16 },
    #[error("{place}: register {id:#06x} has flags {flags:#04x}, which this version does not know")]
    RegisterFlags { place: RecordPlace, id: u16, flags: u8 },
    #[error("{place}: register {id:#06x} has no elements")]
    RegisterEmpty { place: RecordPlace, id: u16 },
    #[error("{place}: the padding of register {id:#06x} is not 0")]
    RegisterPadding { place: RecordPlace, id: u16 },

    #[error("{place}: {length} bytes are too few for an extent")]
    ExtentCut { place: RecordPlace, length: u32 },
    #[error("{place}: the extent's kind is {kind}, which this version does not know")]
    ExtentKind { place: RecordPlace, kind: u32 },
    #[error("{place}: the extent has {pages} pages; one with content has at most 256")]
    ExtentTooBig { place: RecordPlace, pages: u32 },
    #[error("{place}: {pages} pages at {address:#x} are no range of pages")]
    ExtentRange { place: RecordPlace, address: u64, pages: u32 },
    #[error("{place} is {found} bytes long, but its extent makes it {expected}")]
    ExtentLength { place: RecordPlace, found: u32, expected: u64 },
    #[error("{place}: the page at {address:#x} is there twice, or out of order")]
    PageTwice { place: RecordPlace, address: u64 },
    #[error("the page at {address:#x} is missing")]
    PageMissing { address: u64 },
    #[error("the page at {address:#x} is outside the guest's memory")]
    PageOutside { address: u64 },

    #[error("{place} is {length} bytes long, which no block is")]
    BlockCut { place: RecordPlace, length: u32 },
    #[error("{place} begins at byte {at}, which is no multiple of 4096")]
    BlockAt { place: RecordPlace, at: u64 },
    #[error("{place}: {pages} pages at {address:#x} are no block of the guest's memory")]
    BlockRange { place: RecordPlace, address: u64, pages: u32 },
    #[error("{place} is {found} bytes long, but its pages make it {expected}")]
    BlockLength { place: RecordPlace, found: u32, expected: u64 },
    #[error(
        "{place}: the page at {address:#x} is of kind {kind}, which this version does not know"
    )]
    PageKind { place: RecordPlace, address: u64, kind: u8 },
    #[error("{place}: the page at {address:#x} is the word 0 over and over, which is kind 0")]
    PageWord { place: RecordPlace, address: u64 },
    #[error("{place} does not follow its RAM_BLOCK")]
    PagesAlone { place: RecordPlace },
    #[error("the pages of the block at {address:#x} do not follow it")]
    PagesMissing { address: u64 },
    #[error("the page at {address:#x}: CRC is {found:#010x} but should be {computed:#010x}")]
    PageCrc { address: u64, found: u32, computed: u32 },
    #[error("{place}: the memory is in MEMORY records and in blocks")]
    MemoryTwice { place: RecordPlace },
    #[error("{place} stands behind the guest's memory")]
    RecordLate { place: RecordPlace },
    #[error("{place} stands behind RAM_DIRECTORY")]
    BlockLate { place: RecordPlace },
    #[error("{place}: {found} bytes are no directory")]
    DirectoryLength { place: RecordPlace, found: u32 },
    #[error("{place}: what it says of the block at {address:#x} can't be")]
    DirectoryEntry { place: RecordPlace, address: u64 },
    #[error("{place}: there is no room in memory for its {blocks} entries")]
    DirectoryRoom { place: RecordPlace, blocks: u32 },
    #[error("{place}: the bytes of the file from {at} on are in no piece")]
    DirectoryGap { place: RecordPlace, at: u64 },
    #[error("{place} does not have what the file has")]
    DirectoryDiffers { place: RecordPlace },
    #[error("{place}: {pages} touched pages at {address:#x} are not the guest's memory")]
    Touched { place: RecordPlace, address: u64, pages: u64 },
    #[error("there is no sound block where RAM_DIRECTORY says that the one at {address:#x} is")]
    NoBlock { address: u64 },
    #[error("the header says that RAM_DIRECTORY is at byte {found}; it is not")]
    HeaderDirectory { found: u64 },
    #[error("the file has no RAM_DIRECTORY, as those before format 1.5: it must be read whole")]
    NoDirectory,

    #[error("{name}: {violation}")]
    Invariant { name: Name, violation: Violation },

    #[error("the guest has {found} bytes of RAM, but {given} were given")]
    RamSize { found: u64, given: u64 },
    #[error("the memory can't be written without the checkpoint that it has changed since")]
    NoBase,
    #[error("the memory that was given is too small: {0}")]
    Ram(#[from] OutOfRange),
    #[error("the file changed while it was read")]
    Changed,

    #[error(
        "the guest is called {found}, which no guest can be since format 1.3: {why}; resume it under another name, with \"as NAME\""
    )]
    HostName { found: Shown, why: BadName },
    #[error("the guest has {guest} vCPUs; there are {host}")]
    HostVcpus { guest: u8, host: u8 },
    #[error("the guest has {guest} bytes of RAM; there are {host}")]
    HostMemory { guest: u64, host: u64 },
    #[error("the guest's GIC has {guest} priority bits; this machine's {host}")]
    HostPriorityBits { guest: u8, host: u8 },
    #[error("the guest has {guest} bytes of RAM; here it has a multiple of {unit:#x}")]
    HostRamSize { guest: u64, unit: u64 },
    #[error(
        "the guest's RAM is at {guest:#x}; here it would be in {start:#x} to {end:#x}, at a multiple of {unit:#x}"
    )]
    HostRam { guest: u64, start: u64, end: u64, unit: u64 },
    #[error("the guest's {what} is at {guest:#x}; here it would be at {host:#x}")]
    HostAddress { what: &'static str, guest: u64, host: u64 },
}

impl Error {
    /// Returns whether the file may still be whole and sound: it uses something that this version
    /// does not know, as newer versions do.
    pub const fn is_of_newer(&self) -> bool {
        matches!(
            self,
            Self::Version { .. }
                | Self::UnknownFeatures { .. }
                | Self::UnknownRecord { .. }
                | Self::UnknownRegister { .. }
                | Self::RegisterFlags { .. }
                | Self::ExtentKind { .. }
                | Self::PageKind { .. }
        )
    }
}

/// Why a checkpoint could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError<E> {
    /// The source failed.
    #[error("reading failed: {0}")]
    Source(E),
    /// The file breaks a rule of the format, or does not fit.
    #[error("{0}")]
    Format(#[from] Error),
    /// The caller has refused the guest.
    #[error("{0}")]
    Refused(E),
}

/// Why a checkpoint could not be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SaveError<E> {
    /// The sink failed.
    #[error("writing failed: {0}")]
    Sink(E),
    /// The memory has become smaller since the plan was made.
    #[error("the memory can't be read: {0}")]
    Ram(OutOfRange),
    /// The checkpoint that this one should have shared with is damaged.
    #[error("the checkpoint that it shares with is damaged: {0}")]
    Base(Error),
}
