//! A checkpoint in the store, as a [`Sink`] to write to and a [`Source`] to read from.

pub mod error;
pub mod progress;
pub mod routines;

use alloc::boxed::Box;
use core::ops::Range;

use crate::lent::Lent;
use crate::storage::disk::Disk;
use crate::storage::error::DiskError;
use crate::{disks, loading, meanwhile, typed};
use error::StreamError;
use stasis_state::{Sharing, Sink, Source};
use stasis_store::{Error, Store, reader, writer};

/// The writer of the store, as a sink of the format.
pub struct ToStore<'s, 't> {
    /// The writer.
    pub writer: writer::Writer<'s, Disk<'t>>,
    /// The number of the checkpoint that blocks are shared with; `None` if none are.
    pub base: Option<u64>,
}

impl ToStore<'_, '_> {
    /// Returns the number of the checkpoint that blocks are shared with. No checkpoint has the
    /// number 0.
    fn base(&self) -> u64 {
        self.base.unwrap_or(0)
    }
}

impl Sink for ToStore<'_, '_> {
    type Error = StreamError;

    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        typed::check_given_up()?;
        Ok(self.writer.write(bytes)?)
    }

    fn write_with(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), StreamError> {
        typed::check_given_up()?;
        Ok(self.writer.write_with(len, fill)?)
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        Ok(self.writer.rewrite(0, bytes)?)
    }

    fn sharing(&mut self) -> Option<&mut dyn Sharing<Error = StreamError>> {
        Some(self)
    }

    fn pause(&mut self) {
        pause(&mut self.writer);
    }
}

impl Sharing for ToStore<'_, '_> {
    type Error = StreamError;

    fn share(&mut self, blocks: Range<u64>) -> Result<(), StreamError> {
        typed::check_given_up()?;
        let shared = self.writer.share(self.base(), blocks);
        shared.map_err(|error| match error.is_of_reading() {
            true => StreamError::Base(Box::new(error)),
            false => error.into(),
        })
    }

    fn read_base(&mut self, offset: u64, mut buf: &mut [u8]) -> Result<(), StreamError> {
        let number = self.base();
        let read = self.writer.read_of(number, offset, buf.len(), &mut |piece| {
            let (now, later) = core::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        });
        read.map_err(|error| StreamError::Base(Box::new(error)))
    }
}

/// The reader of the store, as a source of the format.
pub struct FromStore<'s, 't> {
    reader: reader::Reader<'s, Disk<'t>>,
    /// Whether reading fails when the command is given up: nothing is lost then.
    can_give_up: bool,
}

impl FromStore<'_, '_> {
    /// Sets whether the next reads fail if the command is given up.
    pub fn allow_giving_up(&mut self, can_give_up: bool) {
        self.can_give_up = can_give_up;
    }
}

impl Source for FromStore<'_, '_> {
    type Error = StreamError;

    fn len(&self) -> u64 {
        self.reader.length()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StreamError> {
        if self.can_give_up {
            typed::check_given_up()?;
        }
        Ok(self.reader.read_at(offset, buf)?)
    }

    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StreamError> {
        if self.can_give_up {
            typed::check_given_up()?;
        }
        Ok(self.reader.read_with(offset, len, take)?)
    }

    fn pause(&mut self) {
        pause(&mut self.reader);
    }
}

/// Lets others run whose turn it is, and gives guests what they wait for: memory that is loaded
/// while they run, and a request of each to its disk. Whoever works with the store for longer than
/// a few milliseconds calls this between two pieces of the work.
pub fn pause(lent: &mut dyn Lent) {
    meanwhile::yield_now(lent.task());
    loading::serve_wanted(lent);
    disks::serve_wanted(lent);
}

/// Opens a checkpoint to read it.
pub fn open<'s, 't>(
    store: &'s mut Store<Disk<'t>>,
    number: u64,
) -> Result<FromStore<'s, 't>, Error<DiskError>> {
    Ok(FromStore { reader: store.open_checkpoint(number)?, can_give_up: true })
}
