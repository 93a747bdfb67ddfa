//! The seam to a disk: [`BlockDevice`], and [`RamDisk`], a disk in memory for tests and tools.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

use crate::crc32c::crc32c;

/// Bytes of a sector, the unit of every address and length here.
pub const SECTOR: usize = 512;

/// Bytes that [`BlockDevice::read_with`] and [`BlockDevice::begin_write_while`] move at once
/// through a buffer of their own.
const PIECE: usize = 128 * 1024;

/// A disk. Boot implements it over a driver, host tools over a file.
///
/// A write may stay in a volatile cache until [`flush`](Self::flush) returns: until then power loss
/// may keep any part of it, in any order. After a flush it is there for good.
pub trait BlockDevice {
    /// What can go wrong with it, in words.
    type Error: Display + Debug;

    /// Number of sectors.
    fn block_count(&self) -> u64;

    /// Reads sectors from `lba` on. `buf` is a whole number of sectors.
    ///
    /// # Errors
    ///
    /// What this read fails with, and never what a write does that was
    /// [begun](Self::begin_write_while): that is not forgotten by a read.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes sectors from `lba` on. `data` is a whole number of sectors.
    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Reads `len` bytes, a whole number of sectors, from `lba` on, and hands them to `take` in
    /// pieces, in their order.
    ///
    /// For whoever has no buffer that could be lent: a guest's memory is no slice. A device with a
    /// buffer of its own hands out that one, so that the bytes are copied once; this one goes
    /// through a buffer on the heap.
    fn read_with(
        &mut self,
        lba: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Self::Error> {
        let mut buffer = vec![0; len.min(PIECE)];
        for (lba, len) in pieces(lba, len, PIECE) {
            self.read(lba, &mut buffer[..len])?;
            take(&buffer[..len]);
        }
        Ok(())
    }

    /// Begins to write `len` bytes, a whole number of sectors, from `lba` on, which `fill` puts
    /// into the pieces that it is given, in their order, for as long as it returns true. Each piece
    /// but the last is a multiple of 4096 bytes. Returns whether `fill` has made all: a piece that
    /// it has refused is not written, nor is any behind it.
    ///
    /// For writing, this is what [`read_with`](Self::read_with) is for reading. Returns when `fill`
    /// has made the last piece, so that the device writes while the caller makes what comes next.
    /// The device has a bounded number of such writes under way, in any order, and waits where it
    /// has too many. Until [`end_writes`](Self::end_writes), nobody may read or write these
    /// sectors, and no flush covers them. A device that writes one thing at a time writes here.
    ///
    /// # Errors
    ///
    /// What this write fails with, or one that was begun before it and has not been ended.
    fn begin_write_while(
        &mut self,
        lba: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, Self::Error> {
        let mut buffer = vec![0; len.min(PIECE)];
        for (lba, len) in pieces(lba, len, PIECE) {
            if !fill(&mut buffer[..len]) {
                return Ok(false);
            }
            self.write(lba, &buffer[..len])?;
        }
        Ok(true)
    }

    /// Waits for all writes that were [begun](Self::begin_write_while), and forgets their errors.
    ///
    /// # Errors
    ///
    /// What the first of them that failed has failed with. None of the others is under way then,
    /// either.
    fn end_writes(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Returns when everything written before survives a loss of power.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// Lets others run between two pieces of work that takes long and is not the device's, such as
    /// compressing. Returns at once where nobody else waits for the core.
    fn pause(&mut self) {}

    /// Returns the CRC-32C of bytes. A machine whose CPU has instructions for that is faster than
    /// this one, which looks each byte up in a table.
    fn crc32c(&self, bytes: &[u8]) -> u32 {
        crc32c(bytes)
    }

    /// Returns the request that has failed with this error, if the error says it. That may be one
    /// that was [begun](Self::begin_write_while) earlier, and not the one that was asked for when
    /// the error was returned.
    fn request_of(&self, _error: &Self::Error) -> Option<Request> {
        None
    }
}

/// What a disk was asked for, and from which sector on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To read.
    Read(u64),
    /// To write.
    Write(u64),
}

/// Returns the pieces of at most `most` bytes, a whole number of sectors, that `len` bytes from
/// `lba` on consist of: where each begins, and its length.
pub fn pieces(lba: u64, len: usize, most: usize) -> impl Iterator<Item = (u64, usize)> {
    let offsets = (0..len).step_by(most);
    offsets.map(move |offset| (lba + (offset / SECTOR) as u64, most.min(len - offset)))
}

impl<D: BlockDevice + ?Sized> BlockDevice for &mut D {
    type Error = D::Error;

    fn block_count(&self) -> u64 {
        (**self).block_count()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), D::Error> {
        (**self).read(lba, buf)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), D::Error> {
        (**self).write(lba, data)
    }

    fn read_with(
        &mut self,
        lba: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D::Error> {
        (**self).read_with(lba, len, take)
    }

    fn begin_write_while(
        &mut self,
        lba: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, D::Error> {
        (**self).begin_write_while(lba, len, fill)
    }

    fn end_writes(&mut self) -> Result<(), D::Error> {
        (**self).end_writes()
    }

    fn flush(&mut self) -> Result<(), D::Error> {
        (**self).flush()
    }

    fn pause(&mut self) {
        (**self).pause();
    }

    fn crc32c(&self, bytes: &[u8]) -> u32 {
        (**self).crc32c(bytes)
    }

    fn request_of(&self, error: &D::Error) -> Option<Request> {
        (**self).request_of(error)
    }
}

/// A disk in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct RamDisk {
    /// The contents, a whole number of sectors.
    pub bytes: Vec<u8>,
}

/// An access past the end of a [`RamDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sectors {lba}+{count} lie beyond the end of the disk")]
pub struct BeyondEnd {
    lba: u64,
    count: usize,
}

impl RamDisk {
    /// Returns a disk of zeros.
    pub fn new(sectors: u64) -> Self {
        Self { bytes: vec![0; sectors as usize * SECTOR] }
    }

    fn sectors(&mut self, lba: u64, len: usize) -> Result<&mut [u8], BeyondEnd> {
        let count = len / SECTOR;
        let start = usize::try_from(lba).ok().and_then(|lba| lba.checked_mul(SECTOR));
        start
            .and_then(|start| Some(start..start.checked_add(len)?))
            .and_then(|range| self.bytes.get_mut(range))
            .ok_or(BeyondEnd { lba, count })
    }
}

impl Debug for RamDisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RamDisk of {} bytes", self.bytes.len())
    }
}

impl BlockDevice for RamDisk {
    type Error = BeyondEnd;

    fn block_count(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), BeyondEnd> {
        buf.copy_from_slice(self.sectors(lba, buf.len())?);
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), BeyondEnd> {
        self.sectors(lba, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BeyondEnd> {
        Ok(())
    }
}
