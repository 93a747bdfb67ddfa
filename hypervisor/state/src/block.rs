//! The metadata of a RAM block: [`Block`] says of each page what its content is.
//!
//! A guest's memory is cut in blocks: the parts of its RAM, and of each region that it shares, that
//! lie in one naturally aligned range of [`BLOCK_SIZE`] bytes of guest-physical addresses. A block
//! with any content is one *piece* of the file: a record RAM_BLOCK, which is the metadata, and a
//! record RAM_PAGES with the pages that are stored as they are. A piece begins and ends at a
//! multiple of 4096, and holds no offset in the file. So a page, or a whole piece, can be found,
//! checked and shared alone.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::change::BLOCK_PAGES;
use crate::{
    RecordHeader, RecordType, envelope::RecordPlace, error::Error, routines::PAGE_SIZE,
    written::BLOCK_SIZE,
};

/// The beginning of the body of a RAM_BLOCK record. The kinds of [`BLOCK_PAGES`] pages follow, one
/// byte each, then the CRCs of the raw pages, then the words of the word pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlockHead {
    /// Guest-physical address of the first page.
    pub address: u64,
    /// Number of pages, 1 to [`BLOCK_PAGES`].
    pub pages: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// The content of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All bytes are 0. Kind 0.
    Zero,
    /// The page is in the record RAM_PAGES as it is. This is its CRC-32C. Kind 1.
    Raw(u32),
    /// The page is this little-endian word over and over. The word is not 0. Kind 2.
    Word(u64),
}

impl Content {
    /// Returns the number that stands for this kind of content in the file.
    pub const fn kind(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::Raw(_) => 1,
            Self::Word(_) => 2,
        }
    }
}

/// Offset of the pages' kinds in the body of a RAM_BLOCK record.
pub const KINDS_AT: usize = size_of::<BlockHead>();
/// Offset of the raw pages' CRCs in the body of a RAM_BLOCK record.
pub const CRCS_AT: usize = KINDS_AT + BLOCK_PAGES;
/// Bytes of a piece's metadata besides the bodies: the headers of both records.
const HEADERS: usize = 2 * RecordHeader::LEN;

/// Returns the bytes of a piece's metadata, up to its first raw page: a multiple of 4096.
pub(crate) const fn meta_len(raw: usize, words: usize) -> usize {
    (HEADERS + CRCS_AT + (4 * raw).next_multiple_of(8) + 8 * words).next_multiple_of(PAGE_SIZE)
}

/// Returns the addresses of the block in which `address` lies, in memory that consists of these
/// ranges; `None` if there is no memory.
pub fn block_of(memory: &[Range<u64>], address: u64) -> Option<Range<u64>> {
    let range = memory.iter().find(|range| range.contains(&address))?;
    let start = address - address % BLOCK_SIZE as u64;
    Some(range.start.max(start)..range.end.min(start.saturating_add(BLOCK_SIZE as u64)))
}

/// The metadata of a RAM block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    address: u64,
    contents: Vec<Content>,
}

impl Block {
    /// Returns the block at these addresses, as [`block_of`] returns them, all of it zero.
    pub fn zero(addresses: Range<u64>) -> Self {
        let pages = ((addresses.end - addresses.start) / PAGE_SIZE as u64) as usize;
        Self { address: addresses.start, contents: vec![Content::Zero; pages.min(BLOCK_PAGES)] }
    }

    /// Returns the guest-physical address of the first page.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Returns the content of each page, in ascending order of addresses.
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// Returns the content of each page, to be changed.
    pub fn contents_mut(&mut self) -> &mut [Content] {
        &mut self.contents
    }

    /// Returns the first address behind the block.
    pub fn end(&self) -> u64 {
        self.address + (self.contents.len() * PAGE_SIZE) as u64
    }

    /// Returns the number of raw pages, and that of word pages.
    pub fn counts(&self) -> (usize, usize) {
        self.contents.iter().fold((0, 0), |(raw, words), content| match content {
            Content::Zero => (raw, words),
            Content::Raw(_) => (raw + 1, words),
            Content::Word(_) => (raw, words + 1),
        })
    }

    /// Returns the bytes of the piece's metadata, up to its first raw page: 4096 or 8192.
    pub fn meta_len(&self) -> usize {
        let (raw, words) = self.counts();
        meta_len(raw, words)
    }

    /// Returns the offset in the piece of the raw page with this index in the block, if the page is
    /// raw.
    pub fn offset_of(&self, page: usize) -> Option<u64> {
        let Content::Raw(_) = self.contents.get(page)? else { return None };
        let before = self.contents[..page].iter().filter(|content| content.kind() == 1).count();
        Some((self.meta_len() + before * PAGE_SIZE) as u64)
    }

