//! SGIs from one vCPU of the guest to others: [`stasis_cores::sgis`], wired to the guest's vCPUs.
//!
//! The sender takes no lock of the guest. The receiver's core, or whoever needs the records whole, [puts](Domain::receive) what was sent into the records.

use super::Domain;
use super::host::RunningOn;
use stasis_guest::exit::{self, PlainAccess};
use stasis_guest::{Guest, Vcpu, sgi_to_others};

impl Domain {
    /// Answers a store that sends an SGI to other vCPUs, and not to its sender. Returns `false` if the access is another one: then nothing was done. No lock
    /// is needed.
    #[inline]
    pub(super) fn send_to_others(
        &self,
        vcpu: &mut Vcpu,
        word: PlainAccess,
        esr: u64,
        host: &RunningOn,
    ) -> bool {
        let (count, sctlr) = (self.vcpus.len(), host.loaded.sctlr_el1());
        let Some((sgi, to)) = sgi_to_others(host.index, count, &vcpu.core, word, sctlr) else {
            return false;
        };
        exit::skip_instruction(&mut vcpu.core, esr);
        for place in to.iter().filter_map(|index| self.vcpus.get(index)) {
            if place.sgis.put(sgi, host.index) {
                place.roster.kick(place.task);
            }
        }
        true
    }

    /// Puts the SGIs that vCPU `index` was sent by others into the guest's records. The caller holds the lock of what the vCPUs share.
    #[inline(always)]
    pub(super) fn receive(&self, index: usize, guest: &mut Guest) {
        let sgis = self.vcpus[index].sgis.take();
        if !sgis.is_empty() {
            guest.vgic.receive(index, sgis);
        }
    }

    /// Does as [`Self::receive`] says for all vCPUs, so that the records are whole but for list registers.
    pub(super) fn receive_all(&self, guest: &mut Guest) {
        (0..self.vcpus.len()).for_each(|index| self.receive(index, guest));
    }

    /// Puts the SGIs that the vCPU of `host` was sent by others into its list registers, if that is all that there is to do, and else into the records. The
    /// vCPU passes through `Vgic::enter` then. The caller holds the lock of what the vCPUs share.
    #[inline]
    pub(super) fn receive_at_entry(&self, guest: &mut Guest, host: &mut RunningOn) {
        let sgis = host.place.sgis.take();
        if !sgis.is_empty() {
            guest.vgic.receive_at_entry(host.index, sgis, &mut host.gic);
        }
    }
}
