//! The memory of a checkpoint, for tools: [`Extents`] reads one extent after the other, and holds
//! only one at a time.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordHeader, RecordType,
    block::{Block, Content},
    error::{Error, LoadError},
    input::Source,
    memory::{Extent, Kind},
    reader::{
        Checkpoint,
        pieces::{check_pages, read_block},
    },
    routines::{PAGE_SIZE, Page, Routines},
    walk::{Open, Walk},
};

/// Bytes that are read at once between the pages.
const BUFFER: usize = 64 * 1024;

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

/// The extents of a checkpoint that [`crate::read`] has checked, in ascending order of their
/// addresses. Of memory that is in blocks, each run of pages that are not zero is an extent, and so
/// is each of pages that are; blocks without content are left out.
pub struct Extents<'s, S> {
    walk: Walk<'s, S>,
    memory: Vec<Range<u64>>,
    record_at: u64,
    pages: Vec<u8>,
    /// The block that is read, the record of its pages, and the index of the next page.
    block: Option<(Block, Open, usize)>,
}

impl<'s, S: Source> Extents<'s, S> {
    /// Returns the extents of the checkpoint in `source`, none of them read yet.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if the file in `source` has another header than the checkpoint; the error
    /// of the source if reading fails.
    pub fn new(source: &'s mut S, checkpoint: &Checkpoint, routines: Routines) -> Result<Self, S> {
        let walk = Walk::new(source, routines.crc32c, BUFFER)?;
        if walk.header() != checkpoint.header {
            return Err(Error::Changed.into());
        }
        let memory = checkpoint.state.records().memory();
        Ok(Self { walk, memory, record_at: 0, pages: vec![], block: None })
    }

    /// Reads the next extent and returns it; `None` after the last one. The CRC of its record is
    /// checked again.
    ///
    /// # Errors
    ///
    /// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file is damaged now.
    pub fn read_next(&mut self) -> Result<Option<Extent>, S> {
        self.pages.clear();
        if let Some(extent) = self.next_of_block()? {
            return Ok(Some(extent));
        }
        while let Some(mut open) = self.walk.next()? {
            let place = open.place;
            if place.record_type() == Some(RecordType::RamBlock) {
                self.open_block(open)?;
                return self.next_of_block();
            }
            if place.record_type() != Some(RecordType::Memory) {
                self.walk.digest(&mut open)?;
                self.walk.finish(&open)?;
                continue;
            }
            self.record_at = self.walk.at() - RecordHeader::LEN as u64;
            if open.length < Extent::LEN as u32 {
                return Err(Error::Changed.into());
            }
            let mut extent = Extent::new_zeroed();
            self.walk.read(&mut open, extent.as_mut_bytes())?;
            if extent.check(place, open.length).map_err(|_| Error::Changed)? == Kind::Raw {
                self.pages.resize(extent.pages as usize * PAGE_SIZE, 0);
                self.walk.read(&mut open, &mut self.pages)?;
            }
            self.walk.finish(&open)?;
            return Ok(Some(extent));
        }
        Ok(None)
    }

    /// Reads the metadata of a block, and the header of its pages.
    fn open_block(&mut self, open: Open) -> Result<(), S> {
        let block = read_block(&mut self.walk, open, &self.memory)?;
        let pages = self.walk.next()?.ok_or(Error::Changed)?;
        let is_pages = pages.place.record_type() == Some(RecordType::RamPages);
        if !is_pages || check_pages(&pages, &block).is_err() {
            return Err(Error::Changed.into());
        }
        self.walk.check_head(&pages)?;
        self.block = Some((block, pages, 0));
        Ok(())
    }

    /// Reads the next extent of the block that is read; `None` if there is none.
    fn next_of_block(&mut self) -> Result<Option<Extent>, S> {
        let Some((block, open, next)) = &mut self.block else { return Ok(None) };
        let left = &block.contents()[*next..];
        let Some(first) = left.first() else {
            self.block = None;
            return Ok(None);
        };
        let is_zero = |content: &&Content| matches!(content, Content::Zero);
        let zero = is_zero(&first);
        let most = if zero { left.len() } else { Extent::MAX_RAW_PAGES as usize };
        let run = left.iter().take(most).take_while(|content| is_zero(content) == zero).count();
        let address = block.address() + (*next * PAGE_SIZE) as u64;
        if !zero {
            self.pages.resize(run * PAGE_SIZE, 0);
            let (pages, _) = self.pages.as_chunks_mut::<PAGE_SIZE>();
            for (n, (content, page)) in left.iter().zip(pages).enumerate() {
                match *content {
                    Content::Zero => {}
                    Content::Word(word) => page.as_chunks_mut().0.fill(word.to_le_bytes()),
                    Content::Raw(found) => {
                        let computed = self.walk.read_page(open, page)?;
                        if computed != found {
                            let address = address + (n * PAGE_SIZE) as u64;
                            return Err(Error::PageCrc { address, found, computed }.into());
                        }
                    }
                }
            }
        }
        *next += run;
        let kind = if zero { Kind::Zero } else { Kind::Raw } as u32;
        Ok(Some(Extent { address, pages: run as u32, kind }))
    }

    /// Returns the pages of the extent that was read last; an empty slice if all of them are zero.
    pub fn pages(&self) -> &[Page] {
        self.pages.as_chunks().0
    }

    /// Returns the offset in the file at which the MEMORY record of the extent that was read last
    /// begins.
    pub fn record_at(&self) -> u64 {
        self.record_at
    }
}