    /// Replaces `meta` with the piece up to its first raw page: the record RAM_BLOCK, and the
    /// header of RAM_PAGES.
    pub fn encode(&self, crc32c: fn(u32, &[u8]) -> u32, meta: &mut Vec<u8>) {
        let (raw, words) = self.counts();
        let len = meta_len(raw, words);
        // A vector grows byte by byte where the compiler saves space, and a new one is cleared at
        // once.
        if meta.len() < len {
            *meta = vec![0; len];
        } else {
            meta.truncate(len);
            meta.fill(0);
        }
        let (record, pages_header) = meta.split_at_mut(len - RecordHeader::LEN);
        let (header, body) = record.split_at_mut(RecordHeader::LEN);
        let head =
            BlockHead { address: self.address, pages: self.contents.len() as u32, reserved: 0 };
        body[..KINDS_AT].copy_from_slice(head.as_bytes());
        let (mut crc_at, mut word_at) = (CRCS_AT, CRCS_AT + (4 * raw).next_multiple_of(8));
        for (page, content) in self.contents.iter().enumerate() {
            body[KINDS_AT + page] = content.kind();
            match content {
                Content::Zero => {}
                Content::Raw(crc) => {
                    body[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
                    crc_at += 4;
                }
                Content::Word(word) => {
                    body[word_at..word_at + 8].copy_from_slice(&word.to_le_bytes());
                    word_at += 8;
                }
            }
        }
        let mut block = RecordHeader::new(RecordType::RamBlock, 0, body.len() as u32);
        block.crc = crc32c(crc32c(0, &block.as_bytes()[..RecordHeader::COVERED]), body);
        header.copy_from_slice(block.as_bytes());
        let mut pages = RecordHeader::new(RecordType::RamPages, 0, (raw * PAGE_SIZE) as u32);
        pages.crc = crc32c(0, &pages.as_bytes()[..RecordHeader::COVERED]);
        pages_header.copy_from_slice(pages.as_bytes());
    }

    /// Returns whether the body of a RAM_BLOCK record can have this length.
    pub(crate) const fn can_be_body(length: u32) -> bool {
        let len = length as usize + HEADERS;
        len >= meta_len(0, 0) && len <= meta_len(0, BLOCK_PAGES) && len.is_multiple_of(PAGE_SIZE)
    }

    /// Returns the block that the body of a RAM_BLOCK record says, whose length [can
    /// be](Self::can_be_body) that of one. `memory` is the guest's.
    ///
    /// # Errors
    ///
    /// The first rule of the format that the body breaks.
    pub(crate) fn decode(
        place: RecordPlace,
        body: &[u8],
        memory: &[Range<u64>],
    ) -> Result<Self, Error> {
        let reserved = || Error::RecordReserved { place };
        let (head, rest) = BlockHead::read_from_prefix(body).map_err(|_| reserved())?;
        let BlockHead { address, pages, .. } = head;
        let none = Error::BlockRange { place, address, pages };
        let Some(expected) = block_of(memory, address) else { return Err(none) };
        let mut block = Self::zero(expected);
        if (block.address, block.contents.len()) != (address, pages as usize) {
            return Err(none);
        }
        let (kinds, rest) = rest.split_at(BLOCK_PAGES);
        let (kinds, beyond) = kinds.split_at(block.contents.len());
        if head.reserved != 0 || beyond.iter().any(|&kind| kind != 0) {
            return Err(reserved());
        }
        let at = |page: usize| address + (page * PAGE_SIZE) as u64;
        for (page, (content, &kind)) in block.contents.iter_mut().zip(kinds).enumerate() {
            *content = match kind {
                0 => Content::Zero,
                1 => Content::Raw(0),
                2 => Content::Word(0),
                kind => return Err(Error::PageKind { place, address: at(page), kind }),
            };
        }
        let (raw, words) = block.counts();
        let expected = (meta_len(raw, words) - HEADERS) as u64;
        if expected != body.len() as u64 {
            return Err(Error::BlockLength { place, found: body.len() as u32, expected });
        }
        let (crcs, rest) = rest.split_at(4 * raw);
        let (pad, rest) = rest.split_at((4 * raw).next_multiple_of(8) - 4 * raw);
        let (word_bytes, filling) = rest.split_at(8 * words);
        if pad.iter().chain(filling).any(|&byte| byte != 0) {
            return Err(reserved());
        }
        let mut crcs = crcs.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut words = word_bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        for (page, content) in block.contents.iter_mut().enumerate() {
            match content {
                Content::Zero => {}
                Content::Raw(crc) => *crc = crcs.next().unwrap_or_default(),
                Content::Word(word) => {
                    *word = words.next().unwrap_or_default();
                    if *word == 0 {
                        return Err(Error::PageWord { place, address: at(page) });
                    }
                }
            }
        }
        Ok(block)
    }

    /// Returns the runs of pages whose content is of the same kind, and of word pages those with
    /// the same word: the first page, the number of pages, and the content of the first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, usize, Content)> {
        let mut page = 0;
        core::iter::from_fn(move || {
            let first = page;
            let content = *self.contents.get(first)?;
            let alike = |other: &&Content| match (content, other) {
                (Content::Word(word), Content::Word(other)) => word == *other,
                _ => content.kind() == other.kind(),
            };
            let run = self.contents[first..].iter().take_while(alike).count();
            page += run;
            Some((first, run, content))
        })
    }
}

// Both records need no padding, and the kinds and the CRCs of a block of raw pages fit in one page.
const _: () = assert!(meta_len(BLOCK_PAGES, 0) == PAGE_SIZE && CRCS_AT.is_multiple_of(8));
const _: () = assert!(meta_len(0, BLOCK_PAGES) == 2 * PAGE_SIZE);
