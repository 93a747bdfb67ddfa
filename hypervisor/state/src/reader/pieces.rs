//! The first pass over the pieces of a file's memory: RAM_BLOCK, RAM_PAGES and RAM_DIRECTORY.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use zerocopy::IntoBytes;

use super::sound::Sound;
use crate::{
    RecordHeader,
    block::{Block, Content},
    directory::{Directory, DirectoryHead, Entry, Touched},
    envelope::RecordPlace,
    error::{Error, LoadError},
    input::Source,
    routines::{PAGE_SIZE, PIECE},
    walk::{Open, Walk},
};

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

/// What was read of a file's pieces so far.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The guest's memory.
    sound: Sound,
    /// What the directory must say; not its entries, if the pieces were not read.
    found: Directory,
    /// Whether the pieces were not read, so that the directory is believed.
    is_skipped: bool,
    /// The offset behind the records of registers.
    start: u64,
    /// A block whose pages must follow.
    open: Option<Block>,
    directory: Option<Directory>,
}

impl Pieces {
    /// Returns the pieces of a file with this memory, none of which was read yet. The records of
    /// registers end at `start`.
    pub(crate) fn new(sound: Sound, start: u64) -> Self {
        let found = Directory::default();
        Self { sound, found, is_skipped: false, start, open: None, directory: None }
    }

    /// Says that the pieces are not read.
    pub(crate) fn skip(&mut self) {
        self.is_skipped = true;
    }

    /// Returns an error if the record that comes next should have been the pages of a block.
    pub(crate) fn check_closed(&self) -> core::result::Result<(), Error> {
        match &self.open {
            Some(block) => Err(Error::PagesMissing { address: block.address() }),
            None => Ok(()),
        }
    }

    /// Reads a RAM_BLOCK record.
    pub(crate) fn block<S: Source>(&mut self, walk: &mut Walk<'_, S>, open: Open) -> Result<(), S> {
        self.check_closed()?;
        let (place, at) = (open.place, walk.at() - RecordHeader::LEN as u64);
        if self.directory.is_some() {
            return Err(Error::BlockLate { place }.into());
        }
        let block = read_block(walk, open, self.sound.memory())?;
        if !at.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Error::BlockAt { place, at }.into());
        }
        let address = block.address();
        if self.found.entries.last().is_some_and(|last| address <= last.address) {
            return Err(Error::PageTwice { place, address }.into());
        }
        let (raw, words) = block.counts();
        let start = u32::try_from(at / PAGE_SIZE as u64);
        let start = start.map_err(|_| Error::BlockAt { place, at })?;
        let blocks = self.found.entries.len() as u32;
        let no_room = |_| Error::DirectoryRoom { place, blocks };
        self.found.entries.try_reserve(1).map_err(no_room)?;
        self.found.entries.push(Entry { address, start, raw: raw as u16, words: words as u16 });
        self.open = Some(block);
        Ok(())
    }

    /// Reads a RAM_PAGES record.
    pub(crate) fn pages<S: Source>(
        &mut self,
        walk: &mut Walk<'_, S>,
        mut open: Open,
    ) -> Result<(), S> {
        let place = open.place;
        walk.check_head(&open)?;
        let Some(block) = self.open.take() else {
            return Err(Error::PagesAlone { place }.into());
        };
        check_pages(&open, &block)?;
        let mut since_pause = 0;
        for (page, content) in block.contents().iter().enumerate() {
            let Content::Raw(found) = *content else { continue };
            let computed = walk.page_crc(&mut open)?;
            if found != computed {
                let address = block.address() + (page * PAGE_SIZE) as u64;
                return Err(Error::PageCrc { address, found, computed }.into());
            }
            since_pause += PAGE_SIZE;
            if since_pause == PIECE {
                since_pause = 0;
                walk.pause();
            }
        }
        Ok(())
    }

    /// Reads a RAM_DIRECTORY record.
    pub(crate) fn directory<S: Source>(
        &mut self,
        walk: &mut Walk<'_, S>,
        mut open: Open,
    ) -> Result<(), S> {
        self.check_closed()?;
        let (place, at) = (open.place, walk.at() - RecordHeader::LEN as u64);
        let pieces = self.start..at;
        let directory = read_directory(walk, &mut open, &pieces)?;
        if place.instance != 0 {
            return Err(Error::Instance { place }.into());
        }
        if self.directory.is_some() {
            return Err(Error::RecordTwice { place }.into());
        }
        if walk.directory() != at {
            return Err(Error::HeaderDirectory { found: walk.directory() }.into());
        }
        directory.check(place, self.sound.memory(), &pieces)?;
        if !self.is_skipped && self.found.entries != directory.entries {
            return Err(Error::DirectoryDiffers { place }.into());
        }
        directory.check_gaps(place, &pieces)?;
        self.directory = Some(directory);
        Ok(())
    }

    /// Returns whether RAM_DIRECTORY was read.
    pub(crate) fn has_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// Returns the guest's memory and the directory, at the end of the file; `None` if the file had
    /// no directory.
    pub(crate) fn finish(self) -> Option<(Sound, Directory)> {
        self.directory.map(|directory| (self.sound, directory))
    }
}

