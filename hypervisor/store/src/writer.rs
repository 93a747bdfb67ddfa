//! Adds a checkpoint to a store: [`Writer`].

mod packing;

use crate::block::BlockDevice;
use crate::buffer::buffer;
use crate::catalog::{Checkpoint, Identity, Location};
use crate::error::{Error, VolumeFault};
use crate::layout::{BLOCK, MAX_INSTANTS};
use crate::map::{BlockMap, Builder, Run};
use crate::space::{Extent, Extents, locate, truncate};
use crate::store::{Result, Store};
use crate::superblock::Compression;
use crate::unit::Packer;
use crate::volume::{Instant, Volumes};
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::ops::Range;

/// Bytes that are gathered into one write to the device: large enough that the cost of a request
/// does not matter, small enough to be kept in memory.
pub const CHUNK: usize = 128 * 1024;

/// Blocks of [`CHUNK`].
const CHUNK_BLOCKS: u64 = (CHUNK / BLOCK) as u64;

/// A checkpoint under way. Dropped without [`commit`](Self::commit), it was never there.
///
/// The device writes while the caller makes what comes next, so an error may come later than with
/// the bytes that it is about, but not later than with [`commit`](Self::commit) or
/// [`stage`](Self::stage). Dropping a writer waits for what is under way.
#[derive(Debug)]
pub struct Writer<'s, D: BlockDevice> {
    store: &'s mut Store<D>,
    checkpoint: Checkpoint,
    /// Bytes that it may have; `None` if as many as there is room for.
    limit: Option<u64>,
    blocks: Blocks,
    /// Bytes so far.
    written: u64,
    /// Where the gathered bytes go: to `spot`, which has blocks for [`CHUNK`] bytes at most. The
    /// first `filled` of them are there.
    pending: Vec<u8>,
    spot: Extent,
    filled: usize,
    /// Compresses what is gathered, which goes nowhere until its size is known, if the store
    /// compresses.
    packer: Option<Packer>,
    /// Blocks of `spot` that the checkpoint has already.
    placed: u32,
    /// Whether it has blocks.
    begun: bool,
    /// The first run of blocks, unless it is another checkpoint's.
    head: Option<Extent>,
    /// The guest's volumes at the instant.
    instants: Vec<Instant>,
    /// The map of the checkpoint whose blocks were shared last.
    source: Option<(u64, BlockMap)>,
    failed: bool,
}

/// Where the blocks of a new checkpoint come from.
#[derive(Debug)]
pub(crate) enum Blocks {
    /// From these runs, which were chosen when it was begun; this many are given out. Up to
    /// version 2.
    Reserved(Extents, u64),
    /// From wherever there is room, and from other checkpoints. Since version 3.
    Mapped(Builder),
}

impl<'s, D: BlockDevice> Writer<'s, D> {
    pub(crate) fn new(
        store: &'s mut Store<D>,
        checkpoint: Checkpoint,
        limit: Option<u64>,
        blocks: Blocks,
    ) -> Result<Self, D> {
        let packer = match (store.compression(), &blocks) {
            (Compression::Lz4, Blocks::Mapped(_)) => Some(Packer::new()?),
            _ => None,
        };
        Ok(Self {
            pending: buffer(CHUNK)?,
            packer,
            store,
            checkpoint,
            limit,
            blocks,
            written: 0,
            spot: Extent { first: 0, blocks: 0 },
            filled: 0,
            placed: 0,
            begun: false,
            head: None,
            source: None,
            instants: Vec::new(),
            failed: false,
        })
    }

    /// Says how many pages of memory it has, for those who list it.
    pub fn set_pages(&mut self, pages: u64) {
        self.checkpoint.pages = u32::try_from(pages).ok().and_then(NonZeroU32::new);
    }

    /// Says what it is called by for ever, and what the checkpoint is that it was made after, if
    /// there is one. A store before version 3 does not keep it.
    pub fn set_identity(&mut self, identity: Identity, parent: Identity) {
        if matches!(self.blocks, Blocks::Mapped(_)) {
            (self.checkpoint.identity, self.checkpoint.parent) = (identity, parent);
        }
    }

