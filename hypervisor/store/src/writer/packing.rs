//! How a [`Writer`] compresses: what is written is gathered into units of [`GATHERED`] bytes, and
//! each is written as it is packed, or as it is where that saves no block.
//!
//! A unit is made of blocks of contents that follow each other, so one ends where shared blocks
//! begin. The first block of a checkpoint is never packed: its header is written again at the end.

use super::{Blocks, Writer};
use crate::block::BlockDevice;
use crate::layout::BLOCK;
use crate::map::Run;
use crate::space::Extent;
use crate::store::Result;
use crate::unit::Packer;

/// Bytes of contents of a unit that is written. Twice as many would save a fifteenth more of a
/// Linux, and take longer to compress than others may have to wait for the core.
const GATHERED: usize = 32 << 10;

impl<D: BlockDevice> Writer<'_, D> {
    /// Appends as many of `len` bytes as the unit under way has room for, and returns how many that
    /// were.
    pub(super) fn gather_unit(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<usize, D> {
        let room = if self.begun { GATHERED } else { BLOCK };
        let now = len.min(room - self.filled);
        fill(&mut self.pending[self.filled..][..now]);
        self.filled += now;
        if self.filled == room {
            self.write_unit()?;
        }
        Ok(now)
    }

    /// Writes the unit under way, which is whole blocks.
    pub(super) fn write_unit(&mut self) -> Result<(), D> {
        let filled = core::mem::take(&mut self.filled);
        let Some(mut packer) = self.packer.take() else { return Ok(()) };
        let written = self.write_packed(&mut packer, filled);
        self.packer = Some(packer);
        self.failed |= written.is_err();
        written
    }

    fn write_packed(&mut self, packer: &mut Packer, filled: usize) -> Result<(), D> {
        self.store.device.pause();
        let unit = packer.pack(&self.pending[..filled]).filter(|_| self.begun);
        self.store.device.pause();
        if let Some(unit) = unit
            && let Some(place) = self.take_together((unit.len() / BLOCK) as u32)?
        {
            self.append(Run::packed(place, (filled / BLOCK) as u32))?;
            return self.store.begin_blocks(place.first, unit);
        }
        let mut written = 0;
        while written < filled {
            let run = self.take(((filled - written) / BLOCK) as u64)?;
            self.append(run.into())?;
            let end = written + run.blocks as usize * BLOCK;
            self.store.begin_blocks(run.first, &self.pending[written..end])?;
            written = end;
        }
        Ok(())
    }

    /// Takes this many blocks that follow each other; `None` if there is no such gap.
    fn take_together(&mut self, blocks: u32) -> Result<Option<Extent>, D> {
        match &self.blocks {
            Blocks::Mapped(builder) => self.store.take_together(blocks, builder),
            Blocks::Reserved(..) => Ok(None),
        }
    }
}
