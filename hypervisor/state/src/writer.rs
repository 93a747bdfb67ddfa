//! Where a checkpoint is written to: [`Sink`] and [`Sharing`]; and its size: [`Stats`].
//! [`crate::capture`] writes it.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::ops::Range;

use crate::routines::PAGE_SIZE;

/// The place to which the bytes of a checkpoint go, in order.
pub trait Sink {
    /// Why the sink could not take the bytes.
    type Error;

    /// Takes all of the next bytes.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Replaces the first bytes of all that was written, which were as many zeros. The writer calls
    /// this once, at the end.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Returns the sink's way to share blocks with another checkpoint; `None` if it has none, as
    /// most have not. What is written [since](crate::Capture::since) a checkpoint needs it.
    fn sharing(&mut self) -> Option<&mut dyn Sharing<Error = Self::Error>> {
        None
    }

    /// Lets others have the core. The writer calls this between two pieces of long work, at least
    /// once for each record.
    fn pause(&mut self) {}

    /// Takes the next `len` bytes, which `fill` copies into the pieces that it gets, in their
    /// order.
    ///
    /// The writer writes a guest's memory through this function, because nobody can have a slice of
    /// that memory. A sink with a buffer of its own passes pieces of that buffer to `fill`, so that
    /// the bytes are copied once. The default goes through a buffer of one page.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn write_with(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Self::Error> {
        let mut page = [0; PAGE_SIZE];
        for start in (0..len).step_by(PAGE_SIZE) {
            let piece = &mut page[..PAGE_SIZE.min(len - start)];
            fill(piece);
            self.write(piece)?;
        }
        Ok(())
    }
}

/// A sink that has another checkpoint, too: the one that the writer's is written
/// [since](crate::Capture::since).
pub trait Sharing {
    /// Why the sink could not do it.
    type Error;

    /// Appends blocks of 4096 bytes of that checkpoint, without a copy of them: what was written is
    /// whole blocks so far.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn share(&mut self, blocks: Range<u64>) -> Result<(), Self::Error>;

    /// Fills `buf` with the bytes of that checkpoint from `offset` on.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn read_base(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
}

/// Bytes in memory, as a file.
impl Sink for Vec<u8> {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// The size of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of pages whose content is in the file.
    pub pages_stored: u64,
    /// Number of pages that are zero.
    pub pages_zero: u64,
    /// Number of pages that are one 64-bit word over and over, of which the file has the word
    /// alone.
    pub pages_word: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the file that another checkpoint has, too, and that were not written; 0 of a file
    /// that was read.
    pub bytes_shared: u64,
}

impl Stats {
    /// Returns the number of pages that are not zero.
    pub const fn pages_with_content(&self) -> u64 {
        self.pages_stored + self.pages_word
    }
}
