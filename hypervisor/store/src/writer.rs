//! Adds a checkpoint to a store: [`Writer`].

use crate::block::BlockDevice;
use crate::catalog::Checkpoint;
use crate::error::Error;
use crate::layout::BLOCK;
use crate::space::{locate, truncate};
use crate::store::{Result, Store, buffer};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// Bytes that are gathered into one write to the device: large enough that the cost of a request
/// does not matter, small enough to be kept in memory.
pub const CHUNK: usize = 128 * 1024;

/// A checkpoint under way. Dropped without [`commit`](Self::commit), it was never there.
#[derive(Debug)]
pub struct Writer<'s, D: BlockDevice> {
    store: &'s mut Store<D>,
    checkpoint: Checkpoint,
    reserved: u64,
    /// Blocks that are on the device.
    flushed_blocks: u64,
    /// What comes after them, less than [`CHUNK`].
    pending: Vec<u8>,
    failed: bool,
}

impl<'s, D: BlockDevice> Writer<'s, D> {
    pub(crate) fn new(
        store: &'s mut Store<D>,
        checkpoint: Checkpoint,
        reserved: u64,
    ) -> Result<Self, D> {
        let mut pending = buffer(CHUNK)?;
        pending.clear();
        Ok(Self { store, checkpoint, reserved, flushed_blocks: 0, pending, failed: false })
    }

    /// Says how many pages of memory it has, for those who list it.
    pub fn set_pages(&mut self, pages: u64) {
        self.checkpoint.pages = u32::try_from(pages).ok().and_then(NonZeroU32::new);
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.flushed_blocks * BLOCK as u64 + self.pending.len() as u64
    }

    /// Appends bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), D> {
        let wanted = self.written().saturating_add(bytes.len() as u64);
        if wanted > self.reserved {
            return Err(Error::LongerThanBegun { reserved: self.reserved, wanted });
        }
        while !bytes.is_empty() {
            if self.pending.is_empty() && bytes.len() >= CHUNK {
                // As it is, without a copy.
                let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
                self.write_out(whole)?;
                bytes = rest;
                continue;
            }
            let room = CHUNK - self.pending.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == CHUNK {
                self.write_pending()?;
            }
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), D> {
        let mut pending = core::mem::take(&mut self.pending);
        let result = self.write_out(&pending);
        pending.clear();
        self.pending = pending;
        result
    }

    /// Writes whole blocks to where they belong.
    fn write_out(&mut self, mut bytes: &[u8]) -> Result<(), D> {
        while !bytes.is_empty() {
            // `write` let no more through than was reserved, so the block exists.
            let run = locate(&self.checkpoint.extents, self.flushed_blocks);
            let run = run.ok_or(Error::WriterFailed)?;
            let len = bytes.len().min(run.blocks as usize * BLOCK);
            let (now, rest) = bytes.split_at(len);
            if let Err(error) = self.store.write_blocks(run.first, now) {
                self.failed = true;
                return Err(error);
            }
            self.flushed_blocks += (len / BLOCK) as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Makes the checkpoint part of the store, whole, and those that were [staged](Self::stage) before it with it, as a set; or
    /// fails. Its length is what was written; what was reserved beyond that is free again.
    ///
    /// Only now it has a number: the next one, or, if there are staged ones, the last of as many; they have those before it, in
    /// their order.
    pub fn commit(self) -> Result<Checkpoint, D> {
        let (store, checkpoint) = self.finish()?;
        store.commit(checkpoint)
    }

    /// Leaves the checkpoint, which is whole, to be committed with the next one: both are there then, or none.
    /// [`Store::discard_staged`] gives it up.
    pub fn stage(self) -> Result<(), D> {
        let (store, checkpoint) = self.finish()?;
        store.stage(checkpoint);
        Ok(())
    }

    /// Writes the rest.
    fn finish(mut self) -> Result<(&'s mut Store<D>, Checkpoint), D> {
        if self.failed {
            return Err(Error::WriterFailed);
        }
        self.checkpoint.length = self.written();
        // The last block is filled up, so that it shows nothing of what stood there before.
        let padded = self.pending.len().next_multiple_of(BLOCK);
        self.pending.resize(padded, 0);
        self.write_pending()?;
        self.checkpoint.extents = truncate(&self.checkpoint.extents, self.flushed_blocks);
        Ok((self.store, self.checkpoint))
    }
}
