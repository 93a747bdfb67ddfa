//! A guest's RAM as it was at an instant, which a checkpoint reads while the guest runs.
//!
//! Before the guest is parked, [`Prepared`] takes what a snapshot needs. While it is parked,
//! [`Parked::freeze`] forbids all writes in stage 2, which is one write to a page table for each
//! block of 2 MiB. From then on the [first write](super::first_write) to a page keeps what the page
//! was. A vCPU for which there is no frame sleeps until the checkpoint has written some pages.

use super::{Domain, Parked, Resident, vmid};
use crate::el2::El2;
use crate::turns::Task;
use crate::{pool, tables};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use stasis_arch::mmu;
use stasis_devices::machine::RAM_UNIT;
use stasis_hw::paging::{Spares, Translation, Writable};
use stasis_memory::pages::{NoMemory, PageSet};
use stasis_memory::ram::Since;
use stasis_memory::range::NoRam;
use stasis_memory::snapshot::{MAX_FRAMES, Marks, Room, Snapshot};
use stasis_memory::{OutOfRange, PAGE_SIZE, ReadRam};
use stasis_state::block::Content;
use stasis_state::directory::Touched;
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{Baseline, BlockChange, PageBits};

/// Of a guest's RAM, this part may be copied at a time: one byte in so many.
const PART: u64 = 16;
/// Most bytes of copies.
const MOST: u64 = 16 << 20;
/// Bytes of a page.
const PAGE: usize = PAGE_SIZE as usize;
/// Most blocks that are joined at once, while vCPUs may wait.
const MOST_JOINED: usize = 64;

const _: () = assert!(MOST / PAGE_SIZE <= MAX_FRAMES as u64);

/// What a snapshot needs besides a guest's RAM. It goes back to the pool if it is not used.
pub struct Prepared {
    /// Frames for copies; `None` once they are used.
    room: Option<Room<El2>>,
    /// Tables that the guest's translation lacks, if all blocks of its RAM are split.
    tables: Spares,
    since: Since,
}

impl Prepared {
    /// Takes from the pool what a snapshot of `domain` needs that takes what has changed `since`.
    /// Calls `pause` between pieces.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if the pool or EL2's heap does not have it.
    pub fn new(domain: &Domain, since: Since, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        let (len, lacking, changed) = {
            let resident = domain.resident.lock();
            let is_whole = since == Since::Ever || resident.ram.baseline().is_none();
            let len = resident.ram.len();
            let pages = if is_whole { len } else { resident.ram.changed_pages() * PAGE };
            (len, domain.lacking_tables(&resident), pages as u64)
        };
        let tables = tables::reserve(lacking, pause)?;
        // From here on, dropping gives the tables back.
        let mut prepared = Self { room: None, tables, since };
        prepared.room = Some(room_for(len, changed, pause)?);
        Ok(prepared)
    }
}

/// Takes from the pool what a snapshot of `len` bytes needs that takes `changed` bytes. Calls
/// `pause` between pieces.
///
/// # Errors
///
/// [`NoRam`] if the pool or EL2's heap does not have it.
pub(crate) fn room_for(
    len: usize,
    changed: u64,
    pause: &mut dyn FnMut(),
) -> Result<Room<El2>, NoRam> {
    let marks = Marks::new(len).map_err(|NoMemory| NoRam::Unnoted)?;
    let bytes = |frames| (Room::<El2>::bytes(len, frames) as u64).next_multiple_of(RAM_UNIT);
    // A page that is not taken needs no frame.
    let most = changed.next_multiple_of(RAM_UNIT).clamp(RAM_UNIT, MOST);
    let wanted = (len as u64 / PART).clamp(RAM_UNIT, most) / PAGE_SIZE;
    let memory = pool::take_uncleared(0, bytes(wanted as usize));
    let memory = memory.or_else(|_| pool::take_uncleared(0, bytes(1)))?;
    Ok(Room::new(marks, memory, pause))
}

impl Drop for Prepared {
    fn drop(&mut self) {
        tables::release(core::mem::take(&mut self.tables));
        if let Some(room) = self.room.take() {
            pool::give_back(room.into_memory());
        }
    }
}

impl Domain {
    /// Returns how many tables the guest's translation lacks for all blocks being split of its RAM,
    /// and of what it shares.
    pub(super) fn lacking_tables(&self, resident: &Resident) -> usize {
        let has = resident.stage2.as_ref().map_or(usize::MAX, Translation::page_tables);
        let shared = self.shared().iter().map(|one| one.range().len() as usize / BLOCK_SIZE);
        let wanted = resident.ram.len().div_ceil(BLOCK_SIZE) + shared.sum::<usize>();
        wanted.saturating_sub(has)
    }

    /// Takes from the pool the tables that the guest's translation lacks. Calls `pause` between
    /// tables. The caller has none of the guest's locks.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if the pool does not have them.
    pub fn reserve_tables(&self, pause: &mut dyn FnMut()) -> Result<(), NoRam> {
        let lacking = self.lacking_tables(&self.resident.lock());
        let tables = tables::reserve(lacking, pause)?;
        self.resident.lock().stock(tables);
        Ok(())
    }
}

