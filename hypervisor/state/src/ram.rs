//! A guest's memory as the reader and the writer need it: [`ReadRam`] and [`WriteRam`].
//!
//! Nobody has a reference into a guest's memory: the guest's vCPUs write it, and a reference
//! promises that nobody else does. So a caller that wants bytes of it passes a buffer to copy to or
//! from, and a caller that wants all of it examined, for its CRC or for pages of zeros, asks the
//! owner of the memory. In the hypervisor that owner is `stasis_memory`'s `GuestRam`. For tests and
//! tools, a [`Vec<u8>`] is such memory, too: the borrow checker knows that nobody else writes it.

use alloc::vec::Vec;
use core::fmt::{self, Debug};
use core::ops::Range;

use crate::block::Content;
use crate::change::{Baseline, BlockChange, PageBits};
use crate::directory::Touched;
use crate::routines::{PAGE_SIZE, Page, crc32c, with_content};
use crate::written::BLOCK_SIZE;

/// Words that are compared or written at once, by memory that has nothing better.
const WORDS: usize = 32;

/// Error of an access to bytes that do not all lie in a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes {start:#x} to {end:#x} are not all in a memory of {size:#x} bytes")]
pub struct OutOfRange {
    /// Offset of the first byte of the access.
    pub start: usize,
    /// Offset behind the last byte of the access.
    pub end: usize,
    /// Bytes of the memory.
    pub size: usize,
}

impl OutOfRange {
    /// Checks that `bytes` lie in a memory of `size` bytes, and returns how many bytes they are.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if they do not, or if the range ends before it begins.
    pub const fn check(bytes: &Range<usize>, size: usize) -> Result<usize, Self> {
        let Range { start, end } = *bytes;
        if start <= end && end <= size { Ok(end - start) } else { Err(Self { start, end, size }) }
    }

    /// Checks that `len` bytes from `start` on lie in a memory of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if they do not.
    pub const fn check_len(start: usize, len: usize, size: usize) -> Result<(), Self> {
        if start <= size && len <= size - start {
            Ok(())
        } else {
            Err(Self { start, end: start.saturating_add(len), size })
        }
    }
}

/// What is written of memory for a programmer: nothing of its content. Were it a duty of each
/// [`ReadRam`], the image would have code for all that a memory consists of.
impl Debug for dyn ReadRam + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Debug for dyn WriteRam + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// Memory that can be read. Positions are offsets from the start of the memory, in bytes.
///
/// Bytes that are read while others write them are not those of one instant. A checkpoint reads
/// memory that nobody writes, or a snapshot of it.
pub trait ReadRam {
    /// Returns the size of the memory in bytes.
    fn len(&self) -> usize;

    /// Returns whether the memory has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the offset of the first byte from `offset` on that may be anything but zero; `None`
    /// if there is none. Reads no byte.
    fn next_content(&self, offset: usize) -> Option<usize>;

    /// Fills `into` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all; nothing is read then.
    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange>;

    /// Returns the CRC-32C of a sequence that continues with `bytes`, from the CRC of the bytes
    /// before them, which is 0 at first.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all.
    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange>;

    /// Returns which of the `count` pages from the one at `offset` on have a byte that is not 0:
    /// one bit for each, the lowest for the first. `count` is at most 64.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all.
    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange>;

    /// Returns the word of 8 bytes that the page at `offset` is over and over, little-endian;
    /// `None` if it is anything else.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have all of it.
    fn word(&self, offset: usize) -> Result<Option<u64>, OutOfRange> {
        let mut words = [[0; 8]; WORDS];
        let mut first = None;
        for at in (offset..offset + PAGE_SIZE).step_by(size_of_val(&words)) {
            self.read(at, words.as_flattened_mut())?;
            let first = *first.get_or_insert(words[0]);
            if words.iter().any(|word| *word != first) {
                return Ok(None);
            }
        }
        Ok(first.map(u64::from_le_bytes))
    }

