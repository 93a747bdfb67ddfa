//! Memory of a guest that runs before all of it is there: [`Missing`].
//!
//! A guest that is resumed on demand has the content of its memory in a checkpoint. A unit of
//! [`UNIT_SIZE`] bytes is brought when the guest, or the hypervisor, wants it, and all others in
//! the background. Nobody reaches a unit before it is there: stage 2 has no entry for it, and the
//! [`GuestRam`](crate::GuestRam) refuses it. [`stasis_cores::absent`] says who waits, and in which
//! order units are brought.
//!
//! A loader takes the [next](Missing::next) unit and [fills](Missing::fill) it. Then it
//! [cleans](Filling::finish) it out of the caches, maps it in stage 2, and notes that it is
//! [there](Missing::arrived).
//!
//! # Frames
//!
//! Memory that takes frames as it is written takes those of a unit's pages when their content is
//! brought ([`Filling::claim`]). Pages of zeros take none. The loader takes them without the lock
//! of the guest, which may write pages of the same block meanwhile: the table of each block that is
//! missing was taken before ([`GuestRam::reserve_tables`](crate::GuestRam::reserve_tables)), so
//! each of the two puts addresses of its own pages into it.
//!
//! # Caches
//!
//! What is filled has left the caches before the guest finds it, as what is written before the
//! guest starts: it may run with its caches off. No instruction cache has anything of a unit that
//! is missing, for nobody could fetch from there since
//! [`GuestRam::begin_loading`](crate::GuestRam::begin_loading).

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use stasis_cores::absent::{Absent, MOST_NOTED};
pub use stasis_cores::absent::{Arrived, Asked, UNITS};
use stasis_state::directory::Touched;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{OutOfRange, PAGE_SIZE};

use crate::frames::NoFrame;
use crate::machine::Machine;
use crate::raw::Raw;

/// Bytes of a unit, which is brought at once.
pub const UNIT_SIZE: usize = BLOCK_SIZE / UNITS;

/// Pages of a unit.
pub const UNIT_PAGES: usize = UNIT_SIZE / PAGE_SIZE;

/// What a guest's memory still lacks, for whoever wants it and for whoever brings it.
#[derive(Debug)]
pub struct Missing<M> {
    ram: Arc<Raw<M>>,
    absent: Absent,
}

impl<M: Machine> Missing<M> {
    /// Returns what `ram` lacks of which these blocks are missing, in ascending order: each by the
    /// offset of its first byte.
    pub(crate) fn new(ram: Arc<Raw<M>>, blocks: impl Iterator<Item = usize>) -> Self {
        let mut absent = vec![0; ram.len().div_ceil(BLOCK_SIZE)];
        for offset in blocks {
            // The last block may end before its last unit does.
            let units = (ram.len() - offset).div_ceil(UNIT_SIZE).min(UNITS);
            absent[offset / BLOCK_SIZE] = u32::MAX >> (UNITS - units);
        }
        Self { ram, absent: Absent::new(absent) }
    }

    /// Asks for the byte at `offset`. What is not in the memory is there.
    pub fn ask(&self, offset: usize) -> Asked {
        self.absent.ask(offset / UNIT_SIZE)
    }

    /// Asks for those of `bytes` that are not there, or for some of them if they are many. Returns
    /// whether any are not: then somebody waits until something has arrived, and asks again. What
    /// is not in the memory is there.
    pub fn ask_all(&self, bytes: Range<usize>) -> bool {
        let end = bytes.end.min(self.ram.len());
        bytes.start < end && self.absent.ask_all(bytes.start / UNIT_SIZE..end.div_ceil(UNIT_SIZE))
    }

    /// Returns whether all of `bytes` are there.
    pub fn is_there(&self, bytes: Range<usize>) -> bool {
        (bytes.start / UNIT_SIZE..bytes.end.div_ceil(UNIT_SIZE))
            .all(|unit| self.absent.is_there(unit))
    }

    /// Returns whether all of the block with the byte at `offset` is there.
    pub fn is_block_there(&self, offset: usize) -> bool {
        self.absent.is_block_whole(offset / BLOCK_SIZE)
    }

    /// Returns the number of bytes that are missing.
    pub fn left(&self) -> u64 {
        self.absent.left() as u64 * UNIT_SIZE as u64
    }

    /// Returns whether somebody waits for something that was not brought yet.
    pub fn is_wanted(&self) -> bool {
        self.absent.is_wanted()
    }

    /// Returns whether somebody has asked in vain since something has arrived last.
    pub fn is_waited_for(&self) -> bool {
        self.absent.is_waited_for()
    }

    /// Makes these bytes arrive before all others that nobody waits for, in this order: at most
    /// [`MOST_NOTED`] units of them.
    pub fn prefer(&self, runs: impl Iterator<Item = Range<usize>>) {
        let units = runs.flat_map(|run| run.start / UNIT_SIZE..run.end.div_ceil(UNIT_SIZE));
        let mut preferred: Vec<u32> = Vec::new();
        if preferred.try_reserve_exact(MOST_NOTED).is_err() {
            return;
        }
        for unit in units.map(|unit| unit as u32) {
            if preferred.len() == preferred.capacity() {
                break;
            }
            if preferred.last() != Some(&unit) {
                preferred.push(unit);
            }
        }
        self.absent.prefer(preferred);
    }

