//! The packed unit that was read last: [`Unpacked`].

use crate::block::BlockDevice;
use crate::buffer::buffer;
use crate::error::Error;
use crate::layout::BLOCK;
use crate::map::Run;
use crate::space::Extent;
use crate::store::{Result, Store};
use crate::unit::{UNIT, unpack};
use alloc::vec::Vec;

/// What is in a packed unit. It is kept until another one is read, or its blocks are written,
/// because what is read in pieces would be unpacked for each of them.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Where the unit stands; `None` if nothing is kept.
    at: Option<Extent>,
    /// Room for [`UNIT`] bytes; none before the first unit.
    bytes: Vec<u8>,
    len: usize,
}

impl Unpacked {
    /// Forgets the unit, if it has one of these blocks.
    pub fn written(&mut self, blocks: Extent) {
        let is_met = |at: Extent| {
            at.first < blocks.first.saturating_add(blocks.blocks)
                && blocks.first < at.first.saturating_add(at.blocks)
        };
        self.at = self.at.filter(|at| !is_met(*at));
    }
}

impl<D: BlockDevice> Store<D> {
    /// Hands to `take` what is in a packed unit: `len` bytes of the run at most, from its byte
    /// `within` on. Returns how many there were, one at least.
    ///
    /// # Errors
    ///
    /// [`Error::UnitDamaged`]; what the device says.
    pub(crate) fn read_unit(
        &mut self,
        run: Run,
        within: usize,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, D> {
        let unit = run.on_disk();
        if self.unpacked.at != Some(unit) {
            self.unpack(unit)?;
        }
        let skip = run.pack.map_or(0, |pack| usize::from(pack.skip)) * BLOCK;
        let all = self.unpacked.bytes.get(..self.unpacked.len).unwrap_or_default();
        let bytes = all.get(skip + within..skip + run.blocks as usize * BLOCK);
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(Error::UnitDamaged { block: unit.first })?;
        let now = len.min(bytes.len());
        take(&bytes[..now]);
        Ok(now)
    }

    /// Reads and unpacks a unit, and keeps it.
    fn unpack(&mut self, unit: Extent) -> Result<(), D> {
        let mut packed = buffer(unit.blocks as usize * BLOCK)?;
        self.read_blocks(unit.first, &mut packed)?;
        self.device.pause();
        self.unpacked.at = None;
        if self.unpacked.bytes.is_empty() {
            self.unpacked.bytes = buffer(UNIT)?;
        }
        let done = unpack(&packed, &mut self.unpacked.bytes);
        self.unpacked.len = done.ok_or(Error::UnitDamaged { block: unit.first })?;
        self.unpacked.at = Some(unit);
        self.device.pause();
        Ok(())
    }
}
