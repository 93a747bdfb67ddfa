//! Making other vCPUs of a guest stand still, by [`stasis_cores::hold`].

use super::Domain;
use super::host::RunningOn;
use super::lock::{Locked, Unlocked};
use stasis_cores::hold::{Held, Hold, Turns, Vcpus};
use stasis_vgic::VcpuMask;

impl Vcpus for Domain {
    fn turns(&self) -> &Turns {
        &self.turns
    }

    fn hold(&self, index: usize) -> &Hold {
        &self.vcpus[index].hold
    }

    fn call(&self, index: usize) {
        let place = &self.vcpus[index];
        place.roster.call(place.task);
    }
}

impl Domain {
    /// Makes other vCPUs stand still, too, after this one's list registers are folded, and gives
    /// the lock back. Returns `false` if this core must decide before all of them stand still.
    #[cold]
    #[must_use]
    pub(super) fn make_stand_still(
        &self,
        held: &mut Held<Self>,
        missing: VcpuMask,
        mut resident: Locked,
        host: &mut RunningOn,
    ) -> (bool, Unlocked) {
        host.errands.outbox.kick(resident.guest.vgic.sync(host.index, &mut host.gic).kick);
        let unlocked = resident.unlock();
        host.carry_out(&unlocked);
        (held.add(missing, || host.turn_is_over()), unlocked)
    }
}
