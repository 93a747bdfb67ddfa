//! Small writes of a disk that are completed before its volume has them: [`Late`].
//!
//! A guest that writes small pieces, one behind the other, makes the next one only when it is told
//! of the last. So its next ones go into memory, at the exit of the vCPU that makes them
//! (`at_exit`), until whoever serves the disk writes them as one. That is before anything else is
//! done to the volume: a flush, a read, the instant of a checkpoint. A loss of power takes what was
//! not flushed, as it may always.
//!
//! [`Late`] is shared by the disk's slot and whoever has the volume, who lets the guest write or
//! not. It is part of no record. A driver that did not accept FLUSH has no late writes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::mutex::SpinMutex;

use super::ahead::{AHEAD, Buffer, SMALL};

/// The most bytes of late writes of a disk.
pub const MOST_LATE: usize = AHEAD;

/// The late writes of a disk. The lock is held for a copy of [`SMALL`] bytes at most; no other is
/// taken under it.
#[derive(Debug)]
pub struct Late(SpinMutex<Kept>);

/// What is kept.
#[derive(Debug)]
struct Kept {
    /// Offset of the first byte in the volume, and the number of bytes.
    from: u64,
    len: usize,
    /// Whether the guest may write more.
    is_open: bool,
    /// Their place; without one while they are [taken](Late::take).
    buffer: Buffer,
}

impl Late {
    /// Returns a place for late writes; None if there are too many buffers, or there is no memory.
    fn new() -> Option<Self> {
        let buffer = Buffer::new()?.filled();
        Some(Self(SpinMutex::new(Kept { from: 0, len: 0, is_open: false, buffer })))
    }

    /// Lets the guest write [`MOST_LATE`] bytes from this offset on. Nothing is kept yet.
    pub fn begin(&self, from: u64) {
        let kept = &mut *self.0.lock();
        (kept.from, kept.len) = (from, 0);
        kept.is_open = kept.buffer.0.len() == MOST_LATE;
    }

    /// Lets the guest write no more. Returns whether something is kept.
    pub fn end(&self) -> bool {
        let mut kept = self.0.lock();
        kept.is_open = false;
        kept.len > 0
    }

    /// Takes what is kept: its offset, its length, and a buffer that it begins. The guest writes no
    /// more.
    pub fn take(&self) -> (u64, usize, Vec<u8>) {
        let kept = &mut *self.0.lock();
        kept.is_open = false;
        (kept.from, core::mem::take(&mut kept.len), core::mem::take(&mut kept.buffer.0))
    }

    /// Puts back what was [taken](Self::take), or the buffer alone, with a length of 0.
    pub fn put_back(&self, (from, len, buffer): (u64, usize, Vec<u8>)) {
        let kept = &mut *self.0.lock();
        (kept.from, kept.len, kept.buffer.0) = (from, len, buffer);
    }

    /// Keeps a write of `len` bytes, if there is a place for it, behind what is kept or in it, and
    /// if `fill` has filled that. Returns whether it is kept.
    pub(super) fn write(
        &self,
        offset: u64,
        len: u64,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        // Whoever has the lock ends this, or takes it.
        let Some(mut kept) = self.0.try_lock() else { return false };
        let kept = &mut *kept;
        let at = offset.checked_sub(kept.from).filter(|at| *at <= kept.len as u64);
        let Some(at) = at.filter(|_| kept.is_open && len <= SMALL) else { return false };
        let (at, len) = (at as usize, len as usize);
        let Some(place) = kept.buffer.0.get_mut(at..at + len) else { return false };
        let is_filled = fill(place);
        if is_filled {
            kept.len = kept.len.max(at + len);
        }
        is_filled
    }
}

/// How a disk is written.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Where the last write has ended.
    end: u64,
    late: Option<Arc<Late>>,
}

/// A copy has no late writes: the volume of its disk is another one.
impl Clone for Writes {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Writes {
    /// Returns how a disk is written that has this place of late writes.
    #[cfg(test)]
    pub fn of(late: Arc<Late>) -> Self {
        Self { end: 0, late: Some(late) }
    }

    /// Makes no late writes any more. What is kept, whoever has the volume has, too.
    pub fn forget(&mut self) {
        self.late = None;
    }

    /// Notes a write that is not kept. Returns whether late writes begin with it: it is a small one
    /// behind the last one.
    pub fn note(&mut self, offset: u64, len: u64) -> bool {
        let follows = offset == self.end && offset != 0 && len <= SMALL;
        self.end = offset + len;
        if !follows {
            self.forget();
        }
        follows
    }

    /// Returns the place of late writes; None if there is none.
    pub fn place(&mut self) -> Option<Arc<Late>> {
        if self.late.is_none() {
            self.late = Some(Arc::new(Late::new()?));
        }
        self.late.clone()
    }

    /// Returns whether there is a place of late writes.
    pub fn may_be_late(&self) -> bool {
        self.late.is_some()
    }

    /// Keeps a write, as [`Late::write`] does.
    pub fn keep(&mut self, offset: u64, len: u64, fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let is_kept = self.late.as_ref().is_some_and(|late| late.write(offset, len, fill));
        if is_kept {
            self.end = offset + len;
        }
        is_kept
    }

    /// Makes no late writes until whoever serves the disk lets them begin again.
    pub fn end(&self) {
        self.late.iter().for_each(|late| {
            late.end();
        });
    }
}
