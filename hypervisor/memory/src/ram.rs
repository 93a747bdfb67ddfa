//! A guest's memory: [`GuestRam`].
//!
//! Whoever has it is the only one of the hypervisor that accesses the memory, whatever the guest's
//! vCPUs do meanwhile. Three things that were the callers' duty are its own: it is zeros when it is
//! made; what it writes it marks as written; and it knows what must be done to the caches.
//!
//! # Caches
//!
//! A guest may read and write past the caches: `caches` says when what is in them leaves them.
//!
//! # Snapshots
//!
//! A checkpoint reads a [`Snapshot`] of the memory while the guest goes on. What the owner itself
//! writes meanwhile is copied before, as what the guest writes is. A snapshot takes what has
//! changed since the checkpoint before: `changes` says who marks it, and when the marks go.
//!
//! # Loading
//!
//! A guest that is resumed on demand runs while units of its memory are [`Missing`]. The owner
//! refuses those, as if the memory had no such bytes.
//!
//! # Clearing
//!
//! Memory of a new guest is cleared as it is touched: `stale` says how nobody finds what was there
//! before.
//!
//! # Sharing
//!
//! The memory of a guest that was cloned, and of its clones, is shared until it is written, page by
//! page: `sharing` says how. What the owner writes moves before. If there is no frame for it, the
//! owner refuses the write, as if the memory had no such bytes.

mod accesses;
mod caches;
mod changes;
mod loading;
mod making;
mod sharing;
mod stale;

pub use changes::{Reach, Since, Wait};
pub use sharing::Usage;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use stasis_state::Baseline;
use stasis_state::directory::Touched;
use stasis_state::written::{BLOCK_SIZE, Written};

use crate::machine::Machine;
use crate::missing::Missing;
use crate::pages::PageSet;
use crate::range;
use crate::raw::Raw;
use crate::snapshot::Snapshot;
use sharing::Sharing;
use stale::Stale;

/// Bytes that are cleared, copied or cleaned without a break.
const PIECE: usize = 256 << 10;

/// Returns the pieces of at most [`PIECE`] bytes of which `bytes` consist.
pub(crate) fn pieces(bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = bytes.end;
    bytes.step_by(PIECE).map(move |start| start..end.min(start + PIECE))
}

/// The memory of a guest, or what several guests share, on a machine `M`.
///
/// Long work calls `pause` between two pieces of 256 KiB, so that others can have the core.
#[derive(Debug)]
pub struct GuestRam<M> {
    pub(crate) raw: Arc<Raw<M>>,
    /// Where it may hold anything but zeros.
    written: Written,
    /// Zeros may still be in the caches everywhere, since it was made.
    is_fresh: bool,
    /// Nothing was written since [`GuestRam::finish_writing`].
    is_finished: bool,
    /// What has changed since the baseline, or since the instant of a checkpoint that is under way.
    changed: PageSet,
    /// The checkpoint that has what has not changed.
    baseline: Option<Baseline>,
    /// A snapshot has taken what had changed, for a checkpoint that is not committed yet.
    is_taken: bool,
    /// What is read of it as it was at an instant.
    snapshot: Option<Arc<Snapshot<M>>>,
    /// What is still to be brought.
    missing: Option<Arc<Missing<M>>>,
    /// What the guest has touched first since it was loaded while it ran, by offsets; `None` if it
    /// was not.
    touched: Option<Arc<Vec<Touched>>>,
    /// What of it is shared with other memories; `None` if all is in one place.
    sharing: Option<Sharing>,
    /// What of it is not cleared yet; `None` if all is.
    stale: Option<Stale>,
}

impl<M: Machine> GuestRam<M> {
    /// Returns the snapshot that was begun and did not end yet.
    pub fn snapshot(&self) -> Option<&Snapshot<M>> {
        self.snapshot.as_deref()
    }

    /// Makes a snapshot keep bytes that the hypervisor will write.
    fn keep(&self, bytes: Range<usize>) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.keep_all(bytes);
        }
    }

    /// Returns the addresses that it has; an empty range if it is [not in one
    /// place](Self::is_mapped).
    pub fn range(&self) -> range::Range {
        let len = if self.is_mapped() { 0 } else { self.raw.len() as u64 };
        range::Range::new(self.raw.address() as u64, len)
    }

    /// Marks bytes as written, and changed, by somebody else: by a device, or by whoever else does
    /// not ask its owner. What is not there is left out.
    pub fn mark_written(&mut self, bytes: Range<usize>) {
        self.mark_changed(bytes);
    }

    /// Returns whether the byte at `offset` may be anything but zero. Does not read the byte.
    #[cfg(test)]
    pub fn may_have_content(&self, offset: usize) -> bool {
        self.written.contains(offset)
    }

    /// Returns the offsets of the blocks of [`BLOCK_SIZE`] bytes that may have been written,
    /// ascending.
    pub fn written_blocks(&self) -> impl Iterator<Item = usize> {
        self.written.blocks()
    }

    /// Returns the part that is there of each block that may have been written.
    fn written_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let len = self.raw.len();
        self.written.blocks().map(move |start| start..len.min(start + BLOCK_SIZE))
    }

    /// Makes all of it zeros, also what is missing. What was written stays marked, for stage 2
    /// allows to write it.
    ///
    /// # Panics
    ///
    /// If it is [not in one place](Self::is_mapped): its guest gets other memory.
    pub fn zero_all(&mut self, pause: &mut dyn FnMut()) {
        assert!(!self.is_mapped(), "others would see the zeros");
        self.abandon_loading();
        self.is_finished = false;
        self.keep(0..self.raw.len());
        self.mark_all_changed();
        let Self { raw, written, .. } = self;
        let len = raw.len();
        for piece in written.blocks().flat_map(|start| pieces(start..len.min(start + BLOCK_SIZE))) {
            let cleared = raw.zero(piece);
            debug_assert!(cleared.is_ok());
            pause();
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
