//! Guest memory in the file: extents of pages, which are zero or stored as they are.

use alloc::{vec, vec::Vec};
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

/// Returns the CRC-32C of a sequence that continues with `bytes` of `ram`, from the CRC of the bytes before them. Calls `pause` after each
/// piece of [`PIECE`] bytes.
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

    /// Checks the extent against the rules of the format and the length of its record's body, and returns the kind of its pages.
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

/// A map of a guest's memory that says which pages are zero: the result of one look at each page.
#[derive(Clone, Debug)]
pub(crate) struct PageMap {
    /// One bit for each page, set if the page has content.
    raw: Vec<u64>,
    pages: usize,
}

impl PageMap {
    /// Looks at every page of `ram` that may have content. `ram` must be a whole number of pages. Calls `pause` after each piece of
    /// [`PIECE`] bytes.
    pub(crate) fn scan(ram: &dyn ReadRam, pause: &mut dyn FnMut()) -> Result<Self, OutOfRange> {
        const PAGES: usize = PIECE / PAGE_SIZE;
        let pages = ram.len() / PAGE_SIZE;
        let mut raw = vec![0; pages.div_ceil(64)];
        let mut page = 0;
        while let Some(offset) = ram.next_content(page * PAGE_SIZE) {
            let first = offset / PAGE_SIZE;
            // Pieces begin at a multiple of their length, so that each lies in one word.
            page = pages.min((first + 1).next_multiple_of(PAGES));
            let content = ram.pages_with_content(first * PAGE_SIZE, page - first)?;
            raw[first / 64] |= content << (first % 64);
            pause();
        }
        Ok(Self { raw, pages })
    }

    /// Returns the number of pages that have content.
    pub(crate) fn raw_pages(&self) -> u64 {
        self.raw.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns the number of all pages.
    pub(crate) fn pages(&self) -> u64 {
        self.pages as u64
    }

    /// Returns the pages as extents in ascending order, of memory that begins at the guest-physical address `base`. Each comes with the offset of
    /// its first byte in that memory.
    pub(crate) fn extents(&self, base: u64) -> impl Iterator<Item = (usize, Extent)> {
        let mut page = 0;
        core::iter::from_fn(move || {
            if page == self.pages {
                return None;
            }
            let first = page;
            let raw = self.is_raw(first);
            let limit = if raw { Extent::MAX_RAW_PAGES } else { u32::MAX } as usize;
            let most = limit.min(self.pages - first);
            let run = self.run(first, raw, most);
            page += run;
            let offset = first * PAGE_SIZE;
            let extent = Extent {
                address: base + offset as u64,
                pages: run as u32,
                kind: if raw { Kind::Raw } else { Kind::Zero } as u32,
            };
            Some((offset, extent))
        })
    }

    fn is_raw(&self, page: usize) -> bool {
        self.raw[page / 64] >> (page % 64) & 1 != 0
    }

    /// Returns how many pages from `first` on are alike, at most `most`. Looks at a word of the map at a time.
    fn run(&self, first: usize, raw: bool, most: usize) -> usize {
        let mut run = 0;
        while run < most {
            let page = first + run;
            let word = self.raw[page / 64];
            let different = if raw { !word } else { word } >> (page % 64);
            let in_word = 64 - page % 64;
            let alike = (different.trailing_zeros() as usize).min(in_word);
            run += alike;
            if alike < in_word {
                break;
            }
        }
        run.min(most)
    }
}

/// The greatest number of pieces that a guest's memory has: its RAM, and the regions that it shares.
const MAX_PIECES: usize = 1 + MAX_SHARED;

/// The ranges of addresses that the extents of a file cover, in ascending order. Ranges without a gap between them are one.
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

    /// Checks that the file covers exactly the guest's memory: these ranges, which ascend with gaps between them.
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

const _: () = assert!((64 * PAGE_SIZE).is_multiple_of(PIECE) && PIECE.is_multiple_of(PAGE_SIZE));
const _: () = assert!((RecordHeader::LEN + Extent::LEN).is_multiple_of(8));
