//! Memory that is loaded while its guest runs: what of it is [`Missing`], from
//! [`GuestRam::begin_loading`] until all has arrived, or is given up.

use alloc::sync::Arc;
use core::ops::Range;
use stasis_state::OutOfRange;
use stasis_state::written::BLOCK_SIZE;

use super::GuestRam;
use crate::machine::Machine;
use crate::missing::Missing;

impl<M: Machine> GuestRam<M> {
    /// Makes it missing, but for blocks that are zeros and will be: those that were never written,
    /// and of which `has_content` denies that anything will be brought. It is given the offset of
    /// each block. No vCPU reaches a block that is missing by then, nor fetches from it. What
    /// arrives is marked by whoever brings it, unless it is zeros: as
    /// [written](Self::mark_written), or, if the memory has got its [baseline](Self::set_baseline)
    /// since, as [loaded](Self::mark_loaded). What was missing before is [given
    /// up](Self::abandon_loading).
    ///
    /// # Panics
    ///
    /// If it is [not in one place](Self::is_mapped): its guest gets other memory.
    pub fn begin_loading(&mut self, has_content: impl Fn(usize) -> bool) {
        assert!(!self.is_mapped(), "others would see what is loaded");
        self.abandon_loading();
        let is_missing = |offset: &usize| {
            self.is_fresh
                || self.written.contains(*offset)
                || self.is_block_stale(*offset)
                || has_content(*offset)
        };
        let blocks = (0..self.raw.len()).step_by(BLOCK_SIZE).filter(is_missing);
        self.missing = Some(Arc::new(Missing::new(self.raw.clone(), blocks)));
        // What was stale is brought like all others, as zeros.
        self.stale = None;
        self.written.clear();
        self.changed.clear();
        self.baseline = None;
        self.touched = None;
        M::invalidate_instructions();
        self.is_fresh = false;
        // What is missing is finished by whoever brings it.
        self.is_finished = true;
    }

    /// Returns what is missing; `None` if all is there.
    pub fn missing(&self) -> Option<&Arc<Missing<M>>> {
        self.missing.as_ref()
    }

    /// Notes that all has arrived, and keeps the order in which the guest has touched it. Returns
    /// how many units were waited for.
    ///
    /// # Panics
    ///
    /// If something is missing.
    pub fn end_loading(&mut self) -> usize {
        let Some(missing) = self.missing.take() else { return 0 };
        assert_eq!(missing.left(), 0, "bytes are missing");
        let (touched, waited) = missing.take_touched();
        self.touched = Some(Arc::new(touched));
        waited
    }

    /// Gives up what is missing: it is what it was before, and marked as written, as after
    /// [`Self::uncleared`].
    pub fn abandon_loading(&mut self) {
        let Some(missing) = self.missing.take() else { return };
        let len = self.raw.len();
        let blocks = (0..len).step_by(BLOCK_SIZE);
        for offset in blocks.filter(|offset| !missing.is_block_there(*offset)) {
            self.written.mark(offset..len.min(offset + BLOCK_SIZE));
        }
        self.forget_baseline();
        self.is_finished &= missing.left() == 0;
    }

    /// Returns whether all of the block with the byte at `offset` is there, and clear: stage 2 may
    /// map it.
    pub fn is_block_there(&self, offset: usize) -> bool {
        let is_missing = |missing: &Arc<Missing<M>>| !missing.is_block_there(offset);
        !self.is_block_stale(offset) && !self.missing.as_ref().is_some_and(is_missing)
    }

    /// Checks that none of these bytes is missing, and clears those that are stale: they are about
    /// to be accessed. Whether the memory has them is checked elsewhere.
    #[inline(always)]
    pub(super) fn check_there(&self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        match self.missing.is_none() && !self.has_stale() {
            true => Ok(()),
            false => self.make_there(bytes),
        }
    }

    /// Does as [`Self::check_there`] says where some of the memory may be missing or stale.
    #[inline(never)]
    fn make_there(&self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.clear_before(bytes.clone());
        let Range { start, end } = bytes;
        match &self.missing {
            Some(missing) if start < end && end <= self.raw.len() && !missing.is_there(bytes) => {
                Err(OutOfRange { start, end, size: self.raw.len() })
            }
            _ => Ok(()),
        }
    }
}
