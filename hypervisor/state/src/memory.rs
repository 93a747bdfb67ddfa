//! Guest memory in the file: extents of pages, which are zero or stored as they are.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    RecordHeader,
    device::MAX_SHARED,
    envelope::RecordPlace,
    error::Error,
    ram::{OutOfRange, ReadRam},
    routines::{PAGE_SIZE, PIECE},
};

/// Returns the CRC-32C of a sequence that continues with `bytes` of `ram`, from the CRC of the
/// bytes before them. Calls `pause` after each piece of [`PIECE`] bytes.
pub(crate) fn crc32c(
    ram: &dyn ReadRam,
    crc: u32,
    bytes: Range<usize>,
    pause: &mut dyn FnMut(),
) -> Result<u32, OutOfRange> {
    bytes.clone().step_by(PIECE).try_fold(crc, |crc, start| {
        let crc = ram.crc32c(crc, start..bytes.end.min(start + PIECE));
        pause();
        crc
    })
}

/// The beginning of the body of a MEMORY record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Extent {
    /// Guest-physical address of the first page.
    pub address: u64,
    /// Number of pages, at least 1.
    pub pages: u32,
    /// The number of a [`Kind`].
    pub kind: u32,
}

/// The content of an extent's pages, and what follows the extent in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// All bytes are 0. Nothing follows.
    Zero = 0,
    /// The pages follow as they are.
    Raw = 1,
}

impl Extent {
    /// Bytes of an extent without its pages.
    pub const LEN: usize = size_of::<Self>();
    /// The greatest number of pages in a raw extent: 1 MiB, so that one CRC covers a bounded piece.
    pub const MAX_RAW_PAGES: u32 = 256;

    /// Returns the bytes of the record's body.
    pub const fn body_len(&self) -> u64 {
        let pages = if self.kind == Kind::Raw as u32 { self.pages as u64 } else { 0 };
        Self::LEN as u64 + pages * PAGE_SIZE as u64
    }

    /// Returns the bytes of guest memory that the extent covers.
    pub const fn memory_len(&self) -> u64 {
        self.pages as u64 * PAGE_SIZE as u64
    }

    /// Checks the extent against the rules of the format and the length of its record's body, and
    /// returns the kind of its pages.
    pub(crate) fn check(&self, place: RecordPlace, body_len: u32) -> Result<Kind, Error> {
        let kind = match self.kind {
            0 => Kind::Zero,
            1 if self.pages <= Self::MAX_RAW_PAGES => Kind::Raw,
            1 => {
                return Err(Error::ExtentTooBig { place, pages: self.pages });
            }
            kind => return Err(Error::ExtentKind { place, kind }),
        };
        if !self.address.is_multiple_of(PAGE_SIZE as u64)
            || self.pages == 0
            || self.address.checked_add(self.memory_len()).is_none()
        {
            return Err(Error::ExtentRange { place, address: self.address, pages: self.pages });
        }
        if self.body_len() != u64::from(body_len) {
            return Err(Error::ExtentLength { place, found: body_len, expected: self.body_len() });
        }
        Ok(kind)
    }
}

/// The greatest number of pieces that a guest's memory has: its RAM, and the regions that it
/// shares.
const MAX_PIECES: usize = 1 + MAX_SHARED;

/// The ranges of addresses that the extents of a file cover, in ascending order. Ranges without a
/// gap between them are one.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    ranges: Vec<Range<u64>>,
}

impl Coverage {
    /// Returns whether no extent was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Adds an extent, which must not begin below the end of the one before it.
    pub(crate) fn add(&mut self, place: RecordPlace, extent: &Extent) -> Result<(), Error> {
        let (start, len) = (extent.address, extent.memory_len());
        let pieces = self.ranges.len();
        match self.ranges.last_mut() {
            Some(last) if start < last.end => {
                return Err(Error::PageTwice { place, address: start });
            }
            Some(last) if start == last.end => last.end += len,
            // The file has more gaps than the memory of any guest.
            Some(last) if pieces == MAX_PIECES => {
                return Err(Error::PageMissing { address: last.end });
            }
            _ => self.ranges.push(start..start + len),
        }
        Ok(())
    }

    /// Checks that the file covers exactly the guest's memory: these ranges, which ascend with gaps
    /// between them.
    pub(crate) fn check(&self, memory: &[Range<u64>]) -> Result<(), Error> {
        const NONE: &Range<u64> = &(u64::MAX..u64::MAX);
        for n in 0..self.ranges.len().max(memory.len()) {
            let found = self.ranges.get(n).unwrap_or(NONE);
            let expected = memory.get(n).unwrap_or(NONE);
            // The range that begins earlier, or ends later, covers addresses that the other lacks.
            if found.start < expected.start {
                return Err(Error::PageOutside { address: found.start });
            }
            if expected.start < found.start {
                return Err(Error::PageMissing { address: expected.start });
            }
            if found.end < expected.end {
                return Err(Error::PageMissing { address: found.end });
            }
            if expected.end < found.end {
                return Err(Error::PageOutside { address: expected.end });
            }
        }
        Ok(())
    }
}

const _: () = assert!(PIECE.is_multiple_of(PAGE_SIZE));
const _: () = assert!((RecordHeader::LEN + Extent::LEN).is_multiple_of(8));
