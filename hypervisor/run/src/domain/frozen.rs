//! A guest's RAM as it was at an instant, which a checkpoint reads while the guest runs.
//!
//! Before the guest is parked, [`Prepared`] takes what a snapshot needs. While it is parked, [`Parked::freeze`] forbids all writes in stage 2, which
//! is one write to a page table for each block of 2 MiB. From then on the [first write](super::first_write) to a page keeps what the page was. A vCPU for which there
//! is no frame sleeps until the checkpoint has written some pages.

use super::{Domain, Parked, Resident};
use crate::el2::El2;
use crate::turns::Task;
use crate::{pool, tables};
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use stasis_devices::machine::RAM_UNIT;
use stasis_hw::paging::{Spares, Translation};
use stasis_memory::range::NoRam;
use stasis_memory::snapshot::{MAX_FRAMES, Room, Snapshot};
use stasis_memory::{OutOfRange, PAGE_SIZE, ReadRam};
use stasis_state::written::BLOCK_SIZE;

/// Of a guest's RAM, this part may be copied at a time: one byte in so many.
const PART: u64 = 16;
/// Most bytes of copies.
const MOST: u64 = 16 << 20;

const _: () = assert!(MOST / PAGE_SIZE <= MAX_FRAMES as u64);

/// What a snapshot needs besides a guest's RAM. It goes back to the pool if it is not used.
pub struct Prepared {
    /// Frames for copies; `None` once they are used.
    room: Option<Room<El2>>,
    /// Tables that the guest's translation lacks, if all blocks of its RAM are split.
    tables: Spares,
}

impl Prepared {
    /// Takes from the pool what a snapshot of `domain` needs. Calls `pause` between pieces.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if the pool does not have it.
    pub fn new(domain: &Domain, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        let (len, lacking) = domain.resident.lock().lacking_tables();
        let tables = tables::reserve(lacking, pause)?;
        let bytes = |frames| (Room::<El2>::bytes(len, frames) as u64).next_multiple_of(RAM_UNIT);
        let wanted = (len as u64 / PART).clamp(RAM_UNIT, MOST) / PAGE_SIZE;
        let memory = pool::take_uncleared(0, bytes(wanted as usize));
        let memory = memory.or_else(|_| pool::take_uncleared(0, bytes(1)));
        // From here on, dropping gives the tables back.
        let mut prepared = Self { room: None, tables };
        prepared.room = Some(Room::new(len, memory?, pause));
        Ok(prepared)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        tables::release(core::mem::take(&mut self.tables));
        if let Some(room) = self.room.take() {
            pool::give_back(room.into_memory());
        }
    }
}

impl Resident {
    /// Returns the size of the guest's RAM, and how many tables its translation lacks for all blocks of that being split.
    fn lacking_tables(&self) -> (usize, usize) {
        let len = self.ram.range().len() as usize;
        let has = self.stage2.as_ref().map_or(usize::MAX, Translation::page_tables);
        (len, len.div_ceil(BLOCK_SIZE).saturating_sub(has))
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
        let tables = core::mem::take(&mut prepared.tables);
        let snapshot = prepared.room.take().map(|room| self.begin_snapshot(room, tables, task));
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
            pool::give_back(snapshot.into_memory());
        }
        self.domain.kick_all();
    }
}