    /// Returns the pages that were waited for or [preferred](Self::prefer), in the order in which
    /// they arrived, by their offsets in the memory: neighbours together. Also returns how many
    /// units somebody has waited for.
    pub(crate) fn take_touched(&self) -> (Vec<Touched>, usize) {
        let (noted, waited) = self.absent.take_noted();
        let mut touched: Vec<Touched> = Vec::new();
        if touched.try_reserve_exact(noted.len()).is_err() {
            return (touched, waited);
        }
        for start in noted.into_iter().map(|unit| unit as usize * UNIT_SIZE) {
            let end = self.ram.len().min(start + UNIT_SIZE);
            let (start, pages) = (start as u64, ((end - start) / PAGE_SIZE) as u64);
            match touched.last_mut().map(|last| (last.pages(), last)) {
                Some(((first, before), last))
                    if first + before * PAGE_SIZE as u64 == start
                        && before + pages <= Touched::MAX_PAGES =>
                {
                    *last = Touched::new(first, before + pages);
                }
                _ => touched.push(Touched::new(start, pages)),
            }
        }
        (touched, waited)
    }

    /// Returns the unit that is brought next; `None` if nothing is missing. There is one loader,
    /// which brings the unit before it calls again.
    pub fn next(&self) -> Option<Range<usize>> {
        self.absent.next().map(|unit| {
            let start = unit * UNIT_SIZE;
            start..self.ram.len().min(start + UNIT_SIZE)
        })
    }

    /// Returns the bytes of the block with the byte at `offset`.
    pub fn block(&self, offset: usize) -> Range<usize> {
        let start = offset - offset % BLOCK_SIZE;
        start..self.ram.len().min(start + BLOCK_SIZE)
    }

    /// Returns the units of which `bytes` consist.
    pub fn units(&self, bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let end = bytes.end;
        bytes.step_by(UNIT_SIZE).map(move |start| start..end.min(start + UNIT_SIZE))
    }

    /// Returns the right to write a unit that is missing; `None` if the bytes are not those of one.
    pub fn fill(&self, unit: Range<usize>) -> Option<Filling<'_, M>> {
        let is_one = unit.start.is_multiple_of(UNIT_SIZE)
            && unit.end == self.ram.len().min(unit.start + UNIT_SIZE)
            && !self.absent.is_there(unit.start / UNIT_SIZE);
        is_one.then_some(Filling { ram: &self.ram, unit })
    }

    /// Notes that the unit with the byte at `offset` is there, which was filled, and which stage 2
    /// maps.
    ///
    /// # Panics
    ///
    /// If it was there already.
    #[must_use = "who has asked in vain sleeps"]
    pub fn arrived(&self, offset: usize) -> Arrived {
        self.absent.arrived(offset / UNIT_SIZE)
    }
}

/// A unit that is missing, for the loader to write. Nobody else reaches it. Offsets are those in
/// the guest's memory.
#[derive(Debug)]
pub struct Filling<'m, M> {
    ram: &'m Raw<M>,
    unit: Range<usize>,
}

impl<M: Machine> Filling<'_, M> {
    /// Returns the bytes of the unit.
    pub fn unit(&self) -> Range<usize> {
        self.unit.clone()
    }

    /// Checks that bytes lie in the unit.
    fn check(&self, bytes: &Range<usize>) -> Result<(), OutOfRange> {
        let Range { start, end } = *bytes;
        let is_inside = self.unit.start <= start && start <= end && end <= self.unit.end;
        if is_inside { Ok(()) } else { Err(OutOfRange { start, end, size: self.unit.end }) }
    }

    /// Takes frames for the pages of `bytes`, if the memory takes frames as it is written. They are
    /// not cleared: the caller writes all of each page, before the unit arrives.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is none for one of the pages, or the bytes are not in the unit. Those
    /// that were taken are the unit's: who tries again goes on with them.
    pub fn claim(&mut self, bytes: Range<usize>) -> Result<(), NoFrame> {
        self.check(&bytes).map_err(|_| NoFrame)?;
        bytes.step_by(PAGE_SIZE).try_for_each(|page| self.ram.claim(page))
    }

    /// Checks that bytes lie in the unit, and that nobody else sees what is written there.
    fn check_own(&self, bytes: &Range<usize>) -> Result<(), OutOfRange> {
        self.check(bytes)?;
        match bytes.is_empty() || self.ram.has_frames(bytes.clone()) {
            true => Ok(()),
            false => Err(OutOfRange { start: bytes.start, end: bytes.end, size: self.unit.end }),
        }
    }

    /// Makes the bytes from `offset` on these.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if they are not all in the unit, or their pages were not
    /// [claimed](Self::claim); nothing is written then.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.check_own(&(offset..offset.saturating_add(bytes.len())))?;
        self.ram.write(offset, bytes)
    }

    /// Makes `bytes` 0. A page without a frame is so already.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if they are not all in the unit; nothing is written then.
    pub fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.check(&bytes)?;
        if self.ram.map().is_none() {
            return self.ram.zero(bytes);
        }
        let pages = bytes.start - bytes.start % PAGE_SIZE..bytes.end;
        for page in pages.step_by(PAGE_SIZE) {
            let part = bytes.start.max(page)..bytes.end.min(page + PAGE_SIZE);
            if self.ram.has_frames(part.clone()) {
                self.ram.zero(part)?;
            }
        }
        Ok(())
    }

    /// Makes each word of `bytes`, which begin and end at multiples of 8, this one.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::write`].
    pub fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        self.check_own(&bytes)?;
        self.ram.fill(bytes, word)
    }

    /// Returns the CRC-32C of `bytes` as they are in the memory.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::write`].
    pub fn crc32c(&self, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.check(&bytes)?;
        self.ram.crc32c(0, bytes)
    }

    /// Makes what was written leave the caches. Then the unit may be mapped.
    pub fn finish(self) {
        self.ram.clean_and_invalidate(self.unit);
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
