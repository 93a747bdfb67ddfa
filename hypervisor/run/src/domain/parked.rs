//! A parked guest, for a caller that stores, overwrites or removes it.

use super::{Domain, NOBODY, Ram, Resident, forget, vmid};
use crate::device_interrupts;
use crate::el2::{El2, GuestRam};
use crate::shared::{Connected, Region};
use crate::tables;
use crate::turns::Task;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use spin::mutex::SpinMutexGuard;
use stasis_arch::mmu;
use stasis_cores::sync::LockGuard;
use stasis_guest::shared::address;
use stasis_guest::{Guest, Vcpu};
use stasis_host::run_state::RunState;
use stasis_hw::paging::{Spares, Translation, Writable};
use stasis_memory::ReadRam;
use stasis_memory::ram::Since;
use stasis_memory::range::NoRam;
use stasis_memory::snapshot::{Room, Snapshot};
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{GuestState, PageBits};

/// A guest that does not run for as long as this lives.
///
/// A caller may keep it while the console's [task](crate::turns::Task) yields: its locks are the
/// guest's own, and nobody who runs then waits for them. The gate of its vCPUs is closed before the
/// locks are taken, and a core that finds a vCPU's lock taken leaves that vCPU alone
/// ([`Domain::run`]). Other guests and the console reach the guest without its locks, by
/// [`Domain::tell`] and [`Domain::type_in`].
pub struct Parked<'a> {
    pub(super) domain: &'a Domain,
    // The fields are dropped in this order, too.
    pub(super) resident: LockGuard<'a, Resident>,
    vcpus: Vec<SpinMutexGuard<'a, Vcpu>>,
    _wakes: Wakes<'a>,
}

/// Nobody has the guest parked any more.
impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.domain.resident.set_parked(false);
    }
}

/// Opens the guest's gate and kicks its vCPUs when it is dropped, after the locks.
struct Wakes<'a>(&'a Domain);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.gate.let_in();
        self.0.kick_all();
    }
}

impl core::ops::Deref for Parked<'_> {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.resident
    }
}

impl core::ops::DerefMut for Parked<'_> {
    fn deref_mut(&mut self) -> &mut Resident {
        &mut self.resident
    }
}

