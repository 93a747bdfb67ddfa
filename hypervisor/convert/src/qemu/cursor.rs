//! A position in a stream that is read from its start: [`Cursor`]. What is skipped is not read
//! twice, and mostly not at all.

use alloc::{vec, vec::Vec};

use stasis_state::Source;

use crate::error::Error;

/// Bytes that are read at once. Most of a stream is pages, each behind a head of 8 bytes.
const BUFFER: u64 = 64 * 1024;

/// Why a stream could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The source failed.
    #[error("{0}")]
    Source(E),
    /// The stream is none of those that are known here.
    #[error("{0}")]
    Stream(Error),
}

impl<E> From<Error> for ReadError<E> {
    fn from(error: Error) -> Self {
        Self::Stream(error)
    }
}

/// A position in a stream.
pub(super) struct Cursor<'s, S> {
    source: &'s mut S,
    /// Offset of the next byte.
    at: u64,
    /// Bytes that were read, and the offset of the first.
    buffer: Vec<u8>,
    start: u64,
}

impl<'s, S: Source> Cursor<'s, S> {
    /// Returns the position of the first byte.
    pub fn new(source: &'s mut S) -> Self {
        Self { source, at: 0, buffer: vec![], start: 0 }
    }

    /// Returns the offset of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at `offset`, which lies behind.
    ///
    /// # Errors
    ///
    /// [`Error::Cut`] if the stream ends before it.
    pub fn skip_to(&mut self, offset: u64) -> Result<(), ReadError<S::Error>> {
        if offset < self.at || offset > self.source.len() {
            return Err(Error::Cut { has: self.source.len(), needs: offset }.into());
        }
        self.at = offset;
        Ok(())
    }

    /// Returns the next bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Cut`] if the stream ends before their end; [`ReadError::Source`] if it can't be
    /// read.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError<S::Error>> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills `into` with the next bytes.
    fn fill(&mut self, into: &mut [u8]) -> Result<(), ReadError<S::Error>> {
        let (at, end, has) = (self.at, self.at + into.len() as u64, self.source.len());
        if end > has {
            return Err(Error::Cut { has, needs: end }.into());
        }
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.buffer.resize((has - at).min(BUFFER) as usize, 0);
            self.start = at;
            self.source.read_at(at, &mut self.buffer).map_err(ReadError::Source)?;
        }
        let from = (at - self.start) as usize;
        into.copy_from_slice(&self.buffer[from..from + into.len()]);
        self.at = end;
        Ok(())
    }

    /// Returns the next number.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn u32(&mut self) -> Result<u32, ReadError<S::Error>> {
        self.take().map(u32::from_be_bytes)
    }

    /// Returns the next number.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn u64(&mut self) -> Result<u64, ReadError<S::Error>> {
        self.take().map(u64::from_be_bytes)
    }

    /// Returns the next name: a byte that is its length, and its bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn name(&mut self) -> Result<Vec<u8>, ReadError<S::Error>> {
        let [len] = self.take()?;
        self.bytes(len)
    }

    /// Returns the next `len` bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn bytes(&mut self, len: u8) -> Result<Vec<u8>, ReadError<S::Error>> {
        let mut bytes = vec![0; len.into()];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}
