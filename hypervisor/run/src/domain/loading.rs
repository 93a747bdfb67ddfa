//! A guest's RAM that is loaded while the guest runs.
//!
//! What is missing has no entry in stage 2. A vCPU that wants it faults ([`Resident::await_ram`]),
//! asks for it, and sleeps until something has arrived. A device that needs it asks for it, too,
//! and stands still ([`devices`](super::devices)). The console's task fills one unit after another,
//! and maps each ([`Domain::arrive`]): then it wakes the vCPUs, and makes devices go on.
//!
//! # Who is told, and how
//!
//! Whoever asks in vain does so under the guest's lock, and notes what stands still in the same
//! turn of it: a queue, or the frames that have come. `arrive` has that lock from the note that the
//! unit is there to the note that all of this goes on. So whatever stands still has asked since the
//! last arrival, the next arrival says that somebody waits, and nothing that has asked before it
//! stands still behind it. Then:
//!
//! - The guest's vCPUs are told and kicked ([`Domain::tell`]). Whichever enters next finds the
//!   announcement, and serves the devices and the frames; if what they need is still not all there,
//!   they ask for the rest, and stand still again. A vCPU that waits for the unit makes its access
//!   again.
//! - If a disk has requests, the console's task looks at them next: it needs no vCPU for that.
//! - A guest that does not run is told when it runs again: [`Domain::set_state`] announces it.
//!
//! The loader is woken by whoever asks first: by an errand of the vCPU's, or by who looks at the
//! devices, on whatever core. It has a turn anyway for as long as something is missing, unless the
//! disk has failed or there is no frame: then it looks again in a while.

use super::devices::announce_disk_work;
use super::host::RunningOn;
use super::{Domain, Parked, Resident, first_write, vmid};
use crate::el2::El2;
use crate::tables::GuestTables;
use crate::turns::Task;
use alloc::sync::Arc;
use core::ops::Range;
use stasis_arch::mmu;
use stasis_guest::outbox::Errand;
use stasis_host::run_state::RunState;
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_memory::ReadRam;
use stasis_memory::missing::{Asked, Missing};
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{Baseline, PAGE_SIZE, PageBits};

/// What a guest's memory lacks on this machine.
pub type Lacking = Missing<El2>;

/// There is no table for a part of a block: the block can only arrive as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTable;

impl Resident {
    /// Makes the loaded vCPU, which has found nothing at a guest-physical address of RAM, sleep
    /// until it may be there. If it is there already, another core has changed stage 2 meanwhile,
    /// and the vCPU makes its access again at once.
    #[cold]
    pub(super) fn await_ram(&mut self, address: u64, host: &mut RunningOn) {
        let offset = address.wrapping_sub(self.guest.ram_base()) as usize;
        let Some(missing) = self.ram.missing() else {
            self.clear_some(offset);
            return;
        };
        if let Asked::Absent { is_first } = missing.ask(offset) {
            if is_first {
                host.errands.outbox.errand = Some(Errand::Load);
            }
            host.nap();
        }
    }

    /// Maps a unit that was filled, or a block whose missing units were all filled. Of memory that
    /// takes frames as it is written, each page is where it is, and read-only until its first
    /// write: one of zeros is everybody's.
    pub(super) fn map_arrived(&mut self, bytes: &Range<usize>) -> Result<(), NoTable> {
        let Self { guest, ram, stage2: Some(stage2), .. } = self else { return Ok(()) };
        if ram.is_mapped() {
            // The table comes with the first page, or not at all.
            return bytes.clone().step_by(PAGE_SIZE).try_for_each(|page| {
                let (input, output) = (guest.ram_base() + page as u64, ram.address_of(page));
                let attributes = Attributes::guest_ram_unwritten();
                map_there(stage2, input, output, PAGE_SIZE, attributes)
            });
        }
        let attributes = match ram.is_block_writable(bytes.start) {
            true => Attributes::guest_ram(),
            false => Attributes::guest_ram_unwritten(),
        };
        let (input, output) = (guest.ram_base() + bytes.start as u64, ram.address_of(bytes.start));
        map_there(stage2, input, output, bytes.len(), attributes)
    }
}

/// Maps `len` bytes that are there now.
fn map_there(
    stage2: &mut Translation,
    input: u64,
    output: u64,
    len: usize,
    attributes: Attributes,
) -> Result<(), NoTable> {
    let tables = &mut GuestTables::OfPool(Ok(()));
    match stage2.arrive(tables, input, output, len as u64, attributes) {
        Ok(()) => Ok(()),
        Err(MapError::OutOfMemory) => Err(NoTable),
        Err(other) => unreachable!("nothing that is missing is mapped: {other:?}"),
    }
}

impl Domain {
    /// Returns what the guest's RAM lacks; `None` if all of it is there. Panics if the caller has
    /// the guest parked.
    pub fn missing(&self) -> Option<Arc<Lacking>> {
        self.resident.lock().ram.missing().cloned()
    }

    /// Returns whether a vCPU or a device can't go on before more of the guest's RAM is there.
    /// Panics if the caller has the guest parked.
    pub fn waits_for_ram(&self) -> bool {
        self.resident.lock().ram.missing().is_some_and(|missing| missing.is_waited_for())
    }

