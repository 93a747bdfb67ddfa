//! What of a memory has changed since the last checkpoint that was committed, and which writes of
//! the guest tell so.
//!
//! Stage 2 lets the guest write a page only if the page is marked as changed. So the first write of
//! each other page is a fault ([`GuestRam::first_write`]), and what the hypervisor writes itself is
//! marked by the owner. A snapshot takes the marks at its instant ([`GuestRam::begin_snapshot`]);
//! from then on these pages are read-only, and marked anew when they are written.
//!
//! What was taken is in the checkpoint only once that is committed ([`GuestRam::commit`]). If it
//! never is, the marks are put back ([`GuestRam::put_back`]): the pages have changed since the
//! checkpoint before, and nothing is lost.
//!
//! Without a [`Baseline`], and without a checkpoint under way that may become one, nobody asks
//! which pages have changed: then a block is marked as a whole by its first write, and costs one
//! fault.

use alloc::sync::Arc;
use core::ops::Range;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{Baseline, PAGE_SIZE};

use super::GuestRam;
use super::sharing::Alone;
use crate::frames;
use crate::machine::Machine;
use crate::pages::{PageSet, Part};
use crate::snapshot::{Marks, NoFrame, Room, Snapshot};

/// What a snapshot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// All that was ever written: the checkpoint has no other to share pages with.
    Ever,
    /// What has changed since the [`Baseline`], if there is one; else all.
    Baseline,
}

/// What the guest may write after the first write to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The page.
    Page,
    /// The whole block of [`BLOCK_SIZE`] bytes that the page is in.
    Block,
    /// The page, which is at this physical address, where stage 2 may not have it yet.
    At(u64),
}

/// Why a page must not be written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A snapshot has no room to keep what the page is. The next release says that somebody waits.
    Snapshot,
    /// Other memories share the page, and there is no frame for a copy.
    Frame,
}

impl From<NoFrame> for Wait {
    fn from(_: NoFrame) -> Self {
        Self::Snapshot
    }
}

impl From<frames::NoFrame> for Wait {
    fn from(_: frames::NoFrame) -> Self {
        Self::Frame
    }
}

impl<M: Machine> GuestRam<M> {
    /// Returns the checkpoint that has what is not marked as changed.
    pub fn baseline(&self) -> Option<Baseline> {
        self.baseline
    }

    /// Notes that all of the memory is what a checkpoint has, from which it was loaded. Stage 2
    /// forbids all writes by then, or before the guest runs.
    pub fn set_baseline(&mut self, baseline: Baseline) {
        self.changed.clear();
        self.baseline = Some(baseline);
    }

    /// Notes that no checkpoint that was committed has anything of the memory: all that was written
    /// counts as changed. While one is made, which has all of it or becomes the baseline, that is
    /// so only if it is [put back](Self::put_back): the marks tell meanwhile which pages the
    /// snapshot keeps.
    pub fn forget_baseline(&mut self) {
        self.baseline = None;
        if !self.is_taken {
            self.mark_all_changed();
        }
    }

    /// Marks all that was written as changed.
    pub(super) fn mark_all_changed(&mut self) {
        let Self { written, changed, .. } = self;
        written.blocks().for_each(|block| changed.insert_block(block));
    }

    /// Returns the pages that have changed since the [baseline](Self::baseline), by block: the
    /// offset of each.
    pub fn changed_blocks(&self) -> impl Iterator<Item = (usize, Part)> {
        self.changed.blocks()
    }

    /// Returns whether all of the block with the byte at `offset` counts as changed: the guest may
    /// write it without a fault.
    pub fn is_block_changed(&self, offset: usize) -> bool {
        self.changed.contains_block(offset)
    }

    /// Returns whether nothing of the block with the byte at `offset` counts as changed.
    pub fn is_block_unchanged(&self, offset: usize) -> bool {
        self.changed.is_block_without(offset)
    }

    /// Returns how many pages count as changed.
    pub fn changed_pages(&self) -> usize {
        self.changed.count()
    }

    /// Returns whether it is known of pages whether they have changed, and not of blocks only.
    fn is_by_page(&self) -> bool {
        self.baseline.is_some() || self.is_taken
    }

