//! What reaches a guest from outside: physical interrupts, typed bytes, rung bells.

use super::host::RunningOn;
use super::{Domain, Resident, VcpuPlace};
use crate::interrupts::Taken;
use crate::{clock, gic};
use stasis_guest::{Guest, Vcpu};
use stasis_hw::gic::Acknowledged;
use stasis_vgic::VcpuMask;

impl Domain {
    /// Does for the guest what a physical interrupt entails that this core has taken. What that
    /// leaves to do outside of the guest is kept in `host`.
    #[inline(always)]
    pub(super) fn pass_taken(
        &self,
        taken: Taken,
        guest: &mut Guest,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) {
        let VcpuPlace { takes_over, .. } = host.place;
        host.note_exit();
        match taken {
            Taken::Own | Taken::TurnOver => {}
            // If the timer has fired because the turn is over, the decision that follows sets it
            // again.
            Taken::Timer if !host.tick_is_due() => {}
            Taken::Timer => host.tick(guest, vcpu),
            Taken::Other(interrupt) => self.pass_interrupt(interrupt, guest, host),
        }
        if takes_over.take() {
            host.tick(guest, vcpu);
        }
    }

    /// Handles a physical interrupt that was taken: of the loaded guest's timer, of one of its
    /// devices, the GIC's maintenance interrupt, or somebody else's, which is kept in `host`.
    #[inline(never)]
    fn pass_interrupt(&self, interrupt: Acknowledged, guest: &mut Guest, host: &mut RunningOn) {
        let index = host.index;
        if interrupt.intid() == gic::VIRTUAL_TIMER {
            host.errands.outbox.kick(guest.timer_interrupt(index));
            if clock::timer_forgets() {
                host.watch_timer(guest);
            }
        } else if let Some(spi) = self.given.spi(interrupt.intid()) {
            host.errands.outbox.kick(guest.device_interrupt(spi).without(index));
        } else if host.gic.is_maintenance(interrupt) {
            host.errands.outbox.kick(guest.vgic.sync(index, &mut host.gic).kick);
            host.gic.end(interrupt);
        } else {
            host.errands.put_aside(interrupt);
        }
    }

    /// Passes on to the guest all that came since the last call: rung bells, interrupts of its
    /// devices, typed bytes. Notes in `host` that its virtio devices have something to do, unless
    /// they can't do it now: the guest is told when they can. Without that, a vCPU whose UART has
    /// no room for all that was typed, which is news for as long, would look at the devices again
    /// and again, and never enter its guest. Returns the vCPUs to kick. The caller holds the lock
    /// of what the vCPUs share.
    pub(super) fn pass_news(&self, resident: &mut Resident, host: &mut RunningOn) -> VcpuMask {
        let is_news = self.news.is_there();
        self.news.take();
        if is_news {
            self.pass_typed(&mut resident.guest);
        }
        let has_work =
            is_news && (resident.guest.has_work() || self.inbox.is_ready()) && resident.is_served();
        let guest = &mut resident.guest;
        if has_work {
            match host.may_serve() {
                true => host.errands.outbox.has_work = true,
                false => self.news.keep(),
            }
        }
        let mut kick = self.pass_bells(guest);
        kick.0 |= self.pass_interrupts(guest).0;
        let mut input = self.input.lock();
        while guest.can_receive() {
            let Some(character) = input.pop_front() else { break };
            kick.0 |= guest.receive(character).0;
        }
        if !input.is_empty() {
            self.news.keep();
        }
        kick
    }

    /// Passes on to the guest the interrupts of its devices. Returns the vCPUs to kick.
    fn pass_interrupts(&self, guest: &mut Guest) -> VcpuMask {
        let mut kick = VcpuMask::NONE;
        let raised = self.raised.take();
        if raised == 0 {
            return kick;
        }
        for (n, (_, spi)) in self.given.interrupts.iter().enumerate() {
            if raised >> n & 1 != 0 {
                kick.0 |= guest.device_interrupt(*spi).0;
            }
        }
        kick
    }

    /// Passes on to the guest the bells that were rung. Returns the vCPUs to kick.
    pub(super) fn pass_bells(&self, guest: &mut Guest) -> VcpuMask {
        let mut kick = VcpuMask::NONE;
        for (n, connected) in self.shared.iter().enumerate() {
            let rung = connected.take_rung();
            if rung != 0 {
                kick.0 |= guest.rung(n, rung).0;
            }
        }
        kick
    }
}
