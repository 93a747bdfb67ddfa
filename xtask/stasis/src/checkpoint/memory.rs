//! [`Memory`]: a guest's memory at any address, read from its checkpoint a page at a time when it
//! is asked for.
//!
//! An [`Index`] says where in the file a page is. Page tables and symbols are read this way,
//! because they may lie anywhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use anyhow::{Error, Result, ensure};
use stasis_state::memory::{Extent, Kind};
use stasis_state::routines::Page;
use stasis_state::{
    Checkpoint, Error as FormatError, Extents, LoadError, PAGE_SIZE, PageContent, RecordHeader,
    RecordType, Source,
};
use zerocopy::{FromZeros, IntoBytes};

use super::source::{Opened, anyhow_of, routines};

/// The greatest number of pages that are kept: 4 MiB.
const MAX_KEPT: usize = 1024;

/// The memory of a guest.
pub struct Memory<'m> {
    /// The addresses of the RAM.
    pub ram: Range<u64>,
    read: RefCell<Box<Read<'m>>>,
    kept: RefCell<HashMap<u64, Rc<Page>>>,
    failed: RefCell<Option<Error>>,
}

/// A function that reads the page at an address.
type Read<'m> = dyn FnMut(u64) -> Result<Page> + 'm;

impl<'m> Memory<'m> {
    /// Returns the memory of a checkpoint.
    pub fn new(mut opened: Opened<'m>, checkpoint: &Checkpoint, index: Index) -> Self {
        Self::of(ram(checkpoint), move |address| index.read(&mut opened, address))
    }

    /// Returns memory whose pages `read` reads.
    pub fn of(ram: Range<u64>, read: impl FnMut(u64) -> Result<Page> + 'm) -> Self {
        let read: Box<Read<'m>> = Box::new(read);
        Self { ram, read: RefCell::new(read), kept: RefCell::default(), failed: RefCell::default() }
    }

    /// Returns the page at this address; `None` outside of the RAM. A page that cannot be read is
    /// zero, and [`finish`](Self::finish) fails.
    pub fn page(&self, address: u64) -> Option<Rc<Page>> {
        if !self.ram.contains(&address) {
            return None;
        }
        let mut kept = self.kept.borrow_mut();
        if let Some(page) = kept.get(&address) {
            return Some(Rc::clone(page));
        }
        let page = (self.read.borrow_mut())(address).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            [0; PAGE_SIZE]
        });
        if kept.len() == MAX_KEPT {
            kept.clear();
        }
        let page = Rc::new(page);
        kept.insert(address, Rc::clone(&page));
        Some(page)
    }

    /// Returns the number in the eight bytes at this address, a multiple of 8; `None` outside of
    /// the RAM.
    pub fn word(&self, address: u64) -> Option<u64> {
        let offset = address % PAGE_SIZE as u64;
        self.page(address - offset).map(|page| word(&page, offset as usize))
    }

    /// Returns an error if a page could not be read.
    pub fn finish(self) -> Result<()> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }
}

/// Returns the number in the eight bytes of a page at this offset, a multiple of 8.
pub fn word(page: &Page, offset: usize) -> u64 {
    u64::from_le_bytes(page.as_chunks().0[offset / 8])
}

/// Returns the addresses of a guest's RAM.
pub fn ram(checkpoint: &Checkpoint) -> Range<u64> {
    let guest = &checkpoint.state.guest;
    *guest.ram_base..*guest.ram_base + *guest.ram_size
}

/// The places of pages in a checkpoint's file.
#[derive(Debug)]
pub enum Index {
    /// The directory of a file whose memory is in blocks.
    Blocks(stasis_state::Index),
    /// Of a file whose memory is in extents, as before format 1.5.
    Extents(Marks),
}

/// A mark at least every MiB of memory, from which the records are followed.
#[derive(Debug, Default)]
pub struct Marks {
    /// The first address of an extent, and the offset of its record; in ascending order.
    marks: Vec<(u64, u64)>,
}

impl Marks {
    /// Bytes of memory between two marks, at least.
    const STEP: u64 = 1 << 20;

    /// Adds an extent, whose record is at an offset, if it is far enough from the last one.
    fn add(&mut self, extent: &Extent, record_at: u64) {
        if self.marks.last().is_none_or(|mark| extent.address - mark.0 >= Self::STEP) {
            self.marks.push((extent.address, record_at));
        }
    }
}