impl Parked<'_> {
    /// Makes stage 2 forbid all writes to RAM that does not count as changed. What was split is one
    /// block again.
    fn protect(&mut self, _: &mut Task) {
        let number = self.domain.number;
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *self.resident else { return };
        let base = guest.ram_base();
        let offsets = || (0..ram.len()).step_by(BLOCK_SIZE).filter(|at| ram.is_block_there(*at));
        let writable = |offset| match ram.moved_of_block(offset) {
            PageBits::NONE => Writable::Block,
            // The block is not in one place.
            _ => Writable::Pages(PageBits::ALL.0),
        };
        let blocks = || offsets().map(|offset| (base + offset as u64, writable(offset)));
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
        // SAFETY: `forget_guest` drops all cores' copies of the translation, and completes that.
        unsafe { stage2.forbid_writes(blocks, forget) };
    }

    /// Takes tables for all blocks of the guest's RAM, if it is known what of it has changed, so
    /// that this stays known by page. If there are none, it is known by block. Otherwise, gives
    /// tables back that no block needs.
    pub fn fit_tables(&mut self, task: &mut Task) {
        match self.resident.ram.baseline() {
            Some(_) => {
                let lacking = self.domain.lacking_tables(&self.resident);
                match tables::reserve(lacking, &mut || task.yield_now()) {
                    Ok(tables) => self.resident.stock(tables),
                    Err(why) => log::warn!(
                        "guest \"{}\": its next checkpoint is larger than need be: {why}",
                        self.domain.name
                    ),
                }
            }
            None => self.resident.release_tables(),
        }
    }

    /// Makes the guest's state [`RunState::Lost`] until [`Self::replace`], and returns its RAM,
    /// which the caller writes and [finishes](stasis_memory::GuestRam::finish_writing). What was to
    /// be loaded is given up.
    pub fn overwrite(&mut self, task: &mut Task) -> &mut GuestRam {
        self.set_state(RunState::Lost);
        self.abandon_loading(task);
        &mut self.resident.ram
    }

    /// Returns the guest's state for a checkpoint. `counter` (ticks) and `wall_time` (seconds) are
    /// the host's.
    pub fn state_at(&mut self, counter: u64, wall_time: u64) -> GuestState {
        let vcpus = self.vcpus.iter_mut().map(|vcpu| &mut **vcpu);
        self.resident.guest.records(vcpus, counter, wall_time).to_owned()
    }

    /// Returns RAM for a clone of the guest, which has the same content: both share it until one of
    /// them writes. All of the guest's RAM is there, and no checkpoint of it is under way.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if there is no memory for notes.
    pub fn share_ram(&mut self, task: &mut Task) -> Result<Ram, NoRam> {
        let number = self.domain.number;
        while self.resident.clear_next() {
            task.yield_now();
        }
        let Resident { guest, ram, stage2: Some(stage2), .. } = &mut *self.resident else {
            return Err(NoRam::Unknown);
        };
        let base = guest.ram_base();
        let blocks = || Resident::writable_blocks(base, ram);
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
        // SAFETY: `forget_guest` drops all cores' copies of the translation, and completes that.
        unsafe { stage2.forbid_writes(blocks, forget) };
        // SAFETY: `forbid_writes` has made all of that read-only in the guest's stage 2, and
        // `forget` has dropped all cores' copies. The guest is parked, so nothing is allowed again
        // before the memory is shared.
        unsafe { ram.share(&mut || task.yield_now()) }
    }

    /// Begins a snapshot of the guest's RAM, which the guest may not write from now on: see
    /// [`frozen`](super::frozen). `tables` are those that its translation lacks.
    pub(super) fn begin_snapshot(
        &mut self,
        room: Room<El2>,
        tables: Spares,
        since: Since,
        _: &mut Task,
    ) -> Arc<Snapshot<El2>> {
        let number = self.domain.number;
        let Resident { guest, ram, stage2, .. } = &mut *self.resident;
        if let Some(stage2) = stage2 {
            stage2.stock(tables);
            let base = guest.ram_base();
            let blocks = || Resident::writable_blocks(base, ram);
            // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root
            // stays with this number, and so with its VMID, for ever.
            let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
            // SAFETY: `forget_guest` drops all cores' copies of the translation, and completes
            // that.
            unsafe { stage2.forbid_writes(blocks, forget) };
        }
        ram.begin_snapshot(room, since)
    }

    /// Makes stage 2 forbid all writes to a region, if the guest shares it.
    pub(crate) fn forbid_shared_writes(&mut self, region: &Region, ram: &GuestRam, _: &mut Task) {
        let number = self.domain.number;
        let is_it = |one: &Connected| core::ptr::eq(one.region, region);
        let Some(n) = self.domain.shared().iter().position(is_it) else { return };
        let Some(stage2) = &mut self.resident.stage2 else { return };
        let blocks = || Resident::writable_blocks(address(n), ram);
        // SAFETY: 1. The caller has the task, so no vCPU is loaded on this core. 2. The root stays
        // with this number, and so with its VMID, for ever.
        let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
        // SAFETY: `forget_guest` drops all cores' copies of the translation, and completes that.
        unsafe { stage2.forbid_writes(blocks, forget) };
    }

    /// Passes on to the guest the bells that were rung so far.
    pub fn listen(&mut self) {
        // Nobody needs a kick: all vCPUs are kicked when the `Parked` is dropped.
        self.domain.pass_bells(&mut self.resident.guest);
    }

    /// Replaces the guest by another one with as many vCPUs, which is in `state` from then on, and
    /// whose RAM was written already. What was typed for the one before and was not taken is
    /// dropped.
    ///
    /// # Panics
    ///
    /// If what was written to the guest's RAM is not finished.
    pub fn replace(
        &mut self,
        guest: Box<Guest>,
        vcpus: Vec<Vcpu>,
        state: RunState,
        task: &mut Task,
    ) {
        assert!(self.resident.ram.is_finished(), "the guest would not see all of its RAM");
        self.protect(task);
        self.fit_tables(task);
        self.resident.allow_writes();
        self.release_devices();
        self.resident.guest = *guest;
        self.domain.drop_arrived();
        // What is here now is not the guest that a debugger came to.
        self.resident.debugger = None;
        for (place, vcpu) in self.vcpus.iter_mut().zip(vcpus) {
            **place = vcpu;
        }
        for last in &self.domain.last_on {
            last.store(NOBODY, Ordering::Relaxed);
        }
        self.set_state(state);
    }

    /// Takes the memory from the guest, which never runs again: its RAM, and its translation, which
    /// maps nothing any more, and stays with the guest's number. The task proves that no vCPU is
    /// loaded on this core.
    ///
    /// # Panics
    ///
    /// If the memory was taken before.
    pub fn take_memory(&mut self, _: &mut Task) -> (Ram, Translation) {
        self.set_state(RunState::Removed);
        let ram = core::mem::replace(&mut self.resident.ram, Ram::none());
        let mut stage2 = self.resident.stage2.take().expect("it is taken once");
        // SAFETY: 1. No vCPU is loaded on this core: no code that runs while one is loaded is given
        // the task. Of this guest none is loaded anywhere: it is parked. 2. `Domain::new`'s caller
        // has said so of the translation.
        unsafe { forget(&mut stage2, self.domain.number) };
        (ram, stage2)
    }

    /// Changes the guest's state to `state`. If it is not alive then, its devices are stopped.
    pub fn set_state(&mut self, state: RunState) {
        if !state.is_alive() {
            self.release_devices();
        }
        self.domain.set_state(&mut self.resident, state);
    }

    /// Stops the guest's devices: they access no memory, and none of their interrupts is enabled or
    /// active.
    pub fn release_devices(&mut self) {
        device_interrupts::release(self.domain, &mut self.resident.guest);
    }
}

impl Domain {
    /// Parks the guest for as long as the result lives: all of its state is in its records. Waits
    /// until each core has left it. The caller holds none of its locks.
    ///
    /// # Panics
    ///
    /// If the calling core has the guest parked already.
    pub fn park(&self) -> Parked<'_> {
        self.resident.check_not_parked_here();
        self.gate.keep_out();
        self.tasks().for_each(|(roster, task)| roster.call(task));
        let vcpus = self.vcpus.iter().map(|place| place.vcpu.lock()).collect();
        let mut resident = self.resident.lock();
        self.resident.set_parked(true);
        // All vCPUs are kicked afterwards.
        self.receive_all(&mut resident.guest);
        // From now on the guest's disks stay as they are, until the console's task serves them.
        resident.guest.end_late();
        Parked { vcpus, resident, domain: self, _wakes: Wakes(self) }
    }
}
