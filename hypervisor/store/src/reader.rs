//! Reads a checkpoint: [`Reader`].

use crate::block::{BlockDevice, SECTOR};
use crate::catalog::Checkpoint;
use crate::error::Error;
use crate::layout::{BLOCK, BLOCK_SECTORS};
use crate::space::locate;
use crate::store::{Result, Store, buffer};
use crate::writer::CHUNK;
use alloc::vec::Vec;

/// An open checkpoint. Small reads that follow each other cost one request per [`CHUNK`].
#[derive(Debug)]
pub struct Reader<'s, D> {
    store: &'s mut Store<D>,
    checkpoint: Checkpoint,
    /// The last chunk read.
    chunk: Vec<u8>,
    /// Its index, if there was one.
    chunk_index: Option<u64>,
}

impl<'s, D: BlockDevice> Reader<'s, D> {
    pub(crate) fn new(store: &'s mut Store<D>, checkpoint: Checkpoint) -> Result<Self, D> {
        Ok(Self { store, checkpoint, chunk: buffer(CHUNK)?, chunk_index: None })
    }

    /// What is being read.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.checkpoint.length
    }

    /// Fills `buf` with what stands at `offset`.
    pub fn read_at(&mut self, offset: u64, mut buf: &mut [u8]) -> Result<(), D> {
        let length = self.checkpoint.length;
        let beyond = Error::ReadBeyondEnd { offset, len: buf.len(), length };
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= length => {}
            _ => return Err(beyond),
        }
        let mut offset = offset;
        while !buf.is_empty() {
            let len = if offset.is_multiple_of(SECTOR as u64) && buf.len() >= CHUNK {
                let len = buf.len() - buf.len() % SECTOR;
                self.read_sectors(offset / SECTOR as u64, &mut buf[..len])?;
                len
            } else {
                self.read_cached(offset, buf)?
            };
            buf = &mut buf[len..];
            offset += len as u64;
        }
        Ok(())
    }

    /// Copies what the chunk at `offset` has of `buf`, and says how much that is.
    fn read_cached(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, D> {
        let index = offset / CHUNK as u64;
        if self.chunk_index != Some(index) {
            self.chunk_index = None;
            let start = index * CHUNK as u64;
            let stored = self.checkpoint.length.next_multiple_of(BLOCK as u64);
            let len = (stored - start).min(CHUNK as u64) as usize;
            let mut chunk = core::mem::take(&mut self.chunk);
            let result = self.read_sectors(start / SECTOR as u64, &mut chunk[..len]);
            self.chunk = chunk;
            result?;
            self.chunk_index = Some(index);
        }
        let from = (offset % CHUNK as u64) as usize;
        let len = buf.len().min(CHUNK - from);
        buf[..len].copy_from_slice(&self.chunk[from..from + len]);
        Ok(len)
    }

    /// Reads whole sectors, wherever they stand.
    fn read_sectors(&mut self, mut sector: u64, mut buf: &mut [u8]) -> Result<(), D> {
        while !buf.is_empty() {
            // The catalog was checked: every byte of the length has a block.
            let (block, within) = (sector / BLOCK_SECTORS, sector % BLOCK_SECTORS);
            let run = locate(&self.checkpoint.extents, block).ok_or(Error::ReadBeyondEnd {
                offset: sector * SECTOR as u64,
                len: buf.len(),
                length: self.checkpoint.length,
            })?;
            let sectors = u64::from(run.blocks) * BLOCK_SECTORS - within;
            let len = (buf.len() as u64).min(sectors * SECTOR as u64) as usize;
            let (now, rest) = buf.split_at_mut(len);
            let first = u64::from(run.first) * BLOCK_SECTORS + within;
            self.store.read_sectors(first, now)?;
            buf = rest;
            sector += (len / SECTOR) as u64;
        }
        Ok(())
    }
}