    /// Returns whether somebody has the guest parked, or has its lock for a moment.
    pub fn is_parked(&self) -> bool {
        self.resident.try_lock().is_none()
    }

    /// Makes the guest find bytes that were missing and are filled: a unit, or all units that were
    /// missing of a block of which nothing is there. `has_content` is false if they are zeros.
    /// Wakes the vCPUs that wait, and makes the devices go on that stand still. Panics if the caller
    /// has the guest parked.
    ///
    /// # Errors
    ///
    /// [`NoTable`], if only the whole block can be mapped. Nothing has changed then.
    ///
    /// # Panics
    ///
    /// If a unit of them is there.
    pub fn arrive(
        &self,
        bytes: Range<usize>,
        has_content: bool,
        _: &mut Task,
    ) -> Result<(), NoTable> {
        let mut resident = self.resident.lock();
        let Some(missing) = resident.ram.missing().cloned() else { return Ok(()) };
        resident.ram.note_frames(bytes.clone());
        if has_content {
            match resident.ram.baseline() {
                Some(_) => resident.ram.mark_loaded(bytes.clone()),
                None => resident.ram.mark_written(bytes.clone()),
            }
        }
        resident.map_arrived(&bytes)?;
        let (mut is_waited_for, mut waited_units) = (false, None);
        for unit in missing.units(bytes.clone()) {
            let arrived = missing.arrived(unit.start);
            is_waited_for |= arrived.is_waited_for;
            if arrived.is_block_whole {
                resident.settle(bytes.start, self.number);
            }
            if arrived.left == 0 {
                waited_units = Some(resident.ram.end_loading());
            }
        }
        if is_waited_for {
            resident.guest.go_on();
            self.inbox.go_on();
        }
        let has_disk_work = is_waited_for && resident.guest.has_disk_work();
        drop(resident);
        if let Some(units) = waited_units {
            log::debug!("guest \"{}\": loaded; it has waited for {units} units", self.name);
        }
        if is_waited_for {
            self.tell();
        }
        if has_disk_work {
            announce_disk_work();
        }
        Ok(())
    }
}

impl Resident {
    /// Makes the block with the byte at `offset`, all of which is there, one in stage 2, if it is
    /// in one place. The caller has the task, and `number` is that of the domain.
    fn settle(&mut self, offset: usize, number: usize) {
        let Self { guest, ram, stage2: Some(stage2), .. } = self else { return };
        if ram.moved_of_block(offset) != PageBits::NONE {
            return;
        }
        let address = guest.ram_base() + offset as u64;
        let root = stage2.root();
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |_| unsafe { mmu::forget_guest(root, vmid(number)) };
        // SAFETY: 1. All pages of the block were mapped, each before it was noted as there. 2.
        // `forget_guest` drops all cores' copies of the translation, and completes that.
        unsafe { stage2.settle(address, ram.is_block_changed(offset), forget) };
    }
}

impl Parked<'_> {
    /// Makes the guest's state [`RunState::Lost`] until [`Self::replace`], and its RAM missing, but
    /// for what is zeros and will be: `has_content` denies that of other blocks, by their offset.
    /// `baseline` has all of it, if the next checkpoint can share with that.
    pub fn begin_loading(
        &mut self,
        has_content: impl Fn(usize) -> bool,
        baseline: Option<Baseline>,
        task: &mut Task,
    ) {
        self.set_state(RunState::Lost);
        self.withdraw_ram(task);
        self.resident.ram.begin_loading(has_content);
        if let Some(baseline) = baseline {
            self.resident.ram.set_baseline(baseline);
        }
        let mapped = self.map_ram();
        debug_assert!(mapped.is_ok());
    }

    /// Gives up loading, if something is missing: the guest is lost. All of its RAM is mapped, and
    /// marked as written where anything was missing.
    pub(super) fn abandon_loading(&mut self, task: &mut Task) {
        if self.resident.ram.missing().is_some() {
            self.withdraw_ram(task);
            self.resident.ram.abandon_loading();
            let mapped = self.map_ram();
            debug_assert!(mapped.is_ok());
        }
    }

    /// Makes stage 2 map nothing of the RAM.
    pub(super) fn withdraw_ram(&mut self, _: &mut Task) {
        let number = self.domain.number;
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *self.resident else { return };
        let base = guest.ram_base();
        let blocks = || (0..ram.len()).step_by(BLOCK_SIZE).map(|offset| base + offset as u64);
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
        // SAFETY: 1. `forget_guest` drops all cores' copies of the translation, and completes
        // that. 2. The guest is parked.
        unsafe { stage2.withdraw(blocks, forget) };
    }

    /// Maps what is there of the RAM, of which nothing is mapped.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if pages have frames, and there is no table for them. RAM in one
    /// place was mapped before, so there are tables for it.
    pub(super) fn map_ram(&mut self) -> Result<(), MapError> {
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *self.resident else {
            return Ok(());
        };
        first_write::map(stage2, &mut GuestTables::OfHeap, guest.ram_base(), ram)
    }
}
