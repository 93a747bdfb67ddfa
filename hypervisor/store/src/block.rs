//! The seam to a disk: [`BlockDevice`], and [`RamDisk`], a disk in memory for tests and tools.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

/// Bytes of a sector, the unit of every address and length here.
pub const SECTOR: usize = 512;

/// A disk. Boot implements it over a driver, host tools over a file.
///
/// A write may stay in a volatile cache until [`flush`](Self::flush) returns: until then power loss may
/// keep any part of it, in any order. After a flush it is there for good.
pub trait BlockDevice {
    /// What can go wrong with it, in words.
    type Error: Display + Debug;

    /// Number of sectors.
    fn block_count(&self) -> u64;

    /// Reads sectors from `lba` on. `buf` is a whole number of sectors.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes sectors from `lba` on. `data` is a whole number of sectors.
    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Returns when everything written before survives a loss of power.
    fn flush(&mut self) -> Result<(), Self::Error>;
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

    fn flush(&mut self) -> Result<(), D::Error> {
        (**self).flush()
    }
}

/// A disk in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct RamDisk {
    /// Its contents, a whole number of sectors.
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
    /// A disk of zeros.
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
