//! The record RAM_DIRECTORY: where in the file each RAM block is, and in which order pages were
//! touched.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{
    block::{block_of, meta_len},
    envelope::RecordPlace,
    error::Error,
    routines::PAGE_SIZE,
};

/// The beginning of the body of a RAM_DIRECTORY record. The [`Entry`]s follow, then the [`Touched`]
/// runs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct DirectoryHead {
    /// Number of entries.
    pub blocks: u32,
    /// Number of runs of touched pages.
    pub touched: u32,
}

impl DirectoryHead {
    /// The greatest number of entries that a reader takes: blocks of 1 TiB.
    pub const MAX_BLOCKS: u32 = 1 << 19;
    /// Bytes of the longest body of a RAM_DIRECTORY record.
    pub(crate) const MAX_LEN: u32 =
        Self { blocks: Self::MAX_BLOCKS, touched: Touched::MAX_RUNS as u32 }.body_len() as u32;

    /// Returns the bytes of the body of the record.
    pub(crate) const fn body_len(&self) -> u64 {
        let entries = self.blocks as u64 * size_of::<Entry>() as u64;
        size_of::<Self>() as u64 + entries + self.touched as u64 * size_of::<Touched>() as u64
    }
}

/// Where a RAM block is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Entry {
    /// Guest-physical address of the block's first page.
    pub address: u64,
    /// Offset of the piece in the file, in units of 4096 bytes.
    pub start: u32,
    /// Number of the block's raw pages.
    pub raw: u16,
    /// Number of the block's word pages.
    pub words: u16,
}

impl Entry {
    /// Returns the length of the piece, in units of 4096 bytes.
    pub const fn len(&self) -> u64 {
        (meta_len(self.raw as usize, self.words as usize) / PAGE_SIZE) as u64 + self.raw as u64
    }

    /// Returns whether the block has no content, as none that has an entry.
    pub const fn is_empty(&self) -> bool {
        self.raw == 0 && self.words == 0
    }

    /// Returns the units of 4096 bytes of the file in which the piece is.
    pub const fn units(&self) -> Range<u64> {
        self.start as u64..self.start as u64 + self.len()
    }

    /// Returns the piece's bytes in the file.
    pub const fn bytes(&self) -> Range<u64> {
        let Range { start, end } = self.units();
        start * PAGE_SIZE as u64..end * PAGE_SIZE as u64
    }
}

/// A run of pages that the guest touched one after the other: the address of the first, with the
/// number of pages less one in bits \[11:0\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Touched(pub u64);

impl Touched {
    /// The greatest number of runs in a file.
    pub const MAX_RUNS: usize = 4096;
    /// The greatest number of pages in a run.
    pub const MAX_PAGES: u64 = PAGE_SIZE as u64;

    /// Returns the run of these pages: 1 to [`Touched::MAX_PAGES`] from a multiple of 4096 on.
    pub const fn new(address: u64, pages: u64) -> Self {
        Self(address & !(PAGE_SIZE as u64 - 1) | (pages - 1) & (PAGE_SIZE as u64 - 1))
    }

    /// Returns the same pages of a memory in which all is `by` bytes further up, whole pages.
    #[must_use]
    pub const fn moved(self, by: u64) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// Returns the guest-physical address of the first page, and the number of pages.
    pub const fn pages(self) -> (u64, u64) {
        (self.0 & !(PAGE_SIZE as u64 - 1), self.0 % PAGE_SIZE as u64 + 1)
    }
}

/// What a RAM_DIRECTORY record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) entries: Vec<Entry>,
    pub(crate) touched: Vec<Touched>,
}

impl Directory {
    /// Returns the body of the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head =
            DirectoryHead { blocks: self.entries.len() as u32, touched: self.touched.len() as u32 };
        [head.as_bytes(), self.entries.as_bytes(), self.touched.as_bytes()].concat()
    }

    /// Returns the number of raw pages in the file, and that of word pages.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.entries.iter().fold((0, 0), |(raw, words), entry| {
            (raw + u64::from(entry.raw), words + u64::from(entry.words))
        })
    }

    /// Returns a directory with as many entries and runs as the head says, all of them zero.
    ///
    /// # Errors
    ///
    /// [`Error::DirectoryRoom`] if there is no memory for them.
    pub(crate) fn zeroed(place: RecordPlace, head: DirectoryHead) -> Result<Self, Error> {
        let no_room = |_| Error::DirectoryRoom { place, blocks: head.blocks };
        let mut directory = Self::default();
        let Self { entries, touched } = &mut directory;
        entries.try_reserve_exact(head.blocks as usize).map_err(no_room)?;
        entries.resize(head.blocks as usize, Entry::new_zeroed());
        touched.try_reserve_exact(head.touched as usize).map_err(no_room)?;
        touched.resize(head.touched as usize, Touched(0));
        Ok(directory)
    }

    /// Checks that the blocks are blocks of `memory`, and ascend; that their pieces ascend and lie
    /// in the bytes `pieces` of the file; and that the touched pages are pages of `memory`.
    ///
    /// # Errors
    ///
    /// The first of these rules that is broken.
    pub(crate) fn check(
        &self,
        place: RecordPlace,
        memory: &[Range<u64>],
        pieces: &Range<u64>,
    ) -> Result<(), Error> {
        let (mut address, mut at) = (None, pieces.start);
        for entry in &self.entries {
            let bytes = entry.bytes();
            let block = block_of(memory, entry.address);
            let pages = u64::from(entry.raw) + u64::from(entry.words);
            let is_block = block.is_some_and(|block| {
                let has = (block.end - block.start) / PAGE_SIZE as u64;
                block.start == entry.address && (1..=has).contains(&pages)
            });
            let ascends = address < Some(entry.address) && at <= bytes.start;
            if !is_block || !ascends || pieces.end < bytes.end {
                return Err(Error::DirectoryEntry { place, address: entry.address });
            }
            (address, at) = (Some(entry.address), bytes.end);
        }
        let is_memory = |first: u64, pages: u64| {
            let end = first.checked_add(pages * PAGE_SIZE as u64);
            end.is_some_and(|end| memory.iter().any(|all| all.start <= first && end <= all.end))
        };
        match self.touched.iter().map(|run| run.pages()).find(|run| !is_memory(run.0, run.1)) {
            Some((address, pages)) => Err(Error::Touched { place, address, pages }),
            None => Ok(()),
        }
    }

    /// Checks that the pieces are all of the bytes `pieces` of the file, so that nothing lies
    /// between them that a reader of the directory does not see.
    ///
    /// # Errors
    ///
    /// [`Error::DirectoryGap`] with the first byte that is in no piece.
    pub(crate) fn check_gaps(&self, place: RecordPlace, pieces: &Range<u64>) -> Result<(), Error> {
        let mut at = pieces.start;
        for bytes in self.entries.iter().map(Entry::bytes) {
            if bytes.start != at {
                return Err(Error::DirectoryGap { place, at });
            }
            at = bytes.end;
        }
        if at == pieces.end { Ok(()) } else { Err(Error::DirectoryGap { place, at }) }
    }
}

const _: () = assert!(size_of::<DirectoryHead>() == 8 && size_of::<Entry>() == 16);
