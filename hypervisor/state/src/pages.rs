//! The memory of a checkpoint, for tools: [`Extents`] reads one extent after the other, and holds only one at a time.

use alloc::{vec, vec::Vec};

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordHeader, RecordType,
    error::{Error, LoadError},
    input::Source,
    memory::{Extent, Kind},
    reader::Checkpoint,
    routines::{PAGE_SIZE, Page, Routines},
    walk::Walk,
};

/// Bytes that are read at once between the pages.
const BUFFER: usize = 64 * 1024;

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

/// The extents of a checkpoint that [`crate::read`] has checked, in ascending order of their addresses.
pub struct Extents<'s, S> {
    walk: Walk<'s, S>,
    record_at: u64,
    pages: Vec<u8>,
}

impl<'s, S: Source> Extents<'s, S> {
    /// Returns the extents of the checkpoint in `source`, none of them read yet.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if the file in `source` has another header than the checkpoint; the error of the source if reading fails.
    pub fn new(source: &'s mut S, checkpoint: &Checkpoint, routines: Routines) -> Result<Self, S> {
        let walk = Walk::new(source, routines.crc32c, BUFFER)?;
        if walk.header() != checkpoint.header {
            return Err(Error::Changed.into());
        }
        Ok(Self { walk, record_at: 0, pages: vec![] })
    }

    /// Reads the next extent and returns it; `None` after the last one. The CRC of its record is checked again.
    ///
    /// # Errors
    ///
    /// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file is damaged now.
    pub fn read_next(&mut self) -> Result<Option<Extent>, S> {
        self.pages.clear();
        while let Some(mut open) = self.walk.next()? {
            let place = open.place;
            if place.record_type() != Some(RecordType::Memory) {
                self.walk.skip(open);
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

    /// Returns the pages of the extent that was read last; an empty slice if all of them are zero.
    pub fn pages(&self) -> &[Page] {
        self.pages.as_chunks().0
    }

    /// Returns the offset in the file at which the record of the extent that was read last begins.
    pub fn record_at(&self) -> u64 {
        self.record_at
    }
}
