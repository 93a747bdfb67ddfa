//! A guest's RAM as it was at an instant, which a checkpoint reads while the guest runs.
//!
//! Before the guest is parked, [`Prepared`] takes what a snapshot needs. While it is parked, [`Parked::freeze`] forbids all writes in stage 2, which
//! is one write to a page table for each block of 2 MiB. From then on the [first write](super::first_write) to a page keeps what the page was. A vCPU for which there
//! is no frame sleeps until the checkpoint has written some pages.

use super::{Domain, Parked};
use crate::el2::El2;
use crate::pool;
use crate::turns::Task;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use stasis_devices::machine::RAM_UNIT;
use stasis_memory::snapshot::{MAX_FRAMES, Room, Snapshot};
use stasis_memory::{GuestRam, OutOfRange, PAGE_SIZE, ReadRam};

/// Of a guest's RAM, this part may be copied at a time: one byte in so many.
const PART: u64 = 16;
/// Most bytes of copies.
const MOST: u64 = 16 << 20;

const _: () = assert!(MOST / PAGE_SIZE <= MAX_FRAMES as u64);

/// What a snapshot needs besides a guest's RAM. It goes back to the pool if it is not used.
pub struct Prepared(Option<Room<El2>>);

impl Prepared {
    /// Takes frames from the pool for a snapshot of `domain`; none, if the pool has none: then vCPUs that write must wait. Calls `pause` between pieces.
    pub fn new(domain: &Domain, pause: &mut dyn FnMut()) -> Self {
        let len = domain.look().ram.len();
        let wanted = (len / PART).clamp(RAM_UNIT, MOST).next_multiple_of(RAM_UNIT);
        let frames = pool::take(0, wanted, pause).or_else(|_| pool::take(0, RAM_UNIT, pause));
        Self(Some(Room::new(len as usize, frames.unwrap_or_else(|_| GuestRam::none()))))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            pool::give_back(room.into_frames());
        }
    }
}

/// A guest's RAM as it was when this was made. The guest runs meanwhile. What is released is not read again.
pub struct Frozen<'a> {
    domain: &'a Domain,
    /// The snapshot; `None` while this is dropped.
    snapshot: Option<Arc<Snapshot<El2>>>,
}

impl<'a> Parked<'a> {
    /// Returns the guest's RAM as it is now. The guest goes on when `self` is dropped.
    pub fn freeze(&mut self, mut prepared: Prepared, task: &mut Task) -> Frozen<'a> {
        let snapshot = prepared.0.take().map(|room| self.begin_snapshot(room, task));
        Frozen { domain: self.domain, snapshot }
    }
}

impl fmt::Debug for Frozen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RAM of guest \"{}\"", self.domain.name)
    }
}

impl Frozen<'_> {
    fn snapshot(&self) -> &Snapshot<El2> {
        self.snapshot.as_ref().expect("it is there until this is dropped")
    }

    /// Makes what follows find what the guest had stored, even past its caches. Calls `pause` between pieces.
    pub fn begin_reading(&self, pause: &mut dyn FnMut()) {
        self.snapshot().begin_reading(pause);
    }

    /// Returns whether all that was read is what the guest had at the instant.
    pub fn is_true(&self) -> bool {
        !self.snapshot().is_spoiled()
    }
}

impl ReadRam for Frozen<'_> {
    fn len(&self) -> usize {
        self.snapshot().len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.snapshot().next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.snapshot().read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.snapshot().crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.snapshot().pages_with_content(offset, count)
    }

    /// Releases the bytes, and kicks the vCPUs if one of them waits for that.
    fn release(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        if self.snapshot().release_and_ask(bytes, pause) {
            self.domain.kick_all();
        }
    }
}

/// The guest may write all of its RAM again.
impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.domain.resident.lock().ram.end_snapshot();
        // Nobody has it any more, for the guest's vCPUs look at it under that lock.
        if let Some(snapshot) = self.snapshot.take().and_then(Arc::into_inner) {
            pool::give_back(snapshot.into_frames());
        }
        self.domain.kick_all();
    }
}
