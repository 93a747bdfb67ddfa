//! Random access to the memory of a checkpoint: [`Index`].
//!
//! [`Index::open`] reads and checks the header, the registers and the directory, and none of the
//! memory. From then on any page can be found by the metadata of its block, and checked alone.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordHeader, RecordType,
    block::{Block, Content, block_of, meta_len},
    directory::{Directory, Entry, Touched},
    envelope::RecordPlace,
    error::{Error, LoadError},
    input::Source,
    reader::{Checkpoint, Draft, pieces::check_pages_header},
    routines::{PAGE_SIZE, Routines},
    walk::Walk,
};

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

/// Bytes that are read at once of the registers and the directory.
const BUFFER: usize = 16 * 1024;

/// Where the memory of a checkpoint is in its file.
#[derive(Clone, Debug)]
pub struct Index {
    /// The guest's memory.
    memory: Vec<Range<u64>>,
    directory: Directory,
    /// Bytes of the file.
    len: u64,
    crc32c: fn(u32, &[u8]) -> u32,
}

/// A block with any content, and where it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The metadata of the block.
    pub block: Block,
    /// Where the piece is.
    pub entry: Entry,
}

/// Where the content of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageContent {
    /// All bytes of the page are 0.
    Zero,
    /// The page is this little-endian word over and over.
    Word(u64),
    /// The page is in the file.
    Raw {
        /// Offset of its first byte in the file, a multiple of 4096.
        offset: u64,
        /// The CRC-32C of its bytes.
        crc: u32,
    },
}

impl Index {
    /// Reads the header, the registers and the directory of a file, and checks them. The
    /// [`Stats`](crate::Stats) of the checkpoint are what the directory says.
    ///
    /// # Errors
    ///
    /// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file breaks a rule
    /// of the format, or with [`Error::NoDirectory`] if it is of an older minor and has no
    /// directory.
    pub fn open<S: Source>(source: &mut S, routines: Routines) -> Result<(Checkpoint, Self), S> {
        let mut walk = Walk::new(source, routines.crc32c, BUFFER)?;
        let header = walk.header();
        if walk.directory() == 0 {
            return Err(Error::NoDirectory.into());
        }
        let mut draft = Draft::default();
        while let Some(open) = walk.next()? {
            if open.place.record_type() == Some(RecordType::RamBlock) && !draft.has_directory() {
                draft.pieces(&walk, open.place)?.skip();
                let directory = walk.directory();
                walk.jump(directory)?;
                continue;
            }
            draft.record(&mut walk, open)?;
        }
        let (checkpoint, directory) = draft.finish(header, walk.directory())?;
        let memory = checkpoint.state.records().memory();
        let (len, crc32c) = (header.total_len, routines.crc32c);
        Ok((checkpoint, Self { memory, directory, len, crc32c }))
    }

    /// Returns the index of a file of `len` bytes that was just written, without what the guest had
    /// touched: that is for whoever loads the guest.
    pub(crate) fn of_written(
        memory: Vec<Range<u64>>,
        entries: Vec<Entry>,
        len: u64,
        crc32c: fn(u32, &[u8]) -> u32,
    ) -> Self {
        let directory = Directory { entries, touched: Vec::new() };
        Self { memory, directory, len, crc32c }
    }

    /// Returns whether these addresses are all of the guest's RAM, or of a region that it shares.
    pub(crate) fn is_of(&self, memory: &Range<u64>) -> bool {
        self.memory.contains(memory)
    }

    /// Returns the bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Returns the entries of the directory, in ascending order of addresses: the blocks with any
    /// content.
    pub fn entries(&self) -> &[Entry] {
        &self.directory.entries
    }

    /// Returns the runs of pages that the guest touched first after its last resume, in that order;
    /// none if that is not known.
    pub fn touched(&self) -> &[Touched] {
        &self.directory.touched
    }

    /// Returns the addresses of the block in which `address` lies; `None` if that is no memory of
    /// the guest's.
    pub fn block_at(&self, address: u64) -> Option<Range<u64>> {
        block_of(&self.memory, address)
    }

    /// Returns the entry of the block in which `address` lies; `None` if all of that block is zero,
    /// or there is no memory.
    pub fn entry(&self, address: u64) -> Option<Entry> {
        let start = self.block_at(address)?.start;
        let entries = self.entries();
        let found = entries.binary_search_by_key(&start, |entry| entry.address).ok()?;
        entries.get(found).copied()
    }

