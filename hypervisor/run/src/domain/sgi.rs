//! SGIs from one vCPU of the guest to others: [`stasis_cores::sgis`], wired to the guest's vCPUs.
//!
//! The sender takes no lock of the guest. The receiver's core, or whoever needs the records whole,
//! [puts](VcpuPlace::receive) what was sent into the records.

use super::{Domain, VcpuPlace};
use crate::gic::ThisCore;
use stasis_guest::Guest;
use stasis_vgic::VcpuMask;

impl Domain {
    /// Sends an SGI from vCPU `source` to others. No lock is needed.
    #[inline(always)]
    pub(super) fn send(&self, sgi: u16, source: usize, to: VcpuMask) {
        for place in to.iter().filter_map(|index| self.vcpus.get(index)) {
            if place.sgis.put(sgi, source) {
                place.roster.kick(place.task);
            }
        }
    }

    /// Puts the SGIs that the vCPUs were sent by others into the guest's records, so that these are
    /// whole but for list registers. The caller holds the lock of what the vCPUs share.
    pub(super) fn receive_all(&self, guest: &mut Guest) {
        self.vcpus.iter().for_each(|place| place.receive(guest));
    }
}

impl VcpuPlace {
    /// Puts the SGIs that the vCPU was sent by others into its guest's records. The caller holds
    /// the lock of what the vCPUs share.
    #[inline(always)]
    pub(super) fn receive(&self, guest: &mut Guest) {
        let sgis = self.sgis.take();
        if !sgis.is_empty() {
            guest.vgic.receive(self.index, sgis);
        }
    }

    /// Puts the SGIs that the vCPU was sent by others into its list registers, if that is all that
    /// there is to do, and else into the records. The vCPU is loaded on this core, whose interface
    /// is `gic`. Returns whether there were any, and nothing is left for `Vgic::enter` to do. The
    /// caller holds the lock of what the vCPUs share.
    #[inline(always)]
    pub(super) fn receive_at_entry(&self, guest: &mut Guest, gic: &mut ThisCore) -> bool {
        let sgis = self.sgis.take();
        !sgis.is_empty() && guest.vgic.receive_at_entry(self.index, sgis, gic)
    }
}
