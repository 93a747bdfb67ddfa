//! Steps of a guest's clock, which all of its vCPUs see at the same instant.

use super::Domain;
use super::host::RunningOn;
use super::lock::{Locked, Unlocked};
use stasis_arch::timer;
use stasis_cores::hold::Held;
use stasis_vgic::VcpuMask;

impl Domain {
    /// Steps the guest's clock if a step is due, and returns what the vCPUs share, locked.
    #[inline]
    pub(super) fn step_clock(&self, unlocked: Unlocked, host: &mut RunningOn) -> Locked<'_> {
        let resident = self.lock(unlocked);
        if resident.guest.clock.is_stepped() {
            return self.step_stepped_clock(resident.unlock(), host);
        }
        resident
    }

    /// Steps the clock if a step is due. All vCPUs of the guest stand still then: otherwise one
    /// would see the new time, and then another the old one.
    #[cold]
    fn step_stepped_clock(&self, mut unlocked: Unlocked, host: &mut RunningOn) -> Locked<'_> {
        let others = VcpuMask::first(self.vcpus.len()).without(host.index);
        let mut held = Held::nobody(self, host.index);
        loop {
            let mut resident = self.lock(unlocked);
            let now = timer::counter();
            // Another vCPU may have stepped the clock first.
            if !resident.guest.clock.step_is_due(now) {
                return resident;
            }
            let missing = VcpuMask(others.0 & !held.vcpus().0);
            if missing.is_empty() {
                resident.guest.clock.step(now);
                return resident;
            }
            let all_stand_still;
            (all_stand_still, unlocked) = self.make_stand_still(&mut held, missing, resident, host);
            if !all_stand_still {
                // The step stays due, and EL2's timer with it.
                drop(held);
                return self.lock(unlocked);
            }
        }
    }
}
