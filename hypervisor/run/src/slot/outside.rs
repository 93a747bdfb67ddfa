//! What reaches a guest from outside: physical interrupts, typed bytes, rung bells.

use super::host::RunningOn;
use super::{Slot, VcpuPlace};
use crate::interrupts::{self, Taken};
use crate::{clock, gic};
use stasis_guest::{Guest, Vcpu};
use stasis_hw::gic::Acknowledged;

impl Slot {
    /// Takes the physical interrupt that is pending, if one is.
    #[inline(always)]
    pub(super) fn take_interrupt(&self, guest: &mut Guest, vcpu: &mut Vcpu, host: &mut RunningOn) {
        let VcpuPlace { roster, takes_over, .. } = host.place;
        match interrupts::take(roster, &host.gic) {
            Taken::Own => {}
            // Where it has fired because the turn is over, the decision that follows sets it again.
            Taken::Timer if !host.tick_is_due() => {}
            Taken::Timer => host.tick(guest, vcpu),
            Taken::Other(interrupt) => self.pass_interrupt(interrupt, guest, host),
        }
        if takes_over.take() {
            host.tick(guest, vcpu);
        }
    }

    /// Sees to a physical interrupt that was taken: it is the guest's that is loaded, of its timer or a device of its, that GIC's, or
    /// somebody else's.
    #[inline(never)]
    fn pass_interrupt(&self, interrupt: Acknowledged, guest: &mut Guest, host: &mut RunningOn) {
        let index = host.index;
        if interrupt.intid() == gic::VIRTUAL_TIMER {
            self.kick(guest.timer_interrupt(index));
            if clock::timer_forgets() {
                host.watch_timer(guest);
            }
        } else if let Some(spi) = self.given.spi(interrupt.intid()) {
            self.kick(guest.device_interrupt(spi).without(index));
        } else if host.gic.is_maintenance(interrupt) {
            self.kick(guest.vgic.sync(index, &mut host.gic).kick);
            host.gic.end(interrupt);
        } else {
            interrupts::pass(&host.gic, interrupt);
        }
    }

    /// Has the guest have all that came since it was told last.
    pub(super) fn pass_news(&self, guest: &mut Guest) {
        self.news.take();
        self.pass_bells(guest);
        self.pass_interrupts(guest);
        let mut input = self.input.lock();
        while guest.can_receive() {
            let Some(character) = input.pop_front() else { break };
            self.kick(guest.receive(character));
        }
        if !input.is_empty() {
            self.news.keep();
        }
    }

    /// Has the guest have the interrupts of its devices.
    fn pass_interrupts(&self, guest: &mut Guest) {
        let raised = self.raised.take();
        if raised == 0 {
            return;
        }
        for (n, (_, spi)) in self.given.interrupts.iter().enumerate() {
            if raised >> n & 1 != 0 {
                self.kick(guest.device_interrupt(*spi));
            }
        }
    }

    /// Has the guest hear what was rung.
    pub(super) fn pass_bells(&self, guest: &mut Guest) {
        for (n, connected) in self.shared.iter().enumerate() {
            let rung = connected.take_rung();
            if rung != 0 {
                self.kick(guest.rung(n, rung));
            }
        }
    }
}
