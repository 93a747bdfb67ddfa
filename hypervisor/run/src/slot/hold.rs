//! Having a vCPU stand still, out of its guest, with its list registers folded into the records.
//!
//! A guest's access to its distributor may be about an interrupt that is in the list registers of another
//! vCPU, which only that one's core can read. So the core that answers the access wants the other vCPU
//! held, kicks it, waits until it stands still, makes the access, and releases it. One vCPU of a guest
//! does so at a time; meanwhile it counts as standing still itself, so two that want each other held
//! do not wait for ever.
//!
//! Another vCPU may be wanted, or want this one, again and again, and the lock of who is next is not fair. So none of these waits is
//! longer than the turn of the vCPU that waits: when its core is to decide, it gives up. The access was not made then, and traps
//! again when the guest goes on; who was to stand still does so before its next entry.
//!
//! Who wants writes `wanted` and then reads `running`; who runs writes `running` and then reads `wanted`.
//! Sequential consistency keeps both from reading what was there before.

use super::host::RunningOn;
use super::{Resident, Slot};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::SpinMutexGuard;
use stasis_vgic::VcpuMask;

/// One vCPU's part in it.
pub struct Hold {
    /// Somebody wants it to stand still.
    wanted: AtomicBool,
    /// Its list registers may hold what its records do not. Not while it is unloaded or stands still.
    running: AtomicBool,
}

impl Hold {
    pub const fn new() -> Self {
        Self { wanted: AtomicBool::new(false), running: AtomicBool::new(false) }
    }

    /// From here on its list registers may be filled.
    pub fn begin_running(&self) {
        self.running.store(true, Ordering::SeqCst);
    }

    /// Its list registers are folded, and stay so until [`Self::begin_running`].
    pub fn end_running(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// Whether its core is to fold its list registers and call [`Self::stand_still`].
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Waits, folded, until it is released, or its turn `is_over`.
    pub fn stand_still(&self, is_over: impl Fn() -> bool) {
        self.end_running();
        while self.is_wanted() && !is_over() {
            core::hint::spin_loop();
        }
        self.begin_running();
    }

    /// Wants it to stand still. Its core is to be told: one that runs it, or is about to.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Waits until it stands still. `false`: the turn of who waits `is_over`.
    pub fn wait(&self, is_over: impl Fn() -> bool) -> bool {
        while self.running.load(Ordering::SeqCst) {
            if is_over() {
                return false;
            }
            core::hint::spin_loop();
        }
        true
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }
}

/// The vCPUs of a guest that stand still for one of them, until this is dropped.
pub struct Held<'a> {
    slot: &'a Slot,
    /// For whom.
    index: usize,
    vcpus: VcpuMask,
    /// There is one at a time; none as long as nobody is held.
    turn: Option<SpinMutexGuard<'a, ()>>,
}

impl<'a> Held<'a> {
    /// Nobody yet.
    pub fn nobody(slot: &'a Slot, index: usize) -> Self {
        Self { slot, index, vcpus: VcpuMask::NONE, turn: None }
    }

    /// Who stands still.
    pub fn vcpus(&self) -> VcpuMask {
        self.vcpus
    }

    /// Makes these vCPUs stand still, too. The caller's own vCPU is out of its guest and folded, and the caller holds no lock. `false`: its turn
    /// `is_over`, and not all of them do.
    #[must_use]
    pub fn add(&mut self, missing: VcpuMask, is_over: impl Fn() -> bool) -> bool {
        let slot = self.slot;
        if self.turn.is_none() {
            // While this one waits for its turn, it counts as standing still itself.
            let own = &slot.vcpus[self.index].hold;
            own.end_running();
            self.turn = slot.next_holder(&is_over);
            if self.turn.is_none() {
                own.begin_running();
                return false;
            }
        }
        for other in missing.iter() {
            let place = &slot.vcpus[other];
            place.hold.want();
            place.roster.call(place.task);
        }
        // The missing ones are released with the others, whether they are waited for to the end or not.
        self.vcpus.0 |= missing.0;
        missing.iter().all(|other| slot.vcpus[other].hold.wait(&is_over))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.vcpus.iter().for_each(|other| self.slot.vcpus[other].hold.release());
            self.turn = None;
            self.slot.vcpus[self.index].hold.begin_running();
        }
    }
}

impl Slot {
    /// Makes other vCPUs stand still, too, after this one is folded itself. `false`: its core is to decide first, and not all of them do.
    #[cold]
    #[must_use]
    pub(super) fn hold(
        &self,
        held: &mut Held,
        missing: VcpuMask,
        mut resident: SpinMutexGuard<Resident>,
        host: &mut RunningOn,
    ) -> bool {
        let effects = resident.guest.vgic.sync(host.index, &mut host.gic);
        drop(resident);
        self.kick(effects.kick);
        held.add(missing, || host.turn_is_over())
    }

    /// Waits until nobody else has others stand still. None: the turn of who waits `is_over`.
    fn next_holder(&self, is_over: impl Fn() -> bool) -> Option<SpinMutexGuard<'_, ()>> {
        loop {
            match self.holder.try_lock() {
                Some(turn) => return Some(turn),
                None if is_over() => return None,
                None => core::hint::spin_loop(),
            }
        }
    }
}