    /// Says what the volumes of the guest were at the instant, as [`Store::take_instants`] has
    /// returned them.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::NotInVersion`] before version 3, if there are any.
    /// [`VolumeFault::TooManyInstants`].
    pub fn set_instants(&mut self, instants: Vec<Instant>) -> Result<(), D> {
        if !instants.is_empty() && !matches!(self.blocks, Blocks::Mapped(_)) {
            return Err(VolumeFault::NotInVersion { version: self.store.version() }.into());
        }
        if instants.len() > MAX_INSTANTS {
            return Err(VolumeFault::TooManyInstants { count: instants.len() }.into());
        }
        self.instants = instants;
        Ok(())
    }

    /// Returns the store's volumes, to read and write them while the checkpoint is being written.
    /// After an error of the device, nothing can be committed.
    pub fn volumes_mut(&mut self) -> Volumes<'_, D> {
        let builder = match &self.blocks {
            Blocks::Mapped(builder) => Some(builder),
            Blocks::Reserved(..) => None,
        };
        Volumes::beside(self.store, builder, &mut self.failed)
    }

    /// Returns the store.
    pub fn store(&self) -> &Store<D> {
        self.store
    }

    /// Returns the device, to use what it waits with. Whoever writes to it breaks the store.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.store.device
    }

    /// Reads bytes of a committed checkpoint, as [`Store::read_of`] does. The device first ends the
    /// writes that are under way. What they fail with is returned by the next write, or the commit,
    /// and never here.
    ///
    /// # Errors
    ///
    /// The errors of [`Store::read_of`]. They have nothing to do with what is being written.
    pub fn read_of(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), D> {
        self.store.read_of(number, offset, len, take)
    }

    /// Returns the number of bytes so far, written and shared.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), D> {
        self.write_with(bytes.len(), &mut |piece| {
            let (now, rest) = bytes.split_at(piece.len());
            piece.copy_from_slice(now);
            bytes = rest;
        })
    }

    /// Appends `len` bytes, which `fill` puts into the pieces that it is given, in their order: for
    /// a guest's memory, which is no slice.
    pub fn write_with(&mut self, mut len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), D> {
        self.check_not_failed()?;
        self.check_limit(len as u64)?;
        while len > 0 {
            let now = if self.packer.is_some() {
                self.gather_unit(len, fill)?
            } else if self.filled == 0 && len >= CHUNK {
                // Straight to the device.
                let whole = len - len % BLOCK;
                self.write_out(whole, fill)?;
                whole
            } else {
                self.gather(len, fill)?
            };
            len -= now;
            self.written += now as u64;
        }
        Ok(())
    }

    /// Appends blocks of a committed checkpoint, without a copy: they stand on the disk once, and
    /// belong to both.
    ///
    /// # Errors
    ///
    /// [`Error::NoSharing`] before version 3. [`Error::BadShare`] unless the checkpoint has these
    /// blocks, all whole, and what is before them ends with a block. [`Error::MapDamaged`], and
    /// what the device says, after which nothing can be committed.
    pub fn share(&mut self, of: u64, blocks: Range<u64>) -> Result<(), D> {
        self.check_not_failed()?;
        let whole = self.store.find(of)?.length / BLOCK as u64;
        let Blocks::Mapped(_) = self.blocks else {
            return Err(Error::NoSharing { version: self.store.version() });
        };
        let (Range { start, end }, written) = (blocks, self.written);
        if start > end || end > whole || !written.is_multiple_of(BLOCK as u64) {
            return Err(Error::BadShare { number: of, start, end, blocks: whole, written });
        }
        let len = (end - start) * BLOCK as u64;
        self.check_limit(len)?;
        self.place()?;
        // A checkpoint has no more blocks than 32 bits count.
        let shared = self.share_blocks(of, start as u32..end as u32);
        self.failed |= shared.is_err();
        self.written += len;
        shared
    }

    /// Appends what the map of the checkpoint `of` says of these blocks: whole leaves where it can.
    fn share_blocks(&mut self, of: u64, blocks: Range<u32>) -> Result<(), D> {
        if self.source.as_ref().is_none_or(|(number, _)| *number != of) {
            self.source = Some((of, BlockMap::new(self.store.find(of)?)));
        }
        let (Some((_, map)), Blocks::Mapped(builder)) = (&mut self.source, &mut self.blocks) else {
            return Err(Error::WriterFailed);
        };
        self.begun |= !blocks.is_empty();
        let mut at = blocks.start;
        while at < blocks.end {
            let leaf = map.leaf(self.store, at)?.ok_or(Error::WriterFailed)?;
            let is_whole = leaf.begin == at && leaf.blocks <= blocks.end - at;
            if is_whole && builder.should_adopt(self.store, leaf.node.count) {
                // Nobody may rely on a leaf that is damaged, whatever was looked at before.
                map.locate(self.store, at)?;
                builder.adopt(self.store, leaf.node, leaf.blocks)?;
                at += leaf.blocks;
                continue;
            }
            let run = map.locate(self.store, at)?.ok_or(Error::WriterFailed)?;
            let run = run.at_most(blocks.end - at);
            builder.push_run(self.store, run)?;
            at += run.blocks;
        }
        Ok(())
    }

    /// Writes bytes again that were written, in the first run of blocks: the first block at least.
    /// For a header, which is known last.
    ///
    /// # Errors
    ///
    /// [`Error::BadRewrite`] if other bytes are meant; what the device says of what was written so
    /// far.
    pub fn rewrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), D> {
        let len = bytes.len();
        let in_pending = match self.head {
            Some(head) => self.filled > 0 && head.first == self.spot.first,
            None => !self.begun,
        };
        let possible = match self.head {
            Some(head) => u64::from(head.blocks) * BLOCK as u64,
            None if in_pending => self.filled as u64,
            None => 0,
        };
        if offset.checked_add(len as u64).is_none_or(|end| end > possible) {
            return Err(Error::BadRewrite { offset, len, possible });
        }
        if in_pending {
            self.pending[offset as usize..][..len].copy_from_slice(bytes);
            return Ok(());
        }
        // Nobody may read what is on its way to the device, or write it.
        let written = self.rewrite_on_disk(offset, bytes);
        self.failed |= written.is_err();
        written
    }

    fn rewrite_on_disk(&mut self, offset: u64, bytes: &[u8]) -> Result<(), D> {
        self.store.end_blocks()?;
        let head = self.head.ok_or(Error::WriterFailed)?;
        let (first, within) = (offset / BLOCK as u64, offset as usize % BLOCK);
        let mut blocks = buffer((within + bytes.len()).next_multiple_of(BLOCK))?;
        // Within the head.
        let at = head.first + first as u32;
        self.store.read_blocks(at, &mut blocks)?;
        blocks[within..][..bytes.len()].copy_from_slice(bytes);
        self.store.begin_blocks(at, &blocks)
    }

    /// Checks that it can still be committed. What a device has failed may be on the disk in part,
    /// so nothing more is taken for it.
    fn check_not_failed(&self) -> Result<(), D> {
        if self.failed { Err(Error::WriterFailed) } else { Ok(()) }
    }

    fn check_limit(&self, more: u64) -> Result<(), D> {
        let wanted = self.written.saturating_add(more);
        match self.limit {
            Some(reserved) if wanted > reserved => Err(Error::LongerThanBegun { reserved, wanted }),
            _ => Ok(()),
        }
    }

    /// Appends as many of `len` bytes as there is room for in what is gathered, and returns how
    /// many that were.
    fn gather(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<usize, D> {
        if self.filled == 0 {
            self.spot = self.take(CHUNK_BLOCKS)?;
            self.note_spot();
        }
        let room = self.spot.blocks as usize * BLOCK;
        let now = len.min(room - self.filled);
        fill(&mut self.pending[self.filled..][..now]);
        self.filled += now;
        if self.filled == room {
            self.write_gathered()?;
        }
        Ok(now)
    }

    /// Makes the gathered blocks that are whole part of the checkpoint.
    fn place(&mut self) -> Result<(), D> {
        if self.packer.is_some() {
            return self.write_unit();
        }
        let whole = (self.filled / BLOCK) as u32;
        let run = self.spot.skip(self.placed).at_most((whole - self.placed).into());
        self.placed = whole;
        if run.blocks > 0 { self.append(run.into()) } else { Ok(()) }
    }

    /// Writes what is gathered, whole blocks; nothing is gathered then. Blocks that were taken for
    /// more are free again.
    fn write_gathered(&mut self) -> Result<(), D> {
        self.place()?;
        if self.packer.is_some() {
            return Ok(());
        }
        let spot = self.spot.at_most(self.placed.into());
        let rest = self.spot.skip(self.placed);
        (self.spot.blocks, self.filled, self.placed) = (0, 0, 0);
        self.note_spot();
        if rest.blocks > 0 {
            match &mut self.blocks {
                Blocks::Reserved(_, given) => *given -= u64::from(rest.blocks),
                Blocks::Mapped(_) => self.store.give_back(rest),
            }
        }
        let len = spot.blocks as usize * BLOCK;
        let mut bytes = &self.pending[..len];
        let begun = self.store.begin_blocks_with(spot.first, len, &mut |piece| {
            let (now, later) = bytes.split_at(piece.len());
            piece.copy_from_slice(now);
            bytes = later;
        });
        self.failed |= begun.is_err();
        begun
    }

    /// Writes whole blocks of `len` bytes.
    fn write_out(&mut self, mut len: usize, fill: &mut dyn FnMut(&mut [u8])) -> Result<(), D> {
        while len > 0 {
            let run = self.take((len / BLOCK) as u64)?;
            self.append(run.into())?;
            let now = run.blocks as usize * BLOCK;
            let begun = self.store.begin_blocks_with(run.first, now, fill);
            self.failed |= begun.is_err();
            begun?;
            len -= now;
        }
        Ok(())
    }

    /// Takes at most `want` blocks that follow each other.
    fn take(&mut self, want: u64) -> Result<Extent, D> {
        let taken = match &mut self.blocks {
            Blocks::Reserved(extents, given) => {
                let run = locate(extents, *given).map(|run| run.at_most(want));
                *given += run.map_or(0, |run| u64::from(run.blocks));
                run.ok_or(Error::NoRoom { written: self.written })
            }
            Blocks::Mapped(builder) => {
                self.store.take_blocks(u32::try_from(want).unwrap_or(u32::MAX), builder)
            }
        };
        self.failed |= taken.is_err();
        taken
    }

    /// Makes a run of blocks the next part of the contents.
    fn append(&mut self, run: Run) -> Result<(), D> {
        if !self.begun {
            (self.begun, self.head) = (true, Some(run.on_disk()));
        }
        let Blocks::Mapped(builder) = &mut self.blocks else { return Ok(()) };
        let appended = builder.push_run(self.store, run);
        self.failed |= appended.is_err();
        appended
    }

    /// Tells whoever looks for room which blocks are taken and not in the map.
    fn note_spot(&mut self) {
        if let Blocks::Mapped(builder) = &mut self.blocks {
            builder.spot = Some(self.spot).filter(|spot| spot.blocks > 0);
        }
    }

    /// Makes the checkpoint part of the store, whole, and those that were [staged](Self::stage)
    /// before it with it, as a set; or fails. Its length is what was written; what was reserved
    /// beyond that is free again.
    ///
    /// Only now it has a number: the next one, or, if there are staged ones, the last of as many;
    /// they have those before it, in their order.
    pub fn commit(mut self) -> Result<Checkpoint, D> {
        let checkpoint = self.finish()?;
        self.store.commit(checkpoint)
    }

    /// Leaves the checkpoint, which is whole, to be committed with the next one: both are there
    /// then, or none. [`Store::discard_staged`] gives it up.
    pub fn stage(mut self) -> Result<(), D> {
        let checkpoint = self.finish()?;
        self.store.stage(checkpoint);
        Ok(())
    }

    /// Writes the rest, waits for all that was written, and returns the checkpoint.
    fn finish(&mut self) -> Result<Checkpoint, D> {
        self.check_not_failed()?;
        // The last block is filled up, so that it shows nothing of what stood there before.
        let padded = self.filled.next_multiple_of(BLOCK);
        self.pending[self.filled..padded].fill(0);
        self.filled = padded;
        if padded > 0 {
            self.write_gathered()?;
        }
        self.checkpoint.place = match &mut self.blocks {
            Blocks::Reserved(extents, given) => Location::Extents(truncate(extents, *given)),
            Blocks::Mapped(builder) => {
                self.checkpoint.instants = self.store.write_instants(&self.instants, builder)?;
                Location::Map(builder.finish(self.store)?)
            }
        };
        self.store.end_blocks()?;
        self.checkpoint.length = self.written;
        Ok(self.checkpoint.clone())
    }
}

impl<D: BlockDevice> Drop for Writer<'_, D> {
    fn drop(&mut self) {
        // After a commit, nothing is under way. Of a checkpoint that was given up, no write may
        // come later, and none is missed.
        let _ = self.store.end_blocks();
        self.store.space_is_stale();
    }
}
