//! Reads a checkpoint: [`Reader`].

use crate::block::{BlockDevice, SECTOR};
use crate::buffer::buffer;
use crate::catalog::Checkpoint;
use crate::error::Error;
use crate::layout::{BLOCK, BLOCK_SECTORS};
use crate::map::BlockMap;
use crate::store::{Result, Store};
use crate::volume::Volumes;
use crate::writer::CHUNK;
use alloc::vec::Vec;

/// An open checkpoint. Small reads that follow each other cost one request per [`CHUNK`]; one that
/// does not follow the last one costs no more than the blocks that it is about.
#[derive(Debug)]
pub struct Reader<'s, D> {
    store: &'s mut Store<D>,
    checkpoint: Checkpoint,
    map: BlockMap,
    /// What was read last: `kept` bytes, of which the first stands at `kept_from`, a multiple of
    /// [`BLOCK`].
    chunk: Vec<u8>,
    kept_from: u64,
    kept: usize,
    /// Where the last read has ended.
    expected: u64,
}

impl<'s, D: BlockDevice> Reader<'s, D> {
    pub(crate) fn new(store: &'s mut Store<D>, checkpoint: Checkpoint) -> Result<Self, D> {
        let map = BlockMap::new(&checkpoint);
        let chunk = buffer(CHUNK)?;
        Ok(Self { store, checkpoint, map, chunk, kept_from: 0, kept: 0, expected: 0 })
    }

    /// Returns the checkpoint that is being read.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns the device, to use what it waits with. Whoever writes to it breaks the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.store.device
    }

    /// Returns the store's volumes, to read and write them while the checkpoint is being read.
    pub fn volumes_mut(&mut self) -> Volumes<'_, D> {
        self.store.volumes_mut()
    }

    /// Returns the store.
    pub fn store(&self) -> &Store<D> {
        self.store
    }

    /// Reads bytes of any checkpoint, as [`Store::read_of`] does. What is read next of this one is
    /// not affected.
    ///
    /// # Errors
    ///
    /// The errors of [`Store::read_of`].
    pub fn read_of(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        self.store.read_of(number, offset, len, take)
    }

    /// Returns how many bytes the checkpoint has.
    pub fn length(&self) -> u64 {
        self.checkpoint.length
    }

    /// Fills `buf` with what stands at `offset`.
    pub fn read_at(&mut self, offset: u64, mut buf: &mut [u8]) -> Result<(), D> {
        self.read_with(offset, buf.len(), &mut |piece| {
            let (now, later) = core::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        })
    }

    /// Hands the `len` bytes that stand at `offset` to `take` in pieces, in their order: for a
    /// guest's memory, which is no slice.
    pub fn read_with(
        &mut self,
        mut offset: u64,
        mut len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        let length = self.checkpoint.length;
        match offset.checked_add(len as u64) {
            Some(end) if end <= length => {}
            _ => return Err(Error::ReadBeyondEnd { offset, len, length }),
        }
        while len > 0 {
            let now = if offset.is_multiple_of(SECTOR as u64) && len >= CHUNK {
                let whole = len - len % SECTOR;
                self.read_sectors(offset / SECTOR as u64, whole, take)?;
                whole
            } else {
                let piece = self.cached(offset, len)?;
                take(piece);
                piece.len()
            };
            len -= now;
            offset += now as u64;
            self.expected = offset;
        }
        Ok(())
    }

    /// Returns what is kept of the `len` bytes at `offset`, at least one, and reads blocks if
    /// nothing is.
    fn cached(&mut self, offset: u64, len: usize) -> Result<&[u8], D> {
        if !(self.kept_from..self.kept_from + self.kept as u64).contains(&offset) {
            let start = offset - offset % BLOCK as u64;
            let stored = self.checkpoint.length.next_multiple_of(BLOCK as u64);
            let wanted = (offset - start) as usize + len.min(CHUNK);
            let wanted =
                if offset == self.expected { CHUNK } else { wanted.next_multiple_of(BLOCK) };
            self.keep(start, wanted.min(CHUNK).min((stored - start) as usize))?;
        }
        let from = (offset - self.kept_from) as usize;
        Ok(&self.chunk[from..][..len.min(self.kept - from)])
    }

    /// Reads `len` bytes, whole blocks, and keeps them.
    fn keep(&mut self, start: u64, len: usize) -> Result<(), D> {
        self.kept = 0;
        let mut chunk = core::mem::take(&mut self.chunk);
        let mut rest = &mut chunk[..len];
        let result = self.read_sectors(start / SECTOR as u64, len, &mut |piece| {
            let (now, later) = core::mem::take(&mut rest).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            rest = later;
        });
        self.chunk = chunk;
        result?;
        (self.kept_from, self.kept) = (start, len);
        Ok(())
    }

    /// Reads `len` bytes of whole sectors, wherever they stand.
    fn read_sectors(
        &mut self,
        sector: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        self.store.read_mapped(&mut self.map, sector, len, take)
    }
}

impl<D: BlockDevice> Store<D> {
    /// Hands the `len` bytes that stand at `offset` of a checkpoint to `take` in pieces, in their
    /// order, and reads no more than their sectors. For reads that do not follow each other, of one
    /// checkpoint or of several: no buffer is needed, and the map that was used last is kept.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchCheckpoint`], [`Error::ReadBeyondEnd`], [`Error::MapDamaged`],
    /// [`Error::UnitDamaged`], and what the device says.
    pub fn read_of(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        let checkpoint = self.find(number)?.clone();
        let length = checkpoint.length;
        if offset.checked_add(len as u64).is_none_or(|end| end > length) {
            return Err(Error::ReadBeyondEnd { offset, len, length });
        }
        let mut map = match self.recent.take().filter(|map| map.is_of(&checkpoint)) {
            Some(map) => map,
            None => BlockMap::new(&checkpoint),
        };
        let (sector, mut skipped) = (offset / SECTOR as u64, offset as usize % SECTOR);
        let mut left = len;
        let sectors = (skipped + len).next_multiple_of(SECTOR);
        let read = self.read_mapped(&mut map, sector, sectors, &mut |piece| {
            let piece = &piece[skipped.min(piece.len())..];
            let piece = &piece[..left.min(piece.len())];
            (skipped, left) = (0, left - piece.len());
            take(piece);
        });
        self.recent = Some(map);
        read
    }

    /// Reads `len` bytes of whole sectors of the contents that `map` is about.
    fn read_mapped(
        &mut self,
        map: &mut BlockMap,
        mut sector: u64,
        mut len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        while len > 0 {
            // Every byte of the length has a block, whose number has 32 bits.
            let (block, within) = ((sector / BLOCK_SECTORS) as u32, sector % BLOCK_SECTORS);
            let run = map.locate(self, block)?.ok_or(Error::ReadBeyondEnd {
                offset: sector * SECTOR as u64,
                len,
                length: sector * SECTOR as u64,
            })?;
            let now = if run.pack.is_some() {
                self.read_unit(run, within as usize * SECTOR, len, take)?
            } else {
                let sectors = u64::from(run.blocks) * BLOCK_SECTORS - within;
                let now = (len as u64).min(sectors * SECTOR as u64) as usize;
                let first = u64::from(run.on_disk().first) * BLOCK_SECTORS + within;
                self.read_sectors_with(first, now, take)?;
                now
            };
            len -= now;
            sector += (now / SECTOR) as u64;
        }
        Ok(())
    }
}
