//! [`Memory`]: a guest's RAM, which its vCPUs write while this process reads it.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use stasis_memory::{AccessError, GuestMemory};
use stasis_state::{OutOfRange, PAGE_SIZE, ReadRam, WriteRam};
use vm_memory::{Bytes, MmapRegion, ReadVolatile, VolatileMemory, VolatileSlice};

/// Bytes that are looked at, or cleared, at once.
type Page = [u8; PAGE_SIZE];

/// A guest's RAM. Its clones are the same memory. What was never touched is zeros, and takes no
/// room.
#[derive(Clone, Debug)]
pub struct Memory {
    region: Arc<MmapRegion>,
}

impl Memory {
    /// Returns new memory of `len` bytes, all zeros.
    ///
    /// # Errors
    ///
    /// Linux gives that much to nobody.
    pub fn new(len: usize) -> Result<Self> {
        let region = MmapRegion::new(len).context("there is no room for the guest's memory")?;
        Ok(Self { region: Arc::new(region) })
    }

    /// Returns the address of the first byte in this process.
    pub fn address(&self) -> u64 {
        self.region.as_ptr() as u64
    }

    /// Fills `bytes` with those of `file` from `at` on. The kernel copies them to their place.
    ///
    /// # Errors
    ///
    /// The file ends before, or can't be read; the memory does not have these bytes.
    pub fn read_from(&self, bytes: Range<usize>, file: &mut File, at: u64) -> Result<()> {
        let mut place = self.slice(bytes)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(file.read_exact_volatile(&mut place)?)
    }

    fn slice(&self, bytes: Range<usize>) -> Result<VolatileSlice<'_>, OutOfRange> {
        let size = self.region.size();
        let len = OutOfRange::check(&bytes, size)?;
        let error = |_| OutOfRange { start: bytes.start, end: bytes.end, size };
        self.region.get_slice(bytes.start, len).map_err(error)
    }

    /// Calls `look` with a copy of each page, or part of one, of which `bytes` consist.
    fn pages(&self, bytes: Range<usize>, mut look: impl FnMut(&[u8])) -> Result<(), OutOfRange> {
        let mut copy: Page = [0; PAGE_SIZE];
        for start in bytes.clone().step_by(PAGE_SIZE) {
            let place = self.slice(start..bytes.end.min(start + PAGE_SIZE))?;
            let copy = &mut copy[..place.len()];
            place.copy_to(copy);
            look(copy);
        }
        Ok(())
    }
}

impl ReadRam for Memory {
    fn len(&self) -> usize {
        self.region.size()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        (offset < self.region.size()).then_some(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.region.size())?;
        self.slice(offset..offset + into.len())?.copy_to(into);
        Ok(())
    }

    fn crc32c(&self, mut crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        OutOfRange::check(&bytes, self.region.size())?;
        self.pages(bytes, |page| crc = crc32c::crc32c_append(crc, page))?;
        Ok(crc)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        let len = count.saturating_mul(PAGE_SIZE);
        OutOfRange::check_len(offset, len, self.region.size())?;
        let (mut map, mut bit) = (0, 0);
        self.pages(offset..offset + len, |page| {
            map |= u64::from(page.iter().any(|&byte| byte != 0)) << bit;
            bit += 1;
        })?;
        Ok(map)
    }
}

impl WriteRam for Memory {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, bytes.len(), self.region.size())?;
        self.slice(offset..offset + bytes.len())?.copy_from(bytes);
        Ok(())
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        OutOfRange::check(&bytes, self.region.size())?;
        for start in bytes.clone().step_by(PAGE_SIZE) {
            let zeros: Page = [0; PAGE_SIZE];
            self.write(start, &zeros[..PAGE_SIZE.min(bytes.end - start)])?;
        }
        Ok(())
    }
}

/// Implements a load and a store of one width.
macro_rules! accesses {
    ($($load:ident, $store:ident: $number:ty;)*) => {
        impl GuestMemory for Memory {$(
            fn $load(&self, offset: usize) -> Result<$number, AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                let value = place.load(0, Ordering::SeqCst);
                value.map(<$number>::from_le).map_err(|_| self.beyond(offset))
            }

            fn $store(&mut self, offset: usize, value: $number) -> Result<(), AccessError> {
                let place = self.aligned(offset, size_of::<$number>())?;
                place.store(value.to_le(), 0, Ordering::SeqCst).map_err(|_| self.beyond(offset))
            }
        )*}
    };
}

accesses! {
    load_u16, store_u16: u16;
    load_u32, store_u32: u32;
    load_u64, store_u64: u64;
}

impl Memory {
    /// Returns the place of a number of `width` bytes. The memory begins at a page, so what is
    /// aligned in it is aligned.
    fn aligned(&self, offset: usize, width: usize) -> Result<VolatileSlice<'_>, AccessError> {
        OutOfRange::check_len(offset, width, self.region.size())?;
        if !offset.is_multiple_of(width) {
            return Err(AccessError::Misaligned { offset, width });
        }
        Ok(self.slice(offset..offset + width)?)
    }

    fn beyond(&self, offset: usize) -> AccessError {
        OutOfRange { start: offset, end: offset, size: self.region.size() }.into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_reads_what_was_written_and_refuses_what_it_does_not_have() {
        let mut memory = Memory::new(3 * PAGE_SIZE).unwrap();
        memory.write(PAGE_SIZE + 8, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert_eq!(memory.load_u64(PAGE_SIZE + 8), Ok(0x0807_0605_0403_0201));
        memory.clone().store_u16(PAGE_SIZE + 8, 0).unwrap();
        assert_eq!(memory.load_u32(PAGE_SIZE + 8), Ok(0x0403_0000));
        assert_eq!(memory.pages_with_content(0, 3), Ok(0b010));
        let mut bytes = vec![0; 3 * PAGE_SIZE];
        memory.read(0, &mut bytes).unwrap();
        let crc = crc32c::crc32c(&bytes[5..]);
        assert_eq!(memory.crc32c(0, 5..3 * PAGE_SIZE), Ok(crc));
        memory.zero(PAGE_SIZE..2 * PAGE_SIZE).unwrap();
        assert_eq!(memory.pages_with_content(0, 3), Ok(0));
        assert!(memory.load_u64(3 * PAGE_SIZE - 4).is_err());
        assert!(memory.store_u32(2, 0).is_err());
        assert!(memory.write(usize::MAX, &[0]).is_err());
        assert!(memory.read(3 * PAGE_SIZE, &mut [0]).is_err());
    }

    #[test]
    fn it_is_filled_from_a_file_and_a_file_that_ends_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let memory = Memory::new(PAGE_SIZE).unwrap();
        memory.read_from(4..8, &mut file, 5).unwrap();
        let mut found = [0; 4];
        memory.read(4, &mut found).unwrap();
        assert_eq!(&found, b"5678");
        assert!(memory.read_from(0..8, &mut file, 5).is_err());
        assert!(memory.read_from(PAGE_SIZE - 1..PAGE_SIZE + 1, &mut file, 0).is_err());
    }
}