impl Index {
    /// Returns the index of a checkpoint. Reads its memory and passes each stored page to `look`.
    pub fn new(
        opened: &mut Opened<'_>,
        checkpoint: &Checkpoint,
        mut look: impl FnMut(&Page),
    ) -> Result<Self> {
        let mut marks = Marks::default();
        let mut extents = Extents::new(opened, checkpoint, routines()).map_err(anyhow_of)?;
        while let Some(extent) = extents.read_next().map_err(anyhow_of)? {
            extents.pages().iter().for_each(&mut look);
            marks.add(&extent, extents.record_at());
        }
        Ok(Self::directory(opened)?.unwrap_or(Self::Extents(marks)))
    }

    /// Returns the index of a checkpoint whose memory was checked. Reads the memory only if the
    /// file has no directory.
    pub fn open(opened: &mut Opened<'_>, checkpoint: &Checkpoint) -> Result<Self> {
        match Self::directory(opened)? {
            Some(index) => Ok(index),
            None => Self::new(opened, checkpoint, |_| ()),
        }
    }

    /// Returns the index of a file that has a directory.
    fn directory(opened: &mut Opened<'_>) -> Result<Option<Self>> {
        match stasis_state::Index::open(opened, routines()) {
            Ok((_, index)) => Ok(Some(Self::Blocks(index))),
            Err(LoadError::Format(FormatError::NoDirectory)) => Ok(None),
            Err(error) => Err(anyhow_of(error)),
        }
    }

    /// Reads the page at this address, which was checked when the index was made.
    fn read(&self, source: &mut impl Source<Error = Error>, address: u64) -> Result<Page> {
        let index = match self {
            Self::Extents(marks) => return marks.read(source, address),
            Self::Blocks(index) => index,
        };
        let mut page = [0; PAGE_SIZE];
        let piece = index.piece(source, address).map_err(anyhow_of)?;
        match piece.map_or(PageContent::Zero, |piece| piece.page(address)) {
            PageContent::Zero => {}
            PageContent::Word(word) => page.as_chunks_mut().0.fill(word.to_le_bytes()),
            PageContent::Raw { offset, crc } => {
                source.read_at(offset, &mut page)?;
                ensure!(
                    (routines().crc32c)(0, &page) == crc,
                    "the page at {address:#x} is damaged"
                );
            }
        }
        Ok(page)
    }
}

impl Marks {
    /// Reads the page at this address.
    fn read(&self, source: &mut impl Source<Error = Error>, address: u64) -> Result<Page> {
        let mut page = [0; PAGE_SIZE];
        let after = self.marks.partition_point(|mark| mark.0 <= address);
        let Some(&(_, mut at)) = after.checked_sub(1).and_then(|n| self.marks.get(n)) else {
            return Ok(page);
        };
        const HEADS: u64 = (RecordHeader::LEN + Extent::LEN) as u64;
        while at + HEADS <= source.len() {
            let (mut record, mut extent) = (RecordHeader::new_zeroed(), Extent::new_zeroed());
            source.read_at(at, record.as_mut_bytes())?;
            if record.kind == RecordType::Memory as u16 {
                source.read_at(at + RecordHeader::LEN as u64, extent.as_mut_bytes())?;
                if address < extent.address {
                    break;
                }
                let offset = address - extent.address;
                if offset < extent.memory_len() {
                    if extent.kind == Kind::Raw as u32 {
                        source.read_at(at + HEADS + offset, &mut page)?;
                    }
                    break;
                }
            }
            at += RecordHeader::LEN as u64 + record.padded_len();
        }
        Ok(page)
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Returns memory of these pages.
    pub fn memory<'m>(
        ram: Range<u64>,
        pages: impl IntoIterator<Item = (u64, Box<Page>)>,
    ) -> Memory<'m> {
        let pages: BTreeMap<_, _> = pages.into_iter().collect();
        Memory::of(ram, move |address| {
            Ok(pages.get(&address).map_or([0; PAGE_SIZE], |page| **page))
        })
    }

    #[test]
    fn words_are_there_in_all_of_ram_and_nowhere_else() {
        let page = Box::new([0xab; PAGE_SIZE]);
        let memory = memory(0x4000_0000..0x4001_0000, [(0x4000_1000, page)]);
        assert_eq!(memory.word(0x4000_1ff8), Some(0xabab_abab_abab_abab));
        assert_eq!(memory.word(0x4000_2000), Some(0));
        assert_eq!(memory.word(0x4001_0000), None);
        assert_eq!(memory.word(0), None);
        memory.finish().unwrap();
    }

    #[test]
    fn a_page_that_cannot_be_read_is_told_of_in_the_end() {
        let memory = Memory::of(0..0x1_0000, |address| anyhow::bail!("no page {address:#x}"));
        assert_eq!((memory.word(0x2008), memory.word(0x3000)), (Some(0), Some(0)));
        assert_eq!(memory.finish().unwrap_err().to_string(), "no page 0x2000");
    }
}
