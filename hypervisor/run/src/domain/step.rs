//! Steps of a guest's clock, which all of its vCPUs see at the same instant.

use super::host::RunningOn;
use super::{Domain, Resident};
use stasis_arch::timer;
use stasis_cores::hold::Held;
use stasis_cores::sync::LockGuard;
use stasis_vgic::VcpuMask;

impl Domain {
    /// Steps the guest's clock if a step is due, and returns what the vCPUs share, locked.
    #[inline]
    pub(super) fn step_clock(&self, host: &mut RunningOn) -> LockGuard<'_, Resident> {
        let resident = self.resident.lock();
        if resident.guest.clock.is_stepped() {
            drop(resident);
            return self.step_stepped_clock(host);
        }
        resident
    }

    /// Steps the clock if a step is due. All vCPUs of the guest stand still then: otherwise one would see the new time, and then another the old one.
    #[cold]
    fn step_stepped_clock(&self, host: &mut RunningOn) -> LockGuard<'_, Resident> {
        let others = VcpuMask::first(self.vcpus.len()).without(host.index);
        let mut held = Held::nobody(self, host.index);
        loop {
            let mut resident = self.resident.lock();
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
            if !self.make_stand_still(&mut held, missing, resident, host) {
                // The step stays due, and EL2's timer with it.
                drop(held);
                return self.resident.lock();
            }
        }
    }
}