    /// Finds out what the pages from the one at `offset` on are: as many as there are `contents`,
    /// at most 64.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all.
    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        let with_content = self.pages_with_content(offset, contents.len())?;
        for (page, content) in contents.iter_mut().enumerate() {
            let at = offset + page * PAGE_SIZE;
            *content = match with_content >> page & 1 {
                0 => Content::Zero,
                _ => match self.word(at)? {
                    Some(word) => Content::Word(word),
                    None => Content::Raw(self.crc32c(0, at..at + PAGE_SIZE)?),
                },
            };
        }
        Ok(())
    }

    /// Returns the checkpoint that [`block_change`](Self::block_change) counts from; `None` if
    /// there is none, and all content counts as changed.
    fn baseline(&self) -> Option<Baseline> {
        None
    }

    /// Returns the pages that the guest touched first after it was resumed last, in that order, by
    /// their offsets in the memory; none if that is not known.
    fn touched(&self) -> &[Touched] {
        &[]
    }

    /// Returns what became of the block of [`BLOCK_SIZE`] bytes in which `offset` lies since the
    /// [`baseline`](Self::baseline). Reads no byte.
    fn block_change(&self, offset: usize) -> BlockChange {
        let start = offset - offset % BLOCK_SIZE;
        let end = self.len().min(start + BLOCK_SIZE);
        match self.next_content(start) {
            Some(next) if next < end => {
                BlockChange::Pages(PageBits::of(0..(end - start) / PAGE_SIZE))
            }
            _ => BlockChange::Empty,
        }
    }

    /// Says that these bytes, and all before them, were read for the last time. A snapshot then
    /// keeps them no longer. May call `pause` between pieces.
    fn release(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        let _ = (bytes, pause);
    }
}

/// Memory that can also be written. Positions are offsets from the start of the memory, in bytes.
pub trait WriteRam: ReadRam {
    /// Copies `bytes` to the memory from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory ends before they do; nothing is written then.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange>;

    /// Sets each of `bytes` to 0. An implementation may leave out what [can have no
    /// content](ReadRam::next_content).
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all; nothing is written then.
    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange>;

    /// Makes each word of 8 bytes in `bytes` this one, little-endian. They are whole words, and
    /// begin at a multiple of 8.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory does not have them all.
    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        let words = [word.to_le_bytes(); WORDS];
        let words = words.as_flattened();
        OutOfRange::check(&bytes, self.len())?;
        for at in bytes.clone().step_by(words.len()) {
            self.write(at, &words[..words.len().min(bytes.end - at)])?;
        }
        Ok(())
    }
}

impl ReadRam for Vec<u8> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        (offset < self.as_slice().len()).then_some(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.as_slice().len())?;
        into.copy_from_slice(&self[offset..][..into.len()]);
        Ok(())
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        OutOfRange::check(&bytes, self.as_slice().len())?;
        Ok(crc32c(crc, &self[bytes]))
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        let len = count.saturating_mul(PAGE_SIZE);
        OutOfRange::check_len(offset, len, self.as_slice().len())?;
        let (pages, _): (&[Page], _) = self[offset..][..len].as_chunks();
        Ok(with_content(pages))
    }
}

impl WriteRam for Vec<u8> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, bytes.len(), self.as_slice().len())?;
        self[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        OutOfRange::check(&bytes, self.as_slice().len())?;
        self[bytes].fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_not_all_there_is_neither_read_nor_written() {
        let mut ram = vec![7; 2 * PAGE_SIZE];
        let size = ram.as_slice().len();
        let beyond = |start, end| OutOfRange { start, end, size };
        assert_eq!(ram.read(size - 1, &mut [0; 2]), Err(beyond(size - 1, size + 1)));
        assert_eq!(ram.read(usize::MAX, &mut [0; 2]), Err(beyond(usize::MAX, usize::MAX)));
        assert_eq!(ram.write(size, &[1]), Err(beyond(size, size + 1)));
        assert_eq!(ram.zero(1..size + 1), Err(beyond(1, size + 1)));
        assert_eq!(ram.crc32c(0, size + 1..size + 2), Err(beyond(size + 1, size + 2)));
        assert_eq!(ram.pages_with_content(PAGE_SIZE, 2), Err(beyond(PAGE_SIZE, 3 * PAGE_SIZE)));
        assert!(ram.iter().all(|&byte| byte == 7));
        assert_eq!(ram.read(size, &mut []), Ok(()), "nothing is everywhere");
    }

    #[test]
    fn without_a_baseline_all_pages_that_are_there_count_as_changed() {
        let ram = vec![7; BLOCK_SIZE + 3 * PAGE_SIZE];
        assert_eq!(ram.baseline(), None);
        assert_eq!(ram.block_change(BLOCK_SIZE - 1), BlockChange::Pages(PageBits::ALL));
        assert_eq!(ram.block_change(BLOCK_SIZE), BlockChange::Pages(PageBits::of(0..3)));
        assert_eq!(ram.block_change(2 * BLOCK_SIZE), BlockChange::Empty);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "a range from outside may be anything")]
    fn a_range_that_ends_before_it_begins_is_out_of_range() {
        assert!(vec![0; 16].crc32c(0, 8..4).is_err());
        assert!(vec![0; 16].zero(8..4).is_err());
    }
}