/// Reads the body of a record that has no padding, and ends the record.
fn read_body<S: Source>(walk: &mut Walk<'_, S>, open: &mut Open) -> Result<Vec<u8>, S> {
    let mut body = vec![0; open.padded_len()];
    walk.read(open, &mut body)?;
    walk.finish(open)?;
    let padding = body.split_off(open.length as usize);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(Error::RecordReserved { place: open.place }.into());
    }
    Ok(body)
}

/// Reads the body of a RAM_DIRECTORY record, and ends the record. It has no more entries than there
/// is room for pieces in the bytes `pieces` of the file: so its length is not believed before the
/// file is as long.
fn read_directory<S: Source>(
    walk: &mut Walk<'_, S>,
    open: &mut Open,
    pieces: &Range<u64>,
) -> Result<Directory, S> {
    let (place, found) = (open.place, open.length);
    let mut head = DirectoryHead::default();
    let has_head = found as usize >= size_of::<DirectoryHead>();
    if has_head {
        walk.read(open, head.as_mut_bytes())?;
    }
    let most = (pieces.end - pieces.start) / PAGE_SIZE as u64;
    let is_whole = has_head && head.body_len() == u64::from(found);
    let is_possible = u64::from(head.blocks) <= most && head.touched as usize <= Touched::MAX_RUNS;
    let is_long = head.blocks > DirectoryHead::MAX_BLOCKS;
    if !is_whole || !is_possible || is_long {
        // Check the CRC first: a bit that flipped in a length is reported as a wrong CRC.
        walk.digest(open)?;
        walk.finish(open)?;
        let limit = DirectoryHead::MAX_LEN;
        return Err(match is_whole && is_possible {
            true => Error::RecordTooLong { place, length: found, limit },
            false => Error::DirectoryLength { place, found },
        }
        .into());
    }
    let mut directory = Directory::zeroed(place, head)?;
    walk.read(open, directory.entries.as_mut_bytes())?;
    walk.read(open, directory.touched.as_mut_bytes())?;
    walk.finish(open)?;
    Ok(directory)
}

/// Reads the rest of a RAM_BLOCK record, and returns the block.
pub(crate) fn read_block<S: Source>(
    walk: &mut Walk<'_, S>,
    mut open: Open,
    memory: &[Range<u64>],
) -> Result<Block, S> {
    let (place, length) = (open.place, open.length);
    if !Block::can_be_body(length) {
        walk.digest(&mut open)?;
        walk.finish(&open)?;
        return Err(Error::BlockCut { place, length }.into());
    }
    let body = read_body(walk, &mut open)?;
    if place.instance != 0 {
        return Err(Error::Instance { place }.into());
    }
    Ok(Block::decode(place, &body, memory)?)
}

/// Checks that a RAM_PAGES record whose header was read is that of a block.
pub(crate) fn check_pages(open: &Open, block: &Block) -> core::result::Result<(), Error> {
    let (place, found) = (open.place, open.length);
    check_pages_header(place, found, block)
}

/// Checks that the header of a RAM_PAGES record with this length is that of a block.
pub(crate) fn check_pages_header(
    place: RecordPlace,
    found: u32,
    block: &Block,
) -> core::result::Result<(), Error> {
    if place.instance != 0 {
        return Err(Error::Instance { place });
    }
    let expected = (block.counts().0 * PAGE_SIZE) as u64;
    if u64::from(found) != expected {
        return Err(Error::BlockLength { place, found, expected });
    }
    Ok(())
}