impl Resident {
    /// Adds tables to those of the guest's translation.
    pub(super) fn stock(&mut self, tables: Spares) {
        match &mut self.stage2 {
            Some(stage2) => stage2.stock(tables),
            None => tables::release(tables),
        }
    }

    /// Gives the tables back that no block needs.
    pub(super) fn release_tables(&mut self) {
        if let Some(stage2) = &mut self.stage2 {
            tables::release(stage2.take_spares());
        }
    }
}

impl Domain {
    /// Returns the checkpoint that the guest's RAM counts its changes from, if there is one.
    pub fn baseline(&self) -> Option<Baseline> {
        self.resident.lock().ram.baseline()
    }

    /// Makes all of the guest's RAM count as changed, for that checkpoint can't be shared with.
    pub fn forget_baseline(&self) {
        self.resident.lock().ram.forget_baseline();
    }
}

/// A guest's RAM as it was when this was made. The guest runs meanwhile. What is released is not
/// read again.
///
/// What this has taken counts as changed again when it is dropped, unless it was
/// [committed](Self::committed).
pub struct Frozen<'a> {
    domain: &'a Domain,
    /// The snapshot, until reading has ended.
    snapshot: Option<Arc<Snapshot<El2>>>,
    /// What the snapshot had taken, from then until it is in a checkpoint.
    taken: Option<PageSet>,
}

impl<'a> Parked<'a> {
    /// Returns the guest's RAM as it is now. The guest goes on when `self` is dropped.
    pub fn freeze(&mut self, mut prepared: Prepared, task: &mut Task) -> Frozen<'a> {
        let tables = core::mem::take(&mut prepared.tables);
        let since = prepared.since;
        let begin = |room| self.begin_snapshot(room, tables, since, task);
        let snapshot = prepared.room.take().map(begin);
        Frozen { domain: self.domain, snapshot, taken: None }
    }
}

impl fmt::Debug for Frozen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RAM of guest \"{}\"", self.domain.name)
    }
}

impl Frozen<'_> {
    fn snapshot(&self) -> &Snapshot<El2> {
        self.snapshot.as_ref().expect("nobody reads after the end of reading")
    }

    /// Makes what follows find what the guest had stored, even past its caches. Calls `pause`
    /// between pieces.
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

    fn baseline(&self) -> Option<Baseline> {
        self.snapshot().baseline()
    }

    fn block_change(&self, offset: usize) -> BlockChange {
        self.snapshot().block_change(offset)
    }

    fn touched(&self) -> &[Touched] {
        self.snapshot().touched()
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

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        self.snapshot().look(offset, contents)
    }

    /// Releases the bytes, and kicks the vCPUs if one of them waits for that.
    fn release(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        if self.snapshot().release_and_ask(bytes, pause) {
            self.domain.kick_all();
        }
    }
}

impl Frozen<'_> {
    /// Ends reading: nothing is kept any more, and the frames go back to the pool.
    pub fn end_reading(&mut self) {
        self.domain.resident.lock().ram.end_snapshot();
        // Nobody has it any more, for the guest's vCPUs look at it under that lock.
        if let Some(snapshot) = self.snapshot.take().and_then(Arc::into_inner) {
            let (memory, taken) = snapshot.into_parts();
            self.taken = Some(taken);
            pool::give_back(memory);
        }
        self.domain.kick_all();
    }

    /// Notes that the checkpoint was committed: the RAM as it was is in `baseline`. Blocks that
    /// were split, and of which nothing was written since the checkpoint before, are one block
    /// again.
    pub fn committed(mut self, baseline: Baseline, _: &mut Task) {
        self.end_reading();
        let Some(taken) = self.taken.take() else { return };
        let mut resident = self.domain.resident.lock();
        resident.ram.commit(baseline);
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *resident else { return };
        let base = guest.ram_base();
        let is_idle = |offset: &usize| {
            stage2.is_split(base + *offset as u64)
                && taken.is_block_without(*offset)
                && ram.moved_of_block(*offset) == PageBits::NONE
                && ram.is_block_unchanged(*offset)
        };
        let idle: Vec<u64> = ram
            .written_blocks()
            .filter(is_idle)
            .map(|offset| base + offset as u64)
            .take(MOST_JOINED)
            .collect();
        if idle.is_empty() {
            return;
        }
        let blocks = || idle.iter().map(|address| (*address, Writable::Block));
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |root| unsafe { mmu::forget_guest(root, vmid(self.domain.number)) };
        // SAFETY: `forget_guest` drops all cores' copies of the translation, and completes that.
        unsafe { stage2.forbid_writes(blocks, forget) };
    }
}

/// What was taken has changed again, if no checkpoint has it.
impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.snapshot.is_some() {
            self.end_reading();
        }
        if let Some(taken) = self.taken.take() {
            self.domain.resident.lock().ram.put_back(&taken);
        }
    }
}