    /// Marks bytes as written and changed.
    pub(super) fn mark_changed(&mut self, bytes: Range<usize>) {
        let bytes = bytes.start..bytes.end.min(self.raw.len());
        let is_in_page = bytes.start / PAGE_SIZE == bytes.end.saturating_sub(1) / PAGE_SIZE;
        if bytes.is_empty() || is_in_page && self.is_page_marked(bytes.start) {
            return;
        }
        self.clear_blocks(bytes.clone());
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min(at - at % BLOCK_SIZE + BLOCK_SIZE);
            // A block that was never written is zeros, which nobody has stored: there is nothing to
            // share its other pages with.
            match self.is_by_page() && self.written.contains(at) {
                true => self.changed.insert_range(at..end),
                false => self.changed.insert_block(at),
            }
            at = end;
        }
        self.written.mark(bytes);
    }

    /// Returns whether the page with the byte at `offset` is marked as written and changed already.
    /// A block that was written has nothing stale.
    #[inline]
    pub(super) fn is_page_marked(&self, offset: usize) -> bool {
        self.written.contains(offset) && self.changed.contains(offset)
    }

    /// Marks bytes as content that the [baseline](Self::baseline) has, too: they were loaded from
    /// it.
    pub fn mark_loaded(&mut self, bytes: Range<usize>) {
        self.written.mark(bytes);
    }

    /// Marks the page at `offset` as changed, which the guest wants to write and stage 2 forbids,
    /// and returns what stage 2 must allow. If that is the page, and the block can't be split, the
    /// caller [marks the block](Self::mark_block_changed). A page that others share moves.
    ///
    /// # Errors
    ///
    /// [`Wait`]: the page must not be written yet.
    pub fn first_write(&mut self, offset: usize) -> Result<Reach, Wait> {
        let is_kept_by_page = match &self.snapshot {
            Some(snapshot) => !snapshot.keep(offset)?,
            None => false,
        };
        let alone = self.make_own(offset)?;
        let is_by_page = is_kept_by_page || self.is_by_page() && self.written.contains(offset);
        let is_block = match is_by_page {
            // If all pages are marked, each was kept before that, or need not be.
            true => self.changed.insert(offset),
            false => {
                self.written.mark(offset..offset + 1);
                self.changed.insert_block(offset);
                true
            }
        };
        Ok(match alone {
            Alone::Page(address) => Reach::At(address),
            Alone::Block if is_block => Reach::Block,
            Alone::Block => Reach::Page,
        })
    }

    /// Marks the whole block with the byte at `offset` as changed, and returns whether the guest
    /// may write all of it.
    pub fn mark_block_changed(&mut self, offset: usize) -> bool {
        if self.snapshot.as_ref().is_some_and(|snapshot| !snapshot.is_done_with(offset)) {
            return false;
        }
        self.changed.insert_block(offset);
        true
    }

    /// Returns a snapshot of the memory as it is now, and keeps it up to
    /// [`end_snapshot`](Self::end_snapshot). Before, stage 2 has forbidden all writes to [what has
    /// changed](Self::changed_blocks). From now on the guest does not write a page before
    /// [`first_write`](Self::first_write).
    ///
    /// # Panics
    ///
    /// If something of it is missing, the room is for other memory, or a snapshot before was
    /// neither [committed](Self::commit) nor [put back](Self::put_back).
    pub fn begin_snapshot(&mut self, mut room: Room<M>, since: Since) -> Arc<Snapshot<M>> {
        assert!(self.missing.is_none(), "a snapshot would have what is not brought yet");
        assert!(!self.is_taken, "what was taken before is in no checkpoint yet");
        if since == Since::Ever {
            self.forget_baseline();
        }
        let Marks { changed, mut written } = room.take_marks();
        let taken = core::mem::replace(&mut self.changed, changed);
        written.copy_from(&self.written);
        let snapshot = Arc::new(
            Snapshot::new(self.raw.clone(), written, taken, self.baseline, room)
                .with_touched(self.touched.clone()),
        );
        self.snapshot = Some(snapshot.clone());
        self.is_taken = true;
        snapshot
    }

    /// Ends the snapshot. What it has taken is in no checkpoint before [`commit`](Self::commit).
    pub fn end_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Notes that the checkpoint was committed for which the last snapshot was begun: what it has
    /// taken, and what has not changed since, is there.
    pub fn commit(&mut self, baseline: Baseline) {
        self.end_snapshot();
        if core::mem::take(&mut self.is_taken) {
            self.baseline = Some(baseline);
        }
    }

    /// Notes that the checkpoint will not be for which the last snapshot was begun. `taken` is what
    /// that has [taken](Snapshot::into_parts): it counts as changed again.
    pub fn put_back(&mut self, taken: &PageSet) {
        self.end_snapshot();
        self.is_taken = false;
        match self.baseline {
            Some(_) => self.changed.insert_all(taken),
            None => self.mark_all_changed(),
        }
    }
}

// Miri would take minutes for memory of some blocks, and the unsafe code that this needs is tested
// elsewhere.
#[cfg(all(test, not(miri)))]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
