//! Reads a source in order, through a buffer for what is small and past it for what is large.

use alloc::{vec, vec::Vec};

use crate::routines::PAGE_SIZE;

/// A checkpoint's bytes, wherever they are.
pub trait Source {
    /// Why it could not be read.
    type Error;

    /// Bytes of the file.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on. They are all below [`Source::len`].
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Hands the `len` bytes from `offset` on to `take` in pieces, in their order. They are all below [`Source::len`].
    ///
    /// A guest's memory is read so, for it is no slice. A source with a buffer of its own hands out that one, so that the bytes are copied
    /// once; this one goes through a buffer of a page.
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

    /// Lets others have the core. Called between two pieces of long work, at least once for each record.
    fn pause(&mut self) {}

    /// Returns whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A position in a source. Never asks it for anything beyond `end`.
pub(crate) struct Input<'s, S> {
    source: &'s mut S,
    end: u64,
    at: u64,
    /// Holds the bytes from `at - consumed` on.
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

    /// Lets others have the core: see [`Source::pause`].
    pub(crate) fn pause(&mut self) {
        self.source.pause();
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Where the next byte stands.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// At most `most` of the next bytes, and at least one, if there are any. Consumes them.
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

    /// The next bytes; the caller knows that there are as many.
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

    /// Hands the next `len` bytes to `take` in pieces; the caller knows that there are as many.
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

    /// Passes over bytes; the caller knows that there are as many.
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
