//! Where a unit of memory is brought to: [`Destination`].

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use stasis_memory::frames::NoFrame;
use stasis_memory::missing::Filling;
use stasis_memory::{Machine, WriteRam};
use stasis_state::OutOfRange;

/// Memory that is written, and looked at. Each method fails if the bytes are not all in it.
pub trait Destination {
    /// Takes what the pages of `bytes` need before they are written.
    fn claim(&mut self, _: Range<usize>) -> Result<(), NoFrame> {
        Ok(())
    }

    /// Makes the bytes from `offset` on these.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange>;

    /// Makes `bytes` 0.
    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange>;

    /// Makes each word of `bytes`, which begin and end at multiples of 8, this one.
    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange>;

    /// Returns the CRC-32C of `bytes`, as they are in the memory.
    fn crc32c(&self, bytes: Range<usize>) -> Result<u32, OutOfRange>;
}

impl<M: Machine> Destination for Filling<'_, M> {
    fn claim(&mut self, bytes: Range<usize>) -> Result<(), NoFrame> {
        self.claim(bytes)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.write(offset, bytes)
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.zero(bytes)
    }

    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        self.fill(bytes, word)
    }

    fn crc32c(&self, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.crc32c(bytes)
    }
}

/// Memory that guests share.
pub struct Shared<'r>(pub &'r mut dyn WriteRam);

impl Destination for Shared<'_> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.0.write(offset, bytes)
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.0.zero(bytes)
    }

    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        self.0.fill(bytes, word)
    }

    fn crc32c(&self, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.0.crc32c(0, bytes)
    }
}

/// Memory in which a piece is looked at, and nobody sees it. What is not stored is not looked at.
pub struct Scratch {
    bytes: Vec<u8>,
    crc32c: fn(u32, &[u8]) -> u32,
}

impl Scratch {
    /// Returns such memory of `len` bytes, which computes CRCs in this way.
    pub fn new(len: usize, crc32c: fn(u32, &[u8]) -> u32) -> Self {
        Self { bytes: vec![0; len], crc32c }
    }
}

impl Destination for Scratch {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        WriteRam::write(&mut self.bytes, offset, bytes)
    }

    fn zero(&mut self, _: Range<usize>) -> Result<(), OutOfRange> {
        Ok(())
    }

    fn fill(&mut self, _: Range<usize>, _: u64) -> Result<(), OutOfRange> {
        Ok(())
    }

    fn crc32c(&self, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        OutOfRange::check(&bytes, self.bytes.len())?;
        Ok((self.crc32c)(0, &self.bytes[bytes]))
    }
}
