//! What a store reads and writes on its device: sectors and blocks of its partition, with errors
//! that name the request which has failed.

use crate::block::{BlockDevice, Request};
use crate::error::{Doing, Error};
use crate::layout::{BLOCK, BLOCK_SECTORS};
use crate::space::Extent;
use crate::store::{Result, Store};

impl<D: BlockDevice> Store<D> {
    /// Returns the CRC-32C of bytes, as fast as the machine can.
    pub(crate) fn crc32c(&self, bytes: &[u8]) -> u32 {
        self.device.crc32c(bytes)
    }

    /// Begins to write `len` bytes of blocks that `fill` makes, piece by piece, for as long as it
    /// returns true. Returns whether that was so to the end.
    pub(crate) fn begin_blocks_while(
        &mut self,
        block: u32,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, D> {
        self.unpacked.written(Extent { first: block, blocks: (len / BLOCK) as u32 });
        let lba = self.lba(u64::from(block) * BLOCK_SECTORS);
        let begun = self.device.begin_write_while(lba, len, fill);
        begun.map_err(|error| self.failed(Doing::Writing, lba, error))
    }

    /// Begins to write `len` bytes of blocks that `fill` makes, piece by piece.
    pub(crate) fn begin_blocks_with(
        &mut self,
        block: u32,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), D> {
        let begun = self.begin_blocks_while(block, len, &mut |piece| {
            fill(piece);
            true
        });
        begun.map(drop)
    }

    /// Begins to write blocks.
    pub(crate) fn begin_blocks(&mut self, block: u32, mut bytes: &[u8]) -> Result<(), D> {
        self.begin_blocks_with(block, bytes.len(), &mut |piece| {
            let (now, later) = bytes.split_at(piece.len());
            piece.copy_from_slice(now);
            bytes = later;
        })
    }

    /// Waits for all blocks whose writes were begun.
    pub(crate) fn end_blocks(&mut self) -> Result<(), D> {
        let ended = self.device.end_writes();
        ended.map_err(|error| self.failed(Doing::Writing, self.lba(0), error))
    }

    pub(crate) fn write_sectors(&mut self, sector: u64, data: &[u8]) -> Result<(), D> {
        let lba = self.lba(sector);
        let written = self.device.write(lba, data);
        written.map_err(|error| self.failed(Doing::Writing, lba, error))
    }

    pub(crate) fn read_sectors(&mut self, sector: u64, buf: &mut [u8]) -> Result<(), D> {
        let lba = self.lba(sector);
        let read = self.device.read(lba, buf);
        read.map_err(|error| self.failed(Doing::Reading, lba, error))
    }

    /// Reads whole blocks.
    pub(crate) fn read_blocks(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), D> {
        self.read_sectors(u64::from(block) * BLOCK_SECTORS, bytes)
    }

    /// Reads `len` bytes of sectors, and hands them to `take`, piece by piece.
    pub(crate) fn read_sectors_with(
        &mut self,
        sector: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        let lba = self.lba(sector);
        let read = self.device.read_with(lba, len, take);
        read.map_err(|error| self.failed(Doing::Reading, lba, error))
    }

    pub(crate) fn flush(&mut self) -> Result<(), D> {
        let flushed = self.device.flush();
        // A device may have forgotten what it could not flush, and say of the next flush that all
        // is well.
        self.flush_has_failed |= flushed.is_err();
        flushed.map_err(|error| self.failed(Doing::Flushing, self.lba(0), error))
    }

    /// Returns the device's number of a sector of the partition.
    fn lba(&self, sector: u64) -> u64 {
        self.partition().first() + sector
    }

    /// Returns the error of a device that was asked for something at `lba`, or has failed something
    /// that was begun earlier.
    fn failed(&self, doing: Doing, lba: u64, error: D::Error) -> Error<D::Error> {
        let (doing, lba) = match self.device.request_of(&error) {
            Some(Request::Read(lba)) => (Doing::Reading, lba),
            Some(Request::Write(lba)) => (Doing::Writing, lba),
            None => (doing, lba),
        };
        Error::Device { doing, lba, error }
    }
}
