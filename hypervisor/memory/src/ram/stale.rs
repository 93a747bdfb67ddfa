//! Memory that is zeros for its guest, and that nobody has cleared yet: [`Stale`].
//!
//! A guest gets its memory as others have left it, and may never touch most of it. So a unit of
//! [`UNIT_SIZE`] bytes is cleared when it is touched. Nobody finds what was there before: stage 2
//! has no entry for a block that has a stale unit ([`GuestRam::is_block_stale`]), and the vCPU that
//! finds none [clears](GuestRam::clear_unit) one unit at each exit, until the block is clear and is
//! mapped; the hypervisor clears what it is about to access. Others clear the rest [bit by
//! bit](GuestRam::clear_next).
//!
//! A block that may have been written has no stale unit. So a snapshot, which reads what was
//! written, finds none, and a checkpoint knows stale memory as what was never written.
//!
//! # Caches
//!
//! What is cleared leaves the caches at once, for the guest may find it with its caches off. No
//! instruction cache has anything of a stale unit: nobody could fetch from there since
//! [`GuestRam::finish_writing`] has emptied them.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_state::written::BLOCK_SIZE;

use super::GuestRam;
use crate::machine::Machine;
use crate::missing::{UNIT_SIZE, UNITS};
use crate::pages::NoMemory;
use crate::raw::Raw;

/// The units that are not cleared yet.
#[derive(Debug)]
pub(super) struct Stale {
    /// For each whole block, one bit for each of its units: set if the unit is stale. The owner
    /// alone accesses them, also where it only reads the memory: so they are atomics, relaxed.
    units: Vec<AtomicU32>,
    /// All blocks before this one are clear, and were passed.
    cursor: usize,
}

impl Stale {
    /// Returns the marks of `blocks` blocks that are stale.
    pub(super) fn all(blocks: usize) -> Result<Self, NoMemory> {
        let mut units = Vec::new();
        units.try_reserve_exact(blocks)?;
        units.resize_with(blocks, || AtomicU32::new(u32::MAX));
        Ok(Self { units, cursor: 0 })
    }

    /// Returns the stale units of the block with the byte at `offset`.
    fn of_block(&self, offset: usize) -> u32 {
        self.units.get(offset / BLOCK_SIZE).map_or(0, |units| units.load(Ordering::Relaxed))
    }

    /// Clears the stale units that have some of `bytes`, which are in the memory.
    fn clear<M: Machine>(&self, raw: &Raw<M>, bytes: Range<usize>) {
        for unit in bytes.start / UNIT_SIZE..bytes.end.div_ceil(UNIT_SIZE) {
            let Some(units) = self.units.get(unit / UNITS) else { return };
            let bit = 1 << (unit % UNITS);
            if units.load(Ordering::Relaxed) & bit != 0 {
                let unit = unit * UNIT_SIZE..(unit + 1) * UNIT_SIZE;
                let cleared = raw.zero(unit.clone());
                debug_assert!(cleared.is_ok(), "the marks are of whole blocks");
                raw.clean_and_invalidate(unit);
                units.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }
}

impl<M: Machine> GuestRam<M> {
    /// Returns whether something of the block with the byte at `offset` is not cleared yet: stage 2
    /// must not map it.
    pub fn is_block_stale(&self, offset: usize) -> bool {
        self.stale.as_ref().is_some_and(|stale| stale.of_block(offset) != 0)
    }

    /// Clears the unit with the byte at `offset` if it is stale, and else another one of its block.
    /// Returns whether all of the block is clear now.
    pub fn clear_unit(&mut self, offset: usize) -> bool {
        let Some(stale) = &self.stale else { return true };
        let units = stale.of_block(offset);
        if units == 0 {
            return true;
        }
        let unit = offset % BLOCK_SIZE / UNIT_SIZE;
        let unit = if units & 1 << unit != 0 { unit } else { units.trailing_zeros() as usize };
        let start = offset - offset % BLOCK_SIZE + unit * UNIT_SIZE;
        stale.clear(&self.raw, start..start + UNIT_SIZE);
        units.count_ones() == 1
    }

    /// Clears a unit of the first block that this has not passed yet, if one is stale, and passes
    /// the block if all of it is clear. Returns the block's offset; `None` if all blocks were
    /// passed.
    pub fn clear_next(&mut self) -> Option<usize> {
        let stale = self.stale.as_ref()?;
        let offset = stale.cursor * BLOCK_SIZE;
        if stale.cursor == stale.units.len() {
            self.stale = None;
            return None;
        }
        if self.clear_unit(offset)
            && let Some(stale) = &mut self.stale
        {
            stale.cursor += 1;
        }
        Some(offset)
    }

    /// Returns whether something may not be cleared yet.
    pub fn has_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// Clears the stale units that have some of `bytes`, as far as those are in the memory: the
    /// hypervisor is about to access them.
    pub(super) fn clear_before(&self, bytes: Range<usize>) {
        if let Some(stale) = &self.stale
            && bytes.start < bytes.end
        {
            stale.clear(&self.raw, bytes.start..bytes.end.min(self.raw.len()));
        }
    }

    /// Clears the rest of the blocks that have some of `bytes`, for they will count as written.
    pub(super) fn clear_blocks(&self, bytes: Range<usize>) {
        let start = bytes.start - bytes.start % BLOCK_SIZE;
        self.clear_before(start..bytes.end.next_multiple_of(BLOCK_SIZE));
    }
}

// Miri would take minutes for memory of some blocks, and the unsafe code that this needs is tested
// elsewhere.
#[cfg(all(test, not(miri)))]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
