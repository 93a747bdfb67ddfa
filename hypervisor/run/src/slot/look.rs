//! Looks at a guest, which stop nobody: its vCPUs run on meanwhile.
//!
//! What is looked at is copied while the lock of what the vCPUs share is held, which is no longer than an exit holds it. Whoever needs more than a look
//! [parks](Slot::park) the guest.

use super::Slot;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_guest::stats::Snapshot;
use stasis_host::run_state::RunState;
use stasis_memory::range::Range;
use stasis_state::vgic::MAX_VCPUS;

/// What there is to see of a guest at a glance.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What it is doing.
    pub state: RunState,
    /// Where its RAM is in its own map.
    pub ram: Range,
}

impl Slot {
    /// Looks at the guest. Not for who has it parked, and so has the lock that this takes.
    pub fn look(&self) -> Look {
        let resident = self.resident.lock();
        let ram = Range::new(resident.guest.ram_base(), resident.guest.ram_size());
        Look { state: resident.state, ram }
    }

    /// Returns what each of its vCPUs has had and done. Not for who has it parked.
    pub fn counters(&self) -> Vec<Snapshot> {
        let mut taken = [0; MAX_VCPUS];
        for (taken, cpu) in taken.iter_mut().zip(self.resident.lock().guest.vgic.cpus()) {
            *taken = cpu.taken();
        }
        let vcpus = self.vcpus.iter().zip(taken);
        vcpus.map(|(place, taken)| place.stats.snapshot(taken, timer::counter)).collect()
    }
}
