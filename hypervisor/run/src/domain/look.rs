//! Looks at a guest, while its vCPUs run on.
//!
//! A look copies what it shows while it holds the lock of what the vCPUs share, for about as long
//! as an exit holds it, and formats the copy later. Whoever needs more than a look
//! [parks](Domain::park) the guest.

use super::Domain;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_guest::stats::Snapshot;
use stasis_host::run_state::RunState;
use stasis_memory::ram::Usage;
use stasis_memory::range::Range;
use stasis_state::PAGE_SIZE;
use stasis_state::vgic::MAX_VCPUS;
use stasis_vgic::Vgic;

/// State of a guest at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What the guest is doing.
    pub state: RunState,
    /// Guest-physical addresses of its RAM.
    pub ram: Range,
    /// Bytes of its RAM that are still to be loaded.
    pub missing: u64,
    /// Bytes of its RAM that it alone uses, and that it shares.
    pub usage: Usage,
    /// Bytes of its RAM that were written since its last checkpoint.
    pub changed: u64,
}

impl Domain {
    /// Returns whether parts of its RAM are, or were, shared with other guests, or take memory as
    /// they are written. Panics if the caller has the guest parked.
    pub fn shares_ram(&self) -> bool {
        self.resident.lock().ram.is_mapped()
    }

    /// Returns what the guest is doing, and where its RAM is. Panics if the caller has the guest
    /// parked.
    pub fn look(&self) -> Look {
        let resident = self.resident.lock();
        let ram = Range::new(resident.guest.ram_base(), resident.guest.ram_size());
        let missing = resident.ram.missing().map_or(0, |missing| missing.left());
        let changed = (resident.ram.changed_pages() * PAGE_SIZE) as u64;
        Look { state: resident.state, ram, missing, usage: resident.ram.usage(), changed }
    }

    /// Returns a copy of the guest's GIC. The records of a vCPU that is loaded may be behind its
    /// list registers, which only its core can read: then the copy says so. Panics if the caller
    /// has the guest parked.
    pub fn gic(&self) -> Vgic {
        let mut resident = self.resident.lock();
        // Whoever was sent something has been kicked for it.
        self.receive_all(&mut resident.guest);
        resident.guest.vgic.clone()
    }

    /// Returns the counters of each of its vCPUs. Panics if the caller has the guest parked.
    pub fn counters(&self) -> Vec<Snapshot> {
        let mut taken = [0; MAX_VCPUS];
        for (taken, cpu) in taken.iter_mut().zip(self.resident.lock().guest.vgic.cpus()) {
            *taken = cpu.taken();
        }
        let vcpus = self.vcpus.iter().zip(taken);
        vcpus.map(|(place, taken)| place.stats.snapshot(taken, timer::counter)).collect()
    }
}
