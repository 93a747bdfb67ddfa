//! What the caches have of a guest's memory, and what a guest sees past them.
//!
//! A guest whose caches are off, or who has mapped its memory as not cacheable, reads and writes
//! past the caches in which EL2 reads and writes (DDI 0487, B2.8). So what EL2 has written leaves
//! the caches before such a guest runs ([`GuestRam::finish_writing`]), and what they have leaves
//! them before EL2 reads what such a guest has written, and after it ([`GuestRam::leave_caches`]).
//! A guest with caches on sees what EL2 writes at once, as every core does.

use core::ops::Range;
use stasis_state::{OutOfRange, WriteRam};

use super::{GuestRam, pieces};
use crate::access::AccessError;
use crate::machine::Machine;

impl<M: Machine> GuestRam<M> {
    /// Makes what was written what a guest sees, with its caches on or off, as data and as
    /// instructions.
    pub fn finish_writing(&mut self, pause: &mut dyn FnMut()) {
        match core::mem::take(&mut self.is_fresh) {
            true => self.clean(0..self.raw.len(), pause),
            false => self.leave_caches(pause),
        }
        M::invalidate_instructions();
        self.is_finished = true;
    }

    /// Returns whether nothing was written since [`finish_writing`](Self::finish_writing): a guest
    /// that starts now sees all of it.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Makes nothing of it be in the caches: what is loaded next is what was stored last, with
    /// caches on or off.
    pub fn leave_caches(&self, pause: &mut dyn FnMut()) {
        self.written_ranges().for_each(|block| self.clean(block, pause));
    }

    fn clean(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        for piece in pieces(bytes) {
            self.raw.clean_and_invalidate(piece);
            pause();
        }
    }

    /// Reads what a guest, with its caches on or off, has stored last.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory has no such bytes, or they are not there yet.
    pub fn read_past_caches(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        let bytes = offset..offset.saturating_add(into.len());
        self.check_there(bytes.clone())?;
        self.raw.clean_and_invalidate(bytes);
        self.raw.read(offset, into)
    }

    /// Writes bytes so that a guest that stands still sees them when it goes on, with its caches on
    /// or off, as data and as instructions.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::read_past_caches`], or there is no frame for a page that others have,
    /// too.
    pub fn write_past_caches(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        let all = offset..offset.saturating_add(bytes.len());
        self.check_there(all.clone())?;
        // What is in the caches may be older than what a guest has stored past them.
        self.raw.clean_and_invalidate(all.clone());
        let written = self.write(offset, bytes);
        // The caller is told. The guest does not wait for a frame that it does not need.
        self.take_lack();
        written?;
        self.raw.clean_and_invalidate(all);
        M::invalidate_instructions();
        Ok(())
    }

    /// Returns the number of 32 bits that a guest, with its caches on or off, has stored last at
    /// `offset`.
    ///
    /// # Errors
    ///
    /// The errors of [`GuestMemory::load_u32`](crate::GuestMemory::load_u32).
    pub fn load_u32_past_caches(&self, offset: usize) -> Result<u32, AccessError> {
        self.check_there(offset..offset.saturating_add(4))?;
        self.raw.clean_and_invalidate(offset..offset.saturating_add(4));
        self.raw.load_u32(offset)
    }
}
