//! Memory that is loaded while its guest runs: what of it is [`Missing`], from
//! [`GuestRam::begin_loading`] until all has arrived, or is given up.

use alloc::sync::Arc;
use core::ops::Range;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{OutOfRange, PAGE_SIZE};

use super::GuestRam;
use crate::frames::NoFrame;
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
    /// If it is [not in one place](Self::is_mapped), and not zeros that nobody has written, with
    /// [tables](Self::reserve_tables) for what will be brought: its guest gets other memory.
    pub fn begin_loading(&mut self, has_content: impl Fn(usize) -> bool) {
        let can_take = |block| !has_content(block) || self.has_table(block);
        let is_ready = self.is_untouched() && (0..self.raw.len()).step_by(BLOCK_SIZE).all(can_take);
        assert!(!self.is_mapped() || is_ready, "others would see what is loaded");
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

    /// Returns whether it is zeros that take frames as they are written, and none was taken.
    fn is_untouched(&self) -> bool {
        let is_of_zeros = self.raw.map().is_some_and(|map| map.is_of_zeros());
        is_of_zeros && self.written.blocks().next().is_none()
    }

    /// Returns whether the block at `offset` of memory that has a map has a table of frames.
    fn has_table(&self, offset: usize) -> bool {
        self.raw.map().is_some_and(|map| map.has_table(offset))
    }

    /// Takes what it needs to be [loaded](Self::begin_loading) while its guest runs, if it takes
    /// frames as it is written: for each block that `has_content` names, by its offset, one frame.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is none.
    pub fn reserve_tables(&self, has_content: impl Fn(usize) -> bool) -> Result<(), NoFrame> {
        let Some(map) = self.raw.map() else { return Ok(()) };
        let mut blocks =
            (0..self.raw.len()).step_by(BLOCK_SIZE).filter(|block| has_content(*block));
        blocks.try_for_each(|block| map.reserve_table(block))
    }

    /// Notes where the pages of `bytes`, which were missing and are filled, are: those that have
    /// content were brought to frames, if the memory takes frames as it is written.
    pub fn note_frames(&mut self, bytes: Range<usize>) {
        let Some(sharing) = &mut self.sharing else { return };
        for page in bytes.step_by(PAGE_SIZE) {
            if self.raw.map().is_some_and(|map| map.has_frame(page)) {
                sharing.note_frame(page);
            }
        }
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
            let block = offset..len.min(offset + BLOCK_SIZE);
            self.note_frames(block.clone());
            self.written.mark(block);
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