    /// Reads the metadata of the block in which `address` lies, 4096 or 8192 bytes, and checks it;
    /// `None` if all of that block is zero, or there is no memory.
    ///
    /// # Errors
    ///
    /// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if what is read is damaged.
    pub fn piece<S: Source>(&self, source: &mut S, address: u64) -> Result<Option<Piece>, S> {
        let Some(entry) = self.entry(address) else { return Ok(None) };
        let bytes = entry.bytes();
        let mut meta = vec![0; PAGE_SIZE];
        if source.len() < bytes.end {
            return Err(Error::Truncated { has: source.len(), needs: bytes.end }.into());
        }
        source.read_at(bytes.start, &mut meta).map_err(LoadError::Source)?;
        let mut header = RecordHeader::new_zeroed();
        header.as_mut_bytes().copy_from_slice(&meta[..RecordHeader::LEN]);
        let place = RecordPlace { index: 0, kind: header.kind, instance: header.instance };
        let (is_block, length) = (place.record_type() == Some(RecordType::RamBlock), header.length);
        let len = length as usize + 2 * RecordHeader::LEN;
        if !is_block
            || !Block::can_be_body(length)
            || meta_len(entry.raw.into(), entry.words.into()) != len
        {
            return Err(Error::NoBlock { address: entry.address }.into());
        }
        if len > PAGE_SIZE {
            meta.resize(len, 0);
            let rest = &mut meta[PAGE_SIZE..];
            source.read_at(bytes.start + PAGE_SIZE as u64, rest).map_err(LoadError::Source)?;
        }
        let block = self.decode(&meta, &entry)?;
        Ok(Some(Piece { block, entry }))
    }

    /// Returns the block that is the beginning of a piece.
    fn decode(&self, meta: &[u8], entry: &Entry) -> core::result::Result<Block, Error> {
        let (record, pages) = meta.split_at(meta.len() - RecordHeader::LEN);
        let body = self.check(record, record.len() - RecordHeader::LEN)?;
        self.check(pages, 0)?;
        let (block, pages) = (header_of(record), header_of(pages));
        let place = RecordPlace { index: 0, kind: block.kind, instance: block.instance };
        if block.instance != 0 {
            return Err(Error::Instance { place });
        }
        let block = Block::decode(place, body, &self.memory)?;
        let place = RecordPlace { index: 0, kind: pages.kind, instance: pages.instance };
        if place.record_type() != Some(RecordType::RamPages) {
            return Err(Error::PagesMissing { address: block.address() });
        }
        check_pages_header(place, pages.length, &block)?;
        let counts = (entry.raw.into(), entry.words.into());
        if (block.address(), block.counts()) != (entry.address, counts) {
            return Err(Error::NoBlock { address: entry.address });
        }
        Ok(block)
    }

    /// Checks the CRC of a record, of whose body the first `len` bytes are covered, and its
    /// reserved field. Returns these bytes.
    fn check<'r>(&self, record: &'r [u8], len: usize) -> core::result::Result<&'r [u8], Error> {
        let header = header_of(record);
        let place = RecordPlace { index: 0, kind: header.kind, instance: header.instance };
        let body = &record[RecordHeader::LEN..][..len];
        let computed = (self.crc32c)((self.crc32c)(0, &record[..RecordHeader::COVERED]), body);
        if computed != header.crc {
            return Err(Error::RecordCrc { place, found: header.crc, computed });
        }
        if header.reserved != 0 {
            return Err(Error::RecordReserved { place });
        }
        Ok(body)
    }
}

/// Returns the header at the beginning of a record, which has one.
fn header_of(record: &[u8]) -> RecordHeader {
    let mut header = RecordHeader::new_zeroed();
    header.as_mut_bytes().copy_from_slice(&record[..RecordHeader::LEN]);
    header
}

impl Piece {
    /// Returns where the page at `address` is; [`PageContent::Zero`] if it is no page of the block.
    pub fn page(&self, address: u64) -> PageContent {
        let Some(offset) = address.checked_sub(self.block.address()) else {
            return PageContent::Zero;
        };
        let page = usize::try_from(offset / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        match (self.block.contents().get(page), self.block.offset_of(page)) {
            (Some(&Content::Word(word)), _) => PageContent::Word(word),
            (Some(&Content::Raw(crc)), Some(offset)) => {
                PageContent::Raw { offset: self.entry.bytes().start + offset, crc }
            }
            _ => PageContent::Zero,
        }
    }
}
