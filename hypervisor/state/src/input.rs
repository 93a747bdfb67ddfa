//! The bytes that a reader reads: [`Source`], and a position in one. Small reads go through a
//! buffer, large ones past it.

use alloc::{vec, vec::Vec};
use core::convert::Infallible;

use crate::routines::PAGE_SIZE;

/// The bytes of a checkpoint, wherever they are kept: a partition, a file, memory.
pub trait Source {
    /// Why the source could not be read.
    type Error;

    /// Returns the length of the file in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on. The caller asks only for bytes below
    /// [`Source::len`].
    ///
    /// # Errors
    ///
    /// Whatever the source fails with.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Passes the `len` bytes from `offset` on to `take` in pieces, in their order. The caller asks
    /// only for bytes below [`Source::len`].
    ///
    /// The reader fills a guest's memory through this function, because nobody can have a slice of
    /// that memory. A source with a buffer of its own passes on pieces of that buffer, so that the
    /// bytes are copied once. The default goes through a buffer of one page.
    ///
    /// # Errors
    ///
    /// Whatever the source fails with; `take` may have had some pieces by then.
    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Self::Error> {
        let mut page = [0; PAGE_SIZE];
        for start in (0..len).step_by(PAGE_SIZE) {
            let piece = &mut page[..PAGE_SIZE.min(len - start)];
            self.read_at(offset + start as u64, piece)?;
            take(piece);
        }
        Ok(())
    }

    /// Lets others have the core. The reader calls this between two pieces of long work, at least
    /// once for each record.
    fn pause(&mut self) {}

    /// Returns whether the file has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes in memory, as a file.
impl Source for &[u8] {
    type Error = Infallible;

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        // The caller asks only for bytes that there are.
        buf.copy_from_slice(&self[offset as usize..][..buf.len()]);
        Ok(())
    }
}

/// A position in a source, which never asks the source for anything at `end` or beyond.
pub(crate) struct Input<'s, S> {
    source: &'s mut S,
    end: u64,
    at: u64,
    /// The bytes of the source from `at - consumed` on, of which the first `filled` count.
    buffer: Vec<u8>,
    consumed: usize,
    filled: usize,
}

impl<'s, S: Source> Input<'s, S> {
    pub(crate) fn new(source: &'s mut S, buffer_len: usize) -> Self {
        Self {
            end: source.len(),
            source,
            at: 0,
            buffer: vec![0; buffer_len],
            consumed: 0,
            filled: 0,
        }
    }

    /// Lets others have the core, as [`Source::pause`] says.
    pub(crate) fn pause(&mut self) {
        self.source.pause();
    }

    /// Returns how many bytes lie between the position and the end.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Returns the position: the offset of the next byte in the source.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Returns at most `most` of the next bytes, and at least one if there are any, and moves the
    /// position behind them.
    pub(crate) fn chunk(&mut self, most: u64) -> Result<&[u8], S::Error> {
        if self.consumed == self.filled {
            let len = self.left().min(self.buffer.len() as u64) as usize;
            self.consumed = 0;
            self.filled = 0;
            self.source.read_at(self.at, &mut self.buffer[..len])?;
            self.filled = len;
        }
        let len = most.min((self.filled - self.consumed) as u64) as usize;
        let chunk = &self.buffer[self.consumed..self.consumed + len];
        self.consumed += len;
        self.at += len as u64;
        Ok(chunk)
    }

    /// Fills `out` with the next bytes. The caller has checked that as many are left.
    pub(crate) fn read(&mut self, mut out: &mut [u8]) -> Result<(), S::Error> {
        while !out.is_empty() {
            if self.consumed == self.filled && out.len() >= self.buffer.len() {
                self.source.read_at(self.at, out)?;
                self.at += out.len() as u64;
                return Ok(());
            }
            let chunk = self.chunk(out.len() as u64)?;
            let (now, later) = out.split_at_mut(chunk.len());
            now.copy_from_slice(chunk);
            out = later;
        }
        Ok(())
    }

    /// Passes the next `len` bytes to `take` in pieces. The caller has checked that as many are
    /// left.
    pub(crate) fn read_with(
        &mut self,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), S::Error> {
        let buffered = len.min(self.filled - self.consumed);
        take(&self.buffer[self.consumed..][..buffered]);
        self.consumed += buffered;
        self.at += buffered as u64;
        if buffered < len {
            self.source.read_with(self.at, len - buffered, take)?;
            self.at += (len - buffered) as u64;
        }
        Ok(())
    }

    /// Moves the position `len` bytes on without reading them. The caller has checked that as many
    /// are left.
    pub(crate) fn skip(&mut self, len: u64) {
        let buffered = len.min((self.filled - self.consumed) as u64);
        self.consumed += buffered as usize;
        self.at += len;
        if buffered < len {
            self.consumed = 0;
            self.filled = 0;
        }
    }
}
