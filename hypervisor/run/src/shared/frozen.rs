//! Memory that guests share as it was at an instant, which checkpoints read while all guests run.
//!
//! The memory is protected as a guest's own RAM is ([`crate::domain::Frozen`]), in stage 2 of each
//! guest that shares it: who writes a page first keeps what it was, for all of them. Several guests
//! that are stored at one instant may share a region. Each one's checkpoint has all of it, and the
//! last one releases it.

use super::{Connected, Region};
use crate::domain::{Domain, Parked, Room, room_for};
use crate::el2::El2;
use crate::pool;
use crate::turns::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use stasis_memory::ram::Since;
use stasis_memory::range::NoRam;
use stasis_memory::snapshot::Snapshot;
use stasis_memory::{OutOfRange, ReadRam};
use stasis_state::block::Content;

/// Why a region has its memory: [`Connected::overwrite`] refuses one that is stored, and the task
/// that stores it does not load meanwhile.
const NOT_OVERWRITTEN: &str = "one task at a time loads a region, or stores it";

/// What snapshots of regions need. It goes back to the pool if it is not used.
#[derive(Default)]
pub struct PreparedRegions(Vec<PreparedRegion>);

struct PreparedRegion {
    region: &'static Region,
    /// Guests that will be stored and share it.
    members: usize,
    room: Option<Room<El2>>,
}

impl PreparedRegions {
    /// Takes from the pool what snapshots of the regions need that these guests share. Calls
    /// `pause` between pieces.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if the pool does not have it.
    pub fn new<'a>(
        domains: impl Iterator<Item = &'a Domain>,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, NoRam> {
        let mut prepared = Self::default();
        for Connected { region, .. } in domains.flat_map(Domain::shared) {
            match prepared.0.iter_mut().find(|one| core::ptr::eq(one.region, *region)) {
                Some(one) => one.members += 1,
                None => {
                    let len = region.range.len() as usize;
                    let room = Some(room_for(len, len as u64, pause)?);
                    prepared.0.push(PreparedRegion { region, members: 1, room });
                }
            }
        }
        Ok(prepared)
    }

    /// Returns the regions as they are now. All guests that share them are among those that will be
    /// `stored`, and `others`.
    ///
    /// # Panics
    ///
    /// If somebody overwrites one.
    pub fn freeze(
        mut self,
        stored: &mut [Parked],
        others: &mut [Parked],
        task: &mut Task,
    ) -> FrozenRegions {
        let mut frozen = Vec::new();
        for PreparedRegion { region, members, room } in &mut self.0 {
            let Some(room) = room.take() else { continue };
            let mut memory = region.memory.lock();
            let memory = memory.as_mut().expect(NOT_OVERWRITTEN);
            for parked in &mut *stored {
                parked.forbid_shared_writes(region, memory, task);
            }
            for parked in &mut *others {
                parked.forbid_shared_writes(region, memory, task);
            }
            let snapshot = Some(memory.begin_snapshot(room, Since::Ever));
            frozen.push(FrozenRegion { region, snapshot, readers: *members });
        }
        FrozenRegions(frozen)
    }
}

impl Drop for PreparedRegion {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            pool::give_back(room.into_memory());
        }
    }
}

/// Regions as they were at an instant. The guests that share them run meanwhile.
pub struct FrozenRegions(Vec<FrozenRegion>);

struct FrozenRegion {
    region: &'static Region,
    /// The snapshot; `None` while this is dropped.
    snapshot: Option<Arc<Snapshot<El2>>>,
    /// Checkpoints that were not begun yet and have the region.
    readers: usize,
}

impl FrozenRegions {
    /// Makes what follows find what guests had stored, even past their caches. Calls `pause`
    /// between pieces.
    pub fn begin_reading(&self, pause: &mut dyn FnMut()) {
        self.0
            .iter()
            .filter_map(|one| one.snapshot.as_deref())
            .for_each(|snapshot| snapshot.begin_reading(pause));
    }

    /// Returns the regions that a guest shares, in their order, for its checkpoint: once for each
    /// guest that is stored.
    pub fn of(&mut self, domain: &Domain) -> Vec<Reading<'_>> {
        let is_shared =
            |one: &FrozenRegion, connected: &Connected| core::ptr::eq(one.region, connected.region);
        let shared = domain.shared();
        for one in &mut self.0 {
            if shared.iter().any(|connected| is_shared(one, connected)) {
                one.readers = one.readers.saturating_sub(1);
            }
        }
        let find = |connected| self.0.iter().find(|one| is_shared(one, connected));
        let found = shared.iter().filter_map(find);
        found
            .filter_map(|one| {
                let snapshot = one.snapshot.as_deref()?;
                Some(Reading { region: one.region, snapshot, is_last: one.readers == 0 })
            })
            .collect()
    }
}

/// All guests may write the region again.
impl Drop for FrozenRegion {
    fn drop(&mut self) {
        let mut guard = self.region.memory.lock();
        let memory = guard.as_mut().expect(NOT_OVERWRITTEN);
        memory.end_snapshot();
        // Nobody has it any more, for vCPUs look at it under that lock.
        if let Some(snapshot) = self.snapshot.take().and_then(Arc::into_inner) {
            let (frames, taken) = snapshot.into_parts();
            // Each guest's checkpoint has all of the region: there is nothing to share it with.
            memory.put_back(&taken);
            pool::give_back(frames);
        }
        drop(guard);
        self.region.guests().iter().for_each(|domain| domain.kick_all());
    }
}

/// A region as it was at an instant, for one guest's checkpoint.
pub struct Reading<'f> {
    region: &'static Region,
    snapshot: &'f Snapshot<El2>,
    /// Whether no other checkpoint reads it later.
    is_last: bool,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory \"{}\"", self.region.config.name)
    }
}

impl ReadRam for Reading<'_> {
    fn len(&self) -> usize {
        self.snapshot.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.snapshot.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.snapshot.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.snapshot.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.snapshot.pages_with_content(offset, count)
    }

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        self.snapshot.look(offset, contents)
    }

    /// Releases the bytes, if no other checkpoint reads them, and kicks all vCPUs if one of them
    /// waits for that.
    fn release(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        if self.is_last && self.snapshot.release_and_ask(bytes, pause) {
            self.region.guests().iter().for_each(|domain| domain.kick_all());
        }
    }
}
