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
///
/// The device writes while the caller makes what comes next, so an error may come later than with the bytes that it is about, but not later than
/// with [`commit`](Self::commit) or [`stage`](Self::stage). Dropping a writer waits for what is under way.
#[derive(Debug)]
pub struct Writer<'s, D: BlockDevice> {
    store: &'s mut Store<D>,
    checkpoint: Checkpoint,
    reserved: u64,
    /// Blocks that the device was given.
    begun_blocks: u64,
    /// What comes after them: the first `filled` bytes of [`CHUNK`].
    pending: Vec<u8>,
    /// Less than [`CHUNK`].
    filled: usize,
    failed: bool,
}

impl<'s, D: BlockDevice> Writer<'s, D> {
    pub(crate) fn new(
        store: &'s mut Store<D>,
        checkpoint: Checkpoint,
        reserved: u64,
    ) -> Result<Self, D> {
        let pending = buffer(CHUNK)?;
        Ok(Self { store, checkpoint, reserved, begun_blocks: 0, pending, filled: 0, failed: false })
    }

    /// Says how many pages of memory it has, for those who list it.
    pub fn set_pages(&mut self, pages: u64) {
        self.checkpoint.pages = u32::try_from(pages).ok().and_then(NonZeroU32::new);
    }

    /// Returns the device, to use what it waits with. Whoever writes to it breaks the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.store.device
    }

    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.begun_blocks * BLOCK as u64 + self.filled as u64
    }

    /// Appends bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), D> {
        self.write_with(bytes.len(), &mut |piece| {
            let (now, rest) = bytes.split_at(piece.len());
            piece.copy_from_slice(now);
            bytes = rest;
        })
    }

    /// Appends `len` bytes, which `fill` puts into the pieces that it is given, in their order: for a guest's memory, which is no slice.
    pub fn write_with(&mut self, mut len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), D> {
        let wanted = self.written().saturating_add(len as u64);
        if wanted > self.reserved {
            return Err(Error::LongerThanBegun { reserved: self.reserved, wanted });
        }
        while len > 0 {
            let now = if self.filled == 0 && len >= CHUNK {
                // Straight to the device.
                let whole = len - len % BLOCK;
                self.write_out(whole, fill)?;
                whole
            } else {
                self.gather(len, fill)?
            };
            len -= now;
        }
        Ok(())
    }

    /// Appends as many of `len` bytes as there is room for in what is gathered, and returns how many that were.
    fn gather(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<usize, D> {
        let now = len.min(CHUNK - self.filled);
        fill(&mut self.pending[self.filled..][..now]);
        self.filled += now;
        if self.filled == CHUNK {
            self.write_gathered(CHUNK)?;
        }
        Ok(now)
    }

    /// Writes the first `len` bytes of what is gathered, whole blocks; nothing is gathered then.
    fn write_gathered(&mut self, len: usize) -> Result<(), D> {
        let pending = core::mem::take(&mut self.pending);
        let mut rest = &pending[..len];
        self.filled = 0;
        let result = self.write_out(len, &mut |piece| {
            let (now, later) = rest.split_at(piece.len());
            piece.copy_from_slice(now);
            rest = later;
        });
        self.pending = pending;
        result
    }

    /// Writes whole blocks of `len` bytes to where they belong.
    fn write_out(&mut self, mut len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), D> {
        while len > 0 {
            // `write_with` let no more through than was reserved, so the block exists.
            let run = locate(&self.checkpoint.extents, self.begun_blocks);
            let run = run.ok_or(Error::WriterFailed)?;
            let now = len.min(run.blocks as usize * BLOCK);
            if let Err(error) = self.store.begin_blocks_with(run.first, now, fill) {
                self.failed = true;
                return Err(error);
            }
            self.begun_blocks += (now / BLOCK) as u64;
            len -= now;
        }
        Ok(())
    }

    /// Makes the checkpoint part of the store, whole, and those that were [staged](Self::stage) before it with it, as a set; or
    /// fails. Its length is what was written; what was reserved beyond that is free again.
    ///
    /// Only now it has a number: the next one, or, if there are staged ones, the last of as many; they have those before it, in
    /// their order.
    pub fn commit(mut self) -> Result<Checkpoint, D> {
        let checkpoint = self.finish()?;
        self.store.commit(checkpoint)
    }

    /// Leaves the checkpoint, which is whole, to be committed with the next one: both are there then, or none.
    /// [`Store::discard_staged`] gives it up.
    pub fn stage(mut self) -> Result<(), D> {
        let checkpoint = self.finish()?;
        self.store.stage(checkpoint);
        Ok(())
    }

    /// Writes the rest, waits for all that was written, and returns the checkpoint.
    fn finish(&mut self) -> Result<Checkpoint, D> {
        if self.failed {
            return Err(Error::WriterFailed);
        }
        self.checkpoint.length = self.written();
        // The last block is filled up, so that it shows nothing of what stood there before.
        let padded = self.filled.next_multiple_of(BLOCK);
        self.pending[self.filled..padded].fill(0);
        self.write_gathered(padded)?;
        self.store.end_blocks()?;
        self.checkpoint.extents = truncate(&self.checkpoint.extents, self.begun_blocks);
        Ok(self.checkpoint.clone())
    }
}

impl<D: BlockDevice> Drop for Writer<'_, D> {
    fn drop(&mut self) {
        // After a commit, nothing is under way. Of a checkpoint that was given up, no write may come later, and none is missed.
        let _ = self.store.end_blocks();
    }
}
