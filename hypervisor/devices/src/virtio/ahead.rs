//! What was read of a disk before its guest asks for it: [`Ahead`].
//!
//! A guest that reads small pieces, one behind the other, asks for the next one only when it has
//! the last. So whoever serves the disk reads on when it has completed such a request. What it has
//! read is kept here, and the next requests are done by the vCPU that makes them, at its exit
//! (`at_exit`).
//!
//! What is kept is what the volume has: any request that changes the volume, or fails, drops it
//! when it is taken, and so do a [late](super::late) write and a reset of the device. It is part of
//! no record.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are read ahead at once.
pub const AHEAD: usize = 64 << 10;
/// The most bytes of a read that is done at an exit, and behind which is read on.
pub const SMALL: u64 = 16 << 10;
/// The most buffers of [`AHEAD`] bytes that there are at a time.
pub(super) const MOST_BUFFERS: usize = 8;

/// The number of buffers. Relaxed: it is no more than a count.
static BUFFERS: AtomicUsize = AtomicUsize::new(0);

/// A buffer for what is read ahead.
#[derive(Debug)]
pub struct Buffer(pub(super) Vec<u8>);

impl Buffer {
    /// Returns an empty buffer; None if there are too many, or there is no memory for one.
    pub(super) fn new() -> Option<Self> {
        let more = |count| (count < MOST_BUFFERS).then_some(count + 1);
        BUFFERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        // Counted from here on, until it is dropped.
        let mut buffer = Self(Vec::new());
        buffer.0.try_reserve_exact(AHEAD).ok()?;
        Some(buffer)
    }

    /// Returns the buffer with as many zeros as it has room for.
    pub(super) fn filled(mut self) -> Self {
        self.0.resize(AHEAD, 0);
        self
    }

    /// Adds what was read next. Returns whether there was room.
    pub fn add(&mut self, piece: &[u8]) -> bool {
        let has_room = self.0.len() + piece.len() <= AHEAD;
        if has_room {
            self.0.extend_from_slice(piece);
        }
        has_room
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        BUFFERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was read ahead of a disk. Offsets are in bytes.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Where the last read has ended.
    end: u64,
    /// Offset of what the buffer has.
    from: u64,
    buffer: Option<Buffer>,
    /// Whether somebody reads ahead, and nothing was written since he began.
    is_read: bool,
}

/// A copy has nothing of what was read: the volume of its disk is another one.
impl Clone for Ahead {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Ahead {
    /// Drops what was read, and its buffer: another disk may have more use for one.
    pub fn forget(&mut self) {
        self.buffer = None;
        self.is_read = false;
    }

    /// Notes a read, of a disk of `capacity` bytes. Returns what is read ahead when it is
    /// completed: an empty range, if it is no small read behind the last one.
    pub fn note_read(&mut self, offset: u64, len: u64, capacity: u64) -> Range<u64> {
        let (follows, end) = (offset == self.end && offset != 0, offset + len);
        self.end = end;
        match follows && len <= SMALL {
            true => end..capacity.min(end + AHEAD as u64),
            false => 0..0,
        }
    }

    /// Notes that a read was done with what is here, and has ended at `end`.
    pub fn note_hit(&mut self, end: u64) {
        self.end = end;
    }

    /// Returns the buffer, empty, for what is read ahead; None if there is none.
    pub fn take_buffer(&mut self) -> Option<Buffer> {
        self.is_read = true;
        let Some(mut buffer) = self.buffer.take() else { return Buffer::new() };
        buffer.0.clear();
        Some(buffer)
    }

    /// Keeps what was read from this offset on, unless something was written meanwhile.
    pub fn keep(&mut self, from: u64, buffer: Buffer) {
        if self.is_read {
            (self.from, self.buffer) = (from, Some(buffer));
        }
    }

    /// Returns whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.buffer.as_ref().is_none_or(|buffer| buffer.0.is_empty())
    }

    /// Returns `len` bytes from `offset` on, if they are all there, and no more than [`SMALL`].
    pub fn find(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let at = offset.checked_sub(self.from).filter(|_| len <= SMALL)? as usize;
        self.buffer.as_ref()?.0.get(at..)?.get(..len as usize)
    }
}
